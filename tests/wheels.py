"""Wheels made by hand, so that tests install packages without any index."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path


def make_wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    requires: Sequence[str] = (),
    files: dict[str, str] | None = None,
) -> Path:
    """A wheel of one package with the module ``NAME/__init__.py`` that has ``VERSION``."""
    contents = files or {f"{name}/__init__.py": f"VERSION = {version!r}\n"}
    about = f"{name}-{version}.dist-info"
    requirements = "".join(f"Requires-Dist: {each}\n" for each in requires)
    contents = {
        **contents,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirements}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in contents.items()]
    contents[f"{about}/RECORD"] = "\n".join([*rows, f"{about}/RECORD,,"]) + "\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in contents.items():
            archive.writestr(inside, text)
    return path


def offline(directory: Path, cache: Path) -> dict[str, str]:
    """The variables with which uv knows the wheels in ``directory`` and nothing else."""
    return {
        "UV_FIND_LINKS": str(directory),
        "UV_NO_INDEX": "1",
        "UV_CACHE_DIR": str(cache),
        "UV_PYTHON_DOWNLOADS": "never",
    }


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
