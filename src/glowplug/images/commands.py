"""Running a build's programs: their lines as they come, their end with all they have started."""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

READ_BYTES = 64 << 10
LOOK_S = 0.1
"""How often a running program's reader looks whether anybody still wants it."""
GRACE_S = 2.0
"""Between asking a program to end and killing it and what it has started."""
LINES_KEPT = 400


class CommandFailed(Exception):
    """A program ended with another status than 0. ``lines``: the last it wrote."""

    def __init__(self, status: int, lines: list[str]) -> None:
        super().__init__(f"it ended with status {status}")
        self.status = status
        self.lines = lines


class BuildStopped(Exception):
    """Nobody waits for the build any more."""


def run_command(
    arguments: Sequence[str],
    variables: Mapping[str, str],
    on_line: Callable[[str], None],
    stopped: Callable[[], bool],
    directory: Path | None = None,
) -> list[str]:
    """Run a program to its end and return its last lines, standard error among them.

    However it ends, what it has started ends too. Raises ``CommandFailed``, ``BuildStopped``, ``OSError``.
    """
    lines: list[str] = []

    def keep(text: str) -> None:
        lines.append(text)
        del lines[:-LINES_KEPT]
        on_line(text)

    with subprocess.Popen(
        list(arguments),
        env=dict(variables),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            _follow(process, keep, stopped)
        except BaseException:
            _end_group(process)
            raise
        process.wait()
        _signal_group(process, signal.SIGKILL)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        keep(f"error: it was ended by {name}; was there memory enough?")
    if process.returncode != 0:
        raise CommandFailed(process.returncode, lines)
    return lines


def _follow(
    process: subprocess.Popen[bytes], keep: Callable[[str], None], stopped: Callable[[], bool]
) -> None:
    assert process.stdout is not None
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    rest = ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stopped():
                raise BuildStopped
            if not selector.select(LOOK_S):
                if process.poll() is not None:
                    break  # what it has left running holds the pipe open; that is not waited for
                continue
            chunk = os.read(process.stdout.fileno(), READ_BYTES)
            *whole, rest = (rest + decode(chunk, final=not chunk)).replace("\r\n", "\n").split("\n")
            for text in whole:
                keep(text.rsplit("\r", 1)[-1])
            if not chunk:
                break
    if rest:
        keep(rest)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass
