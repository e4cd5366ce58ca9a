"""One server of one user: its socket, its hello, its life and its end."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import sys
import time
from pathlib import Path
from typing import Any

from glowplug.client.launch import RESTART
from glowplug.client.settings import Settings, build_id
from glowplug.core.lifecycles import READY
from glowplug.model import errors
from glowplug.ports.backend import NodeBackend
from glowplug.ports.images import Contents, Images
from glowplug.ports.journal import Journal, Predecessor
from glowplug.ports.logs import Logs
from glowplug.ports.secrets import Secrets
from glowplug.ports.volumes import StoredVolumes
from glowplug.server.execs import Execs
from glowplug.server.found import find_container
from glowplug.server.http.lazy import LazyHttp
from glowplug.server.kernel import Kernel
from glowplug.server.listener import Listener
from glowplug.server.session import ClientSession
from glowplug.wire import messages
from glowplug.wire.codec import FrameReader
from glowplug.wire.stream import Descriptor, Outbox

IDLE_TIMEOUT_S = 15 * 60.0
KILL_SLACK_S = 5.0
"""What a killed container may take to be gone."""
FORGET_S = 3600.0
"""How often what passed its retention is removed."""
CHECK_S = 10.0
"""How often the server looks whether anybody still needs it and whether its code and home still exist."""


class Server:
    """Serves until it is told to end, is idle for long, or is replaced."""

    def __init__(
        self,
        settings: Settings,
        backend: NodeBackend,
        outbox: Outbox,
        journal: Journal,
        secrets: Secrets,
        images: Images,
        contents: Contents,
        volumes: StoredVolumes,
    ) -> None:
        self.settings = settings
        self.started_at = time.time()
        self.build_id = build_id()
        self.backend = backend
        self.outbox = outbox
        self.secrets = secrets
        self.kernel = Kernel(backend, outbox, journal, secrets, self.touch)
        self.images = images
        self.contents = contents
        self.execs = Execs(self._open_exec)
        self.volumes = volumes
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._used_at = time.monotonic()
        self._listener: Listener | None = None
        self._http = LazyHttp(self)
        self.kernel.accept_http = self._http.accept
        self._forgot_at = time.monotonic()
        self.logs: Logs | None = None

    def keep_lines(self, logs: Logs) -> None:
        """Where lines are kept beyond memory; without it they are not."""
        self.logs = logs
        self.kernel.runs.keep_lines = logs.write

    def start(self) -> None:
        """Take up the nodes, then listen: whoever connects finds a fleet."""
        _say_left(self.kernel.start())
        self._listener = Listener(
            self._loop,
            str(self.settings.socket_path),
            self._on_hello,
            self._on_client,
            self._http.accept,
            self._on_exec,
        )

    async def serve(self) -> None:
        """Until the end; afterwards no container of this server is left."""
        while not self._ending.is_set():
            try:
                await asyncio.wait_for(self._ending.wait(), CHECK_S)
            except TimeoutError:
                if self._is_useless():
                    break
                self._forget_old()
        if self._listener is not None:
            self._listener.close()
        self.execs.close()
        self.kernel.runs.close_all("the server was stopped")
        await self.kernel.runs.wait_until_gone(self.kernel.state.limits.app_stop_grace_s + KILL_SLACK_S)
        await self.backend.close()
        await self._http.close()
        self.kernel.journal.close()
        if self.logs is not None:
            self.logs.close()

    def end(self) -> None:
        self._ending.set()

    def warn(self, text: str) -> None:
        """In the server's log, and to whoever runs something."""
        say(text)
        self.kernel.runs.warn(text)

    @property
    def user(self) -> str:
        """Whose server this is."""
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return f"uid {os.getuid()}"

    @property
    def busy(self) -> bool:
        return bool(self.kernel.runs.live) or self.images.building

    def _is_useless(self) -> bool:
        if not self.settings.home.exists() or not Path(__file__).exists():
            return True
        return not self.busy and time.monotonic() - self._used_at > IDLE_TIMEOUT_S

    def touch(self) -> None:
        """Somebody uses it."""
        self._used_at = time.monotonic()

    def _forget_old(self) -> None:
        if time.monotonic() - self._forgot_at > FORGET_S:
            self._forgot_at = time.monotonic()
            self.kernel.journal.forget_old(self.kernel.now())
            if self.logs is not None:
                self.logs.forget_old(time.time())

    def _on_client(self, sock: socket.socket) -> None:
        self.touch()
        ClientSession(self._loop, sock, self.outbox, self.kernel)

    def _on_exec(self, sock: socket.socket, said: list[Any], reader: FrameReader) -> None:
        self.touch()
        self.execs.start(sock, said, reader)
        self.outbox.flush()

    def _open_exec(self, container_id: str, channel: int) -> None:
        """Raises ``NotFoundError``, ``ConflictError`` for a container that starts or ends."""
        channel_of_exec = Descriptor(channel)
        container = find_container(self.kernel.state, container_id)
        if container.status != READY:
            raise errors.ConflictError(
                f"container {container_id} is {container.status}; try again once it runs"
            )
        self.backend.open_exec(container_id, channel_of_exec)

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
        running = (
            ", ".join(sorted({run.name for run in self.kernel.runs.live.values()})) or "an image's build"
        )
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


def _say_left(left: Predecessor) -> None:
    """What ended with a server that did not end in order."""
    for run in left.runs:
        holding = [each for each in left.containers if each.app_id == run.app_id]
        gpus = [uuid for container in holding for uuid in container.gpu_uuids]
        held = f", {len(holding)} containers, GPUs {', '.join(gpus) or 'none'}" if holding else ""
        say(f"ended with the server before (pid {run.server_pid}): {run.name} ({run.app_id}){held}")


def say(text: str) -> None:
    """A line in the server's log."""
    try:
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        sys.stderr.flush()
    except OSError:
        pass  # a full disk must not end the server for want of a line
