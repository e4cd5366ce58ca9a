"""tools/venv.sh on machines that lack something: the message names what, and the command that mends it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "venv.sh"
SHELL_TOOLS = ("sh", "rm")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A directory that serves as the whole PATH: a shell, no Python, no uv."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in SHELL_TOOLS:
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    return tools


def _add(tools: Path, name: str, body: str) -> None:
    (tools / name).write_text(f"#!{shutil.which('sh')}\n{body}\n")
    (tools / name).chmod(0o755)


def _make(tools: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tools / "sh", SCRIPT, tools.parent / "venv"],
        env={"PATH": str(tools), **variables},
        cwd=tools.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_python_at_all(bare: Path):
    done = _make(bare)
    assert done.returncode == 1
    assert "there is no python3 here" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_a_python_too_old(bare: Path):
    # It answers "am I new enough?" with no and "which are you?" with 3.9.2.
    _add(bare, "python3", 'case "$2" in *exit*) exit 1 ;; *) echo 3.9.2 ;; esac')
    done = _make(bare)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer, and python3 here is Python 3.9.2." in done.stderr


def test_a_name_on_path_that_does_not_run_is_passed_over(bare: Path):
    _add(bare, "python3", "echo 'not set up' >&2; exit 127")
    _add(bare, "uv", "exit 127")
    _add(bare, "python3.12", 'case "$2" in *exit*) exit 0 ;; *print*) echo 3.12 ;; *) exit 1 ;; esac')
    done = _make(bare)
    assert "python3.12 cannot make virtual environments" in done.stderr


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_or_ensurepip(bare: Path, module: str):
    _add(bare, "python3", f'case "$2" in "import {module}") exit 1 ;; esac\nexec {sys.executable} "$@"')
    done = _make(bare)
    assert done.returncode == 1
    assert f"its {module} module is missing" in done.stderr
    assert "apt-get install python3-venv" in done.stderr
    assert not (bare.parent / "venv").exists()


def test_a_chosen_python_that_does_not_do(bare: Path):
    done = _make(bare, PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "PYTHON=/nowhere/python3" in done.stderr
