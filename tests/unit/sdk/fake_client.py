"""A server in this process: it keeps the client's real runs and calls, and runs the functions itself.

Inputs run where they are sent, at once; with ``hold=True`` they wait until the test runs or answers them.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
from collections.abc import Sequence
from typing import Any

from glowplug.client.images import ImageRequest
from glowplug.client.serializer import pack, pack_exception, unpack
from glowplug.client.session import AppSpec, Call, LogSink, Run, RunSummary
from glowplug.model import errors
from glowplug.wire import messages


class Pending:
    """One input that the fake has and has not answered."""

    def __init__(self, client: FakeClient, call: Call, input_id: str, payload: Any, raw_f: Any) -> None:
        self.client = client
        self.call = call
        self.input_id = input_id
        self.index = int(input_id.rsplit("-", 1)[1])
        self.payload = payload
        self.raw_f = raw_f

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return unpack(self.payload)

    def run(self) -> None:
        try:
            args, kwargs = self.arguments
            result = self.raw_f(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = _run_apart(result)
            if inspect.isgenerator(result):
                for number, item in enumerate(result):
                    self.call.accept_item(self.input_id, number, pack(item))
                result = None
            self.answer("success", pack(result))
        except Exception as error:
            self.answer("failure", pack_exception(error))

    def answer(self, status: str, payload: Any = None, error: str = "", message: str = "") -> None:
        if self in self.client.pending:
            self.client.pending.remove(self)
        answer = (self.input_id, status, payload, error, message)
        self.client.answers.setdefault(self.call.call_id, []).append(answer)
        self.call.accept(*answer)


class FakeClient:
    """Stands for ``glowplug.client.session.Client``."""

    def __init__(self, *apps: Any, hold: bool = False) -> None:
        self.apps = apps
        self.hold = hold
        self.closed = False
        self.pending: list[Pending] = []
        self.arrived = threading.Condition()
        self.messages: list[list[Any]] = []
        self.batches: list[int] = []
        self.cancelled: list[str] = []
        self.specs: list[AppSpec] = []
        self.runs: list[Run] = []
        self.kept: dict[str, Call] = {}
        self.answers: dict[str, list[Any]] = {}
        self.sinks: list[LogSink] = []
        self.lines: list[Any] = []
        self.refuse: BaseException | None = None
        self.images: list[ImageRequest] = []

    # what a client does

    def build_images(self, requests: Sequence[ImageRequest], sink: Any) -> list[str]:
        if self.refuse is not None:
            raise self.refuse
        self.images += requests
        return [f"im-{request.spec.digest[:16]}" for request in requests]

    def start_app(self, spec: AppSpec, sink: LogSink) -> Run:
        if self.refuse is not None:
            raise self.refuse
        self.specs.append(spec)
        self.sinks.append(sink)
        ids = {function["name"]: f"fu-{number}" for number, function in enumerate(spec.functions)}
        run = Run(self, f"ap-{len(self.specs)}", spec, ids, sink)  # type: ignore[arg-type]
        self.runs.append(run)
        return run

    def attach_call(self, call_id: str, run: Run) -> Call:
        if call_id not in self.kept:
            raise errors.NotFoundError(f"there is no call {call_id}")
        call = Call(run, "", call_id)
        call.answered = set()
        call._added = self.kept[call_id].added
        for answer in self.answers.get(call_id, ()):
            call.accept(*answer)
        return call

    def join_app(self, app_id: str, function_ids: dict[str, str], sink: LogSink) -> Run:
        return Run(self, app_id, None, function_ids, sink)  # type: ignore[arg-type]

    def forget_run(self, run: Run) -> None:
        self.runs.remove(run)

    def request(self, kind: int, *fields: Any, **options: Any) -> dict[str, Any]:
        assert kind == messages.CLOSE_APP
        return vars(RunSummary(inputs=sum(self.batches)))

    def send(self, message: list[Any], payloads: Any = (), reconnect: bool = True) -> None:
        self.messages.append(message)
        if message[0] == messages.CANCEL_CALL:
            self.cancelled.append(message[1])
            for pending in [each for each in self.pending if each.call.call_id == message[1]]:
                pending.answer("error", error="InputCancellation", message="cancelled")
        elif message[0] == messages.INPUTS:
            self._take_inputs(message[1], message[2], message[-1], payloads)

    def wait(self, waiter: Any, timeout_s: float | None = None) -> bool:
        waiter.event = waiter.event or threading.Event()
        return waiter.ready or waiter.event.wait(timeout_s) or waiter.ready

    async def wait_async(self, waiter: Any) -> None:
        waiter.future = asyncio.get_running_loop().create_future()
        waiter.loop = asyncio.get_running_loop()
        if not waiter.ready:
            await waiter.future

    # what a test does

    def wait_for_inputs(self, count: int) -> list[Pending]:
        """Until ``count`` inputs are held."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.pending) >= count, timeout=30)
        return list(self.pending)

    def _take_inputs(self, function_id: str, call_id: str, fields: list[Any], payloads: Any) -> None:
        run = next(run for run in self.runs if call_id in run.calls)
        name = next(name for name, known in run.function_ids.items() if known == function_id)
        definition = next(each["definition"] for each in run.spec.functions if each["name"] == name)
        raw_f = self._plain(name, definition)
        self.batches.append(len(fields))
        call = run.calls[call_id]
        self.kept[call_id] = call
        taken = [
            Pending(self, call, input_id, payload, raw_f)
            for (input_id, _), payload in zip(fields, payloads, strict=True)
        ]
        with self.arrived:
            self.pending += taken
            self.arrived.notify_all()
        if not self.hold:
            for pending in taken:
                pending.run()

    def _plain(self, name: str, definition: dict[str, Any]) -> Any:
        if definition["serialized"]:
            return pickle.loads(definition["serialized"])
        return next(
            app.registered_functions[name].plain for app in self.apps if name in app.registered_functions
        )


def _run_apart(coroutine: Any) -> Any:
    """Run a coroutine whatever runs in this thread."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(asyncio.run(coroutine)))
    thread.start()
    thread.join()
    return outcome[0]
