"""One build that any number of requests wait for: each is told everything, the late ones from its start."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from glowplug.model.image_spec import ImageSpec

Tell = Callable[[dict[str, Any]], None]
EVENTS_KEPT = 5_000
"""Of a build's lines, for those who come late; steps are kept beyond that."""
ENDS = frozenset({"built", "failed"})


class Build:
    """A ``ports.images.BuildLog``; over when ``end`` was called."""

    def __init__(self, spec: ImageSpec, name: str, on_abandoned: Callable[[Build], None]) -> None:
        self.spec = spec
        self.name = name
        self.cached_steps: list[bool] = []
        self._on_abandoned = on_abandoned
        self._said: list[dict[str, Any]] = []
        self._followers: list[Tell] = []
        self._lock = threading.Lock()
        self._abandoned = False
        self._ended = False

    def follow(self, tell: Tell) -> Seat | None:
        """None when it was given up meanwhile."""
        with self._lock:
            if self._abandoned:
                return None
            for event in self._said:
                tell(event)
            if not self._ended:
                self._followers.append(tell)
        return Seat(self, tell)

    def stopped(self) -> bool:
        return self._abandoned

    def abandon(self) -> None:
        """The server ends: whoever waits is not waited for."""
        with self._lock:
            self._abandoned = True

    def leave(self, tell: Tell) -> None:
        with self._lock:
            if tell in self._followers:
                self._followers.remove(tell)
            if self._followers or self._ended or self._abandoned:
                return
            self._abandoned = True
        self._on_abandoned(self)

    # what it says

    def step(self, number: int, count: int, text: str, cached: bool) -> None:
        self.cached_steps.append(cached)
        self._tell({"event": "step", "number": number, "count": count, "text": text, "cached": cached})

    def line(self, text: str) -> None:
        self._tell({"event": "line", "text": text})

    def end(self, event: dict[str, Any]) -> None:
        self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        with self._lock:
            if self._ended:
                return
            if event["event"] != "line" or len(self._said) < EVENTS_KEPT:
                self._said.append(event)
            self._ended = event["event"] in ENDS
            for tell in self._followers:
                tell(event)
            if self._ended:
                self._followers.clear()


class Seat:
    """One who follows a build."""

    def __init__(self, build: Build, tell: Tell) -> None:
        self._build = build
        self._tell = tell

    def leave(self) -> None:
        self._build.leave(self._tell)


class NoSeat:
    """Of one who was answered at once."""

    def leave(self) -> None:
        pass
