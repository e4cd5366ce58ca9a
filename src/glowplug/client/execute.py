"""A command inside a container: a connection of its own, bytes both ways, and the exit code at the end."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from glowplug.client.http import NoServerError
from glowplug.client.launch import connect
from glowplug.client.settings import Settings, read_settings
from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.codec import FrameError, FrameReader, frame

CHUNK_BYTES = 64 << 10
BEHIND_BYTES = 512 << 10


class Execution:
    """One command. ``run`` carries bytes between it and descriptors of this process until it has ended."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = FrameReader()
        self._out = bytearray()
        self._exit: int | None = None
        self._over = False
        self._stdin_open = True
        self._written = {1: bytearray(), 2: bytearray()}

    @classmethod
    def start(
        cls,
        container_id: str,
        command: Sequence[str],
        *,
        pty: bool,
        size: tuple[int, int] = (24, 80),
        variables: dict[str, str] | None = None,
        directory: str | None = None,
        settings: Settings | None = None,
    ) -> Execution:
        """Ask for it; an empty command is the container's shell. ``size``: rows and columns.

        Raises ``NoServerError``; ``run`` raises what the server refuses with.
        """
        settings = settings or read_settings()
        sock = connect(settings)
        if sock is None:
            raise NoServerError(f"no server runs for {settings.home}, so no container either.")
        request = {
            "command": list(command),
            "pty": pty,
            "size": list(size),
            "variables": variables or {},
            "directory": directory,
        }
        sock.sendall(frame([messages.EXEC, messages.PROTOCOL, container_id, request]))
        return cls(sock)

    def resize(self, rows: int, columns: int) -> None:
        self._out += frame([messages.EXEC_SIZE, rows, columns])

    def signal(self, number: int) -> None:
        """To the command and what runs with it; one in a terminal gets its Ctrl-C as a character instead."""
        self._out += frame([messages.EXEC_SIGNAL, number])

    def run(
        self,
        stdin: int,
        stdout: int,
        stderr: int,
        wakeup: int = -1,
        on_wakeup: Callable[[], None] | None = None,
    ) -> int:
        """The exit code, 128 and the number for one that a signal ended. ``on_wakeup()`` is called when
        ``wakeup`` can be read (a signal's descriptor).

        Raises ``NotFoundError`` and ``ConflictError`` for the container, ``ExecutionError`` for a command
        that cannot be started or whose container ended, ``ConnectionError`` when the server is gone.
        """
        outs = {1: stdout, 2: stderr}
        self._sock.setblocking(False)
        while not self._over:
            self._turn(stdin, outs, wakeup, on_wakeup)
        for stream, waiting in self._written.items():
            while waiting:
                _wait_writable(outs[stream])
                _write(outs[stream], waiting)
        assert self._exit is not None
        return self._exit

    def close(self) -> None:
        """Leave; what still runs there is ended."""
        self._sock.close()

    def _turn(
        self, stdin: int, outs: dict[int, int], wakeup: int, on_wakeup: Callable[[], None] | None
    ) -> None:
        poll = select.poll()
        events = select.POLLIN if all(len(each) < BEHIND_BYTES for each in self._written.values()) else 0
        poll.register(self._sock, events | (select.POLLOUT if self._out else 0))
        if self._stdin_open and len(self._out) < BEHIND_BYTES:
            poll.register(stdin, select.POLLIN)
        if wakeup >= 0:
            poll.register(wakeup, select.POLLIN)
        waiting = {outs[stream] for stream, each in self._written.items() if each}
        for fd in waiting - {stdin}:
            poll.register(fd, select.POLLOUT)
        if stdin in waiting:
            poll.register(stdin, select.POLLOUT | (select.POLLIN if self._stdin_open else 0))
        ready = dict(poll.poll())
        if wakeup in ready and on_wakeup is not None:
            on_wakeup()
        if self._sock.fileno() in ready:
            self._talk(ready[self._sock.fileno()])
        if ready.get(stdin, 0) & (select.POLLIN | select.POLLHUP) and self._stdin_open:
            self._read_stdin(stdin)
        for stream, each in self._written.items():
            if each:
                _write(outs[stream], each)

    def _talk(self, events: int) -> None:
        try:
            if events & select.POLLOUT:
                del self._out[: self._sock.send(memoryview(self._out)[:CHUNK_BYTES])]
            if not events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                return
            received = self._sock.recv(CHUNK_BYTES)
            if not received:
                raise EOFError
            for message in self._reader.feed(received):
                self._hear(message)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, EOFError, FrameError):
            raise errors.ConnectionError(
                "the server is gone, and the command in the container with it; `glowplug server logs` may "
                "say why"
            ) from None

    def _hear(self, message: list[Any]) -> None:
        if message[0] == messages.EXEC_OUTPUT:
            self._written[message[1]] += message[2]
        elif message[0] == messages.EXEC_ENDED:
            if message[1] is None:
                raise errors.ExecutionError(message[2])
            self._over, self._exit = True, message[1]
        elif message[0] == messages.REFUSED:
            raise errors.error_class(message[1])(message[2])

    def _read_stdin(self, stdin: int) -> None:
        try:
            chunk = os.read(stdin, CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        self._out += frame([messages.EXEC_INPUT, chunk])
        self._stdin_open = bool(chunk)


def _write(fd: int, waiting: bytearray) -> None:
    """What it takes now. A reader that has left gets nothing more, as under any other command."""
    try:
        del waiting[: os.write(fd, memoryview(waiting)[: select.PIPE_BUF])]
    except BlockingIOError:
        time.sleep(0)


def _wait_writable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()
