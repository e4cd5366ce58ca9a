"""Calls and their inputs: accepted from clients, answered to their callers and to whoever asks by id."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.model import errors
from glowplug.ports.backend import ArrivedOutput
from glowplug.ports.journal import Journal, JournaledCall
from glowplug.server.core_loop import CoreLoop
from glowplug.server.kept import KeptCalls
from glowplug.server.records import CallRecord, FinishedOutput, InputRecord, RunRecord
from glowplug.server.session import ClientSession
from glowplug.wire.payload import Payload

FINISHED_CALLS_KEPT = 10_000
"""Finished spawned calls of live runs that are remembered, for callers who lost their connection."""


class Calls:
    """``runs`` are the live ones; ``on_done(app_id)`` is called when a call has its last output."""

    def __init__(
        self, core: CoreLoop, runs: dict[str, RunRecord], journal: Journal, on_done: Callable[[str], None]
    ) -> None:
        self.inputs: dict[str, InputRecord] = {}
        """Those without an output."""
        self.arrived: dict[tuple[str, int], ArrivedOutput] = {}
        """What containers just said; the core decides which of it counts."""
        self._records: dict[str, CallRecord] = {}
        self._finished: collections.deque[str] = collections.deque()
        self._core = core
        self._runs = runs
        self._kept = KeptCalls(journal, core.outbox, self._remember)
        self._on_done = on_done

    # from clients

    def accept(
        self,
        session: ClientSession | None,
        function_id: str,
        call_id: str,
        kept: bool,
        inputs: Sequence[tuple[str, Payload]],
    ) -> None:
        """Inputs of a call, its first ones or further ones; those that are known already are ignored."""
        call = self._records.get(call_id)
        if call is None:
            function = self._core.state.functions.get(function_id)
            if function is None or function.app.stopping:
                if session is not None:
                    _refuse(session, inputs)
                return
            call = CallRecord(call_id, function_id, function.spec.app_id, session, kept)
            self._records[call_id] = call
        call.session = session
        new: list[str] = []
        written: list[str] = []
        for input_id, payload in inputs:
            if input_id in call.outputs:  # resent after a reconnect; its output crossed the loss
                done = call.outputs[input_id]
                if done is None:
                    written.append(input_id)
                elif session is not None:
                    session.deliver(done)
            elif input_id not in self.inputs:
                self.inputs[input_id] = InputRecord(payload, call)
                new.append(input_id)
        call.inputs += len(new)
        call.open_inputs += len(new)
        if written and session is not None:
            self._kept.deliver_written(session, call, written)
        if new:
            at = self._core.now()
            if call.kept:
                name = self._core.state.functions[function_id].spec.name
                self._kept.accept(call, name, [each for each in inputs if each[0] in self.inputs], at)
            self._core.post(e.InputsAccepted(at, function_id, call_id, tuple(new)))

    def cancel(self, call_id: str, terminate_containers: bool = False) -> None:
        if call_id in self._records:
            self._core.post(e.CallCancelled(self._core.now(), call_id, terminate_containers))

    def attach(self, session: ClientSession, request: int, call_id: str) -> None:
        """Send a call's outputs, those to come included. Raises ``NotFoundError``."""
        call = self._records.get(call_id)
        if call is None or (call.kept and not call.unwritten and call.app_id not in self._runs):
            self._kept.attach_written(session, request, call_id)
            return
        if not call.kept and call.open_inputs < call.inputs:
            raise errors.NotFoundError(
                f"the first results of {call_id} went to its caller and are not kept: only spawned calls can "
                "be asked for by id. Use `.spawn()` or `.spawn_map()` in its caller."
            )
        self._kept.attach(session, request, call)

    def client_lost(self, session: ClientSession) -> None:
        """Nobody waits any more for what it asked; what it spawned goes on."""
        for call in list(self._records.values()):
            if session in call.watchers:
                call.watchers.remove(session)
            if call.session is session:
                call.session = None
                if call.open_inputs and not call.kept:
                    self.cancel(call.id)

    # from the core

    def finish(self, command: c.FinishInput) -> None:
        """The one output of an input: to its caller, and to others as soon as they may see it."""
        record = self.inputs.pop(command.input_id, None)
        if record is None:
            return
        arrived = self.arrived.get((command.input_id, command.attempt))
        payload = arrived.payload if arrived is not None and command.status != "error" else None
        output = FinishedOutput(command.input_id, command.status, payload, command.error, command.message)
        call = record.call
        call.open_inputs -= 1
        run = self._runs.get(call.app_id)
        if run is not None:
            run.usage.inputs += 1
        if call.session is not None:
            call.session.deliver(output)
        if call.kept:
            call.outputs[command.input_id] = output
            self._kept.finish(call, output, self._core.now())
        else:
            for watcher in call.watchers:
                watcher.deliver(output)
        if not call.open_inputs:
            if call.kept:
                self._remember(call)
            else:
                self._records.pop(call.id, None)
            self._on_done(call.app_id)

    # for runs

    def open_inputs(self, app_id: str, kept_only: bool = False) -> int:
        """How many inputs of an app have no output yet."""
        return sum(
            call.open_inputs
            for call in self._records.values()
            if call.app_id == app_id and (call.kept or not kept_only)
        )

    def cancel_unkept(self, app_id: str) -> None:
        for call in [call for call in self._records.values() if call.app_id == app_id and not call.kept]:
            self.cancel(call.id)

    def forget_app(self, app_id: str) -> None:
        """Its run is over: what is written can be read from the journal."""
        for call in [call for call in self._records.values() if call.app_id == app_id and not call.unwritten]:
            del self._records[call.id]

    def remember_written(self, journaled: JournaledCall) -> None:
        """A call of a run that was not ended: if its client comes back, nothing that is done is run again."""
        fact = journaled.fact
        call = CallRecord(fact.call_id, fact.function_id, fact.app_id, None, kept=True)
        call.outputs = {output.input_id: None for output in journaled.outputs}
        call.inputs = len(call.outputs)
        self._remember(call)

    def _remember(self, call: CallRecord) -> None:
        """Of finished spawned calls the latest are kept."""
        self._records[call.id] = call
        self._finished.append(call.id)
        while len(self._finished) > FINISHED_CALLS_KEPT:
            oldest = self._records.get(self._finished.popleft())
            if oldest is not None and not oldest.open_inputs:
                del self._records[oldest.id]


def _refuse(session: ClientSession, inputs: Sequence[tuple[str, Payload]]) -> None:
    text = "the run of this function has ended"
    for input_id, _ in inputs:
        session.deliver(FinishedOutput(input_id, "error", None, "ExecutionError", text))
