"""Somebody who reads an app's lines while they are written, as fast as they can be taken."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Sequence

from glowplug.client.session import LogLine
from glowplug.server.records import RunRecord

BACKLOG_LINES = 20_000
"""Lines a slow reader may be behind; older ones are dropped, and that is said."""


class LogReader:
    """``first`` is given at once; what the run writes from now on follows. Close it when done."""

    def __init__(self, run: RunRecord, first: Sequence[LogLine], function: str | None = None) -> None:
        self._run = run
        self._function = function
        self._lines: collections.deque[LogLine] = collections.deque(first)
        self._dropped = 0
        self._more = asyncio.Event()
        run.log_readers.append(self)

    def write(self, lines: Sequence[LogLine]) -> None:
        """Called by the kernel with every new line of the run."""
        wanted = [line for line in lines if self._function is None or line.function == self._function]
        self._lines.extend(wanted)
        while len(self._lines) > BACKLOG_LINES:
            self._lines.popleft()
            self._dropped += 1
        if wanted:
            self._more.set()

    def wake(self) -> None:
        """The run is over: nothing more comes."""
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
            if not follow or (self._run.gone.is_set() and not self._lines):
                return
            await self._more.wait()

    def close(self) -> None:
        if self in self._run.log_readers:
            self._run.log_readers.remove(self)
