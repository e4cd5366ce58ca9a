"""Builds of images as lines of text, for wherever no line can be drawn anew.

An image that was built before says nothing.
"""

from __future__ import annotations

import threading

from glowplug.client.session import BuildEvent

UPLOAD_SHOWN_BYTES = 8 << 20
"""Less is sent before anybody could read about it."""


class BuildText:
    """Turns events into lines. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._sending = False

    def lines(self, event: BuildEvent) -> list[str]:
        with self._lock:
            return self._lines(event)

    def _lines(self, event: BuildEvent) -> list[str]:
        label = f"image of {event.image}"
        if event.kind == "upload":
            if self._sending or event.count < UPLOAD_SHOWN_BYTES:
                return []
            self._sending = True
            return [f"sending {event.count / (1 << 20):.0f} MiB of local files"]
        if event.kind == "step" and not event.cached:
            self._begun.add(event.image)
            return [f"{label}: step {event.number} of {event.count}: {event.text}"]
        if event.kind == "line":
            return [f"{label} | {event.text}"]
        if event.kind == "built" and event.image in self._begun:
            self._begun.discard(event.image)
            return [f"{label}: built in {event.seconds:.1f} s"]
        return []
