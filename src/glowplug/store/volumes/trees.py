"""A commit as a directory: what containers have under their own writes.

Made of hard links to blocks, once a commit, when somebody wants to see it. The directory of an older commit
that nobody looks at any more becomes the new one by what differs. Trees can be made again, so they are never
synced; a tree whose making was interrupted has another name and is removed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from glowplug.model import errors
from glowplug.store.volumes import disk
from glowplug.store.volumes.blocks import Blocks, set_attributes
from glowplug.store.volumes.manifest import DIRECTORY, FILE, LINK, Entries, Entry, Manifest

DIRECTORY_MODE = 0o755
LOOKED_AT = 10_000
"""Files of a tree whose size and time are looked at whenever a container starts with it: a few ms."""


class Trees:
    """``trees/`` of one volume; ``in_use`` says which commits are mounted somewhere."""

    def __init__(self, directory: Path, blocks: Blocks, of: str, in_use: Callable[[], set[int]]) -> None:
        self.directory = directory / "trees"
        self._blocks = blocks
        self._of = of
        self._in_use = in_use
        self._ready: dict[int, Manifest] = {}
        self._lock = threading.Lock()

    def make(self) -> None:
        """What an earlier server left may be half of a tree, or older than a crash of the machine.

        The directory itself stays: a zygote may hold it before the first container has the volume opened.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for left in self.directory.iterdir():
            disk.remove_tree(left)
        (self.directory / "empty").mkdir(mode=DIRECTORY_MODE)

    def path(self, manifest: Manifest) -> Path:
        """The tree of a commit, made now if need be. Raises ``DataLossError``, ``OSError``."""
        with self._lock:
            place = self.directory / str(manifest.number)
            if manifest.number not in self._ready:
                self._check_out(manifest, place)
                self._ready[manifest.number] = manifest
            else:
                self._mend(manifest, place)
            self._drop_unused(manifest.number)
            return place

    def part(self, manifest: Manifest, sub_path: str) -> Path:
        """A directory of a commit; an empty one where there is none yet. Raises ``NotFoundError``."""
        tree = self.path(manifest)
        if not sub_path:
            return tree
        entry = manifest.entries.get(sub_path)
        if entry is None:
            return self.directory / "empty"
        if entry.kind != DIRECTORY:
            raise errors.NotFoundError(f"{self._of}: {sub_path!r} is no directory and cannot be mounted")
        return tree / sub_path

    def _check_out(self, manifest: Manifest, place: Path) -> None:
        temporary = place.with_name(place.name + ".new")
        before: Entries = {}
        old = self._newest_unused()
        try:
            if old is None:
                temporary.mkdir(mode=DIRECTORY_MODE)
            else:
                before = self._ready.pop(old).entries
                disk.rename(self.directory / str(old), temporary)
            bring_to(temporary, before, manifest.entries, self._place)
            disk.rename(temporary, place)
        except BaseException:
            disk.remove_tree(temporary)
            raise

    def _mend(self, manifest: Manifest, place: Path) -> None:
        """Put files that were changed in a tree there anew. Raises ``DataLossError`` when bytes are lost."""
        files = (each for each in manifest.entries.items() if each[1].kind == FILE)
        for path, entry in itertools.islice(files, LOOKED_AT):
            try:
                found = os.lstat(f"{place}/{path}")
                if found.st_size == entry.size and entry.mtime_ns in (0, found.st_mtime_ns):
                    continue
            except FileNotFoundError:
                pass
            temporary = f"{self.directory}/.mended"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            self._place(temporary, entry, path)
            os.rename(temporary, f"{place}/{path}")
            if os.path.lexists(temporary):  # of one file are both names, and both stay
                os.unlink(temporary)

    def _newest_unused(self) -> int | None:
        return max(self._ready.keys() - self._in_use(), default=None)

    def _drop_unused(self, wanted: int) -> None:
        """Of those nobody has mounted only the newest stays: the next one is made of it."""
        unused = sorted(self._ready.keys() - self._in_use() - {wanted})
        for number in unused if wanted == max(self._ready) else unused[:-1]:
            del self._ready[number]
            disk.remove_tree(self.directory / str(number))

    def _place(self, path: str, entry: Entry, name: str) -> None:
        if entry.size == 0:
            _make_empty(path, entry)
            return
        source, status = self._blocks.whole(entry, f"{self._of}, file {name!r}")
        if status.st_mode & 0o7777 == entry.mode and status.st_mtime_ns == entry.mtime_ns:
            try:
                os.link(source, path)
                return
            except OSError:
                pass  # it has as many links as a file may have
        copy_file(source, path, entry)


def bring_to(root: Path, before: Entries, after: Entries, place: Callable[[str, Entry, str], None]) -> None:
    """Make the directory ``root``, which holds ``before``, hold ``after``."""
    gone = [path for path, entry in before.items() if _other(entry, after.get(path))]
    for path in sorted(gone, key=lambda each: each.count("/"), reverse=True):
        if before[path].kind == DIRECTORY:
            os.rmdir(f"{root}/{path}")
        else:
            os.unlink(f"{root}/{path}")
    closed: list[tuple[str, int]] = []
    new = [path for path, entry in after.items() if path not in before or _other(before[path], entry)]
    for path in sorted(new, key=lambda each: (after[each].kind != DIRECTORY, each.count("/"))):
        entry = after[path]
        if entry.kind == DIRECTORY:
            os.mkdir(f"{root}/{path}", DIRECTORY_MODE)
            closed.append((path, entry.mode))
        elif entry.kind == LINK:
            os.symlink(entry.link, os.fsencode(f"{root}/{path}"))
        else:
            place(f"{root}/{path}", entry, path)
    for path, entry in after.items():
        old = before.get(path)
        if entry.kind == DIRECTORY and old is not None and old.kind == DIRECTORY and old.mode != entry.mode:
            closed.append((path, entry.mode))
    for path, mode in closed:
        if mode != DIRECTORY_MODE or path in before:
            os.chmod(f"{root}/{path}", mode | 0o700)


def copy_file(source: str, path: str, entry: Entry) -> None:
    shutil.copyfile(source, path, follow_symlinks=False)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        set_attributes(fd, entry.mode, entry.mtime_ns)
    finally:
        os.close(fd)


def _other(entry: Entry, now: Entry | None) -> bool:
    """Whether what is there must make room. A directory that stays one does not."""
    if now is None or entry.kind != now.kind:
        return True
    return entry.kind != DIRECTORY and entry != now


def _make_empty(path: str, entry: Entry) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        set_attributes(fd, entry.mode, entry.mtime_ns)
    finally:
        os.close(fd)
