"""Frames on a non-blocking socket inside an event loop: the evented middle between two blocking ends.

Raw sockets instead of asyncio transports, because descriptors travel beside the bytes. What is sent during
one turn of the loop leaves in one system call per stream: streams register with an ``Outbox`` and are
flushed together.
"""

from __future__ import annotations

import asyncio
import collections
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from glowplug.wire.codec import FrameError, frame
from glowplug.wire.receive import MAX_FDS, FrameReceiver

JOIN_LIMIT_BYTES = 256 << 10
"""Frames up to this size together are joined into one send."""


class HasDescriptor(Protocol):
    """A payload, or any descriptor that shall reach the other end; kept alive until it was sent."""

    @property
    def fd(self) -> int | None: ...


class Descriptor:
    """A descriptor on its way to another process; closed here once it was sent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class Watcher(Protocol):
    """Calls back when a descriptor can be read, or written."""

    def watch(
        self, fd: int, readable: Callable[[], None], writable: Callable[[], None] | None = None
    ) -> None: ...

    def unwatch(self, fd: int) -> None: ...


class Outbox:
    """Streams with something to send, flushed once a turn: by ``watcher`` where one is given, else by each
    stream when it has read."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        self.watcher = watcher
        self._dirty: list[Callable[[], None]] = []

    def add(self, flush: Callable[[], None]) -> None:
        self._dirty.append(flush)

    def flush(self) -> None:
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for flush in dirty:
                flush()


class LoopWatcher:
    """The plain way, through an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._loop = loop
        self._outbox = outbox

    def watch(
        self, fd: int, readable: Callable[[], None], writable: Callable[[], None] | None = None
    ) -> None:
        self._loop.add_reader(fd, self._turn, readable)
        if writable is not None:
            self._loop.add_writer(fd, self._turn, writable)
        else:
            self._loop.remove_writer(fd)

    def unwatch(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)

    def _turn(self, callback: Callable[[], None]) -> None:
        callback()
        self._outbox.flush()


class FrameStream:
    """``on_message(message, fds)`` for every frame; ``on_closed()`` once, when either side ended it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        outbox: Outbox,
        on_message: Callable[[list[Any], list[int]], None],
        on_closed: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.closed = False
        self._outbox = outbox
        self._watcher = outbox.watcher or LoopWatcher(loop, outbox)
        self._on_message = on_message
        self._on_closed = on_closed
        self._receiver = FrameReceiver(sock)
        self._out: collections.deque[tuple[bytes, list[HasDescriptor]]] = collections.deque()
        self._queued_bytes = 0
        self._registered = False
        self._writing = False
        self._fd = sock.fileno()
        self._watcher.watch(self._fd, self._readable)

    @property
    def queued_bytes(self) -> int:
        """What the other end has not taken yet."""
        return self._queued_bytes

    def send(self, message: Any, payloads: Sequence[HasDescriptor] = ()) -> None:
        """Queue a message; it leaves at the next flush. Silently dropped once closed."""
        if self.closed:
            return
        raw = frame(message)
        self._out.append(
            (raw, [payload for payload in payloads if payload.fd is not None] if payloads else [])
        )
        self._queued_bytes += len(raw)
        if not self._registered:
            self._registered = True
            self._outbox.add(self._flush)

    def read_now(self) -> None:
        """Handle everything that has arrived, without waiting for the loop."""
        while not self.closed and self._receive():
            pass

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._watcher.unwatch(self._fd)
        self.sock.close()
        for fd in self._receiver.fds:
            os.close(fd)
        self._receiver.fds.clear()
        self._out.clear()
        self._queued_bytes = 0
        self._on_closed()

    def _readable(self) -> None:
        if not self.closed:  # by what else was read in this turn
            self._receive()

    def _receive(self) -> bool:
        try:
            messages = self._receiver.receive()
        except (BlockingIOError, InterruptedError):
            return False
        except (OSError, EOFError, FrameError):
            self.close()
            return False
        try:
            for message in messages:
                if self.closed:
                    return False
                self._on_message(message, self._receiver.fds)
        except BaseException:
            self.close()  # a message half handled leaves descriptors out of step with what follows
            raise
        return True

    def _flush(self) -> None:
        self._registered = False
        if not self._writing:
            self._write()

    def _write(self) -> None:
        raw = b""
        payloads: list[HasDescriptor] = []
        try:
            while self._out and not self.closed:
                raw, payloads = self._out.popleft()
                if payloads:
                    self._send_with_fds(raw, payloads)
                    continue
                if self._out and len(raw) < JOIN_LIMIT_BYTES:
                    raw = self._joined(raw)
                sent = self.sock.send(raw)
                self._queued_bytes -= sent
                if sent < len(raw):
                    self._out.appendleft((raw[sent:], []))
        except (BlockingIOError, InterruptedError):
            self._out.appendleft((raw, payloads))
            if not self._writing:
                self._writing = True
                self._watcher.watch(self._fd, self._readable, self._write)
            return
        except OSError:
            self.close()
            return
        if self._writing:
            self._writing = False
            self._watcher.watch(self._fd, self._readable)

    def _send_with_fds(self, raw: bytes, payloads: list[HasDescriptor]) -> None:
        """A frame's first bytes carry its descriptors; payloads stay referenced until they are sent."""
        some, rest = payloads[:MAX_FDS], payloads[MAX_FDS:]
        head = raw[:1] if rest else raw
        sent = socket.send_fds(self.sock, [head], [payload.fd for payload in some if payload.fd is not None])
        self._queued_bytes -= sent
        if sent < len(raw):
            self._out.appendleft((raw[sent:], rest))

    def _joined(self, raw: bytes) -> bytes:
        parts = [raw]
        size = len(raw)
        while self._out and not self._out[0][1] and size < JOIN_LIMIT_BYTES:
            part, _ = self._out.popleft()
            parts.append(part)
            size += len(part)
        return b"".join(parts)
