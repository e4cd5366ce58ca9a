"""What a volume holds at one commit: every path with its kind, mode, size, time and blocks.

Pure: reading and writing files is done elsewhere. Paths are relative, with ``/``; the root is no entry.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from glowplug.model import errors

BLOCK_BYTES = 4 << 20
"""A file is cut into blocks of so many bytes; a smaller file is one block."""
DIGEST_BYTES = 32
FILE, DIRECTORY, LINK = 1, 2, 3
"""Kinds, as ``model.volume.FileEntryType`` numbers them."""
PATH_BYTES_MAX = 4096
NAME_BYTES_MAX = 255


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One file, directory or symbolic link."""

    kind: int
    mode: int
    size: int = 0
    mtime_ns: int = 0
    blocks: bytes = b""
    """SHA-256 digests of its blocks, one after the other."""
    link: bytes = b""

    @property
    def digests(self) -> list[str]:
        return [
            self.blocks[start : start + DIGEST_BYTES].hex()
            for start in range(0, len(self.blocks), DIGEST_BYTES)
        ]

    def same_content(self, other: Entry | None) -> bool:
        return other is not None and (
            (self.kind, self.mode, self.size, self.blocks, self.link)
            == (other.kind, other.mode, other.size, other.blocks, other.link)
        )


Entries = dict[str, Entry]


@dataclass(frozen=True)
class Manifest:
    """One commit. ``number`` counts from 0, the empty volume."""

    number: int = 0
    made_at: float = 0.0
    entries: Entries = field(default_factory=dict[str, Entry])

    def encode(self) -> bytes:
        rows = [(os.fsencode(path), entry) for path, entry in self.entries.items()]
        return msgspec.msgpack.encode((self.number, self.made_at, rows))


def decode_manifest(raw: bytes) -> Manifest:
    number, made_at, rows = msgspec.msgpack.decode(raw, type=tuple[int, float, list[tuple[bytes, Entry]]])
    return Manifest(number, made_at, {os.fsdecode(path): entry for path, entry in rows})


EMPTY = Manifest(0, 0.0, {})


@dataclass(frozen=True)
class Change:
    """``entry`` is put at ``path``; None: what is at ``path``, and all below it, goes."""

    path: str
    entry: Entry | None


def clean_path(path: str, of: str) -> str:
    """``path`` as entries have it; "" is the root. ``of`` names the volume in errors.

    Raises ``InvalidError`` for a path that would leave the volume or cannot be a file's.
    """
    if "\0" in path:
        raise errors.InvalidError(f"{of}: the path {path!r} has a zero byte in it")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise errors.InvalidError(f'{of}: the path {path!r} leads out of it; leave out ".."')
    if any(len(os.fsencode(part)) > NAME_BYTES_MAX for part in parts) or len(path) > PATH_BYTES_MAX:
        raise errors.InvalidError(f"{of}: the path {path[:80]!r}… is longer than a file's path may be")
    return "/".join(parts)


def parents(path: str) -> Iterator[str]:
    """ "a/b" and "a" for "a/b/c"."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def below(entries: Entries, path: str) -> list[str]:
    """Everything under the directory ``path``, which is "" for the root."""
    prefix = f"{path}/" if path else ""
    return [each for each in entries if each.startswith(prefix)]


def merge(latest: Entries, seen: Entries, changes: Iterable[Change], made_at_ns: int) -> Entries:
    """``changes``, made on top of ``seen``, put on top of ``latest``: the last writer of a path wins, and a
    removed directory takes with it what its remover has seen of it."""
    merged = dict(latest)
    for change in changes:
        if change.entry is None:
            _remove(merged, seen, change.path)
        else:
            _put(merged, change.path, change.entry, made_at_ns)
    return merged


def _remove(merged: Entries, seen: Entries, path: str) -> None:
    found = seen.get(path) or merged.get(path)
    if found is not None and found.kind == DIRECTORY:
        for each in below(seen, path):
            known = merged.get(each)
            if known is not None and known.kind != DIRECTORY:
                del merged[each]
        # Directories go from the deepest, unless somebody has put something there meanwhile.
        inside = below(merged, path)
        kept = {above for each in inside if merged[each].kind != DIRECTORY for above in parents(each)}
        kept |= {each for each in inside if each not in seen}
        kept |= {above for each in kept for above in parents(each)}
        for each in [*inside, path]:
            if each in merged and merged[each].kind == DIRECTORY and each not in kept:
                del merged[each]
    elif path in merged and merged[path].kind != DIRECTORY:
        del merged[path]


def _put(merged: Entries, path: str, entry: Entry, made_at_ns: int) -> None:
    known = merged.get(path)
    if known is not None and known.kind == DIRECTORY and entry.kind != DIRECTORY:
        for each in below(merged, path):
            del merged[each]
    if known is None:
        for above in parents(path):
            found = merged.get(above)
            if found is not None and found.kind == DIRECTORY:
                break
            merged[above] = Entry(DIRECTORY, 0o755, 0, made_at_ns)
    merged[path] = entry


def large_name(blocks: bytes) -> str:
    """The name of a file of several blocks: the digest of their digests."""
    return hashlib.sha256(blocks).hexdigest()


def describe(path: str, entry: Entry) -> dict[str, Any]:
    """What a client is told of an entry."""
    return {
        "path": path,
        "type": entry.kind,
        "mode": entry.mode,
        "size": entry.size,
        "mtime": entry.mtime_ns // 1_000_000_000,
        "link": os.fsdecode(entry.link),
    }
