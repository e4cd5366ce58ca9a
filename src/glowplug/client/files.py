"""Local files by content: trees of directories, quick the second time.

A file is read once; what it hashed to is remembered by path, size, times and inode in the home's cache
directory. A file that was written to within the last moments is not remembered, because a clock's next tick
may not tell its next change. Links that stay inside a tree are kept as links, others are refused; sockets,
pipes and devices have no content and are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.model.files import EXECUTABLE, FileEntry, FileTree

CHUNK_BYTES = 1 << 20
HASH_THREADS = 8
SETTLED_S = 2.0
"""A file changed less than this ago is hashed again next time."""
MAX_CACHED_PLACES = 256
"""Directories whose hashes are remembered; the longest unused ones are forgotten."""

Ignored = Callable[[str], bool]
"""Asked with a path relative to the directory, with ``/``."""


@dataclass(frozen=True)
class LocalTree:
    """A tree, and where on this machine each content of it is."""

    tree: FileTree
    places: dict[str, str] = field(default_factory=dict[str, str])
    """Path by digest."""
    skipped: tuple[str, ...] = ()
    """What has no content: sockets, pipes, devices."""

    def moved(self, prefix: str) -> LocalTree:
        """The same files below ``prefix``, a relative path."""
        if not prefix:
            return self
        entries = [
            FileEntry(f"{prefix}/{entry.path}", entry.digest, entry.size, entry.mode, entry.link)
            for entry in self.tree.entries
        ]
        return LocalTree(FileTree(tuple(entries)), self.places, self.skipped)


def merge(trees: list[LocalTree]) -> LocalTree:
    """All files in one tree; of two at one path the later."""
    if len(trees) == 1:
        return trees[0]
    entries: dict[str, FileEntry] = {}
    places: dict[str, str] = {}
    skipped: list[str] = []
    for each in trees:
        entries.update((entry.path, entry) for entry in each.tree.entries)
        places.update(each.places)
        skipped += each.skipped
    needed = {entry.digest for entry in entries.values()}
    kept = {digest: path for digest, path in places.items() if digest in needed}
    return LocalTree(FileTree(tuple(entries[path] for path in sorted(entries))), kept, tuple(skipped))


def scan_directory(
    directory: str,
    ignored: Ignored | None = None,
    *,
    prunable: bool = False,
    recursive: bool = True,
    taken: Ignored | None = None,
    cache: HashCache | None = None,
) -> LocalTree:
    """The files of a directory. ``prunable``: what is below an ignored directory is ignored as well.
    ``taken``: asked of each file that is not ignored whether it is wanted.

    Raises ``NotFoundError``, ``InvalidError`` (a link that leads outside, a file that cannot be read or is
    being written).
    """
    root = os.path.realpath(directory)
    if not os.path.isdir(root):
        raise NotFoundError(f"there is no directory {directory}.")
    found: list[tuple[str, os.DirEntry[str]]] = []
    links: list[FileEntry] = []
    skipped: list[str] = []
    pending = [("", root)]
    while pending:
        prefix, path = pending.pop()
        try:
            listing = sorted(os.scandir(path), key=lambda each: each.name)
        except OSError as error:
            raise InvalidError(f"{path} cannot be read: {error.strerror}.") from None
        for each in listing:
            relative = prefix + each.name
            if each.is_dir(follow_symlinks=False):
                if recursive and not (prunable and ignored is not None and ignored(relative)):
                    pending.append((relative + "/", each.path))
            elif (ignored is not None and ignored(relative)) or (taken is not None and not taken(relative)):
                continue
            elif each.is_symlink():
                links.append(FileEntry(_name(relative), mode=0o777, link=_link(root, relative)))
            elif each.is_file(follow_symlinks=False):
                found.append((_name(relative), each))
            else:
                skipped.append(each.path)
    remembered = (cache or HashCache(None)).of(root)
    entries, places = _hash_all(found, remembered)
    remembered.save()
    tree = FileTree(tuple(sorted([*entries, *links], key=lambda entry: entry.path)))
    return LocalTree(tree, places, tuple(sorted(skipped)))


def scan_file(path: str, name: str, *, cache: HashCache | None = None) -> LocalTree:
    """One file, under ``name``. A link is followed. Raises as ``scan_directory``."""
    full = os.path.realpath(path)
    try:
        status = os.stat(full)
    except OSError:
        raise NotFoundError(f"there is no file {path}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise InvalidError(f"{path} is a directory, not a file.")
    if not stat.S_ISREG(status.st_mode):
        raise InvalidError(f"{path} is a socket, a pipe or a device; these have no content to copy.")
    remembered = (cache or HashCache(None)).of(full)
    entry = _entry(_name(name), full, status, remembered)
    remembered.save()
    return LocalTree(FileTree((entry,)), {entry.digest: full})


def in_memory(name: str, content: bytes, directory: Path) -> LocalTree:
    """One file of this content; it is written to ``directory`` for the upload."""
    digest = hashlib.sha256(content).hexdigest()
    path = directory / digest
    path.write_bytes(content)
    return LocalTree(FileTree((FileEntry(name, digest, len(content)),)), {digest: str(path)})


class HashCache:
    """What files hashed to, a small file for each directory. ``None``: nothing is remembered."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def of(self, place: str) -> Remembered:
        if self._directory is None:
            return Remembered(None, {})
        path = self._directory / (hashlib.sha256(os.fsencode(place)).hexdigest()[:32] + ".json")
        try:
            known = json.loads(path.read_bytes())
        except (OSError, ValueError):
            known = {}
        return Remembered(path, known if isinstance(known, dict) else {})


class Remembered:
    """The hashes of one directory. Thread-safe as far as a dict is."""

    def __init__(self, path: Path | None, known: dict[str, Any]) -> None:
        self._path = path
        self._known = known
        self._seen: dict[str, Any] = {}
        self._changed = False

    def digest(self, path: str, status: os.stat_result) -> str | None:
        entry = self._known.get(path)
        if not isinstance(entry, list) or entry[:-1] != _identity(status):
            return None
        self._seen[path] = entry
        return entry[-1]

    def keep(self, path: str, status: os.stat_result, digest: str, now_ns: int) -> None:
        if now_ns - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_S * 1e9:
            self._seen[path] = [*_identity(status), digest]
            self._changed = True

    def save(self) -> None:
        """Best effort: without it the next time is slower, nothing else."""
        if self._path is None or (not self._changed and len(self._seen) == len(self._known)):
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _forget_oldest(self._path.parent)
            handle, temporary = tempfile.mkstemp(dir=self._path.parent)
            with os.fdopen(handle, "w") as file:
                json.dump(self._seen, file)
            os.replace(temporary, self._path)
        except OSError:
            pass


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _forget_oldest(directory: Path) -> None:
    files = list(directory.glob("*.json"))
    if len(files) >= MAX_CACHED_PLACES:
        files.sort(key=lambda path: path.stat().st_mtime)
        for path in files[: len(files) - MAX_CACHED_PLACES + 1]:
            path.unlink(missing_ok=True)


def _hash_all(
    found: list[tuple[str, os.DirEntry[str]]], remembered: Remembered
) -> tuple[list[FileEntry], dict[str, str]]:
    def one(item: tuple[str, os.DirEntry[str]]) -> FileEntry:
        name, each = item
        return _entry(name, each.path, each.stat(follow_symlinks=False), remembered)

    entries: list[FileEntry] = []
    fresh: list[tuple[str, os.DirEntry[str]]] = []
    places: dict[str, str] = {}
    for name, each in found:
        try:
            status = each.stat(follow_symlinks=False)
        except FileNotFoundError:
            raise _changing(each.path) from None
        digest = remembered.digest(each.path, status)
        if digest is None:
            fresh.append((name, each))
        else:
            entries.append(FileEntry(name, digest, status.st_size, _mode(status)))
            places[digest] = each.path
    if len(fresh) > 1:
        with ThreadPoolExecutor(min(HASH_THREADS, len(fresh), (os.cpu_count() or 1) * 2)) as threads:
            hashed = list(threads.map(one, fresh))
    else:
        hashed = [one(item) for item in fresh]
    places.update((entry.digest, each.path) for entry, (_, each) in zip(hashed, fresh))
    return entries + hashed, places


def _entry(name: str, path: str, status: os.stat_result, remembered: Remembered) -> FileEntry:
    digest = remembered.digest(path, status)
    if digest is None:
        digest, status = _hash(path)
        remembered.keep(path, status, digest, time.time_ns())
    return FileEntry(name, digest, status.st_size, _mode(status))


def _hash(path: str) -> tuple[str, os.stat_result]:
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    size = 0
    try:
        # Not through a link that came between, and not waiting for the other end of a pipe.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb", buffering=0) as file:
            before = os.fstat(handle)
            while count := file.readinto(buffer):
                digest.update(view[:count])
                size += count
                if size > before.st_size:  # it may grow for ever
                    raise _changing(path)
            after = os.fstat(handle)
    except FileNotFoundError:
        raise _changing(path) from None
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}.") from None
    if size != after.st_size or _identity(before) != _identity(after):
        raise _changing(path)
    return digest.hexdigest(), after


def _changing(path: str) -> InvalidError:
    return InvalidError(
        f"{path} changed while it was read. Wait until what writes it is done, or leave the file out "
        "with ignore=[...]."
    )


def _mode(status: os.stat_result) -> int:
    """Only whether it is executable: the rest depends on who checked it out."""
    return 0o755 if status.st_mode & EXECUTABLE else 0o644


def _name(relative: str) -> str:
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise InvalidError(
            f"the file name {relative!r} is not UTF-8. Rename the file, or leave it out with ignore=[...]."
        ) from None
    return relative


def _link(root: str, relative: str) -> str:
    path = os.path.join(root, relative)
    target = os.readlink(path)
    if os.path.isabs(target):
        plain = os.path.relpath(os.path.realpath(target), os.path.dirname(path))
    else:
        plain = target
    inside = os.path.normpath(os.path.join(os.path.dirname(relative), plain))
    real = os.path.realpath(path)
    escapes = inside == ".." or inside.startswith("../")
    if escapes or not (real == root or real.startswith(root + os.sep)):
        raise InvalidError(
            f"{path} is a link to {target}, which is outside of {root}: what it points to is not there in a "
            "container. Replace it by a copy, or leave it out with ignore=[...]."
        )
    return _name(plain)
