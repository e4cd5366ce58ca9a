"""The thin shell around the core: take events, run it, carry out its commands.

Decides nothing about placement, order or retries. Knows what the core does not: payloads, connections,
clocks. Everything runs on one event loop.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import os
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
from glowplug.ports.journal import Journal, JournaledCall, JournaledContainer, JournaledRun, Predecessor
from glowplug.server.kept import KeptCalls, as_finished
from glowplug.server.records import CallRecord, FinishedOutput, InputRecord, RunRecord, Usage
from glowplug.server.session import ClientSession
from glowplug.wire.payload import Payload
from glowplug.wire.stream import Outbox

WAITING_TICK_S = 1.0
"""How often clients hear why their inputs wait; nothing that waits less is mentioned."""
CALLS_KEPT = 10_000
"""Finished spawned calls whose outputs stay in memory."""
ENDED_RUNS_KEPT = 20
ENDED_LOG_LINES_KEPT = 5_000
"""Runs that ended lately, and how many lines of each, for `glowplug app logs`."""


class Kernel:
    """Implements ``ports.backend.ContainerListener``; ``on_quiet`` is called when the last run has ended."""

    def __init__(
        self,
        backend: NodeBackend,
        outbox: Outbox,
        journal: Journal,
        on_quiet: Callable[[], None] | None = None,
    ) -> None:
        self.state = State()
        self.runs: dict[str, RunRecord] = {}
        self.calls: dict[str, CallRecord] = {}
        self.containers: dict[str, c.StartContainer] = {}
        self.ended_runs: dict[str, RunRecord] = {}
        self.backend = backend
        self.outbox = outbox
        self.journal = journal
        self._kept = KeptCalls(journal, outbox, self._remember)
        self._earlier_runs: dict[str, JournaledRun] = {}
        """What a server before this one did not end; their clients may come back."""
        self._ended_usage = Usage()
        self._untold: list[str] = []
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

    def start(self) -> Predecessor:
        """Take up the nodes and what a server before this one left; returns the latter."""
        left = self.journal.take_over(self.now())
        self.journal.forget_old(self.now())
        self.post(e.ServerStarted(self.now(), secrets.token_hex(3)))
        for node in self.backend.start(self):
            self.post(e.NodeJoined(self.now(), node))
        self._earlier_runs = {run.app_id: run for run in left.runs}
        for call in left.calls:
            self._remember_written(call)
        for run in left.runs:
            if run.detach:
                self._resume(run, [call for call in left.calls if call.fact.app_id == run.app_id])
        return left

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

    def open_app(self, session: ClientSession | None, app_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Register an app, or give a run that lost its connection back to its client.

        Raises ``InvalidError`` when a function asks for what this fleet can never give.
        """
        known = self.runs.get(app_id)
        if known is not None:
            known.session = session
            return {}
        functions = [FunctionSpec.from_wire(function) for function in spec["functions"]]
        self._check(functions)
        earlier = self._earlier_runs.get(app_id)
        run = RunRecord(
            app_id=app_id,
            name=spec["name"],
            functions={function.id: function for function in functions},
            environment=spec["environment"],
            source=spec["source"],
            detach=spec["detach"],
            started_at=earlier.started_at if earlier is not None else self.now(),
            session=session,
            usage=Usage.from_wire(earlier.usage) if earlier is not None else Usage(),
        )
        self.backend.prepare(functions, run.environment, run.source)
        self.runs[app_id] = run
        # Only a run that goes on without its client can be taken up from its spec alone.
        kept_spec = spec if run.detach else {}
        self.journal.run_started(
            JournaledRun(app_id, run.name, run.started_at, os.getpid(), run.detach, kept_spec)
        )
        self.post(e.AppStarted(self.now(), app_id, run.name, tuple(functions)))
        while self._untold:
            self.notice(app_id, "", "warning", self._untold.pop(0))
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
            if run.session is not None and waiter is None:
                run.session.run_ended(app_id, f"app {run.name} was stopped: {reason}")
            self.post(e.AppStopped(self.now(), app_id, reason))
        self._forget_if_gone(run)

    def leave_app(self, app_id: str, reason: str, waiter: tuple[ClientSession, int]) -> None:
        """Its client is done with a run: it ends, except that spawned calls of a detached one go on."""
        run = self.runs.get(app_id)
        session, request = waiter
        if run is None or not run.detach or run.stopping or run.session is not session:
            self.close_app(app_id, reason, waiter)
            return
        spawned = sum(call.open_inputs for call in self.calls.values() if call.kept and call.app_id == app_id)
        if not spawned:
            self.close_app(app_id, reason, waiter)
            return
        for call in [call for call in self.calls.values() if call.app_id == app_id and not call.kept]:
            self.post(e.CallCancelled(self.now(), call.id))
        session.notice(
            app_id,
            "info",
            f"{spawned} spawned input{'s go' if spawned > 1 else ' goes'} on without this command: "
            f"`glowplug app logs -f {app_id}` shows what they print, `glowplug app stop {app_id}` ends them",
        )
        run.session = None
        session.reply(request, run.usage.to_wire())
        self._loop.call_soon(self._end_if_done, run)

    def accept_inputs(
        self,
        session: ClientSession | None,
        function_id: str,
        call_id: str,
        kept: bool,
        inputs: Sequence[tuple[str, Payload]],
    ) -> None:
        call = self.calls.get(call_id)
        if call is None:
            function = self.state.functions.get(function_id)
            if function is None or function.app.stopping:
                if session is not None:
                    self._refuse_inputs(session, inputs)
                return
            call = CallRecord(call_id, function_id, function.spec.app_id, session, kept)
            self.calls[call_id] = call
        call.session = session
        new: list[str] = []
        for input_id, payload in inputs:
            done = call.outputs.get(input_id)
            if done is not None:  # resent after a reconnect; its output crossed the loss
                if session is not None:
                    session.deliver(done)
            elif input_id not in self._inputs:
                self._inputs[input_id] = InputRecord(payload, call)
                new.append(input_id)
        call.inputs += len(new)
        call.open_inputs += len(new)
        if new:
            at = self.now()
            if call.kept:
                name = self.state.functions[function_id].spec.name
                self._kept.accept(call, name, [each for each in inputs if each[0] in self._inputs], at)
            self.post(e.InputsAccepted(at, function_id, call_id, tuple(new)))

    def _refuse_inputs(self, session: ClientSession, inputs: Sequence[tuple[str, Payload]]) -> None:
        text = "the run of this function has ended"
        for input_id, _ in inputs:
            session.deliver(FinishedOutput(input_id, "error", None, "ExecutionError", text))

    def cancel_call(self, call_id: str, terminate_containers: bool) -> None:
        if call_id in self.calls:
            self.post(e.CallCancelled(self.now(), call_id, terminate_containers))

    def attach_call(self, session: ClientSession, request: int, call_id: str) -> None:
        """Send a call's outputs, those to come included. Raises ``NotFoundError``."""
        call = self.calls.get(call_id)
        if call is None or (call.kept and call.written and call.app_id not in self.runs):
            self._kept.attach_written(session, request, call_id)
            return
        if not call.kept and call.open_inputs < call.inputs:
            raise errors.NotFoundError(
                f"the first results of {call_id} went to its caller and are not kept: only spawned calls can "
                "be asked for by id. Use `.spawn()` or `.spawn_map()` in its caller."
            )
        self._kept.attach(session, request, call)

    def grant_credit(self, input_id: str, items: int) -> None:
        container_id = self._input_containers.get(input_id)
        if container_id is not None:
            self.backend.grant_credit(container_id, input_id, items)

    def client_lost(self, session: ClientSession) -> None:
        """A client is gone: its ephemeral runs end; calls made inside a dead container are cancelled."""
        for run in list(self.runs.values()):
            if run.session is session:
                run.session = None
                if run.detach:
                    self._loop.call_soon(self._end_if_done, run)
                else:
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
        allocation = command.allocation
        self.journal.container_started(
            JournaledContainer(
                command.container_id,
                function.app_id,
                function.id,
                allocation.node_id,
                allocation.gpu_type,
                allocation.gpu_uuids,
                self.now(),
            )
        )
        self.backend.start_container(
            ContainerStart(
                container_id=command.container_id,
                function=function,
                app_functions=run.function_ids,
                environment=run.environment,
                source=run.source,
                allocation=allocation,
                node=self.state.nodes[allocation.node_id].node,
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
        if call.kept:
            call.outputs[command.input_id] = output
            self._kept.finish(call, output, self.now())
        else:
            for watcher in call.watchers:
                watcher.deliver(output)
        if not call.open_inputs:
            self._finish_call(call)

    def _finish_call(self, call: CallRecord) -> None:
        if not call.kept:
            self.calls.pop(call.id, None)
        else:
            self._remember(call)
        run = self.runs.get(call.app_id)
        if run is not None and run.detach:
            self._loop.call_soon(self._end_if_done, run)

    def _remember(self, call: CallRecord) -> None:
        """Keep the outputs of a finished spawned call in memory for a while."""
        self.calls[call.id] = call
        self._finished_calls.append(call.id)
        while len(self._finished_calls) > CALLS_KEPT:
            oldest = self.calls.get(self._finished_calls.popleft())
            if oldest is not None and not oldest.open_inputs:
                del self.calls[oldest.id]

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
        self._container_gone(container_id, started, message)

    def container_exited(self, container_id: str, exit: ContainerExit) -> None:
        started = self.containers.pop(container_id, None)
        self.post(
            e.ContainerExited(
                self.now(), container_id, exit.exit_code, exit.signal, exit.out_of_memory, exit.message
            )
        )
        self._container_gone(container_id, started, exit.message or "it exited")

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
        written = [LogLine(name, input_id, container_id, stream, text, at) for text in lines]
        run.logs.extend(written)
        for reader in run.log_readers:
            reader.write(written)
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

    def _container_gone(self, container_id: str, started: c.StartContainer | None, reason: str) -> None:
        self.journal.container_ended(container_id, self.now(), reason)
        function = self.state.functions.get(started.function_id) if started is not None else None
        if function is not None and function.spec.app_id in self.runs:
            app_id = function.spec.app_id
            self.journal.run_used(app_id, self.runs[app_id].usage.to_wire())
        for run in list(self.runs.values()):
            if run.stopping:
                self._forget_if_gone(run)
        self.outbox.flush()

    def _forget_if_gone(self, run: RunRecord) -> None:
        if run.app_id in self.state.apps:
            return
        if self.runs.pop(run.app_id, None) is None:
            return
        usage = run.usage.to_wire()
        self.journal.run_ended(run.app_id, self.now(), run.stopping, usage)
        for call in [call for call in self.calls.values() if call.app_id == run.app_id and call.written]:
            del self.calls[call.id]
        for session, request in run.stop_waiters:
            session.reply(request, usage)
        self._ended_usage.add(run.usage)
        run.logs = collections.deque(run.logs, maxlen=ENDED_LOG_LINES_KEPT)
        run.gone.set()
        for reader in run.log_readers:
            reader.wake()
        self.ended_runs[run.app_id] = run
        if len(self.ended_runs) > ENDED_RUNS_KEPT:
            del self.ended_runs[next(iter(self.ended_runs))]
        if not self.runs and self._on_quiet is not None:
            self._on_quiet()

    def _end_if_done(self, run: RunRecord) -> None:
        """A detached run whose client has left ends with its last call."""
        if run.session is not None or run.stopping or run.app_id not in self.runs:
            return
        if not any(call.open_inputs for call in self.calls.values() if call.app_id == run.app_id):
            self.close_app(run.app_id, "its client has left and its calls are done", None)
            self.outbox.flush()

    def stop_all(self, reason: str) -> None:
        for run in list(self.runs.values()):
            self.close_app(run.app_id, reason, None)
        self.outbox.flush()

    def total_usage(self) -> Usage:
        """What this server's runs have used, ended ones included."""
        total = Usage()
        for usage in (self._ended_usage, *(run.usage for run in self.runs.values())):
            total.add(usage)
        return total

    # earlier lives

    def _remember_written(self, journaled: JournaledCall) -> None:
        """A call of a run that was not ended: if its client comes back, nothing that is done is run again."""
        fact = journaled.fact
        call = CallRecord(fact.call_id, fact.function_id, fact.app_id, None, kept=True)
        call.outputs = {output.input_id: as_finished(output) for output in journaled.outputs}
        call.visible = dict(call.outputs)
        call.inputs = len(call.outputs)
        self._remember(call)

    def _resume(self, run: JournaledRun, calls: Sequence[JournaledCall]) -> None:
        """Go on with a detached run: its client has left, so nobody else would send its inputs again."""
        problem = "its server ended, and its calls were done"
        if run.spec and any(call.open_inputs for call in calls):
            try:
                self.open_app(None, run.app_id, run.spec)
            except errors.Error as error:
                problem = f"its server ended, and it cannot be taken up again: {error}"
            else:
                for call in calls:
                    fact = call.fact
                    self.accept_inputs(None, fact.function_id, fact.call_id, True, call.open_inputs)
                return
        self.journal.run_ended(run.app_id, self.now(), problem, run.usage)

    # troubles

    def warn(self, text: str) -> None:
        """Tell every run, or the next one when none runs."""
        for app_id in self.runs:
            self.notice(app_id, "", "warning", text)
        if not self.runs and text not in self._untold:
            self._untold.append(text)
        self.outbox.flush()

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
