"""Accepts connections on the server's socket: frames for calls, HTTP for the nouns, told apart by their
first bytes."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from glowplug.wire import messages
from glowplug.wire.codec import FrameReader, frame

HTTP_METHODS = (b"GET ", b"POST", b"PUT ", b"DELE", b"PATC", b"HEAD", b"OPTI")
BACKLOG = 256
PEEK_BYTES = 4


class Listener:
    """``on_hello(fields)`` answers a greeting with the message to send back and whether to keep the
    connection; ``on_client(sock)`` and ``on_http(sock)`` take over accepted sockets, ``on_exec(sock,
    messages, reader)`` one for a command in a container, with what was read of it so far."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: str,
        on_hello: Callable[[list[Any]], tuple[list[Any], bool]],
        on_client: Callable[[socket.socket], None],
        on_http: Callable[[socket.socket], None],
        on_exec: Callable[[socket.socket, list[Any], FrameReader], None],
    ) -> None:
        self._loop = loop
        self.path = path
        self._on_hello = on_hello
        self._on_client = on_client
        self._on_http = on_http
        self._on_exec = on_exec
        self._new: set[socket.socket] = set()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        # Bound under another name and renamed: whoever finds the path finds a socket that listens.
        temporary = f"{path}.{os.getpid()}"
        self._sock.bind(temporary)
        os.chmod(temporary, 0o600)
        self._sock.listen(BACKLOG)
        os.rename(temporary, path)
        loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Stop listening and unlink the socket."""
        self._loop.remove_reader(self._sock)
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        self._sock.close()
        for sock in list(self._new):
            self._drop(sock)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return
            if not _is_allowed(sock):
                sock.close()
                continue
            sock.setblocking(False)
            self._new.add(sock)
            self._loop.add_reader(sock, self._first_bytes, sock, FrameReader())

    def _first_bytes(self, sock: socket.socket, reader: FrameReader) -> None:
        try:
            head = sock.recv(PEEK_BYTES, socket.MSG_PEEK)
            if not head:
                self._drop(sock)
                return
            if head in HTTP_METHODS:
                self._release(sock)
                self._on_http(sock)
                return
            # A hello is small and stands alone: the client waits for the answer before it says more.
            greetings = reader.feed(sock.recv(65536))
        except (BlockingIOError, InterruptedError):
            return
        except Exception:
            self._drop(sock)
            return
        for greeting in greetings:
            # The answer may be that this server ends for another: it still has to be sent.
            self._release(sock)
            try:
                if greeting[0] == messages.EXEC:
                    self._on_exec(sock, greetings, reader)  # it may have said more already
                    return
                if greeting[0] != messages.HELLO:
                    raise ValueError("the first message is no greeting")
                self._release(sock)  # an answer that ends this listener ends those it still has
                answer, keep = self._on_hello(greeting[1:])
            except (TypeError, ValueError, LookupError):  # no client of ours says that
                sock.close()
                return
            try:
                sock.send(frame(answer))
            except OSError:
                keep = False
            if keep:
                self._on_client(sock)
            else:
                sock.close()
            return

    def _release(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        self._new.discard(sock)

    def _drop(self, sock: socket.socket) -> None:
        self._release(sock)
        sock.close()


def _is_allowed(sock: socket.socket) -> bool:
    """Only this user and root may talk to this user's server."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return uid in (0, os.getuid())
