"""Frames with descriptors on a blocking socket: how server, zygote and container talk beside the payloads."""

from __future__ import annotations

import array
import os
import socket
from typing import Any

from glowplug.wire.codec import FrameReader, frame

RECEIVE_BYTES = 256 << 10
MAX_FDS = 200
_FD_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class FrameSocket:
    """A blocking stream socket of frames. One thread reads, any thread writes whole frames."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self.sock = sock
        self.fds: list[int] = []
        """Descriptors received and not yet taken, in order."""
        self._reader = FrameReader()
        self._messages: list[Any] = []

    def send(self, message: Any, fds: list[int] | None = None) -> None:
        raw = frame(message)
        position = 0
        while fds:
            some, fds = fds[:MAX_FDS], fds[MAX_FDS:]
            position += socket.send_fds(self.sock, [raw[position : position + 1]], some)
        self.sock.sendall(raw[position:] if position else raw)

    def receive(self) -> Any:
        """The next message. Raises ``EOFError`` when the other end is gone."""
        while not self._messages:
            self._messages = self.receive_all()
        return self._messages.pop(0)

    def receive_all(self) -> list[Any]:
        """What one read completes, possibly nothing. Raises ``EOFError`` at the end."""
        if self._messages:
            messages, self._messages = self._messages, []
            return messages
        received, ancillary, _, _ = self.sock.recvmsg(RECEIVE_BYTES, _FD_SPACE)
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
                self.fds.extend(fds)
        if not received:
            raise EOFError("the other end closed the connection")
        return self._reader.feed(received)

    def take_fds(self, count: int) -> list[int]:
        taken, self.fds = self.fds[:count], self.fds[count:]
        return taken

    def close(self) -> None:
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []
