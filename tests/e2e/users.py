"""Commands as a user without any privilege, whoever runs the tests."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def ordinary_place() -> Iterator[Path]:
    """A directory of the ordinary user's own; those of pytest are for the user who runs it alone."""
    directory = Path(tempfile.mkdtemp(prefix="gp-", dir="/tmp"))
    for name in ("runtime", "scripts"):
        (directory / name).mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def ordinary_user(place: Path) -> Iterator[dict[str, Any]]:
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
    try:
        yield how
    finally:
        stop_server(read_settings(env))


def ordinary_python(ordinary: dict[str, Any]) -> str:
    """An interpreter that the ordinary user may run with the packages of this one."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, system):
        try:
            subprocess.run([candidate, "-c", "import glowplug.cli.main, msgspec"], check=True, **ordinary)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("no Python here is for every user to run")
