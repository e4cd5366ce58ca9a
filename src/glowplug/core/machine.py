"""``handle``: an event in, commands out. Which handler an event has, and what follows every event."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop
from typing import Any

from glowplug.core import events
from glowplug.core.commands import Command
from glowplug.core.on import apps, containers, inputs, nodes, time
from glowplug.core.state import State
from glowplug.core.steps.scaling import settle

Handler = Callable[[State, Any, list[Command]], None]

HANDLERS: dict[type[events.Event], Handler] = {
    events.ServerStarted: nodes.server_started,
    events.NodeJoined: nodes.node_joined,
    events.NodeChanged: nodes.node_changed,
    events.NodeLost: nodes.node_lost,
    events.NodeDrainRequested: nodes.node_drain_requested,
    events.NodeDrainEnded: nodes.node_drain_ended,
    events.GpuFailed: nodes.gpu_failed,
    events.AppStarted: apps.app_started,
    events.AppStopped: apps.app_stopped,
    events.InputsAccepted: inputs.inputs_accepted,
    events.CallCancelled: inputs.call_cancelled,
    events.OutputsArrived: inputs.outputs_arrived,
    events.FirstItemYielded: inputs.first_item_yielded,
    events.InputsReturned: inputs.inputs_returned,
    events.ContainerReady: containers.container_ready,
    events.ContainerStartFailed: containers.container_start_failed,
    events.ContainerExited: containers.container_exited,
    events.ContainerStopRequested: containers.container_stop_requested,
    events.TimePassed: time.time_passed,
}


def handle(state: State, event: events.Event) -> list[Command]:
    """Apply one fact and everything that is due by its time; return what is to be done, in order."""
    out: list[Command] = []
    at = event.at
    if at > state.now:
        state.now = at
    else:
        at = state.now
    HANDLERS[type(event)](state, event, out)
    timers = state.timers
    while timers and timers[0][0] <= at:
        due, _, subject = heappop(timers)
        if subject.check_at == due:
            subject.check_at = None
            time.look_at(state, subject, at, out)
    if state.dirty or state.capacity_changed:
        settle(state, at, out)
    trace = state.trace
    trace.append((event, out))
    state.traced_facts += 1 + len(out)
    while state.traced_facts > state.limits.trace_facts and len(trace) > 1:
        state.traced_facts -= 1 + len(trace.popleft()[1])
    return out
