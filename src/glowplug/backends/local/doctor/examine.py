"""The order of an examination: Python, then the cards, then containers, then places."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glowplug.backends.local.doctor import cuda, gpus, limits, places, sandbox
from glowplug.backends.local.doctor.check import Check, Patient

PYTHON_WANTED = (3, 11)


def checks(
    home: Path, *, environ: Mapping[str, str] = os.environ, root: Path = Path("/"), nvml: Any = None
) -> list[Check]:
    """Everything ``glowplug doctor`` looks at. Nothing is changed; ``home`` need not exist yet."""
    patient = Patient(home, environ, root, nvml)
    return [
        _python(sys.version_info[:3]),
        _uv(),
        *gpus.examine(patient),
        *cuda.examine(patient),
        *sandbox.examine(patient),
        *limits.examine(patient),
        *places.examine(patient),
    ]


def _python(version: tuple[int, int, int]) -> Check:
    text = ".".join(map(str, version))
    if version < PYTHON_WANTED:
        wanted = ".".join(map(str, PYTHON_WANTED))
        return Check(
            "python",
            "fail",
            f"Python {text} runs functions, but the server needs {wanted}",
            f"uv venv --python {wanted}  (or install Python {wanted} from your distribution)",
        )
    return Check("python", "ok", f"Python {text}")


def _uv() -> Check:
    try:
        from uv import find_uv_bin

        path = str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        import shutil

        path = shutil.which("uv") or ""
    if path:
        return Check("uv", "ok", path)
    return Check("uv", "warn", "not found: images with Python packages cannot be built", "pip install uv")
