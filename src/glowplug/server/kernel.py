"""The thin shell around the core: what nodes report becomes facts, what the core says is done on nodes.

Decides nothing about placement, order or retries. Knows what the core does not: payloads, connections,
clocks. Everything runs on one event loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.state import State
from glowplug.model import errors
from glowplug.model.node import Node
from glowplug.ports.backend import ArrivedOutput, ContainerExit, ContainerStart, LeasedInput, NodeBackend
from glowplug.ports.journal import Journal, JournaledContainer, Predecessor
from glowplug.ports.secrets import Secrets
from glowplug.server.core_loop import CoreLoop
from glowplug.server.function_secrets import FunctionSecrets
from glowplug.server.runs import Runs
from glowplug.server.session import ClientSession
from glowplug.wire.payload import Payload
from glowplug.wire.stream import Outbox


class Kernel:
    """Implements ``ports.backend.ContainerListener``; ``on_quiet`` is called when the last run has ended."""

    def __init__(
        self,
        backend: NodeBackend,
        outbox: Outbox,
        journal: Journal,
        secret_store: Secrets,
        on_quiet: Callable[[], None] | None = None,
    ) -> None:
        self.core = CoreLoop(outbox)
        self.function_secrets = FunctionSecrets(secret_store)
        self.runs = Runs(self.core, backend, journal, self.function_secrets, on_quiet)
        self.calls = self.runs.calls
        self.backend = backend
        self.outbox = outbox
        self.journal = journal
        self.post = self.core.post
        self.now = self.core.now
        self.accept_http: Callable[[Any, str], None] = lambda sock, container_id: sock.close()
        """Serves HTTP on a socket that a container (by id) has sent."""
        self._started: dict[str, c.StartContainer] = {}
        self._input_containers: dict[str, str] = {}
        self.core.carry_out |= {
            c.StartContainer: self._start_container,
            c.StopContainer: self._stop_container,
            c.LeaseInputs: self._lease_inputs,
            c.RecallInputs: self._recall_inputs,
            c.CancelInput: self._cancel_input,
            c.FinishInput: self._finish_input,
        }

    @property
    def state(self) -> State:
        return self.core.state

    def start(self) -> Predecessor:
        """Take up the nodes and what a server before this one left; returns the latter."""
        left = self.journal.take_over(self.now())
        self.journal.forget_old(self.now())
        self.post(e.ServerStarted(self.now(), secrets.token_hex(3)))
        for node in self.backend.start(self):
            self.post(e.NodeJoined(self.now(), node))
        self.runs.take_over(left)
        return left

    # clients

    def client_lost(self, session: ClientSession) -> None:
        """A client is gone: its ephemeral runs end; calls made inside a dead container are cancelled."""
        self.runs.client_lost(session)
        self.calls.client_lost(session)

    def grant_credit(self, input_id: str, items: int) -> None:
        container_id = self._input_containers.get(input_id)
        if container_id is not None:
            self.backend.grant_credit(container_id, input_id, items)

    # commands

    def _start_container(self, command: c.StartContainer) -> None:
        function = self.state.functions[command.function_id].spec
        run = self.runs.live[function.app_id]
        allocation = command.allocation
        self._started[command.container_id] = command
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
        try:
            secret_variables = self.function_secrets.variables_of(function)
            bucket_secrets = self.function_secrets.of_buckets(function)
        except errors.Error as error:
            # Deleted since the app began. Told in the next turn: the core is carrying out a command.
            self.core.loop.call_soon(self._refuse_start, command.container_id, str(error))
            return
        self.backend.start_container(
            ContainerStart(
                container_id=command.container_id,
                function=function,
                app_functions=run.function_ids,
                environment=run.environment,
                source=run.source,
                allocation=allocation,
                node=self.state.nodes[allocation.node_id].node,
                secrets=secret_variables,
                bucket_secrets=bucket_secrets,
            )
        )

    def _refuse_start(self, container_id: str, message: str) -> None:
        self.container_start_failed(container_id, message, True)
        self.outbox.flush()

    def _stop_container(self, command: c.StopContainer) -> None:
        self.backend.stop_container(command.container_id, command.grace_s, command.reason)

    def _lease_inputs(self, command: c.LeaseInputs) -> None:
        container_id = command.container_id
        leased = []
        for lease in command.leases:
            self._input_containers[lease.input_id] = container_id
            payload = self.calls.inputs[lease.input_id].payload
            leased.append(LeasedInput(lease.input_id, lease.attempt, payload))
        self.backend.lease(container_id, leased)

    def _recall_inputs(self, command: c.RecallInputs) -> None:
        self.backend.recall(command.container_id, command.input_ids)

    def _cancel_input(self, command: c.CancelInput) -> None:
        self.backend.cancel_input(command.container_id, command.input_id, command.attempt)

    def _finish_input(self, command: c.FinishInput) -> None:
        self._input_containers.pop(command.input_id, None)
        self.calls.finish(command)

    # what the backend reports

    def container_ready(self, container_id: str) -> None:
        self.post(e.ContainerReady(self.now(), container_id))

    def container_start_failed(self, container_id: str, message: str, permanent: bool) -> None:
        self.post(e.ContainerStartFailed(self.now(), container_id, message, permanent))
        self._container_gone(container_id, message)

    def container_exited(self, container_id: str, exit: ContainerExit) -> None:
        self.post(
            e.ContainerExited(
                self.now(), container_id, exit.exit_code, exit.signal, exit.out_of_memory, exit.message
            )
        )
        self._container_gone(container_id, exit.message or "it exited")

    def _container_gone(self, container_id: str, reason: str) -> None:
        self.journal.container_ended(container_id, self.now(), reason)
        started = self._started.pop(container_id, None)
        function = self.state.functions.get(started.function_id) if started is not None else None
        self.runs.container_gone(function.spec.app_id if function is not None else "")
        self.outbox.flush()

    def outputs_arrived(self, container_id: str, outputs: Sequence[ArrivedOutput]) -> None:
        facts = []
        arrived = self.calls.arrived
        for output in outputs:
            arrived[(output.input_id, output.attempt)] = output
            facts.append(e.OutputFact(output.input_id, output.attempt, output.status, output.run_s))  # type: ignore[arg-type]
        self.post(e.OutputsArrived(self.now(), container_id, tuple(facts)))
        arrived.clear()

    def item_yielded(
        self, container_id: str, input_id: str, attempt: int, index: int, payload: Payload
    ) -> None:
        record = self.calls.inputs.get(input_id)
        if record is None or self._input_containers.get(input_id) != container_id:
            return
        if index == 0:
            self.post(e.FirstItemYielded(self.now(), container_id, input_id, attempt))
        if record.call.session is not None:
            record.call.session.deliver_item(input_id, index, payload)

    def inputs_returned(self, container_id: str, input_ids: Sequence[str]) -> None:
        self.post(e.InputsReturned(self.now(), container_id, tuple(input_ids)))

    def log_written(self, container_id: str, input_id: str, stream: str, lines: Sequence[str]) -> None:
        started = self._started.get(container_id)
        function = self.state.functions.get(started.function_id) if started is not None else None
        if function is not None:
            self.runs.write_lines(function.spec, container_id, input_id, stream, lines)

    def client_connected(self, container_id: str, sock: Any) -> None:
        ClientSession(self.core.loop, sock, self.outbox, self, container_id)

    def notice(self, app_id: str, function_id: str, level: str, text: str) -> None:
        self.runs.notice(app_id, level, text)

    def nodes_changed(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self.post(e.NodeChanged(self.now(), node))
        self.outbox.flush()

    def gpu_failed(self, node_id: str, gpu_uuid: str, reason: str) -> None:
        self.post(e.GpuFailed(self.now(), node_id, gpu_uuid, reason))
        self.outbox.flush()
