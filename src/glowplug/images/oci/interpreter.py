"""Which Python an image has, and what it is like: asked of the interpreter itself, in its own root."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from glowplug.images.oci.storage import Storage
from glowplug.model import errors

OLDEST = (3, 9)
MARK = "glowplug-interpreter:"
_FIND = "command -v python || command -v python3 || true"
_ASK = (
    "import sys, json; sys.path[:] = [p for p in sys.path if p]; "
    "facts = [sys.executable, sys.version_info[:3], sys.prefix, sys.base_prefix, sys.path]; "
    f'print("{MARK}" + json.dumps(facts))'
)


@dataclass(frozen=True)
class Interpreter:
    executable: str
    version: tuple[int, ...]
    prefix: str
    base_prefix: str
    sys_path: tuple[str, ...]


def ask(storage: Storage, image: str, name: str) -> Interpreter:
    """The interpreter of ``image`` (a reference). Raises ``ImageBuildError`` when there is none, it does not
    run or is too old."""
    container = f"ask-{name}"
    lines: list[str] = []
    script = (
        f'python=$({_FIND}); [ -n "$python" ] || exit 0; unset PYTHONPATH; cd /; exec "$python" -c \'{_ASK}\''
    )
    try:
        storage.answer(
            "from", "--pull=never", "--signature-policy", storage.policy, "--name", container, image
        )
        storage.buildah(
            [
                "run",
                "--isolation=chroot",
                "--network=host",
                "--user",
                "0",
                container,
                "--",
                "/bin/sh",
                "-c",
                script,
            ],
            lines.append,
        )
    finally:
        storage.buildah(["rm", container], lambda _: None)
    answer = next((line[len(MARK) :] for line in lines if line.startswith(MARK)), None)
    if answer is None:
        reason = f" It says: {' '.join(lines[-3:])}" if lines else ""
        raise errors.ImageBuildError(
            "the image has no Python that runs: neither `python` nor `python3` is on its PATH or works. "
            'Start from an image that has one, or give add_python="3.12" to from_registry or '
            f"from_dockerfile.{reason}"
        )
    return _checked(json.loads(answer))


def _checked(facts: list[Any]) -> Interpreter:
    executable, version, prefix, base_prefix, sys_path = facts
    found = Interpreter(executable, tuple(version), prefix, base_prefix, tuple(sys_path))
    if found.version < OLDEST:
        text = ".".join(map(str, found.version))
        raise errors.ImageBuildError(
            f"the image's Python is {text} ({executable}); functions need 3.9 or newer. Start from a newer "
            'image, or give add_python="3.12" to from_registry or from_dockerfile.'
        )
    return found
