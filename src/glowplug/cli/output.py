"""What a person sees of a run: the function's own lines on stdout and stderr, ours on stderr.

On a terminal one status line is kept below (progress of maps, why something waits); elsewhere a change is
one line.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from typing import Any, TextIO

from glowplug.cli.builds import BuildLines
from glowplug.client.session import BuildEvent, LogLine, Run, RunSummary

REDRAW_S = 0.1
QUIET_S = 0.5
"""A call that is done sooner gets no status line."""


class RunOutput:
    """A ``client.session.LogSink``. ``quiet`` leaves only what functions print."""

    def __init__(self, *, quiet: bool = False, timestamps: bool = False, named: bool = False) -> None:
        self._quiet = quiet
        self._timestamps = timestamps
        self._named = named
        self._lock = threading.Lock()
        self._waiting: dict[str, str] = {}
        self._status = ""
        self._began = time.monotonic()
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._builds = BuildLines(self._terminal)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None

    # what functions print

    def on_log(self, line: LogLine) -> None:
        stream = sys.stdout if line.stream == "stdout" else sys.stderr
        text = line.text
        if self._named:
            text = f"[{line.function} {line.input_id}] {text}"
        if self._timestamps:
            text = f"{time.strftime('%H:%M:%S', time.localtime(line.at))} {text}"
        self._write(stream, text)

    # what we say

    def on_notice(self, level: str, text: str) -> None:
        if not self._quiet or level == "warning":
            self.say(f"{level}: {text}" if level == "warning" else text)

    def on_waiting(self, function: str, text: str | None) -> None:
        if text is None:
            self._waiting.pop(function, None)
            return
        self._waiting[function] = text
        if not self._terminal and not self._quiet:
            self.say(f"{function} waits: {text}")

    def on_build(self, event: BuildEvent) -> None:
        if self._quiet:
            return
        lines = self._builds.lines(event)
        if not self._terminal:
            for text in lines:
                self._write(sys.stderr, text)
            return
        with self._lock:
            self._clear()
            sys.stderr.write("".join(f"{text}\n" for text in lines))
            self._draw(self._builds.status())
            sys.stderr.flush()
        self._start_redrawing()

    def say(self, text: str) -> None:
        """One line of ours."""
        self._write(sys.stderr, f"glowplug: {text}")

    def summary(self, app: Any, summary: RunSummary) -> None:
        """The closing line of a run: inputs, GPU seconds by type and what they cost."""
        if self._quiet or not summary.inputs:
            return
        seconds = time.monotonic() - self._began
        parts = [f"{summary.inputs} input{'s' if summary.inputs != 1 else ''} in {seconds:.1f} s"]
        parts += [f"{used:.1f} s of {kind}" for kind, used in sorted(summary.gpu_seconds.items())]
        if summary.rerun:
            parts.append(f"{summary.rerun} re-run")
        if summary.gpu_seconds:
            parts.append(f"${summary.cost_usd:.4f}")
        self.say(", ".join(parts))

    # the status line

    def watch(self, run: Run) -> None:
        """Keep a status line of ``run`` until ``close``; nothing where stderr is no terminal."""
        self._run = run
        self._began = time.monotonic()
        self._start_redrawing()

    def _start_redrawing(self) -> None:
        with self._lock:
            if not self._terminal or self._quiet or self._thread is not None:
                return
            self._stop.clear()
            self._thread = threading.Thread(target=self._redraw, daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._lock:
            self._clear()

    def _redraw(self) -> None:
        while not self._stop.wait(REDRAW_S):
            text = self._builds.status()
            if not text:
                if self._run is None or time.monotonic() - self._began < QUIET_S:
                    continue
                text = status_text(self._run, self._waiting)
            with self._lock:
                if text != self._status:
                    self._clear()
                    self._draw(text)

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            status = self._status
            self._clear()
            stream.write(text + "\n")
            stream.flush()
            self._draw(status)

    def _clear(self) -> None:
        if self._status:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._status = ""

    def _draw(self, text: str) -> None:
        if text:
            width = shutil.get_terminal_size().columns
            sys.stderr.write(text[: width - 1])
            sys.stderr.flush()
            self._status = text


def status_text(run: Run, waiting: dict[str, str]) -> str:
    """Progress of the calls with several inputs, then the first reason to wait."""
    names = {function_id: name for name, function_id in run.function_ids.items()}
    parts = []
    for call in list(run.calls.values()):
        if call.added > 1:
            parts.append(f"{names.get(call.function_id, '?')}: {call.added - call.unanswered}/{call.added}")
    for function, text in list(waiting.items())[:1]:
        parts.append(f"{function} waits: {text}")
    return " · ".join(parts)
