"""Files in memory that carry large payloads, used again once nobody reads them any more.

A fresh file's pages are found by the kernel one by one, which costs more than copying the bytes; so a
writer keeps a few files and writes into those that are free. Who still reads a file is known to the kernel:
every send opens the file anew, takes a shared lock on that opening and gives it away. Copies of it in other
processes, in sockets on their way, and mappings of it all hold that lock; it goes with the last of them, also
when a process is killed. A file whose exclusive lock can be had is free.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
from collections.abc import Sequence

KEPT_FILES = 16
KEPT_BYTES = 256 << 20
"""What one process keeps for its next payloads; larger ones are not kept."""
KEPT_FROM_BYTES = 1 << 20
"""Smaller files are as quick to make as to find."""
SLACK = 4
"""A file up to this many times too large is used rather than a new one made."""


class _File:
    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.mapping: mmap.mmap | None = None

    def is_free(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return True

    def close(self) -> None:
        os.close(self.fd)


class MemoryFiles:
    """The files one process keeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[_File] = []
        """The last used one last."""

    def write(self, parts: Sequence[memoryview], offsets: Sequence[int], size: int) -> int:
        """A descriptor, the caller's to close, of a file of ``size`` or more bytes with the parts at their
        offsets. Raises ``OSError`` when memory is short."""
        if size < KEPT_FROM_BYTES or size > KEPT_BYTES or not _CAN_REOPEN:
            return _new_file(parts, offsets, size)
        file = self._take(size)
        if file is None:
            file = _File(_new_file(parts, offsets, size), size)
        else:
            # From the second use on through a mapping: its pages are there already, so this is one copy.
            if file.mapping is None:
                file.mapping = mmap.mmap(file.fd, file.size)
            for part, offset in zip(parts, offsets):
                file.mapping[offset : offset + len(part)] = part
        try:
            fd = os.open(f"/proc/self/fd/{file.fd}", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            file.close()
            raise
        fcntl.flock(fd, fcntl.LOCK_SH)
        self._keep(file)
        return fd

    def forget(self) -> None:
        """Close everything: a forked child has its parent's openings, whose locks are no longer its own."""
        self._lock = threading.Lock()
        for file in self._kept:
            file.close()
        self._kept.clear()

    def _take(self, size: int) -> _File | None:
        with self._lock:
            for position in range(len(self._kept) - 1, -1, -1):
                file = self._kept[position]
                if size <= file.size <= size * SLACK and file.is_free():
                    return self._kept.pop(position)
        return None

    def _keep(self, file: _File) -> None:
        with self._lock:
            self._kept.append(file)
            while len(self._kept) > KEPT_FILES or sum(each.size for each in self._kept) > KEPT_BYTES:
                self._kept.pop(0).close()


def _new_file(parts: Sequence[memoryview], offsets: Sequence[int], size: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("glowplug-payload", os.MFD_CLOEXEC)
    else:  # macOS: an unlinked file does the same
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.truncate(fd, size)
        for part, offset in zip(parts, offsets):
            written = 0
            while written < len(part):
                written += os.pwrite(fd, part[written : written + (1 << 30)], offset + written)
    except BaseException:
        os.close(fd)
        raise
    return fd


_CAN_REOPEN = hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")
memory_files = MemoryFiles()
os.register_at_fork(after_in_child=memory_files.forget)
