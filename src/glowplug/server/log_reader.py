"""Somebody who reads an app's lines while they are written, as fast as they can be taken."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable, Sequence

from glowplug.client.session import LogLine
from glowplug.server.records import RunRecord

BACKLOG_LINES = 20_000
"""Lines a slow reader may be behind; older ones are dropped, and that is said."""


class LogReader:
    """``first`` is given at once; what the run writes from now on follows. Close it when done."""

    def __init__(
        self,
        run: RunRecord,
        first: Sequence[LogLine],
        function: str | None = None,
        container_id: str | None = None,
        is_over: Callable[[], bool] | None = None,
    ) -> None:
        """``is_over()``: nothing more comes, though the run goes on."""
        self._run = run
        self._function = function
        self._container_id = container_id
        self._is_over = is_over or run.gone.is_set
        self._lines: collections.deque[LogLine] = collections.deque(first)
        self._dropped = 0
        self._more = asyncio.Event()
        run.log_readers.append(self)

    def write(self, lines: Sequence[LogLine]) -> None:
        """Called by the kernel with every new line of the run."""
        wanted = [line for line in lines if self._wants(line)]
        self._lines.extend(wanted)
        while len(self._lines) > BACKLOG_LINES:
            self._lines.popleft()
            self._dropped += 1
        if wanted:
            self._more.set()

    def _wants(self, line: LogLine) -> bool:
        if self._container_id is not None and line.container_id != self._container_id:
            return False
        return self._function is None or line.function == self._function

    def wake(self) -> None:
        """The run, or one of its containers, is over."""
        self._more.set()

    async def read(self, follow: bool) -> AsyncIterator[list[LogLine]]:
        """What there is, and with ``follow`` what comes until the run is over."""
        while True:
            self._more.clear()
            lines = list(self._lines)
            self._lines.clear()
            if self._dropped:
                text = f"glowplug: {self._dropped} lines were dropped: they came faster than they were read"
                lines.insert(0, LogLine("", "", "", "stderr", text, lines[0].at if lines else 0.0))
                self._dropped = 0
            if lines:
                yield lines
            if not follow or ((self._run.gone.is_set() or self._is_over()) and not self._lines):
                return
            await self._more.wait()

    def close(self) -> None:
        if self in self._run.log_readers:
            self._run.log_readers.remove(self)
