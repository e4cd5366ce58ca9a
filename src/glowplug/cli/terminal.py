"""This process's terminal given to a command in a container: raw while it runs, afterwards as it was."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Without a terminal of its own the command gets these; a second SIGTERM or SIGHUP ends this process."""


def run_in_container(
    container_id: str, command: Sequence[str], pty: bool | None, directory: str | None = None
) -> int:
    """Run ``command`` (none: a shell) with this process's stdin, stdout and stderr; its exit code.

    ``pty``: with a terminal of its own; None: if stdin and stdout are one. Raises as ``Execution.run``.
    """
    from glowplug.client.execute import Execution

    sys.stdout.flush()
    sys.stderr.flush()
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    wants = has_terminal if pty is None else pty
    variables = {"TERM": os.environ.get("TERM", "xterm")} if wants else {}
    running = Execution.start(
        container_id, command, pty=wants, size=_size(), variables=variables, directory=directory
    )
    try:
        if wants and sys.stdin.isatty():
            with _raw_terminal(), _signals({signal.SIGWINCH: lambda _: running.resize(*_size())}) as woken:
                return running.run(0, 1, 2, *woken)
        with _signals(dict.fromkeys(FORWARDED, running.signal)) as woken:
            return running.run(0, 1, 2, *woken)
    finally:
        running.close()


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Also restored when this process is told to end; not by SIGKILL, which nobody hears."""
    before = termios.tcgetattr(0)

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    kept = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def _signals(wanted: dict[int, Callable[[int], None]]) -> Iterator[tuple[int, Callable[[], None]]]:
    """Signals as bytes on a descriptor, so that whoever waits for it is woken, and what to do then."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    kept = {number: signal.signal(number, lambda *_: None) for number in wanted}

    def woken() -> None:
        try:
            numbers = os.read(read, 4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in wanted:
                wanted[number](number)

    try:
        yield read, woken
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in kept.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _size() -> tuple[int, int]:
    columns, rows = shutil.get_terminal_size()
    return rows, columns
