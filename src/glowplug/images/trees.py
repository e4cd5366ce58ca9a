"""Trees of files as directories of this node: made once by content, never written, nothing outside them.

Whenever an app asks for one, each of its files is looked at; one that was changed has the tree made anew.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from glowplug.images.disk import full_text, is_full, remove_tree
from glowplug.images.files import ContentFiles, is_whole, mark
from glowplug.model import errors
from glowplug.model.files import EXECUTABLE, FileEntry, FileTree

_DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_ENTRIES = 500_000
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
LINK_LIMIT = 40
"""As many links as the kernel follows."""
MAKING = ".making-"


class Trees:
    """``directory``/<digest of a tree>. Every method may be called on any thread."""

    def __init__(self, directory: Path, files: ContentFiles) -> None:
        self.directory = directory
        self._files = files

    def find(self, digest: str) -> Path | None:
        path = self.directory / digest
        return path if _DIGEST.fullmatch(digest) and path.is_dir() else None

    def make(self, digest: str, tree: FileTree) -> Path:
        """The directory with these files; at once when it is there and none of them was changed.

        Raises ``InvalidError`` for a tree that is not what its digest says, leaves its place, or whose files
        were not sent; ``ResourceExhaustedError`` on a full disk.
        """
        if tree.digest != digest:
            raise errors.InvalidError(f"the tree sent as {digest!r:.80} has the digest {tree.digest}")
        found = self.find(digest)
        if found is not None and _is_as_made(found, tree):
            os.utime(found)  # used
            return found
        check_tree(tree)
        missing = self._files.missing(entry.digest for entry in tree.entries if not entry.link)
        if missing:
            raise errors.InvalidError(
                f"{len(missing)} of a tree's files were not sent, {missing[0]} for one; send them with "
                "PUT /v1/blobs/{digest} first"
            )
        making = self.directory / f"{MAKING}{secrets.token_hex(8)}"
        try:
            making.mkdir(mode=0o700, parents=True)
            self._fill(making, tree)
            if found is not None:
                self._set_aside(found)
            _keep(making, self.directory / digest)
        except OSError as error:
            if is_full(error):
                raise errors.ResourceExhaustedError(full_text(self.directory)) from error
            raise errors.InternalError(f"a tree of files cannot be made: {error}") from error
        finally:
            if making.exists():
                remove_tree(making)
        return self.directory / digest

    def remove_unused(self, since: float, needed: Collection[str]) -> int:
        """Remove trees that nobody has asked for after ``since``, except ``needed``; the bytes freed."""
        freed = 0
        for path in self.directory.glob("*"):
            if _DIGEST.fullmatch(path.name) and path.name not in needed and path.stat().st_mtime <= since:
                freed += remove_tree(path)
        return freed

    def sweep(self, before: float) -> None:
        """Remove what was begun before that time and never finished."""
        for part in self.directory.glob(f"{MAKING}*"):
            if part.stat().st_mtime < before:
                remove_tree(part)

    def _set_aside(self, damaged: Path) -> None:
        """Containers that have it keep it, under any name; the next server removes it."""
        try:
            damaged.rename(self.directory / f"{MAKING}{secrets.token_hex(8)}-damaged")
        except FileNotFoundError:
            pass  # another request did

    def _fill(self, making: Path, tree: FileTree) -> None:
        for entry in tree.entries:
            path = making / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.link:
                os.symlink(entry.link, path)
            elif entry.mode & EXECUTABLE:  # its permission is that of the file, which others share
                shutil.copyfile(self._files.path(entry.digest), path)
                mark(path, entry.digest)
                os.chmod(path, 0o555)
            else:
                _link(self._files.path(entry.digest), path, entry.digest)
        for directory, _, _ in os.walk(making, topdown=False):
            os.chmod(directory, 0o755)


def _is_as_made(directory: Path, tree: FileTree) -> bool:
    for entry in tree.entries:
        path = directory / entry.path
        if not entry.link:
            if not is_whole(path, entry.digest):
                return False
        elif not path.is_symlink() or os.readlink(path) != entry.link:
            return False
    return True


def _link(source: Path, target: Path, digest: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if is_full(error):
            raise
        shutil.copyfile(source, target)
        mark(target, digest)
        os.chmod(target, 0o444)


def _keep(making: Path, path: Path) -> None:
    try:
        making.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        # Somebody else was quicker; its content is the same.


def check_tree(tree: FileTree) -> None:
    """Raises ``InvalidError`` unless every entry stays inside the tree's own directory."""
    if len(tree.entries) > MAX_ENTRIES:
        raise errors.InvalidError(
            f"a tree of {len(tree.entries)} files is over the limit of {MAX_ENTRIES}; leave some out with "
            "ignore="
        )
    kinds: dict[str, str] = {}
    for entry in tree.entries:
        _check_entry(entry)
        if entry.path in kinds:
            raise errors.InvalidError(f"{entry.path!r} is twice in one tree of files")
        kinds[entry.path] = "link" if entry.link else "file"
    links = {entry.path: entry.link for entry in tree.entries if entry.link}
    for entry in tree.entries:
        if entry.link and _leads_out(entry, links):
            raise errors.InvalidError(
                f"the link {entry.path!r} points to {entry.link!r:.200}, out of its tree of files"
            )
    for path in kinds:
        above = path
        while "/" in above:
            above = above.rsplit("/", 1)[0]
            if above in kinds:
                raise errors.InvalidError(f"{above!r} is a {kinds[above]} and cannot hold {path!r}")


def _check_entry(entry: FileEntry) -> None:
    path = entry.path
    parts = path.split("/")
    if (
        not path
        or "\0" in path
        or len(os.fsencode(path)) > MAX_PATH_BYTES
        or any(part in ("", ".", "..") or len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts)
    ):
        raise errors.InvalidError(
            f"{path!r:.200} cannot be the path of a file in a tree: it is relative, of plain names, without "
            "'..'"
        )


def _leads_out(entry: FileEntry, links: dict[str, str]) -> bool:
    """Whether a link, with every other link on its way, ends outside the tree."""
    waiting = entry.link.split("/")[::-1]
    place = entry.path.split("/")[:-1]
    followed = 0
    if entry.link.startswith("/") or "\0" in entry.link:
        return True
    while waiting:
        part = waiting.pop()
        if part == "..":
            if not place:
                return True
            place.pop()
        elif part not in ("", "."):
            place.append(part)
            if "/".join(place) in links:
                followed += 1
                if followed > LINK_LIMIT:
                    return False  # in a circle: it leads nowhere
                waiting += links["/".join(place)].split("/")[::-1]
                place.pop()
    return False
