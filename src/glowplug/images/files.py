"""Files by their content: what clients have sent, each once, never changed.

Whether one was changed nevertheless is seen without reading it: the nanoseconds of its time are made of its
digest, so whatever writes to it afterwards leaves others. Its content decides then.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from glowplug.images.disk import full_text, is_full
from glowplug.model import errors

_DIGEST = re.compile(r"[0-9a-f]{64}")
SECOND_NS = 1_000_000_000


class ContentFiles:
    """``directory``/ab/<sha256>. Every method may be called on any thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: str) -> Path:
        """Where a content is or would be. Raises ``InvalidError`` for what is no digest."""
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise errors.InvalidError(f"{digest!r:.80} is not a SHA-256 in hex (64 characters 0-9 and a-f)")
        return self.directory / digest[:2] / digest

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those of them that nobody has sent yet, each once, in order. What is damaged is removed: who has
        it sends it again."""
        return [digest for digest in dict.fromkeys(digests) if not self._has(digest)]

    def _has(self, digest: str) -> bool:
        path = self.path(digest)
        if is_whole(path, digest):
            return True
        path.unlink(missing_ok=True)
        return False

    def begin(self, digest: str) -> IncomingFile:
        """Take a content in, part by part."""
        return IncomingFile(self.path(digest), digest)

    def remove_unused(self, since: float) -> int:
        """Remove what came before ``since`` and is part of no tree; the bytes freed."""
        freed = 0
        for path in self.directory.glob("??/*"):
            found = path.stat()
            if found.st_nlink == 1 and found.st_mtime <= since and _DIGEST.fullmatch(path.name):
                path.unlink(missing_ok=True)
                freed += found.st_blocks * 512
        return freed

    def sweep(self, before: float) -> None:
        """Remove what was begun before that time and never finished."""
        for part in self.directory.glob("*/.*"):
            if part.stat().st_mtime < before:
                part.unlink(missing_ok=True)


def mark(path: Path, digest: str) -> None:
    """Say by its time that this file has that content."""
    before = time.time_ns() // SECOND_NS - 1  # never in the future
    os.utime(path, ns=(before * SECOND_NS, before * SECOND_NS + _mark_of(digest)))


def is_whole(path: Path, digest: str) -> bool:
    """Whether a file is there and has this content; read only when its time does not say so."""
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            return False
        if found.st_mtime_ns % SECOND_NS == _mark_of(digest):
            return True
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return False
    except OSError:
        return False
    try:
        mark(path, digest)
    except OSError:
        pass  # it is read again next time
    return True


def _mark_of(digest: str) -> int:
    return int(digest[:16], 16) % SECOND_NS


class IncomingFile:
    """One content on its way to the disk. ``finish`` or ``abandon`` ends it."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._digest = digest
        self._sum = hashlib.sha256()
        self.size = 0
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._file: BinaryIO | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = open(self._temporary, "xb")  # noqa: SIM115 - closed by finish and abandon
        except OSError as error:
            raise self._failed(error) from error

    def write(self, part: bytes) -> None:
        assert self._file is not None
        self._sum.update(part)
        self.size += len(part)
        try:
            self._file.write(part)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Keep it. Raises ``InvalidError`` when it is not what its digest says."""
        assert self._file is not None
        found = self._sum.hexdigest()
        if found != self._digest:
            self.abandon()
            raise errors.InvalidError(
                f"what was sent as {self._digest} has the digest {found} ({self.size} bytes): it changed "
                "while it was read or on its way; send it again"
            )
        try:
            self._file.close()
            mark(self._temporary, digest=self._digest)
            os.chmod(self._temporary, 0o444)
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise self._failed(error) from error

    def abandon(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                pass  # it could not even be flushed
        self._temporary.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> errors.Error:
        self.abandon()
        if is_full(error):
            return errors.ResourceExhaustedError(full_text(self._path.parent))
        return errors.InternalError(f"{self._digest} cannot be stored in {self._path.parent}: {error}")
