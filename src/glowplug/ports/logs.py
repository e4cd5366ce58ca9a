"""Where lines of apps are kept beyond the memory of their server."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

LOG_RETENTION_S = 7 * 86400.0
LOG_LIMIT_BYTES = 1 << 30
"""Of one app; the oldest lines go first."""


class Line(Protocol):
    """One line a container wrote."""

    @property
    def function(self) -> str: ...
    @property
    def input_id(self) -> str: ...
    @property
    def container_id(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def at(self) -> float: ...


class Logs(Protocol):
    def write(self, app_id: str, lines: Sequence[Line]) -> None:
        """Keep them. Returns at once; a disk that does not take them loses them, and that is told."""
        ...

    def read(
        self, app_id: str, latest: int, function: str | None = None, container_id: str | None = None
    ) -> Future[Sequence[Line]]:
        """The latest lines written so far, the oldest first; none for an app that is not known."""
        ...

    def forget_old(self, at: float) -> None:
        """Remove what passed its retention."""
        ...

    def close(self) -> None:
        """Write what is queued, then end. Blocks."""
        ...
