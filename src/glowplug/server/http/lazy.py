"""The HTTP side is imported with the first request: a call never needs it, and it takes a while to import."""

from __future__ import annotations

import asyncio
import socket
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glowplug.server.http.connection import HttpConnections
    from glowplug.server.server import Server


class LazyHttp:
    """Takes over accepted sockets whose first bytes were HTTP."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connections: HttpConnections | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, sock: socket.socket, container_id: str = "") -> None:
        """``container_id``: who asks, when it is no user."""
        serving = asyncio.get_running_loop().create_task(self._serve(sock, container_id))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """End every connection; answers under way are broken off."""
        for serving in list(self._serving):
            serving.cancel()
        if self._connections is not None:
            await self._connections.close()

    async def _serve(self, sock: socket.socket, container_id: str) -> None:
        try:
            if self._connections is None:
                # In another thread, so that calls go on meanwhile.
                await asyncio.get_running_loop().run_in_executor(None, _import)
                from glowplug.server.http.connection import HttpConnections

                self._connections = self._connections or HttpConnections(self._server)
            await self._connections.serve(sock, container_id)
        except Exception:
            traceback.print_exc()  # into the server's log; nobody awaits this
            sock.close()
        except asyncio.CancelledError:
            sock.close()
            raise


def _import() -> None:
    import glowplug.server.http.connection  # noqa: F401
