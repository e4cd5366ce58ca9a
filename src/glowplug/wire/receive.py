"""What arrives on one Unix socket: frames, and the descriptors that travel beside them.

One buffer is read into again and again: a fresh one for each read is so large that the allocator maps and
unmaps it every time, which costs more than the read.
"""

from __future__ import annotations

import array
import errno
import resource
import select
import socket
from typing import Any

from glowplug.wire.codec import FrameReader

RECEIVE_BYTES = 256 << 10
MAX_FDS = 200
"""Descriptors of one message; the kernel carries at most 253."""
_FD_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
# Descriptors are for this process: a program that user code starts must not hold payloads open.
# As plain numbers: the flags of the socket module are enums, whose arithmetic costs more than a small read.
_TRUNCATED = int(socket.MSG_CTRUNC)
_FLAGS = int(socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0))


def raise_file_limit() -> None:
    """As far as this process may: every large payload on its way is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # macOS names a limit that it does not grant


class FrameReceiver:
    """Reads frames from a socket; one reader at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.fds: list[int] = []
        """Descriptors received and not yet taken, in order."""
        self._sock = sock
        self._reader = FrameReader()
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._buffers = [self._buffer]
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until something has arrived or the other end is gone; False when ``timeout_s`` passed first.

        A blocking read would do, but is also woken, for nothing, when the other end takes what this one sent.
        """
        return bool(self._poll.poll(None if timeout_s is None else timeout_s * 1000))

    def receive(self) -> list[Any]:
        """The messages that one read completes, possibly none.

        Raises ``BlockingIOError`` when nothing is there, ``EOFError`` when the other end is gone,
        ``FrameError`` when it sent no frame, ``OSError`` when this process may open no more files, and any
        other ``OSError`` of the socket.
        """
        size, ancillary, flags, _ = self._sock.recvmsg_into(self._buffers, _FD_SPACE, _FLAGS)
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
                self.fds.extend(fds)
        if flags & _TRUNCATED:
            # The kernel drops what does not fit; going on would give one message the payload of another.
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            raise OSError(
                errno.EMFILE,
                f"this process may hold {limit} open files, and every value above 1 MiB that it has not "
                "taken yet is one; take results as they come, or raise the limit (ulimit -n)",
            )
        if not size:
            raise EOFError("the other end closed the connection")
        return self._reader.feed(self._buffer[:size])
