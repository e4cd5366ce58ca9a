"""A forked process becomes one container: environment, function, hello, inputs, exit handlers."""

from __future__ import annotations

import atexit
import importlib
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from glowplug.client import context
from glowplug.container.frames import FrameSocket
from glowplug.container.imports import FunctionNotFound, load_function
from glowplug.container.input_loop import InputLoop
from glowplug.container.output import MarkedOutput
from glowplug.model.errors import PermissionDeniedError
from glowplug.wire import messages

if TYPE_CHECKING:
    from glowplug.client.session import BuildEvent, LogLine, Run

by_entrypoint: dict[str, tuple[str | None, str]] = {}
"""Variables that the image's ENTRYPOINT has set: what they were, and what they are."""


class Context:
    """This container, for the sdk: its id and, on first use, a run bound to the app it belongs to."""

    def __init__(
        self, container_id: str, app_id: str, functions: dict[str, str], sock: socket.socket | None
    ) -> None:
        self.container_id = container_id
        self._app_id = app_id
        self._functions = functions
        self._sock = sock
        self._run: Run | None = None
        self._lock = threading.Lock()

    def run(self) -> Run:
        """Raises ``PermissionDeniedError`` in a container that was declared to have no connection."""
        sock = self._sock
        if sock is None:
            raise PermissionDeniedError(
                "this container has no connection to the server, because its function is declared with "
                "restrict_modal_access=True: it cannot call other functions. Return what they need instead, "
                "or declare it without."
            )
        with self._lock:
            if self._run is None:
                from glowplug.client.session import Client

                client = Client(lambda: (sock, (0, "")), redial=False)
                self._run = client.join_app(self._app_id, self._functions, _Silent())
            return self._run


class _Silent:
    """Logs of calls made inside a container go to the run's own client."""

    def on_log(self, line: LogLine) -> None:
        pass

    def on_notice(self, level: str, text: str) -> None:
        pass

    def on_waiting(self, function: str, text: str | None) -> None:
        pass

    def on_build(self, event: BuildEvent) -> None:
        pass


def run_container(container_id: str, data: FrameSocket, control: FrameSocket, client: socket.socket) -> int:
    """Be a container until the server ends it. Returns the process's exit code."""
    start = data.receive()
    os.environ.clear()
    os.environ.update(start["env"])
    for name, (before, value) in by_entrypoint.items():
        if os.environ.get(name) == before:  # the function has not set it otherwise
            os.environ[name] = value
    output = MarkedOutput()
    try:
        os.chdir(start["directory"])
    except OSError:
        os.chdir("/")
    sys.argv[:] = [start["source"].get("script") or ""]
    connection = None if start["definition"].get("restrict_modal_access") else client
    if connection is None:
        client.close()
    context.enter_container(Context(container_id, start["app_id"], start["app_functions"], connection))
    try:
        function = load_function(start["definition"], start["source"])
    except BaseException as error:
        output.flush()
        control.send([messages.START_FAILED, _import_message(start, error), True])
        return 1
    loop = InputLoop(function, start["name"], data, control, output)
    control.send([messages.READY], [os.pidfd_open(os.getpid())])
    loop.run()
    _run_exit_handlers()
    output.flush()
    return 0


def _import_message(start: dict[str, Any], error: BaseException) -> str:
    name = start["name"]
    if isinstance(error, FunctionNotFound):
        return f"{name} cannot be loaded in its container: {error}"
    import traceback

    told = traceback.TracebackException(type(error), error, error.__traceback__)
    machinery = ("<frozen", os.path.dirname(importlib.__file__), os.path.dirname(__file__))
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(machinery)]
    module = start["definition"]["module"]
    return f"the import of {module!r} failed there:\n{''.join(told.format()).rstrip()}"


def _run_exit_handlers() -> None:
    try:
        atexit._run_exitfuncs()
    except BaseException:
        import traceback

        traceback.print_exc()
