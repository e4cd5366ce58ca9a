"""Apps, runs and calls as the sdk uses them: what was sent, what came back, what is still owed.

A run keeps every input until its output has come. When the connection is lost it finds or starts a server
again, opens the app under the same id and resends what is unanswered with the same ids; the server and
this side both ignore what they have already seen, so an input has one output.
"""

from __future__ import annotations

import collections
import itertools
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from glowplug.client.connection import Connection, Waiter
from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.payload import Payload, from_wire

RECONNECT_LIMIT = 5
"""Times in a row a run looks for a server again before it gives up."""
ITEM_CREDIT = 64
"""Items of a generator that may be on their way unread."""
CLOSE_TIMEOUT_S = 60.0
INPUTS_MESSAGE_BYTES = 8 << 20
"""A message of inputs ends with the one that passes this."""


@dataclass
class AppSpec:
    """What the server must know to run an app's functions."""

    name: str
    functions: list[dict[str, Any]]
    """``FunctionSpec.to_wire()`` of each, ``id`` and ``app_id`` empty."""
    environment: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    gpu_map: dict[str, str] = field(default_factory=dict)
    detach: bool = False


@dataclass(frozen=True)
class LogLine:
    """One line a container wrote. ``stream`` is "stdout" or "stderr"; ``at`` seconds since the epoch."""

    function: str
    input_id: str
    container_id: str
    stream: str
    text: str
    at: float


class LogSink(Protocol):
    """Where a run's lines go. Called from whichever thread reads; must not block."""

    def on_log(self, line: LogLine) -> None: ...

    def on_notice(self, level: str, text: str) -> None: ...

    def on_waiting(self, function: str, text: str | None) -> None: ...


class Output:
    """What came back for one input.

    ``status``: "success" (payload: the result; a generator's end), "failure" (payload: the packed exception),
    "error" (``error`` names a class of ``model.errors``, ``message`` is its text), "item" (a generator's
    yield).
    """

    __slots__ = ("error", "index", "input_id", "message", "payload", "status")

    def __init__(
        self,
        index: int,
        input_id: str,
        status: str,
        payload: Payload | None,
        error: str = "",
        message: str = "",
    ) -> None:
        self.index = index
        self.input_id = input_id
        self.status = status
        self.payload = payload
        self.error = error
        self.message = message


@dataclass(frozen=True)
class RunSummary:
    """What a run used: finished calls' inputs, GPU seconds by type, cost by the price list."""

    inputs: int = 0
    gpu_seconds: dict[str, float] = field(default_factory=dict)
    cost_usd: float = 0.0
    retried: int = 0
    rerun: int = 0


class Call:
    """One invocation of a function: inputs go in by ``add``, outputs come out by ``next`` as they arrive."""

    def __init__(self, run: Run, function_id: str, call_id: str, kept: bool = False) -> None:
        self.run = run
        self.function_id = function_id
        self.call_id = call_id
        self.kept = kept
        self.cancelled = False
        self._added = 0
        self._unanswered: dict[str, Payload] = {}
        self._outputs: collections.deque[Output] = collections.deque()
        self._waiters: list[Waiter] = []
        self._items_seen: dict[str, int] = {}
        self._abandoned = False
        self.answered: set[str] | None = None
        """Of a call made elsewhere: the inputs whose outputs came, since it sent none itself."""

    def add(self, payloads: Sequence[Payload]) -> None:
        """Send further inputs; they are numbered on from 0."""
        if not payloads:
            return
        first = self._added
        self._added += len(payloads)
        inputs = [
            (f"in-{self.call_id[3:]}-{index}", payload) for index, payload in enumerate(payloads, first)
        ]
        self._unanswered.update(inputs)
        self.run.send_inputs(self, inputs)

    def next(self, timeout_s: float | None = None) -> Output:
        """The next output, in order of arrival. Raises the builtin ``TimeoutError`` when none came in
        time."""
        while True:
            if self._outputs:
                try:
                    return self._take()
                except IndexError:  # another thread was quicker
                    pass
            waiter = Waiter()
            self._waiters.append(waiter)
            try:
                if not self._outputs and not self.run.wait(waiter, timeout_s):
                    raise TimeoutError(f"no output of {self.call_id} within {timeout_s} s")
            finally:
                self._waiters.remove(waiter)

    async def next_async(self, timeout_s: float | None = None) -> Output:
        """``next`` for async code."""
        import asyncio

        while True:
            try:
                return self._take()
            except IndexError:
                pass
            waiter = Waiter()
            self._waiters.append(waiter)
            try:
                if not self._outputs:
                    await asyncio.wait_for(self.run.wait_async(waiter), timeout_s)
            except asyncio.TimeoutError:
                raise TimeoutError(f"no output of {self.call_id} within {timeout_s} s") from None
            finally:
                self._waiters.remove(waiter)

    def cancel(self, terminate_containers: bool = False) -> None:
        """Drop what is queued, interrupt what runs. Its outputs are errors of ``InputCancellation``."""
        self.cancelled = True
        self.run.send([messages.CANCEL_CALL, self.call_id, terminate_containers])

    def abandon(self, taken: Iterable[Output] = ()) -> None:
        """Nobody here holds this call any more: forget it once it is answered, so that calls that were
        spawned and left alone do not add up. ``taken``: outputs to give back, should somebody ask for it by
        id before."""
        self._outputs.extend(taken)
        self._abandoned = True
        if not self.unanswered:
            self.run.finish_call(self)

    @property
    def added(self) -> int:
        """Inputs sent so far."""
        return self._added

    @property
    def unanswered(self) -> int:
        """Inputs whose output has not arrived yet."""
        return len(self._unanswered) if self.answered is None else self._added - len(self.answered)

    # the run's side

    def accept(self, input_id: str, status: str, payload: Payload | None, error: str, message: str) -> None:
        if self._unanswered.pop(input_id, None) is None:
            if self.answered is None or input_id in self.answered:
                return  # answered before: a resend crossed the output
            self.answered.add(input_id)
        self._outputs.append(Output(_index_of(input_id), input_id, status, payload, error, message))
        self._wake()
        if self._abandoned and not self.unanswered:
            self.run.finish_call(self)

    def accept_item(self, input_id: str, index: int, payload: Payload) -> None:
        seen = self._items_seen.get(input_id, 0)
        if index != seen:  # a restarted generator repeats what the caller has
            self.run.send([messages.CREDIT, input_id, 1])
            return
        self._items_seen[input_id] = seen + 1
        self._outputs.append(Output(_index_of(input_id), input_id, "item", payload))
        self._wake()

    def owed(self) -> list[tuple[str, Payload]]:
        """The inputs to send again to a server that has not seen them."""
        return list(self._unanswered.items())

    def fail_half_read(self) -> None:
        """A generator that has yielded is not run again silently: its caller has a part of it."""
        for input_id in [each for each in self._unanswered if self._items_seen.get(each)]:
            self.accept(
                input_id,
                "error",
                None,
                "ExecutionError",
                f"the server was lost after the generator's input {input_id} had yielded "
                f"{self._items_seen[input_id]} items; it is not run again from its start, because its caller "
                "has seen them. Call it again.",
            )

    def fail(self, error: str, message: str) -> None:
        """Answer everything still owed with an error of ours."""
        owed = list(self._unanswered)
        if self.answered is not None:
            ids = [f"in-{self.call_id[3:]}-{index}" for index in range(self._added)]
            owed = [input_id for input_id in ids if input_id not in self.answered]
        for input_id in owed:
            self.accept(input_id, "error", None, error, message)
        self._wake()

    def _take(self) -> Output:
        output = self._outputs.popleft()
        if output.status == "item":
            self.run.send([messages.CREDIT, output.input_id, 1])
        return output

    def _wake(self) -> None:
        for waiter in list(self._waiters):
            waiter.wake()


class Run:
    """A started app, as seen by one process."""

    def __init__(
        self, client: Client, app_id: str, spec: AppSpec | None, function_ids: dict[str, str], sink: LogSink
    ):
        self.client = client
        self.app_id = app_id
        self.function_ids = function_ids
        self.spec = spec
        self.sink = sink
        self.calls: dict[str, Call] = {}
        self.closed = False
        self._pid = os.getpid()
        self.ended = ""
        """Why somebody else ended it (`glowplug app stop`); it is not opened again."""

    def call(self, function_id: str, kept: bool = False) -> Call:
        """A new, empty invocation of a function. ``kept``: its outputs can be asked for by id later
        (spawn)."""
        call = Call(self, function_id, "fc-" + _ids.next(), kept)
        self.calls[call.call_id] = call
        return call

    def finish_call(self, call: Call) -> None:
        """Forget a call whose outputs have all been taken."""
        self.calls.pop(call.call_id, None)

    def remote(self, function_id: str, payload: Payload) -> Output:
        """One input, one output, blocking."""
        call = self.call(function_id)
        try:
            call.add((payload,))
            return call.next()
        except BaseException:
            if call.unanswered and not self.closed and not self.client.closed:
                call.cancel()
            raise
        finally:
            self.finish_call(call)

    def attach_call(self, call_id: str) -> Call:
        """A call made elsewhere. Raises ``NotFoundError`` or ``OutputExpiredError``."""
        if call_id in self.calls:
            return self.calls[call_id]
        return self.client.attach_call(call_id, self)

    def close(self, reason: str = "the run ended") -> RunSummary:
        """End the run. Returns when its containers and everything they started are gone."""
        if self.closed or self._pid != os.getpid():  # a forked child leaves its parent's run alone
            return RunSummary()
        self.closed = True
        for call in list(self.calls.values()):
            call.fail("ExecutionError", f"{reason} before this call had its output")
        try:
            result = self.client.request(
                messages.CLOSE_APP, self.app_id, reason, timeout_s=CLOSE_TIMEOUT_S, reconnect=False
            )
        except (OSError, TimeoutError, errors.ConnectionError):
            result = {}  # the server is gone, and its containers with it
        self.client.forget_run(self)
        return RunSummary(
            inputs=result.get("inputs", 0),
            gpu_seconds=result.get("gpu_seconds", {}),
            cost_usd=result.get("cost_usd", 0.0),
            retried=result.get("retried", 0),
            rerun=result.get("rerun", 0),
        )

    def end(self, reason: str) -> None:
        """It was ended from outside: what is owed and what is still called fails with ``reason``."""
        self.ended = reason
        for call in list(self.calls.values()):
            call.fail("ExecutionError", reason)

    # sending and waiting, with reconnection

    def send(self, message: list[Any]) -> None:
        self.client.send(message)

    def send_inputs(self, call: Call, inputs: Sequence[tuple[str, Payload]]) -> None:
        if self.ended:
            call.fail("ExecutionError", self.ended)
            return
        for message, payloads in _input_messages(call, inputs):
            # A lost connection resends whatever is unanswered, these inputs included.
            self.client.send(message, payloads)

    def tell(self, listener: Callable[..., None], *what: Any) -> None:
        """What a sink raises (its pipe is closed, say) must not cost the results behind the line."""
        try:
            listener(*what)
        except Exception:
            pass

    def outlive_fork(self) -> None:
        """In a forked child: the parent goes on with its calls, this process makes its own."""
        self.spec = None
        for call in list(self.calls.values()):
            call.fail(
                "ExecutionError",
                "this call was made before the process was forked; its parent has its outputs",
            )
        self.calls.clear()

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        return self.client.wait(waiter, timeout_s)

    async def wait_async(self, waiter: Waiter) -> None:
        await self.client.wait_async(waiter)


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

    def start_app(self, spec: AppSpec, sink: LogSink) -> Run:
        """Register an app's functions and open its run. Raises what the server refuses, by class."""
        app_id = "ap-" + _ids.next()
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
        connection = Connection(sock, self._on_message, lambda error: None)
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
            for message, payloads in _input_messages(call, call.owed()):
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


def _input_messages(
    call: Call, inputs: Sequence[tuple[str, Payload]]
) -> Iterator[tuple[list[Any], list[Payload]]]:
    """Messages of many inputs each, none anywhere near the size a frame may have."""
    fields: list[Any] = []
    payloads: list[Payload] = []
    size_bytes = 0
    for input_id, payload in inputs:
        fields.append([input_id, payload.to_wire()])
        payloads.append(payload)
        if payload.body is not None:
            size_bytes += len(payload.body)
        if size_bytes > INPUTS_MESSAGE_BYTES:
            yield [messages.INPUTS, call.function_id, call.call_id, call.kept, fields], payloads
            fields, payloads, size_bytes = [], [], 0
    if fields:
        yield [messages.INPUTS, call.function_id, call.call_id, call.kept, fields], payloads


def _restartable_functions(run: Run) -> set[str]:
    """Ids of the functions whose generators may start again though their caller has seen items."""
    functions = run.spec.functions if run.spec is not None else []
    return {run.function_ids[each["name"]] for each in functions if each.get("restart_generator")}


class _Ids:
    """Ids no other process has: a random beginning for each process, then a count."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._beginning = secrets.token_hex(5)
        self._count = itertools.count(1)

    def next(self) -> str:
        return f"{self._beginning}{next(self._count):06x}"


_ids = _Ids()


def _index_of(input_id: str) -> int:
    return int(input_id.rsplit("-", 1)[1])


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _outlive_fork() -> None:
    _ids.renew()
    for client in list(_clients):
        client.outlive_fork()


os.register_at_fork(after_in_child=_outlive_fork)
