"""The few things a store asks of a disk, in one place: so that tests can make each of them fail.

Durability is asked for once a commit: a few files are synced by themselves, many by one ``syncfs``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glowplug.model import errors

SYNC_SINGLY = 32
"""Up to so many new files are synced one by one; more cost less with the whole file system."""
_libc = ctypes.CDLL(None, use_errno=True)


def sync(paths: Iterable[Path], directory: Path) -> None:
    """All bytes and names of ``paths`` are on disk afterwards; ``directory`` lies on the same one."""
    files = list(paths)
    if len(files) > SYNC_SINGLY:
        sync_all(directory)
        return
    for path in files:
        sync_one(path)
    for above in {path.parent for path in files}:
        sync_one(above)


def sync_all(directory: Path) -> None:
    """The whole file system that ``directory`` is on."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)


def sync_one(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, content: bytes) -> None:
    """A new file of ours, not yet synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, content)
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes | memoryview) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def rename(source: Path, target: Path) -> None:
    os.rename(source, target)


def remove_tree(path: Path) -> None:
    """Whatever its modes: a container may have made directories that nobody may enter."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, onerror=_make_removable)


def _make_removable(function: Any, path: str, raised: Any) -> None:
    error: BaseException = raised[1]
    if isinstance(error, FileNotFoundError):
        return
    if not isinstance(error, PermissionError):
        raise error
    if function is os.rmdir or function is os.unlink:
        os.chmod(os.path.dirname(path), stat.S_IRWXU)
        function(path)
    else:  # it could not be opened or listed
        os.chmod(path, stat.S_IRWXU)
        shutil.rmtree(path, onerror=_make_removable)


def told(error: OSError, what: str) -> errors.Error:
    """What a person is told when the disk refuses; ``what`` begins the sentence."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.ResourceExhaustedError(
            f"{what}: the disk is full. What was committed before is whole; make room "
            "(`glowplug volume list` shows what volumes take) and commit again."
        )
    return errors.DataLossError(f"{what}: {error.strerror or error}. What was committed before is whole.")
