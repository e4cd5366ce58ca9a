"""A started app as one process sees it: its functions' ids, its calls, its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from glowplug.client.connection import Waiter
from glowplug.client.session.call import Call, input_messages
from glowplug.client.session.ids import ids
from glowplug.client.session.values import AppSpec, LogSink, Output, RunSummary
from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.payload import Payload

if TYPE_CHECKING:
    from glowplug.client.session.connected import Client

CLOSE_TIMEOUT_S = 60.0


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
        call = Call(self, function_id, "fc-" + ids.next(), kept)
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
        for message, payloads in input_messages(call, inputs):
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
