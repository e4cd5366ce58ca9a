"""Warm processes that containers are forked from: one plain per environment, one per module that was
imported.

Keyed by everything an import depends on, kept between runs, the least recently used ended first.
"""

from __future__ import annotations

import asyncio
import collections
import hmac
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from glowplug.wire.agreed import EVERY_VARIABLE
from glowplug.wire.stream import Descriptor, FrameStream, Outbox

ZYGOTE_LIMIT = 16
"""Idle zygotes kept; each costs the private memory of its imports."""


class Zygote:
    """``state``: starting, ready, unforkable (with ``reason``) or dead. Forks asked for early wait for it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, outbox: Outbox, name: str, on_dead: Callable[[Zygote], None]
    ) -> None:
        self.name = name
        self.state = "starting"
        self.reason = ""
        self.started_through = ""
        """The image's ENTRYPOINT."""
        self.import_output = ""
        """What the import printed, until somebody has shown it."""
        self.read: frozenset[str] = frozenset()
        """Variables that its import asked for."""
        self.made_by: Callable[[Mapping[str, str]], Zygote] | None = None
        """Makes one like it that imports with these variables set as well; None for one that has them."""
        self.process: subprocess.Popen[bytes] | None = None
        self._on_dead = on_dead
        self._unforkable = False
        self._ended = False
        self._pidfd = -1
        """Of one that is a child of another."""
        self._importing: collections.deque[Zygote] = collections.deque()
        self._waiting: list[Callable[[Zygote], None]] = []
        self._forks: collections.deque[tuple[str, Callable[[int, str], None]]] = collections.deque()
        self._remounts: collections.deque[Callable[[str], None]] = collections.deque()
        ours, self.theirs = socket.socketpair()
        self.stream = FrameStream(loop, ours, outbox, self._on_message, self._on_closed)

    def when_decided(self, callback: Callable[[Zygote], None]) -> None:
        """Call back once it is ready, unforkable or dead."""
        if self.state == "starting":
            self._waiting.append(callback)
        else:
            callback(self)

    def reads(self, variables: Mapping[str, str]) -> bool:
        """Whether its import would have seen one of these, had it been set."""
        return bool(variables) and (EVERY_VARIABLE in self.read or not self.read.isdisjoint(variables))

    def forget(self, callback: Callable[[Zygote], None]) -> None:
        """Nobody waits for that any more. An import that only it waited for may never end: it is ended."""
        if callback in self._waiting:
            self._waiting.remove(callback)
        if not self._waiting and self.state == "starting":
            self.end()

    def fork(
        self,
        container_id: str,
        root: dict[str, Any] | None,
        bounds: dict[str, Any],
        fds: list[int],
        groups: list[int],
        forked: Callable[[int, str], None],
    ) -> None:
        """Fork a container that keeps ``bounds`` and enters the control groups open as ``groups``, which are
        closed here. ``forked(pidfd, "")`` when its first process runs, else ``forked(-1, reason)``."""
        self._forks.append((container_id, forked))
        self.stream.send(
            {
                "op": "fork",
                "container_id": container_id,
                "root": root,
                "bounds": bounds,
                "groups": len(groups),
            },
            [Descriptor(fd) for fd in (*(os.dup(fd) for fd in fds), *groups)],
        )

    def remount(self, container_id: str, view: dict[str, str], done: Callable[[str], None]) -> None:
        """Show a container of this zygote another view of a volume; ``done(problem)``, "" when it is."""
        if self.stream.closed:
            done("the container has ended")
            return
        self._remounts.append(done)
        self.stream.send({"op": "remount", "container_id": container_id, "view": view})

    def import_in_child(
        self, child: Zygote, module: str, source: dict[str, Any], env: dict[str, str]
    ) -> None:
        """Fork a zygote that imports ``module`` and reports on ``child``'s connection."""
        self._importing.append(child)
        request = {"op": "import", "module": module, "source": source, "env": env}
        self.stream.send(request, [Descriptor(child.theirs.detach())])

    def end(self) -> None:
        self._ended = True
        if self.state == "unforkable":
            self._on_dead(self)
        self._kill_child()
        self.stream.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _on_message(self, message: Any, fds: list[int]) -> None:
        if message["op"] == "forked":
            container_id, forked = self._forks.popleft()
            assert container_id == message["container_id"]
            forked(fds.pop(0) if message["pid"] and fds else -1, message.get("reason", ""))
        elif message["op"] == "remounted":
            self._remounts.popleft()(message["problem"])
        elif message["op"] == "importing":
            self._importing.popleft().take_process(fds.pop(0) if fds else -1)
        else:
            self.reason = message.get("reason", "")
            self.import_output = message.get("output", "")
            self.read = frozenset(message.get("read", ()))
            self._unforkable = message["op"] == "unforkable"
            if not self._unforkable:
                self.state = "ready"
                self._tell()

    def take_process(self, pidfd: int) -> None:
        self._pidfd = pidfd
        if self.stream.closed:
            self._kill_child()

    def _kill_child(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(pidfd)

    def _on_closed(self) -> None:
        self._kill_child()
        while self._remounts:
            self._remounts.popleft()("the container has ended")
        if self.state == "starting" and self.process is None and self.reason == "" and not self._ended:
            # Its import has ended the process. A container that tries it in earnest says how.
            self.reason = "its import failed: it ended the process"
            self.state = "unforkable"
            self._on_dead(self)
            self._tell()
            return
        if self._unforkable:
            # It ends itself: only now is what its import held free for a container's. The verdict stays.
            self.state = "unforkable"
            self._tell()
            return
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            code = self.process.wait()
            ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.reason = self.reason or (
                f"the process containers are forked from ended with {ended}{_entrypoint_hint(self)}"
            )
        self.state = "dead"
        self._on_dead(self)
        self._tell()
        while self._forks:
            self._forks.popleft()[1](-1, self.reason)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback(self)


def _entrypoint_hint(zygote: Zygote) -> str:
    if not zygote.started_through:
        return ""
    return (
        f". It is started through the image's ENTRYPOINT {zygote.started_through}, which must end by running "
        'what it is given (exec "$@"); Image.entrypoint([]) takes it away'
    )


class ZygotePool:
    """Every zygote of this server by its key."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._loop = loop
        self._outbox = outbox
        self._digest_key = os.urandom(16)
        self._zygotes: collections.OrderedDict[tuple[str, ...], Zygote] = collections.OrderedDict()

    def plain(self, key: tuple[str, ...], command: Callable[[int], list[str]], env: dict[str, str]) -> Zygote:
        """The zygote with nothing but the runtime; ``command(fd)`` starts it."""
        found = self._find(key)
        if found is not None:
            return found
        zygote = self._new(key)
        fd = zygote.theirs.fileno()
        zygote.process = subprocess.Popen(
            command(fd), env=env, cwd="/", stdin=subprocess.DEVNULL, pass_fds=[fd], start_new_session=True
        )
        zygote.theirs.close()
        return zygote

    def importing(
        self,
        key: tuple[str, ...],
        plain: Zygote,
        module: str,
        source: dict[str, Any],
        env: dict[str, str],
        secrets: Mapping[str, str] | None = None,
    ) -> Zygote:
        """The zygote that has imported ``module``, a child of ``plain``. ``secrets``: set for an import that
        reads them; the zygote is then for containers that have the same ones."""
        if secrets:
            key, env = (*key, self._digest_of(secrets)), {**env, **secrets}
        found = self._find(key)
        if found is not None:
            return found
        zygote = self._new(key)
        if not secrets:
            zygote.made_by = lambda given: self.importing(key, plain, module, source, env, given)

        def ask(parent: Zygote) -> None:
            if parent.state == "ready":
                parent.import_in_child(zygote, module, source, env)
            else:
                zygote.reason = parent.reason or "the process containers are forked from was ended"
                zygote.stream.close()
            self._outbox.flush()

        plain.when_decided(ask)
        return zygote

    def _digest_of(self, secrets: Mapping[str, str]) -> str:
        """Tells nobody anything without this pool's own key."""
        return hmac.digest(self._digest_key, repr(sorted(secrets.items())).encode(), "sha256").hex()[:16]

    def close(self) -> None:
        for zygote in list(self._zygotes.values()):
            zygote.end()
        self._zygotes.clear()

    def _find(self, key: tuple[str, ...]) -> Zygote | None:
        zygote = self._zygotes.get(key)
        if zygote is not None:
            self._zygotes.move_to_end(key)
        return zygote

    def _new(self, key: tuple[str, ...]) -> Zygote:
        def forget(zygote: Zygote) -> None:
            if self._zygotes.get(key) is zygote:
                del self._zygotes[key]

        zygote = Zygote(self._loop, self._outbox, "/".join(key), forget)
        self._zygotes[key] = zygote
        idle = [
            each
            for each, old in self._zygotes.items()
            if old.process is None and old.state in ("ready", "unforkable")
        ]
        while len(self._zygotes) > ZYGOTE_LIMIT and idle:
            self._zygotes[idle.pop(0)].end()
        return zygote
