"""A prefix of a bucket as a volume of this machine: what changed there is fetched when a container starts,
what a commit changed here is uploaded after it.

``remote`` in the volume's directory says what both sides were last known to agree on. What the latest commit
has otherwise is still to be uploaded: after a failure, or a kill, that is found again from there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from glowplug.model import errors
from glowplug.ports.volumes import BucketPlace
from glowplug.store.buckets.remote import Remote, RemoteObject
from glowplug.store.volumes import disk
from glowplug.store.volumes.deposit import Deposit
from glowplug.store.volumes.manifest import FILE, LINK, Change, Entry, Manifest, clean_path, parents
from glowplug.store.volumes.volume import Volume

TRANSFERS = 16
"""Objects on their way at once."""
FETCH_LIMIT_BYTES = 64 << 30
"""A container starts with a copy of everything under its prefix; more than this is refused."""
FILE_MODE = 0o644
NAMED_MAX = 3


class Agreed(msgspec.Struct, array_like=True, frozen=True):
    """One object and the content of its file, when they were the same."""

    etag: str
    size: int
    blocks: bytes

    def is_of(self, entry: Entry) -> bool:
        return (self.size, self.blocks) == (entry.size, entry.blocks)


class _Kept(msgspec.Struct, array_like=True):
    number: int
    """The latest commit when this was written."""
    agreed: dict[str, Agreed]


class Bucket:
    """Thread-safe: one container after the other fetches or uploads."""

    def __init__(self, place: BucketPlace, volume: Volume, limit_bytes: int = FETCH_LIMIT_BYTES) -> None:
        self.place = place
        self.volume = volume
        self._limit_bytes = limit_bytes
        self._file = volume.directory / "remote"
        self._lock = threading.Lock()
        self._agreed = self._read()

    # from the bucket

    def pull(self, remote: Remote) -> None:
        """Have the latest commit hold what the bucket holds, except for what is still to be uploaded.

        Raises ``ResourceExhaustedError`` when that is more than the limit, and what ``remote`` raises.
        """
        with self._lock:
            there = usable(self.place, remote.list())
            size = sum(each.size for each in there.values())
            if size > self._limit_bytes:
                narrower = f"a narrower one than {self.place.prefix!r}" if self.place.prefix else "one"
                raise errors.ResourceExhaustedError(
                    f"{self.place} holds {size / (1 << 30):.1f} GiB, and a container's copy may be "
                    f"{self._limit_bytes / (1 << 30):.1f} GiB: give key_prefix=, {narrower}"
                )
            pending = {path for path, _ in self._pending()}
            wanted = {
                path: each
                for path, each in there.items()
                if path not in pending and not self._has(path, each)
            }
            gone = [path for path in self._agreed if path not in there and path not in pending]
            if wanted or gone:
                self._take(remote, wanted, gone)

    def _has(self, path: str, there: RemoteObject) -> bool:
        known = self._agreed.get(path)
        return known is not None and (known.etag, known.size) == (there.etag, there.size)

    def _take(self, remote: Remote, wanted: dict[str, RemoteObject], gone: list[str]) -> None:
        place = self.volume.directory / "fetched"
        if place.exists():
            disk.remove_tree(place)
        place.mkdir(mode=0o700)
        try:
            fetched = self._fetch(remote, wanted, place)
            entries: dict[str, Entry] = {}
            removed: list[str] = []

            def find(deposit: Deposit, latest: Manifest) -> list[Change]:
                # What a container has committed since the bucket was listed is newer.
                ours = {path for path, _ in self._pending(latest)}
                for path, file in fetched.items():
                    if path not in ours:
                        entries[path] = _store(deposit, file, wanted[path].mtime_ns)
                missed = [path for path in wanted if path not in fetched]
                removed.extend(path for path in (*gone, *missed) if path not in ours)
                away = [Change(path, None) for path in removed]
                return [*away, *(Change(path, entry) for path, entry in entries.items())]

            self.volume.commit(find)
        except OSError as error:
            raise disk.told(error, f"{self.place} could not be fetched") from error
        finally:
            disk.remove_tree(place)
        for path in removed:
            self._agreed.pop(path, None)
        for path, entry in entries.items():
            # Of another size than was listed: it was replaced meanwhile, and is fetched again next time.
            etag = wanted[path].etag if entry.size == wanted[path].size else ""
            self._agreed[path] = Agreed(etag, entry.size, entry.blocks)
        self._write()

    def _fetch(self, remote: Remote, wanted: dict[str, RemoteObject], place: Path) -> dict[str, Path]:
        """Files by path, without objects that have gone since they were listed."""

        def fetch(numbered: tuple[int, tuple[str, RemoteObject]]) -> tuple[str, Path] | None:
            number, (path, each) = numbered
            file = place / str(number)
            try:
                if each.size:
                    remote.fetch(each.key, str(file))
                else:
                    disk.write_file(file, b"")
            except FileNotFoundError:
                return None
            return path, file

        with ThreadPoolExecutor(TRANSFERS, "glowplug-bucket") as pool:
            jobs = [pool.submit(fetch, each) for each in enumerate(wanted.items())]
            try:
                return dict(each for job in jobs if (each := job.result()) is not None)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    # to the bucket

    def push(self, remote: Remote) -> list[str]:
        """Upload what the latest commit has otherwise than the bucket. Returns what went wrong; that is tried
        again with the next push."""
        with self._lock, self.volume.pinned() as manifest:
            pending = self._pending(manifest)
            if not pending:
                return []

            def send(path: str, entry: Entry | None) -> Agreed | None:
                key = self.place.prefix + path
                if entry is None:
                    remote.delete(key)
                    return None
                source, _ = self.volume.blocks.whole(entry, f"{self.volume.of}, file {path!r}")
                there = remote.upload(key, source)
                etag = there.etag if there.size == entry.size else ""
                return Agreed(etag, entry.size, entry.blocks)

            failed: list[tuple[str, str]] = []
            with ThreadPoolExecutor(TRANSFERS, "glowplug-bucket") as pool:
                jobs = [(path, pool.submit(send, path, entry)) for path, entry in pending]
                for path, job in jobs:
                    try:
                        agreed = job.result()
                    except (errors.Error, OSError) as error:
                        failed.append((path, str(error)))
                        continue
                    self._agreed.pop(path, None)
                    if agreed is not None:
                        self._agreed[path] = agreed
            self._write()
            return _told(self.place, failed)

    def links(self) -> list[str]:
        """Paths that a bucket cannot hold."""
        return [path for path, entry in self.volume.head.entries.items() if entry.kind == LINK]

    def _pending(self, manifest: Manifest | None = None) -> list[tuple[str, Entry | None]]:
        """What is to be uploaded; None: deleted. Deletions come last."""
        entries = (manifest or self.volume.head).entries
        files = {path: entry for path, entry in entries.items() if entry.kind == FILE}
        changed: list[tuple[str, Entry | None]] = [
            (path, entry)
            for path, entry in files.items()
            if path not in self._agreed or not self._agreed[path].is_of(entry)
        ]
        return changed + [(path, None) for path in self._agreed if path not in files]

    # what both agreed on

    def _read(self) -> dict[str, Agreed]:
        try:
            kept = msgspec.msgpack.decode(self._file.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError):
            return {}
        # Of a later commit than there is: that was lost, and no reason to delete anything in the bucket.
        return kept.agreed if kept.number <= self.volume.head.number else {}

    def _write(self) -> None:
        temporary = self._file.with_name("remote.new")
        try:
            kept = _Kept(self.volume.head.number, self._agreed)
            disk.write_file(temporary, msgspec.msgpack.encode(kept))
            disk.sync_one(temporary)
            disk.rename(temporary, self._file)
        except OSError as error:
            raise disk.told(error, f"what {self.place} holds could not be noted") from error


def usable(place: BucketPlace, objects: Sequence[RemoteObject]) -> dict[str, RemoteObject]:
    """By path, those that can be files: no marks of directories, no path that a file cannot have, and of "a"
    and "a/b" the second."""
    found: dict[str, RemoteObject] = {}
    for each in objects:
        path = each.key[len(place.prefix) :]
        try:
            if path and clean_path(path, str(place)) == path:
                found[path] = each
        except (errors.InvalidError, UnicodeEncodeError):
            continue
    for path in list(found):
        for above in parents(path):
            found.pop(above, None)
    return found


def _store(deposit: Deposit, file: Path, mtime_ns: int) -> Entry:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return deposit.file(fd, os.fstat(fd).st_size, FILE_MODE, mtime_ns)
    finally:
        os.close(fd)
        file.unlink()


def _told(place: BucketPlace, failed: list[tuple[str, str]]) -> list[str]:
    if not failed:
        return []
    names = ", ".join(path for path, _ in failed[:NAMED_MAX])
    more = f" and {len(failed) - NAMED_MAX} more" if len(failed) > NAMED_MAX else ""
    return [
        f"not uploaded to {place} yet: {names}{more}. {failed[0][1]} They are kept on this machine and sent "
        "when a container next commits to the bucket, or starts with it."
    ]
