"""Builds of images as a person sees them: lines as they come, and on a terminal what each image is at.

An image that was built before is not mentioned.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from glowplug.client.session import BuildEvent
from glowplug.sdk.build_text import UPLOAD_SHOWN_BYTES, BuildText

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
MAX_SHOWN = 2
"""Images of which the status line says the step; of the others only how many."""


@dataclass
class _Building:
    number: int
    count: int
    text: str
    began: float


class BuildLines:
    """Lines to write for an event, and the status line between them. Thread-safe."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._text = BuildText()
        self._lock = threading.Lock()
        self._building: dict[str, _Building] = {}
        self._sending = (0, 0)

    def lines(self, event: BuildEvent) -> list[str]:
        self._keep(event)
        lines = self._text.lines(event)
        if event.kind == "line":
            return [f"{DIM}{line}{PLAIN}" if self._terminal else line for line in lines]
        if self._terminal and event.kind == "upload":
            return []  # the status line says it
        return [f"glowplug: {line}" for line in lines]

    def status(self) -> str:
        """What is sent and built now; empty when nothing is."""
        with self._lock:
            done, total = self._sending
            building = list(self._building.items())
        if done < total and total >= UPLOAD_SHOWN_BYTES:
            return f"sending local files: {done >> 20} of {total >> 20} MiB"
        now = time.monotonic()
        parts = [
            f"image of {name}: step {each.number}/{each.count} {each.text} ({now - each.began:.0f} s)"
            for name, each in building[:MAX_SHOWN]
        ]
        if len(building) > MAX_SHOWN:
            parts.append(f"and {len(building) - MAX_SHOWN} more")
        return " · ".join(parts)

    def _keep(self, event: BuildEvent) -> None:
        with self._lock:
            if event.kind == "upload":
                self._sending = (event.number, event.count)
            elif event.kind == "step" and not event.cached:
                self._building[event.image] = _Building(
                    event.number, event.count, event.text, time.monotonic()
                )
            elif event.kind in ("built", "failed"):
                self._building.pop(event.image, None)
