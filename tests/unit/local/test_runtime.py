"""What images are shown of Glowplug: a copy of its own, with bytecode for their Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from glowplug.backends.local import runtime
from glowplug.backends.local.runtime import INSIDE, Runtime
from glowplug.ports.images import BuiltImage

HERE = BuiltImage("im-1", sys.executable, "{}.{}".format(*sys.version_info[:2]))


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """Packages that are compiled in no time."""
    for name in ("glowplug/wire", "glowplug/server", "cloudpickle"):
        directory = tmp_path / "site" / name
        directory.mkdir(parents=True)
        (directory / "__init__.py").write_text("x = 1\n")
    found = [(name, str(tmp_path / "site" / name)) for name in runtime.PACKAGES]
    monkeypatch.setattr(runtime, "packages", lambda: found)
    runtime._digest.cache_clear()
    yield tmp_path / "site"
    runtime._digest.cache_clear()


def shown(home: Path) -> Path:
    """Where the copy is, once its bytecode is there."""
    made = Runtime(home)
    binds = {path: Path(source) for source, path in made.binds(HERE)}
    made.wait()
    assert set(binds) == {f"{INSIDE}/glowplug", f"{INSIDE}/cloudpickle"}
    return binds[f"{INSIDE}/glowplug"]


def test_what_containers_import_has_bytecode(tmp_path, small):
    copy = shown(tmp_path / "home")
    assert [each.name for each in copy.glob("wire/__pycache__/*")] == [
        f"__init__.{sys.implementation.cache_tag}.pyc"
    ]
    assert not list(copy.glob("server/__pycache__/*"))
    assert not list(small.rglob("*.pyc"))


def test_a_changed_file_makes_another_copy_and_the_old_one_goes(tmp_path, small):
    old = shown(tmp_path / "home")
    assert shown(tmp_path / "home") == old
    (small / "glowplug" / "wire" / "__init__.py").write_text("x = 22\n")
    runtime._digest.cache_clear()
    new = shown(tmp_path / "home")
    assert (new / "wire" / "__init__.py").read_text() == "x = 22\n"
    assert not old.exists()


def test_a_root_of_its_own_compiles_nothing_for_others(tmp_path, small):
    made = Runtime(tmp_path / "home")
    made.binds(BuiltImage("im-2", sys.executable, HERE.python_version, root=str(tmp_path)))
    made.wait()
    assert not list((tmp_path / "home").rglob("*.pyc"))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_where_no_copy_can_be_made_the_installation_itself_is_shown(tmp_path, small):
    (tmp_path / "home").mkdir(mode=0o500)
    assert Runtime(tmp_path / "home").binds(HERE)[0][0] == str(small / "glowplug")
