"""One HTTP connection on a socket that the listener accepted: uvicorn's HTTP/1.1 protocol without its server.

The peer was already found to be this user or root; nothing listens on the network.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from glowplug.server.http.api import make_api

if TYPE_CHECKING:
    from glowplug.server.server import Server

IDLE_TIMEOUT_S = 30
"""A connection that asks nothing for this long is closed."""
MAX_HEAD_BYTES = 64 << 10


class HttpConnections:
    """All of a server's HTTP connections."""

    def __init__(self, server: Server) -> None:
        self._config = Config(
            make_api(server),
            http=H11Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,  # the process's logging is not ours to set up
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=IDLE_TIMEOUT_S,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        self._config.load()
        self._state = ServerState()

    async def serve(self, sock: socket.socket, container_id: str = "") -> None:
        """Hand the socket to the protocol, which answers from now on."""
        loop = asyncio.get_running_loop()
        asker = {"container": container_id} if container_id else {}
        sock.setblocking(False)
        await loop.connect_accepted_socket(lambda: H11Protocol(self._config, self._state, asker, loop), sock)

    async def close(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()
        answering = list(self._state.tasks)
        for each in answering:
            each.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.close()
