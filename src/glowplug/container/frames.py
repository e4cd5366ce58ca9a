"""Frames with descriptors on a blocking socket: how server, zygote and container talk beside the payloads."""

from __future__ import annotations

import os
import socket
from typing import Any

from glowplug.wire.codec import frame
from glowplug.wire.receive import MAX_FDS, FrameReceiver


class FrameSocket:
    """A blocking stream socket of frames. One thread reads, any thread writes whole frames."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self.sock = sock
        self._receiver = FrameReceiver(sock)
        self.fds = self._receiver.fds
        """Descriptors received and not yet taken, in order."""
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
        self._receiver.wait()
        return self._receiver.receive()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until ``receive_all`` has something to say; False when ``timeout_s`` passed first."""
        return bool(self._messages) or self._receiver.wait(timeout_s)

    def take_fds(self, count: int) -> list[int]:
        taken = self.fds[:count]
        del self.fds[:count]
        return taken

    def close(self) -> None:
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()
