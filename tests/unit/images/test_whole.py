"""What is looked at to see whether something built is still whole."""

from pathlib import Path

import pytest

from glowplug.images import whole


@pytest.mark.parametrize(
    "packages", ["lib/python3.11/site-packages", "usr/local/lib/python3.11/dist-packages"]
)
def test_of_very_many_files_those_of_packages_are_looked_at_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packages: str
):
    monkeypatch.setattr(whole, "FILES_LOOKED_AT", 2)
    monkeypatch.setattr(whole, "LARGEST", 1)
    for name in ("one/__init__.py", "one/deep/__init__.py", "one/much.bin"):
        path = tmp_path / packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (1000 if name.endswith("bin") else 1))
    manifest = whole.take_manifest(tmp_path)
    assert whole.changed(tmp_path, manifest) == ""
    (tmp_path / packages / "one/__init__.py").unlink()
    assert whole.changed(tmp_path, manifest) == f"{packages}/one/__init__.py"
