"""A volume as declared: a name of storage that outlives containers, and how it is mounted."""

from __future__ import annotations

from typing import Any

from glowplug.model.errors import InvalidError

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
MAX_NAME_LENGTH = 64


class VolumeDefinition:
    """Storage by name. Without a name it belongs to the app that mounts it."""

    def __init__(self, name: str | None = None, *, read_only: bool = False) -> None:
        if name is not None:
            check_name(name, type(self).__name__)
        self.name = name
        self.read_only = read_only

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or '(of its app)'}>"


def check_name(name: Any, kind: str) -> None:
    """Raise ``InvalidError`` unless ``name`` can name a stored thing: it becomes a directory's name."""
    valid = isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH and NAME_CHARACTERS.issuperset(name)
    if not valid or set(name) == {"."}:
        raise InvalidError(
            f"{kind} name {name!r}: use letters, digits, dashes, underscores and periods, "
            f"{MAX_NAME_LENGTH} at most."
        )
