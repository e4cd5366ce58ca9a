"""The floor: two hops over Unix sockets and nothing else.

A blocking client and a blocking container with an asyncio ``Protocol`` between them, each its own process.
Arguments and results are pickled at the ends, frames carry their length, the middle forwards them unopened.
No ids, no queue, no decision, no record: what any design with a server in the middle pays in Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

from functions import noop

HEADER_BYTES = 4


@contextlib.contextmanager
def relay() -> Iterator[Callable[[], object]]:
    client, middle_client = socket.socketpair()
    middle_container, container = socket.socketpair()
    children = [_spawn("middle", middle_client, middle_container), _spawn("container", container)]

    def call() -> object:
        _send(client, pickle.dumps(((1,), {}), 5))
        return pickle.loads(_receive(client))

    try:
        with client:
            yield call
    finally:
        for child in children:
            child.wait()


def _spawn(part: str, *socks: socket.socket) -> subprocess.Popen[bytes]:
    fds = [sock.fileno() for sock in socks]
    child = subprocess.Popen([sys.executable, __file__, part, *map(str, fds)], pass_fds=fds)
    for sock in socks:
        sock.close()
    return child


def _send(sock: socket.socket, body: bytes) -> None:
    sock.sendall(len(body).to_bytes(HEADER_BYTES, "big") + body)


def _receive(sock: socket.socket) -> bytes:
    received = sock.recv(65536)
    while len(received) < HEADER_BYTES or len(received) - HEADER_BYTES < int.from_bytes(
        received[:HEADER_BYTES], "big"
    ):
        more = sock.recv(65536)
        if not more:
            raise EOFError
        received += more
    return received[HEADER_BYTES:]


class _Hop(asyncio.Protocol):
    """Whole frames from one side go out at the other."""

    def __init__(self, done: asyncio.Event) -> None:
        self.other = self
        self._done = done
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        pending = self._pending + data
        while len(pending) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(pending[:HEADER_BYTES], "big")
            if len(pending) < end:
                break
            self.other.transport.write(pending[:end])
            pending = pending[end:]
        self._pending = pending

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set()


async def _middle(client_fd: int, container_fd: int) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    one, other = _Hop(done), _Hop(done)
    one.other, other.other = other, one
    # Nobody speaks before the container's side is connected: it only answers.
    await loop.create_connection(lambda: other, sock=socket.socket(fileno=container_fd))
    await loop.create_connection(lambda: one, sock=socket.socket(fileno=client_fd))
    await done.wait()


def _container(fd: int) -> None:
    sock = socket.socket(fileno=fd)
    try:
        while True:
            args, kwargs = pickle.loads(_receive(sock))
            _send(sock, pickle.dumps(noop(*args, **kwargs), 5))
    except (EOFError, ConnectionError):
        pass


if __name__ == "__main__":
    part, *numbers = sys.argv[1:]
    if part == "middle":
        asyncio.run(_middle(*map(int, numbers)))
    else:
        _container(*map(int, numbers))
