"""One build of a thing at a time, whichever thread or server begins it: locks that end with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from glowplug.images.commands import BuildStopped

POLL_S = 0.02


@contextlib.contextmanager
def locked(path: Path, stopped: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock file at ``path``. Raises ``BuildStopped`` when that is over before it is free."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(fd):
            if stopped():
                raise BuildStopped
            time.sleep(POLL_S)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file for a moment; False when somebody else has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try_lock(fd)
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
