"""The volumes of this node's containers: views opened before they start, committed while they run and when
they have ended, renewed on request. The disk's part is done on threads."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from glowplug.backends.local.bubblewrap import Bubblewrap
from glowplug.backends.local.containers import LocalContainer
from glowplug.backends.local.sandbox import RootPlan, VolumeMount
from glowplug.backends.local.zygotes import Zygote
from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.ports.volumes import SHARED, View, VolumeUse, VolumeViews
from glowplug.wire.agreed import BUSY

COMMIT_EVERY_S = 5.0
"""Between two background commits of a running container; longer where one takes long."""
COMMIT_SHARE = 10
"""A background commit may take a tenth of the time."""
REMOUNT_TIMEOUT_S = 30.0
THREADS = 8


class LocalVolumes:
    """``refusal``: why containers cannot have views of their own; empty when they can."""

    def __init__(
        self, views: VolumeViews, home: Path, bubblewrap: Bubblewrap | None, environ: dict[str, str]
    ) -> None:
        self._views = views
        self._home = home
        self._bubblewrap = bubblewrap
        self._wanted = environ.get("GLOWPLUG_VOLUME_VIEWS", "")
        self._refusal: str | None = None
        self._pool = ThreadPoolExecutor(THREADS, "glowplug-volumes")
        self._running: dict[str, tuple[LocalContainer, Zygote, RootPlan]] = {}
        self._commits: dict[str, asyncio.TimerHandle] = {}
        self._opening: dict[str, asyncio.Future[Any]] = {}

    @property
    def refusal(self) -> str:
        if self._refusal is None:
            self._refusal = self._find_refusal()
        return self._refusal

    def _find_refusal(self) -> str:
        if self._bubblewrap is None:
            return "there is no sandbox"
        if self._wanted == "shared":
            return "GLOWPLUG_VOLUME_VIEWS=shared"
        return overlay_refusal(self._bubblewrap, self._home / "volumes")

    def mounts(self, function: FunctionSpec) -> list[VolumeMount]:
        """What a zygote must hold for containers of this function. Raises ``NotFoundError``."""
        private = not self.refusal
        mounts = []
        for use in uses_of(function):
            place = self._views.place(use, private)
            layered = private and use.kind != SHARED
            # A mount keeps its directory's number from being given to another.
            inode = os.stat(f"{place}/trees" if layered else place).st_ino
            mounts.append(VolumeMount(place, use.mount_path, use.read_only, layered, inode))
        return mounts

    def open(
        self, container: LocalContainer, then: Callable[[list[View]], None], failed: Callable[[str], None]
    ) -> None:
        """Open the views of a container that starts; at once when it has none."""
        uses = uses_of(container.start.function)
        if not uses:
            then([])
            return
        secrets = container.start.bucket_secrets
        uses = [dataclasses.replace(use, credentials=secrets.get(use.mount_path)) for use in uses]
        loop = asyncio.get_running_loop()
        container.before_gone = lambda gone: self._close(container.id, gone)
        future = loop.run_in_executor(self._pool, self._views.open, container.id, uses, not self.refusal)
        self._opening[container.id] = future

        def opened(future: asyncio.Future[list[View]]) -> None:
            self._opening.pop(container.id, None)
            error = future.exception()
            if error is not None:
                told = str(error) if isinstance(error, errors.Error) else f"{type(error).__name__}: {error}"
                failed(told)
            elif container.stop_reason:
                failed(container.stop_reason)
            elif not container.gone:
                then(future.result())

        future.add_done_callback(opened)

    def started(self, container: LocalContainer, zygote: Zygote, plan: RootPlan) -> None:
        """It was forked: commit what it writes from now on."""
        if plan.volumes:
            self._running[container.id] = container, zygote, plan
            self._schedule(container.id, COMMIT_EVERY_S)

    def _schedule(self, container_id: str, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._commits[container_id] = loop.call_later(delay_s, self._commit_behind, container_id)

    def _commit_behind(self, container_id: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        future = loop.run_in_executor(self._pool, self._views.commit, container_id, "", True)

        def done(future: asyncio.Future[Any]) -> None:
            running = self._running.get(container_id)
            if running is None:
                return
            error = future.exception()
            if error is not None:
                running[0].notice(f"a background commit failed: {error}")
            took_s = loop.time() - began
            self._schedule(container_id, max(COMMIT_EVERY_S, COMMIT_SHARE * took_s))

        future.add_done_callback(done)

    def _close(self, container_id: str, gone: Callable[[], None]) -> None:
        running = self._running.pop(container_id, None)
        timer = self._commits.pop(container_id, None)
        if timer is not None:
            timer.cancel()
        opening = self._opening.get(container_id)
        if opening is not None:
            opening.add_done_callback(lambda _: self._close(container_id, gone))
            return
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._views.close, container_id)

        def closed(future: asyncio.Future[list[str]]) -> None:
            error = future.exception()
            told = future.result() if error is None else [str(error)]
            if running is not None:
                for text in told:
                    running[0].notice(text)
            gone()

        future.add_done_callback(closed)

    async def commit(self, container_id: str, name: str) -> dict[str, Any]:
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, self._views.commit, container_id, name, False
        )

    async def reload(self, container_id: str, name: str) -> dict[str, Any]:
        """Raises ``ConflictError`` when files are open."""
        running = self._running.get(container_id)
        if running is None:
            raise errors.NotFoundError(f"container {container_id} has no volumes, or has ended")
        loop = asyncio.get_running_loop()
        _, zygote, plan = running

        def show(view: View) -> None:
            asyncio.run_coroutine_threadsafe(ask(view), loop).result(REMOUNT_TIMEOUT_S)

        async def ask(view: View) -> None:
            answer: asyncio.Future[str] = loop.create_future()
            zygote.remount(container_id, plan.view_inside(view), answer.set_result)
            problem = await answer
            if problem == BUSY:
                raise errors.ConflictError(
                    f"there are open files in {view.mount_path}, or a process works in that directory: "
                    f"close them before volume {name!r} is reloaded"
                )
            if problem:
                raise errors.ExecutionError(f"volume {name!r} cannot be reloaded: {problem}")

        return await loop.run_in_executor(self._pool, self._views.reload, container_id, name, show)

    def close(self) -> None:
        self._pool.shutdown(wait=True)


def uses_of(function: FunctionSpec) -> Sequence[VolumeUse]:
    return [VolumeUse.from_wire(each) for each in function.definition.get("volumes", ())]


def overlay_refusal(bubblewrap: Bubblewrap, directory: Path) -> str:
    """Why no overlay can be written in ``directory`` by an ordinary user's sandbox; empty when it can."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".try-", dir=directory) as made:
            for name in ("lower", "upper", "work", "seen"):
                os.mkdir(f"{made}/{name}")
            layers = [f"{made}/lower", "--overlay", f"{made}/upper", f"{made}/work", f"{made}/seen"]
            tried = subprocess.run(
                [bubblewrap.path, "--unshare-user", "--dev-bind", "/", "/", "--overlay-src", *layers, "true"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=REMOUNT_TIMEOUT_S,
            )
            subprocess.run(["chmod", "-R", "u+rwx", made], check=False, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if tried.returncode == 0 else tried.stderr.strip() or "an overlay is refused"
