"""Events of the server and its nodes."""

from __future__ import annotations

from glowplug.core.commands import Command
from glowplug.core.decisions.fitting import kind_of
from glowplug.core.events import (
    GpuFailed,
    NodeChanged,
    NodeDrainEnded,
    NodeDrainRequested,
    NodeJoined,
    NodeLost,
    ServerStarted,
)
from glowplug.core.lifecycles import DRAINING
from glowplug.core.state import Container, NodeState, State
from glowplug.core.steps.containers import give_back_all, gone, stop


def server_started(state: State, event: ServerStarted, out: list[Command]) -> None:
    state.epoch = event.epoch


def node_joined(state: State, event: NodeJoined, out: list[Command]) -> None:
    """A node that joins anew starts with a clean slate: nothing cordoned, not draining."""
    known = state.nodes.get(event.node.id)
    if known is None:
        known = state.nodes[event.node.id] = NodeState(event.node)
    known.cordoned.clear()
    known.draining = ""
    take_inventory(state, known, event, out)


def node_changed(state: State, event: NodeChanged, out: list[Command]) -> None:
    known = state.nodes.get(event.node.id)
    if known is not None and known.node != event.node:
        take_inventory(state, known, event, out)


def take_inventory(
    state: State, known: NodeState, event: NodeJoined | NodeChanged, out: list[Command]
) -> None:
    known.node = event.node
    known.gpus = {gpu.uuid: gpu for gpu in sorted(event.node.gpus, key=lambda gpu: gpu.index)}
    known.by_kind = {}
    for gpu in known.gpus.values():
        known.by_kind.setdefault(kind_of(gpu), []).append(gpu)
    for uuid, container in list(known.holders.items()):
        gpu = known.gpus.get(uuid)
        if gpu is None:
            preempt(state, container, state.limits.stop_grace_s, f"GPU {uuid} is gone", out)
        elif not gpu.healthy:
            reason = f"GPU {uuid} is unhealthy: {gpu.unhealthy_reason or 'no reason given'}"
            preempt(state, container, state.limits.stop_grace_s, reason, out)
    fleet_changed(state)


def fleet_changed(state: State) -> None:
    state.fleet_version += 1
    state.capacity_changed = True
    # What a function can be given follows from the fleet, its promise of min_containers included.
    state.dirty.update(state.functions)


def node_lost(state: State, event: NodeLost, out: list[Command]) -> None:
    node = state.nodes.pop(event.node_id, None)
    if node is None:
        return
    for container in list(node.containers.values()):
        held = gone(state, container)
        give_back_all(state, container, held, f"node {event.node_id} was lost: {event.reason}", event.at, out)
    fleet_changed(state)


def node_drain_requested(state: State, event: NodeDrainRequested, out: list[Command]) -> None:
    node = state.nodes.get(event.node_id)
    if node is None:
        return
    node.draining = event.reason or "drain requested"
    for container in list(node.containers.values()):
        preempt(state, container, event.grace_s, f"node {event.node_id} drains: {node.draining}", out)
    state.capacity_changed = True


def node_drain_ended(state: State, event: NodeDrainEnded, out: list[Command]) -> None:
    node = state.nodes.get(event.node_id)
    if node is not None and node.draining:
        node.draining = ""
        fleet_changed(state)


def gpu_failed(state: State, event: GpuFailed, out: list[Command]) -> None:
    node = state.nodes.get(event.node_id)
    if node is None or event.gpu_uuid not in node.gpus:
        return
    node.cordoned[event.gpu_uuid] = event.reason
    # What was counted on it by those who wait is free for others.
    state.capacity_changed = True
    container = node.holders.get(event.gpu_uuid)
    if container is not None:
        reason = f"GPU {event.gpu_uuid} failed: {event.reason}"
        preempt(state, container, state.limits.stop_grace_s, reason, out)


def preempt(state: State, container: Container, grace_s: float, reason: str, out: list[Command]) -> None:
    """Interrupt a container; what it runs goes on elsewhere once it is gone, and no retry is spent."""
    if container.status != DRAINING:
        stop(state, container, grace_s, reason, out)
