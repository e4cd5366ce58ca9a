"""One volume on disk: its commits, and how the next one comes to be.

volume.json     what it is
HEAD            number and digest of the latest commit; moved by one rename, after all it names is on disk
commits/N       what the volume held at commit N (``manifest``)
blocks/ large/  the bytes (``blocks``)
trees/N         commit N as a directory (``trees``)
mounts/C/G/     what container C has written since its G-th mount (``mounts``)
live/           the volume as one directory for everybody, where containers cannot have views of their own
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from glowplug.model import errors
from glowplug.store.volumes import disk
from glowplug.store.volumes.blocks import Blocks
from glowplug.store.volumes.deposit import Deposit
from glowplug.store.volumes.manifest import EMPTY, Change, Entries, Manifest, decode_manifest, merge
from glowplug.store.volumes.scan import Known
from glowplug.store.volumes.trees import Trees

FORMAT = 1
COLLECT_BYTES = 64 << 20
"""Once so much was replaced or removed, blocks that nothing refers to are looked for."""
UPLOAD_KEPT_S = 3600.0
"""Blocks a client has sent wait so long for the commit that names them."""


class About(msgspec.Struct):
    """``volume.json``."""

    id: str
    created_at: float
    format: int = FORMAT


@dataclass(frozen=True)
class Committed:
    """What came of a commit. ``stored_bytes``: what was new to the volume."""

    number: int
    changed: int
    stored_bytes: int


class Volume:
    """Thread-safe. Commits are made one after the other; reading never waits for one."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.of = f"volume {name!r}"
        try:
            self.about = msgspec.json.decode((directory / "volume.json").read_bytes(), type=About)
        except msgspec.DecodeError:
            raise self._damaged("volume.json") from None
        self.mounted: collections.Counter[int] = collections.Counter()
        """Commits under the views of containers."""
        self.blocks = Blocks(directory)
        self.trees = Trees(directory, self.blocks, self.of, lambda: set(+self.mounted))
        self._pinned: collections.Counter[int] = collections.Counter()
        self.lock = threading.RLock()
        self._uploaded: dict[str, float] = {}
        self._replaced_bytes = 0
        self.live_known: Known = {}
        """Of the shared directory, where there is one (``live``)."""
        self._open()

    @classmethod
    def create(cls, directory: Path, name: str, about: About) -> Volume:
        """A new, empty volume; it is there when ``directory`` is."""
        temporary = directory.with_name(f".new-{name}")
        try:
            if temporary.exists():
                disk.remove_tree(temporary)
            temporary.mkdir(mode=0o700, parents=True)
            for each in ("commits", "mounts"):
                (temporary / each).mkdir(mode=0o700)
            Blocks(temporary).make()
            disk.write_file(temporary / "volume.json", msgspec.json.encode(about))
            disk.write_file(temporary / "HEAD", b"0 -\n")
            disk.rename(temporary, directory)
            disk.sync_one(directory.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                disk.remove_tree(temporary)
            raise disk.told(error, f"the volume {name!r} cannot be made") from error
        return cls(directory, name)

    def _open(self) -> None:
        self.head = self._read_head()
        for left in self.directory.glob("*.new"):
            left.unlink()
        self.blocks.make()
        self.trees.make()
        # What a commit that came to nothing has left may be incomplete, and the next one would trust it.
        with self.lock:
            self._collect()

    def _read_head(self) -> Manifest:
        try:
            number, digest = (self.directory / "HEAD").read_text().split()
            return self.read_commit(int(number), digest)
        except (FileNotFoundError, ValueError):
            raise self._damaged("HEAD") from None

    def _damaged(self, name: str) -> errors.DataLossError:
        return errors.DataLossError(
            f"{self.of}: {self.directory / name} is missing or damaged. Nothing of it was touched: put the "
            f"file back from a copy, or remove the volume with `glowplug volume delete {self.name}`."
        )

    def read_commit(self, number: int, digest: str = "") -> Manifest:
        """Raises ``DataLossError`` when the commit is not what was written."""
        if number == 0:
            return EMPTY
        try:
            raw = (self.directory / "commits" / str(number)).read_bytes()
            if digest and hashlib.sha256(raw).hexdigest() != digest:
                raise ValueError("its bytes are not what was stored")
            return decode_manifest(raw)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise errors.DataLossError(
                f"{self.of}: commit {number} cannot be read: {error}. "
                f"`glowplug volume delete {self.name}` removes it; its files cannot be listed any more."
            ) from None

    # reading

    @contextlib.contextmanager
    def pinned(self) -> Iterator[Manifest]:
        """The latest commit, whose blocks stay for as long as it is read."""
        with self.lock:
            manifest = self.head
            self._pinned[manifest.number] += 1
        try:
            yield manifest
        finally:
            with self.lock:
                self._pinned[manifest.number] -= 1

    @property
    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.head.entries.values())

    # committing

    def commit(
        self,
        find_changes: Callable[[Deposit, Manifest], Sequence[Change]],
        seen: Entries | None = None,
    ) -> Committed:
        """Put changes on top of the latest commit. ``find_changes(deposit, latest)`` stores their blocks;
        ``seen``: the commit they were made on, the latest unless given.

        Raises ``ResourceExhaustedError`` when the disk is full, ``DataLossError`` when it fails; nothing of
        the commit is there then.
        """
        with self.lock:
            latest = self.head
            deposit = Deposit(self.blocks)
            manifest: Manifest | None = None
            try:
                changes = find_changes(deposit, latest)
                made_at = time.time()
                entries = merge(
                    latest.entries, latest.entries if seen is None else seen, changes, int(made_at * 1e9)
                )
                if entries == latest.entries:
                    deposit.undo()
                    return Committed(latest.number, 0, 0)
                manifest = Manifest(latest.number + 1, made_at, entries)
                self._write(manifest, deposit)
            except BaseException as error:
                if self.head is not manifest:
                    deposit.undo()
                    self._unwrite(manifest)
                if isinstance(error, OSError):
                    raise disk.told(error, f"the commit to {self.of} failed") from error
                raise
            self._after(latest, manifest)
            return Committed(manifest.number, len(changes), deposit.bytes)

    def _write(self, manifest: Manifest, deposit: Deposit) -> None:
        path = self.directory / "commits" / str(manifest.number)
        raw = manifest.encode()
        disk.write_file(path, raw)
        head = self.directory / "HEAD.new"
        disk.write_file(head, f"{manifest.number} {hashlib.sha256(raw).hexdigest()}\n".encode())
        disk.sync([*deposit.added, path, head], self.directory)
        disk.rename(head, self.directory / "HEAD")
        self.head = manifest
        disk.sync_one(self.directory)

    def _unwrite(self, manifest: Manifest | None) -> None:
        (self.directory / "HEAD.new").unlink(missing_ok=True)
        if manifest is not None:
            (self.directory / "commits" / str(manifest.number)).unlink(missing_ok=True)

    def _after(self, latest: Manifest, manifest: Manifest) -> None:
        for path, entry in latest.entries.items():
            if manifest.entries.get(path) != entry:
                self._replaced_bytes += entry.size
        if self._replaced_bytes > COLLECT_BYTES:
            self._collect()
        elif latest.number and latest.number not in self._left_bases() | {*+self.mounted, *+self._pinned}:
            (self.directory / "commits" / str(latest.number)).unlink(missing_ok=True)

    # blocks of clients

    def missing(self, digests: Sequence[str]) -> list[str]:
        with self.lock:
            now = time.monotonic()
            here = [digest for digest in digests if self.blocks.has(digest)]
            self._uploaded.update((digest, now) for digest in here)
        found = set(here)
        return [digest for digest in digests if digest not in found]

    def put_blocks(self, blocks: Sequence[memoryview]) -> list[str]:
        """Store blocks for a commit that follows; returns their digests."""
        with self.lock:
            deposit = Deposit(self.blocks)
            try:
                digests = [deposit.block(block).hex() for block in blocks]
            except OSError as error:
                deposit.undo()
                raise disk.told(error, f"the upload to {self.of} failed") from error
            now = time.monotonic()
            self._uploaded.update((digest, now) for digest in digests)
            return digests

    # what is no longer needed

    def collect(self) -> int:
        """Remove blocks that nothing refers to; returns the bytes that freed."""
        with self.lock:
            return self._collect()

    def _collect(self) -> int:
        self._replaced_bytes = 0
        now = time.monotonic()
        self._uploaded = {each: at for each, at in self._uploaded.items() if now - at < UPLOAD_KEPT_S}
        kept = {self.head.number, *+self._pinned}
        based = kept | set(+self.mounted) | self._left_bases()
        for path in (self.directory / "commits").iterdir():
            if not path.name.isdecimal() or int(path.name) not in based:
                path.unlink()
        manifests = [self.head if number == self.head.number else self.read_commit(number) for number in kept]
        entries = (entry for manifest in manifests for entry in manifest.entries.values())
        return self.blocks.collect(entries, self._uploaded)

    def _left_bases(self) -> set[int]:
        """Commits that views of a server before this one lie on, and what a shared directory was in line
        with."""
        left = [*self.directory.glob("mounts/*/*/base"), *self.directory.glob("live.number")]
        return {int(path.read_text().split()[0]) for path in left}
