"""The thin shell around the core: take events, run it, carry out its commands.

Decides nothing about placement, order or retries. Knows what the core does not: payloads, connections,
clocks. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from glowplug.client.session import LogLine
from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.decisions.fitting import check_satisfiable
from glowplug.core.machine import handle
from glowplug.core.state import State
from glowplug.core.story import why_waiting
from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.model.node import Node
from glowplug.ports.backend import ArrivedOutput, ContainerExit, ContainerStart, LeasedInput, NodeBackend
from glowplug.server.records import CallRecord, FinishedOutput, InputRecord, RunRecord
from glowplug.server.session import ClientSession
from glowplug.wire.payload import Payload
from glowplug.wire.stream import Outbox

WAITING_TICK_S = 1.0
"""How often clients hear why their inputs wait; nothing that waits less is mentioned."""
CALLS_KEPT = 10_000
"""Finished spawned calls whose outputs stay in memory."""


class Kernel:
    """Implements ``ports.backend.ContainerListener``; ``on_quiet`` is called when the last run has ended."""

    def __init__(
        self, backend: NodeBackend, outbox: Outbox, on_quiet: Callable[[], None] | None = None
    ) -> None:
        self.state = State()
        self.runs: dict[str, RunRecord] = {}
        self.calls: dict[str, CallRecord] = {}
        self.containers: dict[str, c.StartContainer] = {}
        self.backend = backend
        self.outbox = outbox
        self._inputs: dict[str, InputRecord] = {}
        self._outputs: dict[tuple[str, int], ArrivedOutput] = {}
        self._input_containers: dict[str, str] = {}
        self._finished_calls: collections.deque[str] = collections.deque()
        self._on_quiet = on_quiet
        self._started_at = time.time() - time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._posted: collections.deque[e.Event] = collections.deque()
        self._handling = False
        self._waiting_tick: asyncio.TimerHandle | None = None
        self._carry_out: dict[type[c.Command], Callable[[Any], None]] = {
            c.StartContainer: self._start_container,
            c.StopContainer: self._stop_container,
            c.LeaseInputs: self._lease_inputs,
            c.RecallInputs: self._recall_inputs,
            c.CancelInput: self._cancel_input,
            c.FinishInput: self._finish_input,
            c.RecordAttempt: self._record_attempt,
            c.Notify: self._notify,
        }

    def start(self) -> None:
        self.post(e.ServerStarted(self.now(), secrets.token_hex(3)))
        for node in self.backend.start(self):
            self.post(e.NodeJoined(self.now(), node))

    def now(self) -> float:
        """Wall-clock seconds that never go back."""
        return self._started_at + time.monotonic()

    # the core

    def post(self, event: e.Event) -> None:
        """Hand one fact to the core and carry out what it says. Facts that arise meanwhile queue up."""
        self._posted.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._posted:
                for command in handle(self.state, self._posted.popleft()):
                    self._carry_out[type(command)](command)
        finally:
            self._handling = False
        deadline = self.state.next_deadline
        if deadline != self._timer_at:
            self._arm(deadline)

    def _arm(self, deadline: float | None) -> None:
        if self._timer is not None:
            if deadline is not None and self._timer_at is not None and self._timer_at <= deadline:
                return  # it fires early, finds nothing due and is armed again
            self._timer.cancel()
            self._timer = None
        self._timer_at = deadline
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - self.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = None
        self.post(e.TimePassed(self.now()))
        self.outbox.flush()

    # clients

    def open_app(self, session: ClientSession, app_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Register an app, or give a run that lost its connection back to its client.

        Raises ``InvalidError`` when a function asks for what this fleet can never give.
        """
        known = self.runs.get(app_id)
        if known is not None:
            known.session = session
            return {}
        functions = [FunctionSpec.from_wire(function) for function in spec["functions"]]
        self._check(functions)
        run = RunRecord(
            app_id=app_id,
            name=spec["name"],
            functions={function.id: function for function in functions},
            environment=spec["environment"],
            source=spec["source"],
            detach=spec["detach"],
            started_at=self.now(),
            session=session,
        )
        self.backend.prepare(functions, run.environment, run.source)
        self.runs[app_id] = run
        self.post(e.AppStarted(self.now(), app_id, run.name, tuple(functions)))
        if self._waiting_tick is None:
            self._waiting_tick = self._loop.call_later(WAITING_TICK_S, self._tell_waiting)
        return {}

    def _check(self, functions: Sequence[FunctionSpec]) -> None:
        problems = [problem for function in functions for problem in check_satisfiable(self.state, function)]
        if problems:
            raise errors.InvalidError("\n".join(problem.text for problem in problems))

    def close_app(self, app_id: str, reason: str, waiter: tuple[ClientSession, int] | None) -> None:
        """End a run; ``waiter`` is answered when nothing of it is left."""
        run = self.runs.get(app_id)
        if run is None:
            if waiter is not None:
                waiter[0].reply(waiter[1], {})
            return
        if waiter is not None:
            run.stop_waiters.append(waiter)
        if not run.stopping:
            run.stopping = reason
            self.post(e.AppStopped(self.now(), app_id, reason))
        self._forget_if_gone(run)

    def accept_inputs(
        self,
        session: ClientSession,
        function_id: str,
        call_id: str,
        kept: bool,
        inputs: Sequence[tuple[str, Payload]],
    ) -> None:
        call = self.calls.get(call_id)
        if call is None:
            function = self.state.functions.get(function_id)
            if function is None:
                for input_id, _ in inputs:
                    session.deliver(
                        FinishedOutput(
                            input_id, "error", None, "ExecutionError", "the run of this function has ended"
                        )
                    )
                return
            call = CallRecord(call_id, function_id, function.spec.app_id, session, kept)
            self.calls[call_id] = call
        call.session = session
        new: list[str] = []
        for input_id, payload in inputs:
            done = call.outputs.get(input_id)
            if done is not None:  # resent after a reconnect; its output crossed the loss
                session.deliver(done)
            elif input_id not in self._inputs:
                self._inputs[input_id] = InputRecord(payload, call)
                new.append(input_id)
        call.inputs += len(new)
        call.open_inputs += len(new)
        if new:
            self.post(e.InputsAccepted(self.now(), function_id, call_id, tuple(new)))

    def cancel_call(self, call_id: str, terminate_containers: bool) -> None:
        if call_id in self.calls:
            self.post(e.CallCancelled(self.now(), call_id, terminate_containers))

    def attach_call(self, session: ClientSession, call_id: str) -> dict[str, Any]:
        """Send a call's outputs, those to come included. Raises ``NotFoundError``."""
        call = self.calls.get(call_id)
        if call is None:
            raise errors.NotFoundError(
                f"no call {call_id!r} is known here. Ids of spawned calls are `FunctionCall.object_id`; "
                "results of a run that has ended are kept for calls of deployed apps only."
            )
        for output in call.outputs.values():
            session.deliver(output)
        call.watchers.append(session)
        return {"inputs": call.inputs, "function_id": call.function_id, "app_id": call.app_id}

    def grant_credit(self, input_id: str, items: int) -> None:
        container_id = self._input_containers.get(input_id)
        if container_id is not None:
            self.backend.grant_credit(container_id, input_id, items)

    def client_lost(self, session: ClientSession) -> None:
        """A client is gone: its ephemeral runs end; calls made inside a dead container are cancelled."""
        for run in list(self.runs.values()):
            if run.session is session:
                run.session = None
                if not run.detach:
                    self.close_app(run.app_id, "its client is gone", None)
            run.stop_waiters = [waiter for waiter in run.stop_waiters if waiter[0] is not session]
        for call in list(self.calls.values()):
            if session in call.watchers:
                call.watchers.remove(session)
            if call.session is session:
                call.session = None
                if call.open_inputs and not call.kept:
                    self.post(e.CallCancelled(self.now(), call.id))

    # commands

    def _start_container(self, command: c.StartContainer) -> None:
        function = self.state.functions[command.function_id].spec
        run = self.runs[function.app_id]
        self.containers[command.container_id] = command
        self.backend.start_container(
            ContainerStart(
                container_id=command.container_id,
                function=function,
                app_functions=run.function_ids,
                environment=run.environment,
                source=run.source,
                allocation=command.allocation,
                node=self.state.nodes[command.allocation.node_id].node,
            )
        )

    def _stop_container(self, command: c.StopContainer) -> None:
        self.backend.stop_container(command.container_id, command.grace_s, command.reason)

    def _lease_inputs(self, command: c.LeaseInputs) -> None:
        container_id = command.container_id
        leased = []
        for lease in command.leases:
            self._input_containers[lease.input_id] = container_id
            leased.append(LeasedInput(lease.input_id, lease.attempt, self._inputs[lease.input_id].payload))
        self.backend.lease(container_id, leased)

    def _recall_inputs(self, command: c.RecallInputs) -> None:
        self.backend.recall(command.container_id, command.input_ids)

    def _cancel_input(self, command: c.CancelInput) -> None:
        self.backend.cancel_input(command.container_id, command.input_id, command.attempt)

    def _finish_input(self, command: c.FinishInput) -> None:
        record = self._inputs.pop(command.input_id, None)
        self._input_containers.pop(command.input_id, None)
        if record is None:
            return
        arrived = self._outputs.get((command.input_id, command.attempt))
        payload = arrived.payload if arrived is not None and command.status != "error" else None
        output = FinishedOutput(command.input_id, command.status, payload, command.error, command.message)
        call = record.call
        call.open_inputs -= 1
        run = self.runs.get(call.app_id)
        if run is not None:
            run.usage.inputs += 1
        if call.session is not None:
            call.session.deliver(output)
        for watcher in call.watchers:
            watcher.deliver(output)
        if call.kept or call.watchers:
            call.outputs[command.input_id] = output
        if not call.open_inputs:
            self._finish_call(call)

    def _finish_call(self, call: CallRecord) -> None:
        if not call.kept:
            self.calls.pop(call.id, None)
            return
        self._finished_calls.append(call.id)
        while len(self._finished_calls) > CALLS_KEPT:
            self.calls.pop(self._finished_calls.popleft(), None)

    def _record_attempt(self, command: c.RecordAttempt) -> None:
        run = self.runs.get(command.app_id)
        if run is None:
            return
        usage = run.usage
        usage.attempts += 1
        usage.cost_usd += command.cost_usd
        if command.outcome in ("crashed", "interrupted"):
            usage.rerun += 1
        if command.gpu_count:
            used_s = command.run_s * command.gpu_count
            usage.gpu_seconds[command.gpu_type] = usage.gpu_seconds.get(command.gpu_type, 0.0) + used_s

    def _notify(self, command: c.Notify) -> None:
        self.notice(command.app_id, command.function_id, command.level, command.text)

    # what the backend reports

    def container_ready(self, container_id: str) -> None:
        self.post(e.ContainerReady(self.now(), container_id))

    def container_start_failed(self, container_id: str, message: str, permanent: bool) -> None:
        started = self.containers.pop(container_id, None)
        self.post(e.ContainerStartFailed(self.now(), container_id, message, permanent))
        self._container_gone(started)

    def container_exited(self, container_id: str, exit: ContainerExit) -> None:
        started = self.containers.pop(container_id, None)
        self.post(
            e.ContainerExited(
                self.now(), container_id, exit.exit_code, exit.signal, exit.out_of_memory, exit.message
            )
        )
        self._container_gone(started)

    def outputs_arrived(self, container_id: str, outputs: Sequence[ArrivedOutput]) -> None:
        facts = []
        for output in outputs:
            self._outputs[(output.input_id, output.attempt)] = output
            facts.append(e.OutputFact(output.input_id, output.attempt, output.status, output.run_s))  # type: ignore[arg-type]
        self.post(e.OutputsArrived(self.now(), container_id, tuple(facts)))
        self._outputs.clear()

    def item_yielded(
        self, container_id: str, input_id: str, attempt: int, index: int, payload: Payload
    ) -> None:
        record = self._inputs.get(input_id)
        if record is None or self._input_containers.get(input_id) != container_id:
            return
        if index == 0:
            self.post(e.FirstItemYielded(self.now(), container_id, input_id, attempt))
        if record.call.session is not None:
            record.call.session.deliver_item(input_id, index, payload)

    def inputs_returned(self, container_id: str, input_ids: Sequence[str]) -> None:
        self.post(e.InputsReturned(self.now(), container_id, tuple(input_ids)))

    def log_written(self, container_id: str, input_id: str, stream: str, lines: Sequence[str]) -> None:
        started = self.containers.get(container_id)
        function = self.state.functions.get(started.function_id) if started is not None else None
        if function is None:
            return
        run = self.runs.get(function.spec.app_id)
        if run is None:
            return
        at = self.now()
        name = function.spec.name
        for text in lines:
            run.logs.append(LogLine(name, input_id, container_id, stream, text, at))
        if run.session is not None:
            run.session.tell_lines(
                run.app_id, [[name, input_id, container_id, stream, text, at] for text in lines]
            )

    def client_connected(self, container_id: str, sock: Any) -> None:
        ClientSession(self._loop, sock, self.outbox, self, container_id)

    def notice(self, app_id: str, function_id: str, level: str, text: str) -> None:
        run = self.runs.get(app_id)
        if run is not None:
            run.notices.append((level, text))
            if run.session is not None:
                run.session.notice(app_id, level, text)

    def nodes_changed(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self.post(e.NodeChanged(self.now(), node))
        self.outbox.flush()

    def gpu_failed(self, node_id: str, gpu_uuid: str, reason: str) -> None:
        self.post(e.GpuFailed(self.now(), node_id, gpu_uuid, reason))
        self.outbox.flush()

    # endings

    def _container_gone(self, started: c.StartContainer | None) -> None:
        for run in list(self.runs.values()):
            if run.stopping:
                self._forget_if_gone(run)
        self.outbox.flush()

    def _forget_if_gone(self, run: RunRecord) -> None:
        if run.app_id in self.state.apps:
            return
        self.runs.pop(run.app_id, None)
        for call in [call for call in self.calls.values() if call.app_id == run.app_id]:
            del self.calls[call.id]
        for session, request in run.stop_waiters:
            session.reply(request, run.usage.to_wire())
        if not self.runs and self._on_quiet is not None:
            self._on_quiet()

    # why things wait

    def _stands_still(self, function_id: str, at: float) -> bool:
        """Inputs wait and none of the function runs: its caller sees nothing happen."""
        function = self.state.functions.get(function_id)
        if function is None or function.leased:
            return False
        waiting = list(itertools.islice(function.fresh, 1)) + [input for _, input in function.returned[:1]]
        return any(at - input.accepted_at >= WAITING_TICK_S for input in waiting)

    def _tell_waiting(self) -> None:
        self._waiting_tick = None
        at = self.now()
        for run in self.runs.values():
            for function_id, spec in run.functions.items():
                reason = (
                    why_waiting(self.state, function_id, at) if self._stands_still(function_id, at) else None
                )
                text = reason.text if reason is not None else ""
                if text != run.waiting_told.get(function_id, ""):
                    run.waiting_told[function_id] = text
                    if run.session is not None:
                        run.session.waiting(run.app_id, spec.name, text or None)
        if self.runs:
            self._waiting_tick = self._loop.call_later(WAITING_TICK_S, self._tell_waiting)
        self.outbox.flush()
