"""What a run shows outside ``glowplug run``: nothing by default, everything within ``enable_output()``.

Warnings of the server (a substituted GPU, a skipped fallback) are never lost: without output they go to the
logger "glowplug", which Python prints to stderr unless told otherwise.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from glowplug.client.session import BuildEvent, LogLine
from glowplug.sdk.build_text import BuildText

_enabled = 0


class QuietSink:
    """Drops logs, keeps warnings."""

    def on_log(self, line: LogLine) -> None:
        """A container wrote a line."""

    def on_notice(self, level: str, text: str) -> None:
        """The server says something about the run."""
        logging.getLogger("glowplug").log(logging.WARNING if level == "warning" else logging.INFO, text)

    def on_waiting(self, function: str, text: str | None) -> None:
        """A function's inputs wait, or no longer do (``text`` is None)."""

    def on_build(self, event: BuildEvent) -> None:
        """How far an image is. What fails is raised."""


class PlainSink:
    """Copies what containers write to the same stream here, and the server's words to stderr."""

    def __init__(self) -> None:
        self._builds = BuildText()

    def on_log(self, line: LogLine) -> None:
        """A container wrote a line."""
        stream = sys.stderr if line.stream == "stderr" else sys.stdout
        stream.write(line.text if line.text.endswith("\n") else line.text + "\n")
        stream.flush()

    def on_notice(self, level: str, text: str) -> None:
        """The server says something about the run."""
        sys.stderr.write(f"{text}\n")

    def on_waiting(self, function: str, text: str | None) -> None:
        """A function's inputs wait, or no longer do (``text`` is None)."""
        if text:
            sys.stderr.write(f"{function} waits: {text}\n")

    def on_build(self, event: BuildEvent) -> None:
        """How far an image is."""
        for line in self._builds.lines(event):
            sys.stderr.write(f"{line}\n")


@contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:
    """Show what containers write, and what the server says, for every app run within.

    >>> with enable_output():
    ...     with app.run():
    ...         f.remote()
    """
    global _enabled
    _enabled += 1
    try:
        yield
    finally:
        _enabled -= 1


def choose_sink(show_progress: Any) -> QuietSink | PlainSink:
    """The sink of a run: ``show_progress`` (an argument of ``app.run``) decides, else ``enable_output()``."""
    shown = bool(_enabled) if show_progress is None else bool(show_progress)
    return PlainSink() if shown else QuietSink()
