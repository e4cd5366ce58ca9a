"""One server of one user: its socket, its hello, its life and its end."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glowplug.client.launch import RESTART
from glowplug.client.settings import Settings, build_id
from glowplug.model import errors
from glowplug.ports.backend import NodeBackend
from glowplug.server.kernel import Kernel
from glowplug.server.listener import Listener
from glowplug.server.session import ClientSession
from glowplug.wire import messages
from glowplug.wire.stream import Outbox

IDLE_TIMEOUT_S = 15 * 60.0
CHECK_S = 10.0
"""How often the server looks whether anybody still needs it and whether its code and home still exist."""


class Server:
    """Serves until it is told to end, is idle for long, or is replaced."""

    def __init__(
        self,
        settings: Settings,
        backend: NodeBackend,
        outbox: Outbox,
        make_http: Callable[[Server], Callable[[socket.socket], None]],
    ) -> None:
        self.settings = settings
        self.started_at = time.time()
        self.build_id = build_id()
        self.backend = backend
        self.outbox = outbox
        self.kernel = Kernel(backend, outbox, self._touch)
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._used_at = time.monotonic()
        self._listener: Listener | None = None
        self._make_http = make_http

    def start(self) -> None:
        """Take up the nodes, then listen: whoever connects finds a fleet."""
        self.kernel.start()
        self._listener = Listener(
            self._loop,
            str(self.settings.socket_path),
            self._on_hello,
            self._on_client,
            self._make_http(self),
        )

    async def serve(self) -> None:
        """Until the end; afterwards no container of this server is left."""
        while not self._ending.is_set():
            try:
                await asyncio.wait_for(self._ending.wait(), CHECK_S)
            except TimeoutError:
                if self._is_useless():
                    break
        if self._listener is not None:
            self._listener.close()
        await self.backend.close()

    def end(self) -> None:
        self._ending.set()

    @property
    def busy(self) -> bool:
        return bool(self.kernel.runs)

    def _is_useless(self) -> bool:
        if not self.settings.home.exists() or not Path(__file__).exists():
            return True
        return not self.busy and time.monotonic() - self._used_at > IDLE_TIMEOUT_S

    def _touch(self) -> None:
        self._used_at = time.monotonic()

    def _on_client(self, sock: socket.socket) -> None:
        self._touch()
        ClientSession(self._loop, sock, self.outbox, self.kernel)

    def _on_hello(self, greeting: list[Any]) -> tuple[list[Any], bool]:
        """Welcome whoever speaks our version and wants our configuration; an idle server makes room."""
        protocol, their_build, config_digest, config_text, pid = greeting[:5]
        same_code = protocol == messages.PROTOCOL and their_build == self.build_id
        if same_code and config_digest == self.settings.config_digest:
            return [messages.WELCOME, os.getpid(), self.backend.banner], True
        if not self.busy:
            self.end()
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            return [messages.REFUSED, RESTART, ""], False
        running = ", ".join(sorted({run.name for run in self.kernel.runs.values()}))
        if not same_code:
            error: errors.Error = errors.VersionError(
                f"the running server (pid {os.getpid()}) is of another build of Glowplug ({self.build_id}, "
                f"yours is {their_build}) and is busy with: {running}. "
                "Wait for it, or end it with `glowplug server stop --force`."
            )
        else:
            error = errors.ConflictError(
                f"the running server (pid {os.getpid()}) was started with "
                f"{_shown(self.settings.config_text)} and is busy with: {running}; "
                f"this command (pid {pid}) asks for {_shown(config_text)}. Use the same setting, "
                "wait for it, end it with `glowplug server stop --force`, or set another GLOWPLUG_HOME."
            )
        return [messages.REFUSED, type(error).__name__, str(error)], False


def _shown(config_text: str) -> str:
    return repr(config_text) if config_text else "no GLOWPLUG_GPUS or other server setting"


def say(text: str) -> None:
    """A line in the server's log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()
