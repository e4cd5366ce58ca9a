"""The client of a process: one connection, found again when it is lost.

A run keeps every input until its output has come. When the connection is lost it finds or starts a server
again, opens the app under the same id and resends what is unanswered with the same ids; the server and
this side both ignore what they have already seen, so an input has one output.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from glowplug.client.connection import Connection, Waiter
from glowplug.client.session.call import Call, input_messages
from glowplug.client.session.ids import ids
from glowplug.client.session.run import Run
from glowplug.client.session.values import AppSpec, LogLine, LogSink
from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.payload import Payload, from_wire

if TYPE_CHECKING:
    from glowplug.client.images import BuildSink, ImageRequest

RECONNECT_LIMIT = 5
"""Times in a row a run looks for a server again before it gives up."""


class Client:
    """The one API client of a process. Thread-safe; after ``os.fork()`` the child connects anew."""

    def __init__(self, dial: Callable[[], Any], *, redial: bool = True) -> None:
        """``dial()`` returns a connected, greeted socket and the server's banner."""
        self._dial = dial
        self._redial = redial
        self._runs: dict[str, Run] = {}
        self._attached: weakref.WeakValueDictionary[str, Call] = weakref.WeakValueDictionary()
        """Calls made elsewhere, for as long as somebody here asks for them."""
        self._attaching: dict[int, Call] = {}
        self._requests: dict[int, _Request] = {}
        self._request_number = 0
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._lost = 0
        self.closed = False
        self.banner = ""
        self.server_pid = 0
        self._connection = self._connect()
        _clients.add(self)

    @classmethod
    def connect(cls) -> Client:
        """The server of this user's settings, started if there is none; in a container the one it
        belongs to. Raises ``ConnectionError`` (of ``model.errors``), ``VersionError``, ``ConflictError``."""
        from glowplug.client import context
        from glowplug.client.launch import dial_server

        run = context.current_run()
        return cls(dial_server) if run is None else run.client

    # runs

    def build_images(self, requests: Sequence[ImageRequest], sink: BuildSink) -> list[str]:
        """Images of an app, before it starts: ``client.images.build_images``."""
        from glowplug.client.images import build_images  # containers build none

        return build_images(requests, sink)

    def start_app(self, spec: AppSpec, sink: LogSink) -> Run:
        """Register an app's functions and open its run. Raises what the server refuses, by class."""
        app_id = "ap-" + ids.next()
        function_ids = {
            function["name"]: f"fu-{app_id[3:]}-{number}" for number, function in enumerate(spec.functions)
        }
        run = Run(self, app_id, spec, function_ids, sink)
        self._runs[app_id] = run
        try:
            self.request(messages.OPEN_APP, app_id, _spec_fields(run))
        except BaseException:
            self._runs.pop(app_id, None)
            raise
        return run

    def join_app(self, app_id: str, function_ids: dict[str, str], sink: LogSink) -> Run:
        """A run that another process opened (a container joins its own app)."""
        run = Run(self, app_id, None, function_ids, sink)
        self._runs[app_id] = run
        return run

    def attach_call(self, call_id: str, run: Run) -> Call:
        """A call by its id, its outputs replayed. Raises ``NotFoundError``, ``OutputExpiredError``."""
        known = self._attached.get(call_id)
        if known is not None:
            return known
        call = Call(run, "", call_id)
        call.answered = set()
        self._attached[call_id] = call
        try:
            found = self.request(messages.ATTACH_CALL, call_id)
        except BaseException:
            self._attached.pop(call_id, None)
            raise
        call._added = found["inputs"]
        return call

    def _attach_again(self, connection: Connection, call: Call) -> None:
        """After a reconnect: what it has is sent again and ignored, what it lacks follows."""
        if call.added == 0 or call.unanswered == 0:
            return  # its first request is under way, or it lacks nothing
        with self._lock:
            self._request_number += 1
            number = self._request_number
        self._attaching[number] = call
        connection.send([messages.ATTACH_CALL, number, call.call_id])

    def forget_run(self, run: Run) -> None:
        self._runs.pop(run.app_id, None)

    def close(self) -> None:
        self.closed = True
        if self._connection is not None:
            self._connection.close()

    # requests

    def request(
        self, kind: int, *fields: Any, timeout_s: float | None = None, reconnect: bool = True
    ) -> dict[str, Any]:
        """Send and wait for the reply. Raises the error class the server names."""
        with self._lock:
            self._request_number += 1
            number = self._request_number
        request = _Request([kind, number, *fields])
        self._requests[number] = request
        try:
            self.send(request.message, reconnect=reconnect)
            if not self.wait(request.waiter, timeout_s, reconnect=reconnect):
                raise TimeoutError(f"the server did not answer within {timeout_s} s")
        finally:
            del self._requests[number]
        if request.error:
            raise errors.error_class(request.error)(request.result)
        return request.result

    def open_http(self) -> socket.socket:
        """A socket of our own to the server, to ask over HTTP what a container may."""
        ours, theirs = socket.socketpair()
        try:
            passed: Any = _Passed(theirs.fileno())
            self.send([messages.HTTP], [passed])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    # the connection

    def send(self, message: list[Any], payloads: Sequence[Payload] = (), reconnect: bool = True) -> None:
        connection = self._current(reconnect)
        try:
            connection.send(message, payloads)
        except OSError:
            if not reconnect:
                raise
            connection.close()
            self._recover()  # resends inputs and requests itself
            if message[0] in (messages.CREDIT, messages.CANCEL_CALL):
                self._current().send(message)

    def wait(self, waiter: Waiter, timeout_s: float | None = None, reconnect: bool = True) -> bool:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return self._current(reconnect).wait(waiter, left_s)
            except OSError:
                if waiter.ready:
                    return True
                if not reconnect:
                    raise
                self._recover()

    async def wait_async(self, waiter: Waiter) -> None:
        import asyncio

        while True:
            try:
                await self._current(reconnect=False).wait_async(waiter)
                return
            except OSError:
                if waiter.ready:
                    return
                await asyncio.get_running_loop().run_in_executor(None, self._recover)

    def _current(self, reconnect: bool = True) -> Connection:
        connection = self._connection
        if connection is None or connection.closed:
            if not reconnect:
                raise ConnectionError("the connection to the server is gone")
            self._recover()
            connection = self._connection
        assert connection is not None
        return connection

    def _connect(self) -> Connection:
        sock, welcome = self._dial()
        self.server_pid, self.banner = welcome
        connection = Connection(sock, self._on_message, self._on_lost)
        connection.start_idle_reader()
        return connection

    def _recover(self) -> bool:
        """Connect again and resend what is owed. True when this call did it."""
        if self.closed:
            raise ConnectionError("the client is closed")
        with self._lock:
            connection = self._connection
            if connection is not None and not connection.closed:
                return False  # another thread was quicker
            if not self._redial:
                raise ConnectionError("the connection to the server is gone")
            while True:
                if self._lost >= RECONNECT_LIMIT:
                    raise errors.ConnectionError(
                        f"the server was lost {self._lost} times in a row; "
                        "see its log (`glowplug server logs`)"
                    )
                self._lost += 1
                connection = self._connect()
                try:
                    self._resend(connection)
                except OSError:
                    connection.close()  # lost again already
                    continue
                # Only now do other threads send on it: their inputs must not overtake their app.
                self._connection = connection
                return True

    def _resend(self, connection: Connection) -> None:
        for run in list(self._runs.values()):
            if not run.closed and not run.ended and run.spec is not None:
                self._reopen(connection, run)
        for call in list(self._attached.values()):
            self._attach_again(connection, call)
        for request in list(self._requests.values()):
            connection.send(request.message)

    def _reopen(self, connection: Connection, run: Run) -> None:
        connection.send([messages.OPEN_APP, 0, run.app_id, _spec_fields(run)])
        restartable = _restartable_functions(run)
        for call in list(run.calls.values()):
            if call.function_id not in restartable:
                call.fail_half_read()
            for message, payloads in input_messages(call, call.owed()):
                connection.send(message, payloads)
            if call.cancelled:
                connection.send([messages.CANCEL_CALL, call.call_id, False])

    def outlive_fork(self) -> None:
        """In a forked child, before anything else runs there."""
        self._lock = threading.RLock()
        self._requests = {}
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        for run in list(self._runs.values()):
            run.outlive_fork()

    def _on_lost(self, error: Exception) -> None:
        """Another connection would not help a process that cannot hold what it was sent."""
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            self._fail_runs("ResourceExhaustedError", str(error.strerror))

    # messages, in whichever thread reads

    def _on_message(self, message: list[Any], fds: list[int]) -> None:
        kind = message[0]
        if kind == messages.RESULTS:
            self._lost = 0
            for input_id, status, field_, error, text in message[1]:
                payload = None if field_ is None else from_wire(field_, fds)
                call = self._call_of(input_id)
                if call is not None:
                    call.accept(input_id, status, payload, error, text)
        elif kind == messages.ITEM:
            payload = from_wire(message[3], fds)
            call = self._call_of(message[1])
            if call is not None:
                call.accept_item(message[1], message[2], payload)
        elif kind == messages.LOGS:
            run = self._runs.get(message[1])
            if run is not None:
                for line in message[2]:
                    run.tell(run.sink.on_log, LogLine(*line))
        elif kind == messages.REPLY:
            request = self._requests.get(message[1])
            if request is not None:
                request.error, request.result = message[2], message[3]
                request.waiter.wake()
            elif message[1] in self._attaching:
                attached = self._attaching.pop(message[1])
                if message[2]:
                    attached.fail(message[2], message[3])
            elif message[2]:
                self._fail_runs(message[2], message[3])  # a server that refuses an app it is told again
        elif kind == messages.RUN_ENDED:
            run = self._runs.get(message[1])
            if run is not None:
                run.end(message[2])
        elif kind == messages.NOTICE:
            run = self._runs.get(message[1])
            if run is not None:
                run.tell(run.sink.on_notice, message[2], message[3])
        elif kind == messages.WAITING:
            run = self._runs.get(message[1])
            if run is not None:
                run.tell(run.sink.on_waiting, message[2], message[3])

    def _call_of(self, input_id: str) -> Call | None:
        call_id = "fc-" + input_id[3:].rsplit("-", 1)[0]
        for run in self._runs.values():
            call = run.calls.get(call_id)
            if call is not None:
                return call
        return self._attached.get(call_id)

    def _fail_runs(self, error: str, text: str) -> None:
        for run in list(self._runs.values()):
            for call in list(run.calls.values()):
                call.fail(error, text)


class _Passed:
    """A descriptor that travels beside a message, and stays its sender's."""

    def __init__(self, fd: int) -> None:
        self.fd = fd


class _Request:
    def __init__(self, message: list[Any]) -> None:
        self.message = message
        self.waiter = Waiter()
        self.error = ""
        self.result: Any = None


def _spec_fields(run: Run) -> dict[str, Any]:
    spec = run.spec
    assert spec is not None
    return {
        "name": spec.name,
        "functions": [
            {**function, "id": run.function_ids[function["name"]], "app_id": run.app_id}
            for function in spec.functions
        ],
        "environment": spec.environment,
        "source": spec.source,
        "gpu_map": spec.gpu_map,
        "detach": spec.detach,
    }


def _restartable_functions(run: Run) -> set[str]:
    """Ids of the functions whose generators may start again though their caller has seen items."""
    functions = run.spec.functions if run.spec is not None else []
    return {run.function_ids[each["name"]] for each in functions if each.get("restart_generator")}


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _outlive_fork() -> None:
    ids.renew()
    for client in list(_clients):
        client.outlive_fork()


os.register_at_fork(after_in_child=_outlive_fork)
