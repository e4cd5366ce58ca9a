"""What holds for root holds for a user without any privilege."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import PASSED_ON, SOURCE, TIMEOUT_S, stop_server
from glowplug.client.settings import read_settings

ORDINARY = 54321
"""A number that no account of this machine has: nothing may need a name or a home directory."""
SCRIPT = """
import glowplug

app = glowplug.App("ordinary")
volume = glowplug.Volume.from_name("shelf", create_if_missing=True)


@app.function(gpu="T4", volumes={"/shelf": volume})
def look():
    import os, pathlib

    pathlib.Path("/shelf/left").write_text("here")
    pathlib.Path("beside.txt").write_text("thrown away")
    pathlib.Path.home().joinpath("mine").write_text("private")
    os.ttyname(os.openpty()[1])
    return "looked"


@app.local_entrypoint()
def main():
    for _ in range(2):
        print(look.remote())
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the ordinary user's own; those of pytest are for the user who runs it alone."""
    directory = Path(tempfile.mkdtemp(prefix="gp-", dir="/tmp"))
    for name in ("runtime", "scripts"):
        (directory / name).mkdir(mode=0o700)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def ordinary(place: Path) -> Iterator[dict[str, Any]]:
    """How to start a program as the ordinary user: arguments of ``subprocess.run``."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env |= {
        "HOME": str(place),
        "PYTHONPATH": os.pathsep.join([SOURCE, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]),
        "GLOWPLUG_HOME": str(place / "home"),
        "XDG_RUNTIME_DIR": str(place / "runtime"),
        "GLOWPLUG_GPUS": "2xT4",
    }
    how: dict[str, Any] = {
        "env": env,
        "cwd": place,
        "capture_output": True,
        "text": True,
        "timeout": TIMEOUT_S,
    }
    if os.getuid() == 0:
        how |= {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
        for path in (place, *place.iterdir()):
            os.chown(path, ORDINARY, ORDINARY)
    yield how
    stop_server(read_settings(env))


@pytest.fixture
def python(ordinary: dict[str, Any]) -> str:
    """An interpreter that the ordinary user may run with the packages of this one."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, system):
        try:
            subprocess.run([candidate, "-c", "import glowplug.cli.main, msgspec"], check=True, **ordinary)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("no Python here is for every user to run")


def test_a_function_of_an_ordinary_user(place: Path, ordinary: dict[str, Any], python: str):
    (place / "scripts" / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [python, "-m", "glowplug.cli.main", "run", "scripts/script.py"], check=False, **ordinary
    )
    assert done.stdout == "looked\nlooked\n", done.stderr
    assert done.returncode == 0, done.stderr
    assert not (place / "scripts" / "beside.txt").exists()
    (volume,) = (place / "home" / "volumes").iterdir()
    assert (volume / "left").read_text() == "here"


def test_a_script_in_what_is_shown_read_only(place: Path, ordinary: dict[str, Any], python: str):
    """Its directory is writable in the container all the same, and what is written there thrown away."""
    (place / "scripts" / "script.py").write_text(SCRIPT)
    ordinary["env"]["PYTHONPATH"] += f"{os.pathsep}{place}"
    done = subprocess.run(
        [python, "-m", "glowplug.cli.main", "run", "scripts/script.py"], check=False, **ordinary
    )
    assert done.stdout == "looked\nlooked\n", done.stderr
    assert not (place / "scripts" / "beside.txt").exists()
