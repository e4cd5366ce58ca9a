"""Mappings of memory files, used again when the next payload comes in the same file.

The pages of a mapping are entered one by one as they are touched and taken out one by one at its end: more
work than copying them. A writer uses its files again (see ``memory_files``), so a reader keeps its last
mappings. They are private: a page that is written becomes a copy. A mapping without such pages shows what the
file holds now, and the kernel tells whether there are any; they are dropped before the next payload.

What keeps a file from being written is the lock on the descriptor its payload came with. That is held for as
long as a buffer of the payload lives; the mapping has an opening of its own, without a lock.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref

from glowplug.wire.memory_files import KEPT_BYTES

KEPT_FROM_BYTES = 4 << 20
"""Smaller mappings are made anew: a kept one holds two descriptors while its payload lives."""
KEPT_MAPPINGS = 8
"""What a process keeps for the next payloads; together they map ``KEPT_BYTES`` at most."""

_PRESENT, _SWAPPED, _OF_FILE = 0x80, 0x40, 0x20
_CLEAN = bytes(
    flags for flags in range(256) if not flags & _SWAPPED and (not flags & _PRESENT or flags & _OF_FILE)
)
"""Highest bytes of the entries in /proc/self/pagemap for pages that are no copies."""
_ENTRY_BYTES = 8
_CAN_KEEP = (
    hasattr(mmap, "MADV_DONTNEED") and os.path.exists("/proc/self/pagemap") and sys.byteorder == "little"
)


class _Mapping:
    def __init__(self, file: tuple[int, int], fd: int, size: int) -> None:
        self.file = file
        self.size = size
        self.memory = _map(fd, size)

    def refresh(self) -> None:
        """Show what the file holds now."""
        if not self._is_clean():
            self.memory.madvise(mmap.MADV_DONTNEED)

    def _is_clean(self) -> bool:
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        size = -(-self.size // mmap.PAGESIZE) * _ENTRY_BYTES
        try:
            with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
                pagemap.seek(address // mmap.PAGESIZE * _ENTRY_BYTES)
                entries = pagemap.read(size)
        except OSError:
            return False
        return len(entries) == size and not entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES].translate(None, _CLEAN)


class MappedFiles:
    """The mappings one process keeps."""

    def __init__(self) -> None:
        # Finalisers add to it at any moment and in any thread: single steps of a dict, no lock.
        self._free: dict[tuple[int, int], _Mapping] = {}

    def map(self, fd: int, size: int) -> memoryview:
        """The first ``size`` bytes of a file, writable, private to the caller.

        Raises ``ValueError`` when the file is shorter.
        """
        status = os.fstat(fd)
        if not (_CAN_KEEP and KEPT_FROM_BYTES <= size <= status.st_size <= KEPT_BYTES):
            return memoryview(_map(fd, size))
        file = (status.st_dev, status.st_ino)
        mapping = self._free.pop(file, None)
        if mapping is not None and mapping.size == status.st_size:
            mapping.refresh()
        else:
            unlocked = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                mapping = _Mapping(file, unlocked, status.st_size)
            finally:
                os.close(unlocked)
        buffer = (ctypes.c_char * size).from_buffer(mapping.memory)
        weakref.finalize(buffer, self._give_back, mapping, os.dup(fd)).atexit = False
        return memoryview(buffer).cast("B")

    def _give_back(self, mapping: _Mapping, lock_fd: int) -> None:
        self._free[mapping.file] = mapping
        os.close(lock_fd)
        kept = list(self._free.values())
        while len(kept) > KEPT_MAPPINGS or sum(each.size for each in kept) > KEPT_BYTES:
            self._free.pop(kept.pop(0).file, None)


def _map(fd: int, size: int) -> mmap.mmap:
    return mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


mapped_files = MappedFiles()
