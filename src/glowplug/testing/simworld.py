"""SimWorld: the real core in a world drawn by a seed, with faults, checked after every event.

The clock, the network, the machines, the clients and the user's code are simulated; ``handle`` is the one
the server runs. Whatever the core asks for is carried out by simulated nodes, whatever they say reaches it
late, twice or (where the real client resends) not at all. After the faults have ended every input of a
living app must end exactly once, and when all apps have ended nothing may be left.

The same seed makes the same world and the same trace, whatever the interpreter's hash seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from random import Random

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.describe import describe_command, describe_event, subjects
from glowplug.core.invariants import check
from glowplug.core.machine import handle
from glowplug.core.state import Limits, State
from glowplug.core.story import story, why_waiting
from glowplug.model.function import FunctionSpec
from glowplug.model.node import ForeignUse, Node
from glowplug.testing.scenario import FAULTS, PlannedCall, PlannedFault, Scenario, draw_scenario
from glowplug.testing.simulated import MakeEvent, SimContainer

RESEND_S = 4.0
"""How often a simulated client sends its unanswered inputs again."""
CALM_RESEND_S = 300.0
"""The same once nothing is lost any more."""
PATIENCE_S = 4 * 3600.0
"""Virtual time after the last fault by which everything must have ended."""
EVENTS_MOST = 60_000


class SimFailure(AssertionError):
    """Something that must hold did not; the text has the seed, the end of the trace and the story."""


@dataclass
class Link:
    """One life of the server, as messages are addressed to it."""

    number: int
    is_up: bool = True


@dataclass
class Told:
    """What this life of the server was told of its nodes: the measure of where it may start containers."""

    nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    draining: set[str] = field(default_factory=set[str])
    failed: set[str] = field(default_factory=set[str])

    def hear(self, event: e.Event) -> None:
        if isinstance(event, e.NodeJoined):
            self.nodes[event.node.id] = event.node
            self.draining.discard(event.node.id)
            self.failed -= {gpu.uuid for gpu in event.node.gpus}
        elif isinstance(event, e.NodeChanged) and event.node.id in self.nodes:
            self.nodes[event.node.id] = event.node
        elif isinstance(event, e.NodeLost):
            self.nodes.pop(event.node_id, None)
        elif isinstance(event, e.NodeDrainRequested):
            self.draining.add(event.node_id)
        elif isinstance(event, e.NodeDrainEnded):
            self.draining.discard(event.node_id)
        elif isinstance(event, e.GpuFailed):
            self.failed.add(event.gpu_uuid)

    def objection(self, start: c.StartContainer) -> str:
        """Why a container must not be started there."""
        allocation = start.allocation
        node = self.nodes.get(allocation.node_id)
        if node is None or allocation.node_id in self.draining:
            return f"{allocation.node_id} is gone or drains"
        gpus = {gpu.uuid: gpu for gpu in node.gpus}
        for uuid in allocation.gpu_uuids:
            if uuid not in gpus or not gpus[uuid].is_free or uuid in self.failed:
                return f"GPU {uuid} is not there, not well or not free"
        return ""


@dataclass
class SimClient:
    """The client of one app: remembers what is unanswered and sends it again."""

    app_id: str
    functions: list[FunctionSpec]
    unanswered: dict[str, PlannedCall] = field(default_factory=dict[str, PlannedCall])
    """Input ids without an output, with their call."""
    cancelled: set[str] = field(default_factory=set[str])
    outputs: dict[str, str] = field(default_factory=dict[str, str])
    """Input id to status, or to the error's name."""
    is_stopped: bool = False


class SimWorld:
    def __init__(self, seed: int, kinds: frozenset[str] | None = None) -> None:
        self.seed = seed
        self.scenario: Scenario = draw_scenario(seed, kinds)
        self.now = 0.0
        self.network = Random(f"{seed} network")
        self.people = Random(f"{seed} containers")
        self.limits = Limits(trace_facts=8000)
        self.state = State(self.limits)
        self.link = Link(0)
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.counted = 0
        self.trace: list[tuple[e.Event, list[c.Command]]] = []
        self.containers: dict[str, SimContainer] = {}
        self.gpu_users: dict[str, SimContainer] = {}
        self.nodes: dict[str, Node] = {node.id: node for node in self.scenario.nodes}
        self.down: set[str] = set()
        """Nodes that are lost now."""
        self.clients = {app_id: SimClient(app_id, specs) for app_id, specs in self.scenario.apps.items()}
        self.specs = {spec.id: spec for specs in self.scenario.apps.values() for spec in specs}
        self.said: dict[tuple[str, int, str], str] = {}
        """What containers said of (input, attempt, container)."""
        self.leased_to: dict[tuple[str, int], str] = {}
        self.finished: dict[str, c.FinishInput] = {}
        """Outputs of this life of the server."""
        self.recorded: set[tuple[str, int]] = set()
        self.crashes: dict[str, int] = {}
        self.yielded: set[str] = set()
        """Inputs of which the server was told an item, in this life."""
        self.told = Told()
        self.retries: dict[str, int] = {}

    # running it

    def run(self) -> SimWorld:
        """Until everything has ended. Raises ``SimFailure``."""
        self.begin()
        self.run_until(self.everything_answered, "inputs of living apps without an output")
        for client in self.clients.values():
            self.stop_app(client)
        self.run_until(self.nothing_left, "something left after all apps were stopped")
        return self

    def begin(self) -> None:
        self.start_server()
        for call in self.scenario.calls:
            self.at(call.at, lambda call=call: self.submit(call))
        for fault in self.scenario.faults:
            self.at(fault.at, lambda fault=fault: self.strike(fault))
        for app_id, at in self.scenario.app_stops.items():
            self.at(at, lambda app_id=app_id: self.stop_app(self.clients[app_id]))
        self.at(self.scenario.faults_end_at, self.heal)
        self.after(RESEND_S, self.resend)

    def run_until(self, is_done: Callable[[], bool], what: str) -> None:
        latest = max(self.now, self.scenario.faults_end_at) + PATIENCE_S
        while not (self.now > self.scenario.faults_end_at and is_done()):
            deadline = self.state.next_deadline if self.link.is_up else None
            if deadline is not None and (not self.agenda or deadline < self.agenda[0][0]):
                # The kernel's timer is never early and sometimes late.
                late_s = self.network.choice((0.0, 0.0, 0.003))
                self.now = max(self.now, deadline + late_s)
                self.handle(e.TimePassed(self.now))
            elif self.agenda:
                at, _, action = heappop(self.agenda)
                self.now = max(self.now, at)
                action()
            else:
                break
            if self.now > latest or len(self.trace) > EVENTS_MOST:
                self.fail(f"{what} at {self.now:.1f} s after {len(self.trace)} events: {self.unfinished()}")
        if not is_done():
            self.fail(f"{what}, and nothing more will happen: {self.unfinished()}")

    def at(self, at: float, action: Callable[[], None]) -> None:
        self.counted += 1
        heappush(self.agenda, (at, self.counted, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self.now + delay_s, action)

    def is_calm(self) -> bool:
        return self.now >= self.scenario.faults_end_at

    def has(self, kind: str) -> bool:
        return kind in self.scenario.kinds and not self.is_calm()

    # the server

    def start_server(self) -> None:
        self.state = State(self.limits)
        self.finished = {}
        self.told = Told()
        self.crashes.clear()
        self.yielded.clear()
        self.link = Link(self.link.number + 1)
        self.handle(e.ServerStarted(self.now, f"e{self.link.number}"))
        for node in self.nodes.values():
            if node.id not in self.down:
                self.handle(e.NodeJoined(self.now, node))
        for client in self.clients.values():
            if not client.is_stopped:
                self.connect(client)

    def handle(self, event: e.Event) -> None:
        self.told.hear(event)
        out = handle(self.state, event)
        self.trace.append((event, out))
        problems = check(self.state)
        if problems:
            self.fail("; ".join(problems), event)
        if len(self.trace) % 16 == 0:
            for function_id in self.state.functions:
                why_waiting(self.state, function_id, self.now)
            problems = check(self.state)
            if problems:
                self.fail("asking why things wait changed them: " + "; ".join(problems), event)
        for command in out:
            self.carry_out(command)

    def carry_out(self, command: c.Command) -> None:
        if isinstance(command, c.FinishInput):
            self.finish(command)
        elif isinstance(command, c.RecordAttempt):
            self.record(command)
        elif not isinstance(command, c.Notify):
            self.judge_command(command)
            link = self.link
            self.after(0.001, lambda: self.reach_node(command, link))

    def judge_command(self, command: c.Command) -> None:
        if isinstance(command, c.StartContainer):
            objection = self.told.objection(command)
            if objection:
                self.fail(f"{command.container_id} is started although {objection}")
        elif isinstance(command, c.LeaseInputs):
            spec = self.specs[self.state.containers[command.container_id].function.spec.id]
            for lease in command.leases:
                self.leased_to[lease.input_id, lease.attempt] = command.container_id
                if lease.input_id in self.yielded and not spec.restart_generator:
                    self.fail(f"{lease.input_id} runs again although its caller has items of it")

    def reach_node(self, command: c.Command, link: Link) -> None:
        """Commands arrive in order; what is for a container that is gone reaches nobody."""
        if link is not self.link or not link.is_up:
            return
        if isinstance(command, c.StartContainer):
            self.start_container(command)
        elif isinstance(command, c.StopContainer | c.LeaseInputs | c.RecallInputs | c.CancelInput):
            container = self.containers.get(command.container_id)
            if container is not None and container.is_alive:
                container.obey(command)
        else:
            self.fail(f"no node can carry out {command!r}")

    def start_container(self, start: c.StartContainer) -> None:
        allocation = start.allocation
        if allocation.node_id in self.down:
            return
        if start.container_id in self.containers:
            self.fail(f"{start.container_id} was started twice")
        spec = self.specs[start.function_id]
        for uuid in allocation.gpu_uuids:
            other = self.gpu_users.get(uuid)
            if other is not None:
                self.fail(f"GPU {uuid} is given to {start.container_id} while {other.id} lives on it")
        container = SimContainer(self, start, spec, self.scenario.behaviours[spec.id], self.people)
        self.containers[container.id] = container
        for uuid in allocation.gpu_uuids:
            self.gpu_users[uuid] = container

    def container_died(self, container: SimContainer) -> None:
        for uuid in container.allocation.gpu_uuids:
            del self.gpu_users[uuid]

    # messages

    def delay_s(self) -> float:
        return self.network.choice((0.0, 0.0005, 0.005, 0.05))

    def tell_server(self, source: SimContainer, make: MakeEvent, in_order: bool = True) -> None:
        """From a container: in order and never lost while it lives; the news of its end may overtake."""
        arrives_at = self.now + self.delay_s()
        if in_order or not self.has("late_output"):
            arrives_at = source.last_sent_at = max(arrives_at, source.last_sent_at)
        self.at(arrives_at, lambda: self.hear(make))
        if self.has("duplicate_message") and self.network.random() < 0.2:
            self.at(arrives_at + self.network.uniform(0, 3), lambda: self.hear(make))

    def hear(self, make: MakeEvent) -> None:
        if not self.link.is_up:
            return
        event = make(self.now)
        if isinstance(event, e.OutputsArrived):
            for fact in event.outputs:
                self.said[fact.input_id, fact.attempt, event.container_id] = fact.status
        elif isinstance(event, e.FirstItemYielded) and self.is_current(event):
            self.yielded.add(event.input_id)
        self.handle(event)

    def is_current(self, event: e.FirstItemYielded) -> bool:
        """Whether the server has the input in that very attempt; the kernel drops items of others."""
        input = self.state.inputs.get(event.input_id)
        if input is None or input.container is None:
            return False
        return (input.container.id, input.attempt) == (event.container_id, event.attempt)

    def client_tells(self, make: MakeEvent, is_sure: bool = False) -> None:
        """From a client, over the connection of this life of the server: may be lost, late or twice."""
        link = self.link
        copies = 1
        if not is_sure and self.has("lost_message") and self.network.random() < 0.25:
            copies = 0
        elif not is_sure and self.has("duplicate_message") and self.network.random() < 0.25:
            copies = 2

        def arrive() -> None:
            if link is self.link and link.is_up:
                self.handle(make(self.now))

        for _ in range(copies):
            self.after(self.delay_s() * self.network.choice((1, 1, 20)), arrive)

    # clients

    def connect(self, client: SimClient) -> None:
        """A client names its app before anything else, and resends what is unanswered."""
        self.handle(e.AppStarted(self.now, client.app_id, client.app_id, tuple(client.functions)))
        self.send_inputs(client)

    def submit(self, call: PlannedCall) -> None:
        client = self.clients[self.specs[call.function_id].app_id]
        if client.is_stopped:
            return
        for input_id in call.input_ids:
            client.unanswered[input_id] = call
        for first in range(0, len(call.input_ids), call.batch):
            self.send_batch(call, call.input_ids[first : first + call.batch])
        if call.cancel_after_s is not None:
            self.after(call.cancel_after_s, lambda: self.cancel(client, call))

    def send_batch(self, call: PlannedCall, input_ids: tuple[str, ...]) -> None:
        def make(at: float) -> e.Event:
            # The kernel answers from its records what it has answered before.
            for input_id in input_ids:
                known = self.finished.get(input_id)
                if known is not None:
                    self.deliver(known)
            return e.InputsAccepted(at, call.function_id, call.call_id, input_ids)

        self.client_tells(make)

    def send_inputs(self, client: SimClient) -> None:
        unanswered: dict[str, list[str]] = {}
        for input_id, call in client.unanswered.items():
            unanswered.setdefault(call.call_id, []).append(input_id)
        for input_ids in unanswered.values():
            call = client.unanswered[input_ids[0]]
            self.send_batch(call, tuple(input_ids))
            if call.call_id in client.cancelled:
                self.client_tells(self.cancellation(call))

    def resend(self) -> None:
        if self.link.is_up:
            for client in self.clients.values():
                if not client.is_stopped:
                    self.send_inputs(client)
                elif client.app_id in self.state.apps and not self.state.apps[client.app_id].stopping:
                    self.send_stop(client)
        self.after(CALM_RESEND_S if self.is_calm() else RESEND_S, self.resend)

    def cancel(self, client: SimClient, call: PlannedCall) -> None:
        client.cancelled.add(call.call_id)
        self.client_tells(self.cancellation(call))

    def cancellation(self, call: PlannedCall) -> MakeEvent:
        return lambda at: e.CallCancelled(at, call.call_id, call.terminate_containers)

    def stop_app(self, client: SimClient) -> None:
        client.is_stopped = True
        client.unanswered.clear()
        self.send_stop(client)

    def send_stop(self, client: SimClient) -> None:
        self.client_tells(lambda at: e.AppStopped(at, client.app_id, "its client is gone"))

    # what the core decided

    def finish(self, command: c.FinishInput) -> None:
        input_id = command.input_id
        if input_id in self.finished:
            self.fail(f"{input_id} has a second output, {command.status} {command.error}")
        self.finished[input_id] = command
        if command.status != "error":
            container_id = self.leased_to[input_id, command.attempt]
            said = self.said.get((input_id, command.attempt, container_id))
            if said != command.status:
                self.fail(f"{input_id} ends with {command.status}, {container_id} said {said}")
        else:
            self.judge(command)
        if not (self.has("lost_message") and self.network.random() < 0.2):
            self.after(self.delay_s(), lambda: self.deliver(command))

    def deliver(self, command: c.FinishInput) -> None:
        client = self.clients[self.specs[command.function_id].app_id]
        if client.unanswered.pop(command.input_id, None) is not None:
            client.outputs[command.input_id] = command.error or command.status

    def judge(self, command: c.FinishInput) -> None:
        """Whether an input may end with this error in this world."""
        behaviour = self.scenario.behaviours[command.function_id]
        spec = self.specs[command.function_id]
        client = self.clients[spec.app_id]
        allowed = {
            "InputCancellation": command.call_id in client.cancelled or client.is_stopped,
            "FunctionTimeoutError": behaviour.hang > 0 or behaviour.run_s[1] > spec.timeout_s,
            "RemoteError": behaviour.crash > 0 or (spec.is_generator and not spec.restart_generator),
            "ExecutionError": behaviour.never_starts
            or behaviour.start_failure > 0
            or behaviour.start_s[1] >= spec.startup_timeout_s,
            "InvalidError": bool(spec.gpu or spec.cloud),
            "NotFoundError": client.is_stopped,
        }
        if not allowed.get(command.error, False):
            self.fail(
                f"{command.input_id} ends with {command.error}, which nothing explains: {command.message}"
            )

    def record(self, command: c.RecordAttempt) -> None:
        if (command.input_id, command.attempt) in self.recorded:
            self.fail(f"attempt {command.attempt} of {command.input_id} is recorded twice")
        self.recorded.add((command.input_id, command.attempt))
        if command.outcome == "crashed":
            crashes = self.crashes[command.input_id] = self.crashes.get(command.input_id, 0) + 1
            if crashes > self.limits.crashes_per_input:
                self.fail(f"{command.input_id} crashed {crashes} containers")
        if command.outcome in ("failure", "timeout"):
            spent = self.retries[command.input_id] = self.retries.get(command.input_id, 0) + 1
            if spent > self.specs[command.function_id].retries.max_retries + 1:
                self.fail(f"{command.input_id} was tried {spent} times, more than its retries allow")

    # faults

    def strike(self, fault: PlannedFault) -> None:
        """Bring a fault about and have it undone after its time."""
        if self.is_calm():
            return
        node_ids = sorted(self.nodes)
        node_id = node_ids[fault.target % len(node_ids)]
        gpus = self.nodes[node_id].gpus
        uuid = gpus[fault.target // 7 % len(gpus)].uuid if gpus else ""
        if fault.kind == "node_loss":
            self.lose_node(node_id)
            self.after(fault.for_s, lambda: self.return_node(node_id))
        elif fault.kind == "drain" and fault.target % 3 == 0 and self.state.containers:
            stopped = sorted(self.state.containers)[fault.target % len(self.state.containers)]
            self.operator_tells(lambda at: e.ContainerStopRequested(at, stopped, "stopped", fault.for_s))
        elif fault.kind == "drain":
            grace_s = fault.for_s
            self.operator_tells(lambda at: e.NodeDrainRequested(at, node_id, "maintenance", grace_s))
            self.after(fault.for_s, lambda: self.operator_tells(lambda at: e.NodeDrainEnded(at, node_id)))
        elif fault.kind == "gpu_failure" and gpus:
            if fault.target % 2:
                self.operator_tells(lambda at: e.GpuFailed(at, node_id, uuid, "Xid 79"))
            else:
                self.change_gpu(node_id, uuid, healthy=False)
            self.after(fault.for_s, lambda: self.mend(node_id))
        elif fault.kind == "foreign_use" and gpus:
            self.change_gpu(node_id, uuid, foreign=(ForeignUse(77, "someone", 20_000),))
            self.after(fault.for_s, lambda: self.change_gpu(node_id, uuid, foreign=()))
        elif fault.kind == "server_restart":
            self.kill_server(fault.for_s / 8)

    def operator_tells(self, make: MakeEvent) -> None:
        link = self.link
        self.after(0.01, lambda: self.handle(make(self.now)) if link is self.link and link.is_up else None)

    def change_gpu(self, node_id: str, uuid: str, **changes: object) -> None:
        node = self.nodes[node_id]
        gpus = tuple(replace(gpu, **changes) if gpu.uuid == uuid else gpu for gpu in node.gpus)  # pyright: ignore[reportArgumentType]
        self.nodes[node_id] = replace(node, gpus=gpus)
        self.operator_tells(lambda at: e.NodeChanged(at, self.nodes[node_id]))

    def mend(self, node_id: str) -> None:
        """An operator resets the node's GPUs; it joins anew."""
        node = self.nodes[node_id]
        self.nodes[node_id] = replace(node, gpus=tuple(replace(gpu, healthy=True) for gpu in node.gpus))
        if node_id not in self.down:
            self.operator_tells(lambda at: e.NodeJoined(at, self.nodes[node_id]))

    def lose_node(self, node_id: str) -> None:
        self.down.add(node_id)
        for container in list(self.containers.values()):
            if container.is_alive and container.allocation.node_id == node_id:
                container.vanish()

        link = self.link

        def notice() -> None:
            # Before it joins again, or nobody would know that its containers are gone.
            if link is self.link and link.is_up:
                self.handle(e.NodeLost(self.now, node_id, "no heartbeat"))

        self.after(self.network.uniform(0, 0.09), notice)

    def return_node(self, node_id: str) -> None:
        if node_id in self.down:
            self.down.discard(node_id)
            self.operator_tells(lambda at: e.NodeJoined(at, self.nodes[node_id]))

    def kill_server(self, down_s: float) -> None:
        """The local server dies with its containers; a new one starts with nothing but what clients
        resend."""
        if not self.link.is_up:
            return
        self.link.is_up = False
        for container in list(self.containers.values()):
            if container.is_alive:
                container.vanish()
        self.recorded.clear()
        self.retries.clear()
        self.after(down_s, self.start_server)

    def heal(self) -> None:
        """No more faults, and what was broken is mended."""
        for node in self.scenario.nodes:
            self.nodes[node.id] = node
            self.down.discard(node.id)
            self.after(0.2, lambda node=node: self.operator_tells(lambda at: e.NodeJoined(at, node)))

    # the end

    def everything_answered(self) -> bool:
        return self.link.is_up and not any(client.unanswered for client in self.clients.values())

    def nothing_left(self) -> bool:
        state = self.state
        return not (
            state.apps
            or state.functions
            or state.calls
            or state.inputs
            or state.containers
            or state.waiting
            or self.gpu_users
            or any(node.holders or node.containers for node in state.nodes.values())
        )

    def unfinished(self) -> str:
        waiting = [input_id for client in self.clients.values() for input_id in client.unanswered]
        left = [*self.state.apps, *self.state.containers]
        return f"{len(waiting)} inputs ({', '.join(waiting[:5])}), {len(left)} things ({', '.join(left[:5])})"

    def fail(self, problem: str, event: e.Event | None = None) -> None:
        lines = [
            f"seed {self.seed}, faults {sorted(self.scenario.kinds)}: {problem}",
            "the end of the trace:",
        ]
        for past, out in self.trace[-25:]:
            lines.append(f"  {past.at:10.4f} {describe_event(past)}")
            lines += [f"             → {describe_command(command)}" for command in out[:6]]
        for subject in sorted(subject for subject in self.known_subjects() if subject in problem)[:4]:
            lines.append(f"story of {subject}:")
            lines += [f"  {line}" for line in story(self.state, subject)[-40:]]
        for function_id in self.state.functions:
            waiting = why_waiting(self.state, function_id, self.now)
            if waiting is not None:
                lines.append(f"{function_id} waits: {waiting.text} [{waiting.code}]")
        raise SimFailure("\n".join(lines))

    def known_subjects(self) -> set[str]:
        return {subject for event, out in self.trace for fact in (event, *out) for subject in subjects(fact)}

    def digest(self) -> str:
        """Of the whole trace: equal for equal seeds."""
        text = "\n".join(f"{event!r} {out!r}" for event, out in self.trace)
        return hashlib.sha256(text.encode()).hexdigest()


def shortest_failure(seed: int) -> SimFailure:
    """The failure of a seed in the world with the fewest kinds of faults that still shows it."""
    kinds = frozenset(FAULTS)
    failure = failure_of(seed, kinds)
    assert failure is not None, f"seed {seed} does not fail"
    for kind in FAULTS:
        without = failure_of(seed, kinds - {kind})
        if without is not None:
            kinds -= {kind}
            failure = without
    return failure


def failure_of(seed: int, kinds: frozenset[str]) -> SimFailure | None:
    try:
        SimWorld(seed, kinds).run()
    except SimFailure as failure:
        return failure
    return None
