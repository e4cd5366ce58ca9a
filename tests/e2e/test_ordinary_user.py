"""What holds for root holds for a user without any privilege."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.users import ordinary_place, ordinary_python, ordinary_user

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
    with ordinary_place() as directory:
        yield directory


@pytest.fixture
def ordinary(place: Path) -> Iterator[dict[str, Any]]:
    with ordinary_user(place) as how:
        yield how


@pytest.fixture
def python(ordinary: dict[str, Any]) -> str:
    return ordinary_python(ordinary)


def test_a_function_of_an_ordinary_user(place: Path, ordinary: dict[str, Any], python: str):
    (place / "scripts" / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [python, "-m", "glowplug.cli.main", "run", "scripts/script.py"], check=False, **ordinary
    )
    assert done.stdout == "looked\nlooked\n", done.stderr
    assert done.returncode == 0, done.stderr
    assert not (place / "scripts" / "beside.txt").exists()
    (volume,) = (place / "home" / "volumes").iterdir()
    (block,) = (volume / "blocks").glob("*/*")
    assert block.read_text() == "here"


def test_a_script_in_what_is_shown_read_only(place: Path, ordinary: dict[str, Any], python: str):
    """Its directory is writable in the container all the same, and what is written there thrown away."""
    (place / "scripts" / "script.py").write_text(SCRIPT)
    ordinary["env"]["PYTHONPATH"] += f"{os.pathsep}{place}"
    done = subprocess.run(
        [python, "-m", "glowplug.cli.main", "run", "scripts/script.py"], check=False, **ordinary
    )
    assert done.stdout == "looked\nlooked\n", done.stderr
    assert not (place / "scripts" / "beside.txt").exists()


PLAIN = """
import os, pathlib
import modal

app = modal.App("plain")


@app.function()
def home():
    return str(pathlib.Path.home()), os.access(pathlib.Path.home(), os.R_OK)


@app.local_entrypoint()
def main():
    print(*home.remote())
"""


def test_without_a_sandbox_the_home_is_the_users(place: Path, ordinary: dict[str, Any], python: str):
    (place / "scripts" / "plain.py").write_text(PLAIN)
    ordinary["env"]["GLOWPLUG_SANDBOX"] = "off"
    done = subprocess.run(
        [python, "-m", "glowplug.cli.main", "run", "scripts/plain.py"], check=False, **ordinary
    )
    assert done.stdout == f"{place} True\n", done.stderr
