"""Volumes as clients use them: listed, read and changed by manifest. The server follows no link for a client:
of a volume it never opens a path a client names, and of a network file system it goes directory by directory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from glowplug.model import errors
from glowplug.ports.volumes import SHARED
from glowplug.store.volumes import beneath, disk, live
from glowplug.store.volumes.blocks import set_attributes
from glowplug.store.volumes.manifest import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    DIRECTORY,
    FILE,
    LINK,
    Change,
    Entry,
    Manifest,
    below,
    clean_path,
    describe,
)
from glowplug.store.volumes.volume import Volume
from glowplug.store.volumes.volumes import Volumes

READ_BYTES = 1 << 20


class Stored:
    """Implements ``ports.volumes.StoredVolumes``."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def list(self, kind: str) -> list[dict[str, Any]]:
        if kind == SHARED:
            return [_about_shared(path) for path in self._volumes.all_shared()]
        return [self._listed(name) for name in self._volumes.names()]

    def _listed(self, name: str) -> dict[str, Any]:
        try:
            return _about(self._volumes.find(name))
        except errors.DataLossError as error:
            unknown = {"commit": 0, "committed_at": 0.0, "files": -1, "size_bytes": -1, "mounted": 0}
            return {"name": name, "id": "", "created_at": 0.0, **unknown, "problem": str(error)}

    def show(self, kind: str, name: str) -> dict[str, Any]:
        if kind == SHARED:
            return _about_shared(self._volumes.shared(name))
        return _about(self._volumes.find(name))

    def create(self, kind: str, name: str, exist_ok: bool) -> dict[str, Any]:
        if kind == SHARED:
            return _about_shared(self._volumes.shared(name, create=True))
        return _about(self._volumes.find(name, create=True) if exist_ok else self._volumes.create(name))

    def delete(self, kind: str, name: str) -> None:
        if kind == SHARED:
            self._volumes.delete_shared(name)
        else:
            self._volumes.delete(name)

    def rename(self, name: str, new_name: str) -> dict[str, Any]:
        return _about(self._volumes.rename(name, new_name))

    # reading

    def entries(self, kind: str, name: str, path: str, recursive: bool) -> list[dict[str, Any]]:
        if kind == SHARED:
            return self._shared_entries(name, path, recursive)
        volume = self._volumes.find(name)
        clean = clean_path(path, volume.of)
        manifest = volume.head
        entry = manifest.entries.get(clean)
        if clean and entry is None:
            raise errors.NotFoundError(f"{volume.of} has no {clean!r}")
        if entry is not None and entry.kind != DIRECTORY:
            return [describe(clean, entry)]
        found = below(manifest.entries, clean)
        depth = clean.count("/") + 1 if clean else 0
        if not recursive:
            found = [each for each in found if each.count("/") == depth]
        return [describe(each, manifest.entries[each]) for each in sorted(found)]

    def read(
        self, kind: str, name: str, path: str, start: int, end: int | None
    ) -> tuple[int, Iterator[bytes]]:
        if kind == SHARED:
            return self._read_shared(name, path, start, end)
        volume = self._volumes.find(name)
        clean = clean_path(path, volume.of)
        entry = _file(volume, volume.head, clean)

        def parts() -> Generator[bytes, None, None]:
            with volume.pinned() as manifest:
                # It was there a moment ago, and what is there now may be another file of that name.
                now = manifest.entries.get(clean)
                source = now if now is not None and now.kind == FILE else entry
                yield from volume.blocks.contents(source, f"{volume.of}, file {clean!r}", start, end)

        return entry.size, _begun(parts())

    # changing

    def remove(self, kind: str, name: str, path: str, recursive: bool) -> None:
        if kind == SHARED:
            self._remove_shared(name, path, recursive)
            return
        volume = self._volumes.find(name)
        clean = clean_path(path, volume.of)

        def find(_: Any, latest: Manifest) -> list[Change]:
            entry = latest.entries.get(clean)
            if clean and entry is None:
                raise errors.NotFoundError(f"{volume.of} has no {clean!r}")
            if (entry is None or entry.kind == DIRECTORY) and not recursive:
                raise errors.InvalidError(
                    f"{volume.of}: {clean or '/'!r} is a directory: remove it with recursive=True"
                )
            top = [clean] if clean else [each for each in latest.entries if "/" not in each]
            return [Change(each, None) for each in top]

        _commit(volume, find)

    def copy(self, kind: str, name: str, sources: Sequence[str], target: str, recursive: bool) -> None:
        if kind == SHARED:
            raise errors.InvalidError(
                "files of a network file system are copied in a function that mounts it"
            )
        volume = self._volumes.find(name)
        clean_target = clean_path(target, volume.of)
        cleaned = [clean_path(each, volume.of) for each in sources]

        def find(_: Any, latest: Manifest) -> list[Change]:
            into = latest.entries.get(clean_target)
            is_directory = not clean_target or target.endswith("/") or (into and into.kind == DIRECTORY)
            if len(cleaned) > 1 and not is_directory:
                raise errors.InvalidError(
                    f"{volume.of}: {target!r} is no directory, to copy several files into"
                )
            changes: list[Change] = []
            for source in cleaned:
                entry = latest.entries.get(source)
                if entry is None:
                    raise errors.NotFoundError(f"{volume.of} has no {source!r}")
                base = source.rpartition("/")[2]
                place = "/".join(filter(None, [clean_target, base])) if is_directory else clean_target
                if entry.kind != DIRECTORY:
                    changes.append(Change(place, entry))
                    continue
                if not recursive:
                    raise errors.InvalidError(
                        f"{volume.of}: {source!r} is a directory; copy it with recursive=True (--recursive)"
                    )
                if f"{place}/".startswith(f"{source}/"):
                    raise errors.InvalidError(f"{volume.of}: {source!r} cannot be copied into itself")
                changes.append(Change(place, entry))
                for each in sorted(below(latest.entries, source)):
                    changes.append(Change(place + each[len(source) :], latest.entries[each]))
            return changes

        _commit(volume, find)

    def missing(self, name: str, digests: Sequence[str]) -> list[str]:
        for digest in digests:
            _check_digest(digest)
        return self._volumes.find(name).missing(digests)

    def put_blocks(self, name: str, blocks: Sequence[memoryview]) -> list[str]:
        if any(len(block) > BLOCK_BYTES for block in blocks):
            raise errors.RequestSizeError(f"a block has {BLOCK_BYTES >> 20} MiB at most")
        return self._volumes.find(name).put_blocks(blocks)

    def commit(self, name: str, files: Sequence[dict[str, Any]], force: bool) -> dict[str, Any]:
        volume = self._volumes.find(name)
        wanted = [(clean_path(each["path"], volume.of), each) for each in files]

        def find(_: Any, latest: Manifest) -> list[Change]:
            taken = [
                path for path, each in wanted if path in latest.entries and each.get("type") != DIRECTORY
            ]
            if taken and not force:
                more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
                raise errors.AlreadyExistsError(
                    f"{volume.of} has {taken[0]!r}{more} already; replace with force=True (--force)"
                )
            return [Change(path, _entry(volume, path, each)) for path, each in wanted]

        committed = _commit(volume, find)
        return {
            "number": committed.number,
            "changed": committed.changed,
            "stored_bytes": committed.stored_bytes,
        }

    def collect(self, name: str) -> int:
        return self._volumes.find(name).collect()

    # network file systems

    def _shared_entries(self, name: str, path: str, recursive: bool) -> list[dict[str, Any]]:
        of = f"network file system {name!r}"
        clean = clean_path(path, of)
        with _opened(self._volumes.shared(name)) as root:
            try:
                found = list(beneath.walk(root, clean, of, recursive))
            except errors.InvalidError:
                if not clean:
                    raise
                fd = beneath.open_file(root, clean, of)
                status = os.fstat(fd)
                os.close(fd)
                found = [(clean, Entry(FILE, status.st_mode & 0o7777, status.st_size, status.st_mtime_ns))]
        return [describe(each, entry) for each, entry in found]

    def _read_shared(self, name: str, path: str, start: int, end: int | None) -> tuple[int, Iterator[bytes]]:
        of = f"network file system {name!r}"
        with _opened(self._volumes.shared(name)) as root:
            fd = beneath.open_file(root, clean_path(path, of), of)
        size = os.fstat(fd).st_size
        stop = size if end is None else min(end, size)

        def parts() -> Iterator[bytes]:
            position = start
            try:
                while position < stop:
                    part = os.pread(fd, min(READ_BYTES, stop - position), position)
                    if not part:
                        return
                    yield part
                    position += len(part)
            finally:
                os.close(fd)

        return size, parts()

    def _remove_shared(self, name: str, path: str, recursive: bool) -> None:
        of = f"network file system {name!r}"
        clean = clean_path(path, of)
        with _opened(self._volumes.shared(name)) as root:
            if not recursive:
                parent, last = beneath.open_parent(root, clean, of)
                try:
                    os.unlink(last, dir_fd=parent)
                except FileNotFoundError:
                    raise errors.NotFoundError(f"{of} has no {clean!r}") from None
                except (IsADirectoryError, PermissionError):
                    raise errors.InvalidError(
                        f"{of}: {clean!r} is a directory; remove it with recursive=True (--recursive)"
                    ) from None
                finally:
                    os.close(parent)
            else:
                beneath.remove(root, clean, of)

    def write_shared(self, name: str, path: str, mode: int, parts: Callable[[], bytes]) -> int:
        of = f"network file system {name!r}"
        size = 0
        with _opened(self._volumes.shared(name)) as root:
            parent, last = beneath.open_parent(root, clean_path(path, of), of, make=True)
            temporary = f".{secrets.token_hex(6)}.glowplug"
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(temporary, flags, 0o600, dir_fd=parent)
                try:
                    while part := parts():
                        disk.write_all(fd, part)
                        size += len(part)
                    set_attributes(fd, mode, 0)
                finally:
                    os.close(fd)
                os.rename(temporary, last, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException as error:
                try:
                    os.unlink(temporary, dir_fd=parent)
                except OSError:
                    pass
                if isinstance(error, OSError):
                    raise disk.told(error, f"{of}: {path!r} cannot be written") from error
                raise
            finally:
                os.close(parent)
        return size


class _opened:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _commit(volume: Volume, find: Callable[[Any, Manifest], Sequence[Change]]) -> Any:
    committed = volume.commit(find)
    if live.is_used(volume):
        live.commit(volume)
    return committed


def _file(volume: Volume, manifest: Manifest, path: str) -> Entry:
    entry = manifest.entries.get(path)
    if entry is None:
        raise errors.NotFoundError(f"{volume.of} has no file {path!r}")
    if entry.kind != FILE:
        raise errors.InvalidError(f"{volume.of}: {path!r} is no file")
    return entry


def _entry(volume: Volume, path: str, told: dict[str, Any]) -> Entry:
    """An entry as a client describes it. Raises ``InvalidError`` when it does not hold together."""
    if not path:
        raise errors.InvalidError(f"{volume.of}: a file needs a path of its own")
    mode, mtime_ns = int(told.get("mode", 0o644)) & 0o777, int(told.get("mtime_ns", 0))
    kind = told.get("type", FILE)
    if kind == DIRECTORY:
        return Entry(DIRECTORY, mode, 0, mtime_ns)
    if kind == LINK:
        return Entry(LINK, 0o777, 0, mtime_ns, b"", os.fsencode(told["link"]))
    size, digests = int(told["size"]), list(told.get("blocks", ()))
    for digest in digests:
        _check_digest(digest)
    if len(digests) != -(-size // BLOCK_BYTES):
        raise errors.InvalidError(f"{volume.of}: {path!r} of {size} bytes cannot have {len(digests)} blocks")
    for number, digest in enumerate(digests):
        found = volume.blocks.find(digest)
        length = min(BLOCK_BYTES, size - number * BLOCK_BYTES)
        if found is None or min(BLOCK_BYTES, found[0].stat().st_size - found[1]) != length:
            raise errors.InvalidError(f"{volume.of}: block {digest[:12]} of {path!r} was not uploaded")
    return Entry(FILE, mode, size, mtime_ns, b"".join(map(bytes.fromhex, digests)))


def _check_digest(digest: str) -> None:
    if len(digest) != 2 * DIGEST_BYTES or not set(digest) <= set("0123456789abcdef"):
        raise errors.InvalidError(f"{digest[:80]!r} is no SHA-256 in hexadecimal")


def _begun(parts: Generator[bytes, None, None]) -> Iterator[bytes]:
    """``parts``, whose first is read already: what is wrong with it is an answer, not one broken off."""
    first = next(parts, b"")

    def rest() -> Iterator[bytes]:
        with contextlib.closing(parts):
            if first:
                yield first
            yield from parts

    return rest()


def _about(volume: Volume) -> dict[str, Any]:
    entries = volume.head.entries.values()
    return {
        "name": volume.name,
        "id": volume.about.id,
        "created_at": volume.about.created_at,
        "commit": volume.head.number,
        "committed_at": volume.head.made_at,
        "files": sum(entry.kind == FILE for entry in entries),
        "size_bytes": volume.size_bytes,
        "mounted": sum((+volume.mounted).values()),
    }


def _about_shared(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {
        "name": path.name,
        "id": "",
        "created_at": status.st_ctime,
        "commit": 0,
        "committed_at": 0.0,
        "files": -1,
        "size_bytes": -1,
        "mounted": -1,
    }
