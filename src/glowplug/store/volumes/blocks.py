"""The bytes of one volume: a file a block, named by its SHA-256, or a whole large file, named by its blocks'.

A file is written under its final name only once it is complete, and blocks no commit refers to are removed
when a volume is opened: so what is found by name is whole, whatever ended the process that wrote it. A file
of several blocks that is new is stored as one (``large/``), with its digests beside it; of one that was there
before only the blocks that changed are.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from glowplug.model import errors
from glowplug.store.volumes import disk
from glowplug.store.volumes.manifest import BLOCK_BYTES, DIGEST_BYTES, Entry, large_name

SUFFIX = ".blocks"


class Blocks:
    """The blocks of one volume. Reading is safe from any thread; one ``Deposit`` at a time writes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.small = directory / "blocks"
        self.large = directory / "large"
        self.incoming = directory / "incoming"
        """Blocks while they are written."""
        self.damaged: set[str] = set()
        """Blocks that were found so, as far as this process knows."""
        self._places: set[str] = set()
        self._inside: dict[str, tuple[str, int]] | None = None
        """Blocks within whole large files: the file's name and the block's number."""

    def make(self) -> None:
        self.large.mkdir(mode=0o700, exist_ok=True)
        self.small.mkdir(mode=0o700, exist_ok=True)
        self.incoming.mkdir(mode=0o700, exist_ok=True)
        for left in self.incoming.iterdir():
            left.unlink()

    def make_place(self, digest: str) -> Path:
        """Where a block will be."""
        path = self.path(digest)
        if digest[:2] not in self._places:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._places.add(digest[:2])
        return path

    def path(self, digest: str) -> Path:
        return Path(f"{self.small}/{digest[:2]}/{digest}")

    def large_path(self, blocks: bytes) -> Path:
        return self.large / large_name(blocks)

    def find(self, digest: str) -> tuple[Path, int] | None:
        """The file that holds a block, and where in it."""
        path = self.path(digest)
        if path.exists():
            return path, 0
        found = self.inside.get(digest)
        if found is None:
            return None
        return self.large / found[0], found[1] * BLOCK_BYTES

    def has(self, digest: str) -> bool:
        if digest in self.damaged:
            return False  # whoever has it may put it again
        return digest in self.inside or os.path.exists(f"{self.small}/{digest[:2]}/{digest}")

    @property
    def inside(self) -> dict[str, tuple[str, int]]:
        if self._inside is None:
            known: dict[str, tuple[str, int]] = {}
            for listed in self.large.glob(f"*{SUFFIX}"):
                name = listed.name[: -len(SUFFIX)]
                digests = listed.read_bytes()
                if (self.large / name).exists() and large_name(digests) == name:
                    add_inside(known, name, digests)
            self._inside = known
        return self._inside

    def mend(self, digest: str, content: bytes | memoryview) -> None:
        """Put the right bytes of a block that was found damaged into the large file that it is part of."""
        if digest not in self.damaged:
            return
        found = self.inside_only(digest)
        if found is not None:
            fd = os.open(found[0], os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.pwrite(fd, content, found[1])
                os.fsync(fd)
            finally:
                os.close(fd)
        self.damaged.discard(digest)

    def forget_inside(self) -> None:
        self._inside = None

    def read(self, digest: str, of: str) -> bytes:
        """One block, checked. ``of`` says what it is a part of.

        Raises ``DataLossError`` when it is missing or damaged.
        """
        for attempt in (self.find(digest), self.inside_only(digest)):
            if attempt is None:
                continue
            content = _read_at(*attempt)
            if hashlib.sha256(content).hexdigest() == digest:
                return content
        self.damaged.add(digest)
        state = "is missing" if self.find(digest) is None else "is damaged: its bytes are not what was stored"
        raise errors.DataLossError(
            f"{of}: block {digest[:12]} {state}. Put the file anew or remove it; the others are as they were."
        )

    def inside_only(self, digest: str) -> tuple[Path, int] | None:
        """Another copy of a block, should the file of its own be damaged."""
        found = self.inside.get(digest)
        return None if found is None else (self.large / found[0], found[1] * BLOCK_BYTES)

    def contents(self, entry: Entry, of: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end`` of a file, block by block, each checked."""
        end = entry.size if end is None else min(end, entry.size)
        digests = entry.digests
        position = start - start % BLOCK_BYTES
        while position < end:
            content = self.read(digests[position // BLOCK_BYTES], of)
            part = content[max(0, start - position) : end - position]
            if part:
                yield part
            position += BLOCK_BYTES

    def whole(self, entry: Entry, of: str) -> tuple[str, os.stat_result]:
        """A file with exactly the bytes of ``entry``, assembled if need be, and its status. Not synced: it
        can be made again. One whose time is the entry's was not written to since; any other is read.

        Raises ``DataLossError`` when a block is missing or damaged.
        """
        if len(entry.blocks) == DIGEST_BYTES:
            name = entry.blocks.hex()
            path = f"{self.small}/{name[:2]}/{name}"
            try:
                status = os.stat(path)
            except FileNotFoundError:
                self._write_beside(self.make_place(name), [self.read(name, of)], entry)
                status = os.stat(path)
            if status.st_size != entry.size:
                self.damaged.add(name)
                raise errors.DataLossError(
                    f"{of}: block {name[:12]} is damaged: it has {status.st_size} bytes instead of "
                    f"{entry.size}. Put the file anew or remove it; other files are as they were."
                )
            if status.st_mtime_ns != entry.mtime_ns and not _is_whole(path, entry):
                self._write_beside(Path(path), [self.read(name, of)], entry)  # of another copy, or refused
                status = os.stat(path)
            return path, status
        large = self.large_path(entry.blocks)
        if not large.exists() or not (
            large.stat().st_size == entry.size
            and (large.stat().st_mtime_ns == entry.mtime_ns or _is_whole(str(large), entry))
        ):
            disk.write_file(large.with_name(large.name + SUFFIX), entry.blocks)
            self._write_beside(large, self.contents(entry, of), entry)
            add_inside(self.inside, large.name, entry.blocks)
        return str(large), os.stat(large)

    def _write_beside(self, path: Path, contents: Iterator[bytes] | list[bytes], entry: Entry) -> None:
        temporary = path.with_name(f"{path.name}.{threading.get_ident()}.new")
        try:
            with open(temporary, "wb", buffering=0) as file:
                for part in contents:
                    disk.write_all(file.fileno(), part)
                set_attributes(file.fileno(), entry.mode, entry.mtime_ns)
            disk.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def collect(self, entries: Iterable[Entry], uploaded: Iterable[str] = ()) -> int:
        """Remove what none of ``entries`` needs, ``uploaded`` blocks aside; returns the bytes that freed."""
        disk.sync_all(self.directory)  # what was assembled now stands alone
        small = set(uploaded)
        large: set[str] = set()
        for entry in entries:
            if len(entry.blocks) > DIGEST_BYTES and self.large_path(entry.blocks).exists():
                large.add(large_name(entry.blocks))
                continue
            for digest in entry.digests:
                if self.path(digest).exists():
                    small.add(digest)
                elif digest in self.inside:
                    large.add(self.inside[digest][0])
        freed = 0
        for directory in self.small.iterdir():
            freed += _remove_others(directory, small)
        freed += _remove_others(self.large, large | {name + SUFFIX for name in large})
        self.forget_inside()
        return freed


def set_attributes(fd: int, mode: int, mtime_ns: int) -> None:
    os.fchmod(fd, mode)
    if mtime_ns:
        os.utime(fd, ns=(mtime_ns, mtime_ns))


def add_inside(known: dict[str, tuple[str, int]], name: str, digests: bytes) -> None:
    for number in range(len(digests) // DIGEST_BYTES):
        known[digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES].hex()] = name, number


def _read_at(path: Path, offset: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, BLOCK_BYTES, offset)
    finally:
        os.close(fd)


def _is_whole(path: str, entry: Entry) -> bool:
    """Whether a file has the bytes of ``entry``. Reads all of it."""
    with open(path, "rb", buffering=0) as file:
        return all(
            hashlib.sha256(os.pread(file.fileno(), BLOCK_BYTES, number * BLOCK_BYTES)).hexdigest() == digest
            for number, digest in enumerate(entry.digests)
        )


def _remove_others(directory: Path, kept: set[str]) -> int:
    freed = 0
    for entry in os.scandir(directory):
        if entry.name not in kept:
            freed += entry.stat().st_size
            os.unlink(entry.path)
    return freed
