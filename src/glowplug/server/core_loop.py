"""Facts go into the core one at a time, its commands are carried out, its timer fires."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable
from typing import Any

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.machine import handle
from glowplug.core.state import State
from glowplug.wire.stream import Outbox


class CoreLoop:
    """``carry_out`` has one entry for every type of command; it is filled by those who carry them out."""

    def __init__(self, outbox: Outbox) -> None:
        self.state = State()
        self.outbox = outbox
        self.loop = asyncio.get_running_loop()
        self.carry_out: dict[type[c.Command], Callable[[Any], None]] = {}
        self._started_at = time.time() - time.monotonic()
        self._posted: collections.deque[e.Event] = collections.deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None

    def now(self) -> float:
        """Wall-clock seconds that never go back."""
        return self._started_at + time.monotonic()

    def post(self, event: e.Event) -> None:
        """Hand one fact to the core and carry out what it says. Facts that arise meanwhile queue up."""
        self._posted.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._posted:
                for command in handle(self.state, self._posted.popleft()):
                    self.carry_out[type(command)](command)
        finally:
            self._handling = False
        deadline = self.state.next_deadline
        if deadline != self._timer_at:
            self._arm(deadline)

    def _arm(self, deadline: float | None) -> None:
        if self._timer is not None:
            if deadline is not None and self._timer_at is not None and self._timer_at <= deadline:
                return  # it fires early, finds nothing due and is armed again
            self._timer.cancel()
            self._timer = None
        self._timer_at = deadline
        if deadline is not None:
            self._timer = self.loop.call_later(max(0.0, deadline - self.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = None
        self.post(e.TimePassed(self.now()))
        self.outbox.flush()
