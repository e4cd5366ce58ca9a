"""A volume as declared: a name of storage that outlives containers, how it is mounted, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from glowplug.model.errors import InvalidError

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
MAX_NAME_LENGTH = 64


class VolumeDefinition:
    """Storage by name. Without a name it belongs to the app that mounts it."""

    kind = "volume"
    """"shared": everybody sees what anybody writes, at once; "volume": there are commits."""

    def __init__(
        self, name: str | None = None, *, read_only: bool = False, sub_path: str = "", create: bool = True
    ) -> None:
        if name is not None:
            check_name(name, type(self).__name__)
        self.name = name
        self.is_read_only = read_only
        self.sub_path = sub_path
        self.create = create
        self.stored_name = name
        """Its own, or the one its app gives it."""

    def belong_to(self, name: str) -> None:
        """It has no name of its own: ``name`` is that of its app and place."""
        self.stored_name = self.stored_name or name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or '(of its app)'}>"


class FileEntryType(IntEnum):
    """What is at a path of a volume."""

    UNSPECIFIED = 0
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5


@dataclass(frozen=True)
class FileEntry:
    """One file or directory of a volume, as ``listdir`` gives it."""

    path: str
    """Relative to the volume's root."""
    type: FileEntryType
    mtime: int
    """Seconds since 1970."""
    size: int
    """Bytes."""


def check_name(name: object, kind: str) -> None:
    """Raise ``InvalidError`` unless ``name`` can name a stored thing: it becomes a directory's name."""
    valid = isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH and NAME_CHARACTERS.issuperset(name)
    if not valid or str(name).startswith("."):
        raise InvalidError(
            f"{kind} name {name!r}: use letters, digits, dashes, underscores and periods, "
            f"{MAX_NAME_LENGTH} at most, and begin with no period."
        )
