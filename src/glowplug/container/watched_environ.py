"""Which variables an import asks for.

A module that reads a secret at its top must be imported with the secret set; any other is imported without,
once for all who use it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from glowplug.wire.agreed import EVERY_VARIABLE


class watched_environ:
    """``with watched_environ() as read``: the names that ``os.environ`` was asked for meanwhile."""

    def __enter__(self) -> set[str]:
        self._read: set[str] = set()
        read = self._read
        # The object stays the same: modules may hold it already (`from os import environ`).
        self._kind: Any = type(os.environ)

        class Watched(self._kind):  # type: ignore[misc]
            def __getitem__(self, name: str) -> str:
                read.add(name)
                return super().__getitem__(name)

            def __iter__(self) -> Iterator[str]:
                read.add(EVERY_VARIABLE)
                return super().__iter__()

        os.environ.__class__ = Watched
        return read

    def __exit__(self, *_: object) -> None:
        os.environ.__class__ = self._kind
