"""The life of a run: an app is started, its functions can be called, it ends with its block."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glowplug.client import context
from glowplug.client.config import read_config
from glowplug.client.session import Client, LogSink, Run, RunSummary
from glowplug.model.errors import InvalidError
from glowplug.model.gpu_map import parse_gpu_map
from glowplug.sdk.output import QuietSink, choose_sink
from glowplug.sdk.source import adopt_main
from glowplug.sdk.spec import app_spec

if TYPE_CHECKING:
    from glowplug.sdk.app import App
    from glowplug.sdk.function import Function


@dataclass
class RunDefaults:
    """What a command line asks of every run of its process, where the script itself does not say."""

    sink: LogSink | None = None
    gpu_map: dict[str, str] = field(default_factory=dict)
    detach: bool = False
    without_gpu: bool = False
    """Run every function without a GPU, whatever its gpu= says."""
    source: dict[str, Any] | None = None
    """Whose directory containers see, if not that of the functions' module."""
    on_start: Callable[[Run], None] | None = None
    on_end: Callable[[App, RunSummary], None] | None = None


defaults = RunDefaults()

_active: list[Running] = []
_active_lock = threading.Lock()


class Running:
    """A started app. ``close()`` ends it and returns what it used."""

    def __init__(self, app: App, run: Run) -> None:
        self.app = app
        self.run = run
        self.summary: RunSummary | None = None

    def close(self) -> RunSummary:
        """End the run; returns when its containers and everything they started are gone."""
        if self.summary is None:
            try:
                self.summary = self.run.close()
            finally:
                self.app.unbind()
                with _active_lock:
                    if self in _active:
                        _active.remove(self)
            if defaults.on_end is not None:
                defaults.on_end(self.app, self.summary)
        return self.summary


def start(
    app: App,
    *,
    client: Client | None = None,
    sink: LogSink | None = None,
    gpu_map: dict[str, str] | None = None,
    detach: bool = False,
) -> Running:
    """Start a run of ``app``: its functions can be called until ``Running.close()``.

    ``sink`` gets logs and notices; ``gpu_map`` substitutes GPU types and adds to ``GLOWPLUG_GPU_MAP``;
    ``detach``: the run goes on when this process ends. Raises ``InvalidError`` when the app runs already or
    inside a container, and what the server refuses (a GPU the fleet does not have).
    """
    if not context.is_local():
        raise InvalidError(
            f"{app.label}: an app cannot be started inside a container; its functions can be called there as "
            "they are. Put what starts it under `if __name__ == '__main__':` or into a local entrypoint."
        )
    with _active_lock:
        if app.running is not None:
            raise InvalidError(f"{app.label} runs already; app.run() cannot be nested.")
        app.running = running = Running(app, None)  # type: ignore[arg-type]  (taken; filled below)
    try:
        if any(function.module == "__main__" for function in app.registered_functions.values()):
            adopt_main()
        substitutes = {**gpu_map_here(), **defaults.gpu_map, **(gpu_map or {})}
        client = client or _shared_client()
        sink = sink or defaults.sink or QuietSink()
        images = _images_of(app, client, sink)
        spec = app_spec(app, substitutes, detach or defaults.detach, images)
        if defaults.without_gpu:
            for function in spec.functions:
                function["gpu"] = []
        if defaults.source is not None:
            spec.source = defaults.source
        running.run = client.start_app(spec, sink)
    except BaseException:
        app.running = None
        raise
    with _active_lock:
        _active.append(running)
    app.bind(running.run)
    if defaults.on_start is not None:
        defaults.on_start(running.run)
    return running


def run_for_attaching() -> Run:
    """A run through which a call of another process can be reached."""
    run = context.current_run()
    if run is not None:
        return run
    with _active_lock:
        if _active:
            return _active[-1].run
    return _shared_client().join_app("", {}, QuietSink())


class AppRun:
    """What ``app.run()`` returns: a context manager, synchronous and asynchronous.

    >>> with app.run():
    ...     f.remote(1)
    """

    def __init__(self, app: App, client: Client | None, show_progress: Any, detach: bool) -> None:
        self._app = app
        self._client = client
        self._show_progress = show_progress
        self._detach = detach
        self._running: Running | None = None

    def _start(self) -> App:
        sink = defaults.sink or choose_sink(self._show_progress)
        self._running = start(self._app, client=self._client, sink=sink, detach=self._detach)
        return self._app

    def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def __enter__(self) -> App:
        return self._start()

    def __exit__(self, *_: object) -> None:
        self._close()

    async def __aenter__(self) -> App:
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, self._start)

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self._close)


_client: Client | None = None


def _shared_client() -> Client:
    """One connection for all runs of this process."""
    global _client
    if _client is None or _client.closed:
        _client = Client.connect()
    return _client


def _images_of(app: App, client: Client, sink: LogSink) -> dict[str, Any]:
    """Builds the images of an app that has any; what each function's definition says of its own."""
    functions = app.registered_functions.values()
    if app.image is None and not app.mounts and not any(_has_files(each) for each in functions):
        return {}
    from glowplug.sdk.image_building import prepare_images  # not for containers, nor for apps without

    return prepare_images(app, sink, client.build_images)


def _has_files(function: Function[..., Any, Any]) -> bool:
    app, options = function.app, function.options
    return bool(options.image or options.mounts or app.image or app.mounts)


def sink_of_process() -> LogSink:
    """Where what happens before a run goes: to the command line's output, else by ``enable_output()``."""
    return defaults.sink or choose_sink(None)


def gpu_map_here() -> dict[str, str]:
    """Of the operator's file, then of the environment, which wins."""
    configured = [f"{wanted}={given}" for wanted, given in read_config().gpu_map.items()]
    return parse_gpu_map([*configured, os.environ.get("GLOWPLUG_GPU_MAP", "")])
