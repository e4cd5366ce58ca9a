"""The package as it would be published: what is in the wheel, what it says of itself, one version."""

from __future__ import annotations

import email
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import glowplug
from glowplug.cli.main import cli

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = directory.glob("*.whl")
    return zipfile.ZipFile(path)


def _read(wheel: zipfile.ZipFile, ending: str) -> str:
    (name,) = [name for name in wheel.namelist() if name.endswith(ending)]
    return wheel.read(name).decode()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile):
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {
        "glowplug",
        f"glowplug-{glowplug.__version__}.dist-info",
    }
    assert "glowplug/py.typed" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_carries_every_source_file(wheel: zipfile.ZipFile):
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "glowplug").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(wheel.namelist())


def test_the_licence_travels_whole(wheel: zipfile.ZipFile):
    assert _read(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_metadata_says_who_may_install_it(wheel: zipfile.ZipFile):
    metadata = email.message_from_string(_read(wheel, "METADATA"))
    assert metadata["Version"] == glowplug.__version__
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == {"parking", "ray", "s3"}


def test_what_runs_in_containers_needs_no_server_packages(wheel: zipfile.ZipFile):
    """Under Python 3.9, which is a container's or a client's, nothing of the server is installed."""
    requires = email.message_from_string(_read(wheel, "METADATA")).get_all("Requires-Dist", [])
    for package in ("starlette", "uvicorn", "nvidia-ml-py", "prometheus-client"):
        (line,) = [line for line in requires if line.startswith(package)]
        assert "python_version >= '3.11'" in line


def test_the_console_script_is_glowplug(wheel: zipfile.ZipFile):
    assert "glowplug = glowplug.cli.main:main" in _read(wheel, "entry_points.txt")


def test_one_version_everywhere():
    version = glowplug.__version__
    assert importlib.metadata.version("glowplug") == version
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in ("Unreleased", version)
    assert version in headings or headings[0] == "Unreleased"


def test_the_command_line_says_the_version():
    result = CliRunner().invoke(cli, ["--version"])
    assert result.exit_code == 0, result.output
    assert glowplug.__version__ in result.output
