"""Payloads too large for a row: one file each, whole or not there.

A file is written under another name, synced and renamed, so a name that exists holds all of its bytes. Names
are digests: ids come from clients, and a path made of one could lead anywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from glowplug.wire.payload import Payload

COPY_BYTES = 4 << 20


class BlobFiles:
    """Files of ``directory``; every method raises ``OSError`` as the disk does."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, key: str, payload: Payload) -> str:
        """Store the file of a payload; returns its name."""
        assert payload.fd is not None
        name = _name(key)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        temporary = self._directory / f"{name}.new"
        with open(temporary, "wb", opener=_private) as file:
            _copy(payload.fd, file, payload.file_size_bytes)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, self._directory / name)
        self._sync_directory()
        return name

    def open(self, name: str, sizes: list[int]) -> Payload | None:
        """The payload of a file; None when somebody removed it or cut it short."""
        try:
            fd = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        payload = Payload(None, fd, sizes)
        return payload if os.fstat(fd).st_size >= payload.file_size_bytes else None

    def remove(self, name: str) -> None:
        try:
            os.unlink(self._directory / name)
        except FileNotFoundError:
            pass

    def sweep(self, used: Collection[str]) -> int:
        """Remove what no row names any more; returns how many files that were."""
        removed = 0
        if self._directory.is_dir():
            for entry in os.scandir(self._directory):
                if entry.name not in used:
                    os.unlink(entry.path)
                    removed += 1
        return removed

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy(source: int, file: BinaryIO, size: int) -> None:
    """The offset of a memory file belongs to nobody, so it is read by position."""
    done = 0
    while done < size:
        chunk = os.pread(source, min(COPY_BYTES, size - done), done)
        if not chunk:
            raise OSError(f"a payload ended after {done} of {size} bytes")
        file.write(chunk)
        done += len(chunk)
