"""A tree of files by content: what a directory, a module or a mount of a client is when it travels."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

EXECUTABLE = 0o111


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file or link. ``path`` is relative to where the tree is put, with ``/``, without ``..``."""

    path: str
    digest: str = ""
    """SHA-256 of its bytes, in hex; empty for a symbolic link."""
    size: int = 0
    mode: int = 0o644
    link: str = ""
    """Where a symbolic link points; it stays inside the tree."""

    def to_wire(self) -> list[Any]:
        return [self.path, self.digest, self.size, self.mode, self.link]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> FileEntry:
        return cls(*wire)


@dataclass(frozen=True)
class FileTree:
    """Entries sorted by path. Two trees with the same content have the same ``digest``, whatever directory,
    machine or time they come from."""

    entries: tuple[FileEntry, ...] = ()

    @functools.cached_property
    def digest(self) -> str:
        text = json.dumps([entry.to_wire() for entry in sorted(self.entries)])
        return hashlib.sha256(text.encode()).hexdigest()

    def to_wire(self) -> list[list[Any]]:
        return [entry.to_wire() for entry in self.entries]

    @classmethod
    def from_wire(cls, wire: list[list[Any]]) -> FileTree:
        return cls(tuple(FileEntry.from_wire(entry) for entry in wire))
