"""A container over an image that is ready, as the backend starts it: from the command to its readiness.

Without a client and without a call: those are in ``image.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import report
from rounds import Contestant, Start, measure
from server import own_server, stop_server

from glowplug.assembly.fleet import make_inventory
from glowplug.assembly.images import ImageParts, make_images
from glowplug.assembly.local_server import ALIAS_DIRECTORY, SDK_PRELOAD
from glowplug.backends.local.backend import LocalBackend
from glowplug.backends.local.inventory import GpuLocks
from glowplug.client.http import UnixConnection, request
from glowplug.client.settings import read_settings
from glowplug.core.commands import Allocation
from glowplug.model.function import FunctionSpec
from glowplug.ports.backend import ContainerExit, ContainerStart
from glowplug.ports.images import BuiltImage, ReadyImages
from glowplug.sdk.source import find_source
from glowplug.server.selector import DirectSelector
from glowplug.store.buckets.buckets import Buckets
from glowplug.store.volumes.views import Views
from glowplug.store.volumes.volumes import Volumes
from glowplug.wire.stream import Outbox

Call = Callable[[], object]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIMIT_S = 60.0


class Listener:
    """Of what a backend reports only readiness and ends are looked at."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.happened: asyncio.Future[str] = loop.create_future()

    def container_ready(self, container_id: str) -> None:
        self._tell("ready")

    def container_start_failed(self, container_id: str, message: str, permanent: bool) -> None:
        self._tell(f"failed: {message}")

    def container_exited(self, container_id: str, exit: ContainerExit) -> None:
        self._tell("ended")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None

    def _tell(self, what: str) -> None:
        if not self.happened.done():
            self.happened.set_result(what)

    async def wait(self, what: str) -> None:
        said = await asyncio.wait_for(self.happened, LIMIT_S)
        assert said == what, said
        self.happened = self._loop.create_future()


class Elsewhere:
    """The same images with another working directory each time: there is nothing to fork from."""

    def __init__(self, images: ReadyImages) -> None:
        self._images = images
        self.number = 0

    def built(self, image_id: str) -> BuiltImage | None:
        found = self._images.built(image_id)
        return None if found is None else replace(found, workdir=f"/w{self.number}")

    def tree(self, digest: str) -> Path | None:
        return self._images.tree(digest)

    def suspect(self, image_id: str) -> None:
        self._images.suspect(image_id)


class Alone:
    """A backend without a server, on the server's home, and containers of one function, one at a time."""

    def __init__(self, image_id: str, module: str, function: str) -> None:
        self._numbers = itertools.count()
        self._started = ""
        definition = {"module": module, "qualname": function, "image": {"image_id": image_id, "mounts": []}}
        self._function = FunctionSpec("fu-1", "ap-1", function, definition=definition)
        importlib.import_module(module)
        self._source = find_source(module).to_wire()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        settings = read_settings()
        selector = DirectSelector()
        outbox = Outbox(selector)
        selector.after_turn = outbox.flush
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as self._runner:
            images = images_of(settings.home)
            self._elsewhere = Elsewhere(images.store)
            locks = GpuLocks(settings.home)
            self._backend = LocalBackend(
                make_inventory(settings, locks), locks, settings.home, outbox, preload=SDK_PRELOAD,
                alias_directory=ALIAS_DIRECTORY, variables={}, images=self._elsewhere,
            )  # fmt: skip
            self._runner.run(self._begin())
            yield
            self.end()
            self._runner.run(self._backend.close())
            images.close()

    def first(self) -> None:
        """A container for which there is nothing to fork from."""
        self.end()
        self._elsewhere.number += 1
        self._runner.run(self._to_readiness())

    def further(self) -> None:
        """One from the process that has imported the module."""
        self.end()
        self._runner.run(self._to_readiness())

    def end(self) -> None:
        """End the last one."""
        if self._started:
            self._runner.run(self._to_end())

    async def _begin(self) -> None:
        self._listener = Listener(asyncio.get_running_loop())
        self._node = self._backend.start(self._listener)[0]

    async def _to_readiness(self) -> None:
        self._started = f"ct-{next(self._numbers)}"
        allocation = Allocation(self._node.id)
        self._backend.start_container(
            ContainerStart(self._started, self._function, {}, {}, self._source, allocation, self._node)
        )
        self._backend.flush()
        await self._listener.wait("ready")

    async def _to_end(self) -> None:
        self._backend.stop_container(self._started, 0, "enough")
        self._backend.flush()
        self._started = ""
        await self._listener.wait("ended")


def images_of(home: Path) -> ImageParts:
    return make_images(home, os.environ, lambda name: {}, Views(Volumes(home, print), Buckets(home)), False)


def image_without_packages() -> BuiltImage:
    """Built by a server that ends again: the backend is measured alone."""
    request("GET", "/v1/status", start=True)
    with_server = UnixConnection(read_settings().socket_path)
    base = {"operation": "base", "fields": {"kind": "debian_slim", "python_version": PYTHON}}
    with_server.request("POST", "/v1/images", json.dumps({"spec": {"steps": [base]}}))
    *_, last = (json.loads(line) for line in with_server.getresponse())
    with_server.close()
    stop_server()
    images = images_of(read_settings().home)
    built = images.store.built(last["image_id"])
    images.close()
    assert built is not None, last
    return built


def wait_for_bytecode(home: Path) -> None:
    """The first container of a Python begins the compilation of what all later ones import."""
    deadline = time.monotonic() + LIMIT_S
    while not list(home.glob("runtimes/*/compiled-*")) and time.monotonic() < deadline:
        time.sleep(0.1)


def of(call: Call) -> Start:
    @contextlib.contextmanager
    def start() -> Iterator[Call]:
        yield call

    return start


def main() -> None:
    options = report.arguments(__doc__, rounds=20)
    with own_server():
        built = image_without_packages()

        alone = Alone(built.image_id, "image_functions", "zero")
        contestants = [
            Contestant("a first container", of(alone.first), ("glowplug",), before=alone.end),
            Contestant("a further one", of(alone.further), ("glowplug",), before=alone.end),
            Contestant("`python -c pass`", of(lambda: subprocess.run([built.executable, "-c", "pass"]))),
        ]
        for each in contestants:
            each.warm_up = 0
        with alone.running():
            alone.first()
            alone.end()
            wait_for_bytecode(read_settings().home)
            measure(contestants, options.rounds, calls=1)
    above_bare = contestants[0].median_s - 2 * contestants[2].median_s
    targets = [
        report.Target("a first one, above twice `python -c pass`", above_bare, 0.050, unit="s"),
        report.Target("a further one", contestants[1].median_s, 0.070, unit="s"),
    ]
    title = "A container over an image, from the server's command to its readiness"
    report.finish(report.Report("image_start", title, contestants, contestants[0], targets))


if __name__ == "__main__":
    main()
