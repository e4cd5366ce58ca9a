"""Interpreters that can be put into any image: relocatable builds, as uv keeps them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from glowplug.images.oci.debian import SUITES
from glowplug.model import errors

FIND_TIMEOUT_S = 30.0
INSTALL_TIMEOUT_S = 600.0


def standalone(version: str, uv: str, directory: Path, environ: Mapping[str, str]) -> Path:
    """The directory of a relocatable Python ``version``: one that uv has on this machine, else one that it
    fetches into ``directory``. Raises ``ImageBuildError`` naming what there is instead."""
    variables = {**environ, "UV_PYTHON_INSTALL_DIR": str(directory)}
    for where in (environ, variables):
        found = _run([uv, "python", "find", "--managed-python", "--no-python-downloads", version], where)
        if found.returncode == 0:
            return Path(found.stdout.strip()).resolve().parent.parent
    fetched = _run([uv, "python", "install", "--no-bin", version], variables, INSTALL_TIMEOUT_S)
    found = _run([uv, "python", "find", "--managed-python", "--no-python-downloads", version], variables)
    if found.returncode == 0:
        return Path(found.stdout.strip()).resolve().parent.parent
    listed = _run(
        [uv, "python", "list", "--managed-python", "--only-installed", "--output-format", "text"], environ
    )
    have = [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
    reason = fetched.stderr.strip().splitlines()[-1:] or ["no reason given"]
    raise errors.ImageBuildError(
        f"there is no Python {version} for an image here: uv could not fetch one ({reason[0].strip()}), and "
        f"of its own this machine has {', '.join(have) or 'none'}. Without a registry there are Debian's "
        f"{', '.join(SUITES)}; `uv python install {version}` on a machine with access adds another."
    )


def _run(
    command: list[str], environ: Mapping[str, str], timeout_s: float = FIND_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
