"""Why a function's inputs wait now: who holds what they need, and what would end the wait.

Asks the same decisions that place containers, on the same state, and changes nothing. Texts do not count
seconds, so the same reason is the same text for as long as it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glowplug.core.decisions.autoscaling import missing_containers
from glowplug.core.decisions.fitting import check_satisfiable, request_name
from glowplug.core.decisions.placing import (
    RETIRING,
    Claims,
    Offer,
    acceptable_entries,
    claims_before,
    find_offer,
)
from glowplug.core.lifecycles import DRAINING
from glowplug.core.state import Choices, Container, Function, NodeState, State
from glowplug.model.node import Gpu


@dataclass(frozen=True, slots=True)
class Waiting:
    text: str
    """Why, in one line."""
    code: str
    """One of: retry-backoff, start-backoff, container-starting, max-containers, busy, no-node, no-such-gpu,
    draining, fallback-hold, reserved-for-larger, claimed, stopping, foreign-use, gpu-unhealthy, gpu-busy."""
    unblocks: str
    """What would end the wait."""


def why_waiting(state: State, function_id: str, at: float) -> Waiting | None:
    """None when none of its inputs waits (or it is unknown)."""
    function = state.functions.get(function_id)
    if function is None or function.app.stopping:
        return None
    if not function.queued:
        if not function.delayed:
            return None
        count = "1 input waits" if function.delayed == 1 else f"{function.delayed} inputs wait"
        return Waiting(
            f"{count} before trying again", "retry-backoff", "the delay of its retry policy passes"
        )
    if function.start_not_before > at:
        return Waiting(
            f"the last container failed ({function.last_failure})",
            "start-backoff",
            "the next try, in a moment",
        )
    found = function.choices
    if function.spec.id in state.waiting and found is not None:
        return why_no_container(state, function, found, at)
    if function.starting:
        return why_starting(function)
    return why_no_more(state, function, found)


def why_starting(function: Function) -> Waiting:
    starting = next(one for one in function.containers.values() if one.id not in function.ready)
    node_id = starting.allocation.node_id
    return Waiting(
        f"container {starting.id} is starting on {node_id}{gpus_of(starting)}",
        "container-starting",
        "it is ready",
    )


def why_no_more(state: State, function: Function, found: Choices | None) -> Waiting:
    """It has containers, all of them busy, and is not given more."""
    count = len(function.containers)
    all_busy = "its container is busy" if count == 1 else f"all its {count} containers are busy"
    limit = function.spec.max_containers
    if limit is not None and count >= limit:
        return Waiting(f"{all_busy}, max_containers={limit}", "max-containers", "one of their inputs ends")
    if found is not None and count >= found.most_containers:
        return Waiting(f"{all_busy}, these machines hold no more", "busy", "one of their inputs ends")
    return Waiting(all_busy, "busy", "one of their inputs ends")


def why_no_container(state: State, function: Function, found: Choices, at: float) -> Waiting:
    if not state.nodes:
        return Waiting("no machine is here", "no-node", "a machine joins")
    if not found.most_containers:
        problems = check_satisfiable(state, function.spec)
        return Waiting(problems[0].text, "no-such-gpu", "a machine joins that has it; else it is refused")
    nodes = [state.nodes[node_id] for node_id in found.node_ids]
    if all(node.draining for node in nodes):
        names = ", ".join(node.node.id for node in nodes)
        return Waiting(
            f"{names} drains ({nodes[0].draining})", "draining", "the drain ends or a machine joins"
        )
    if not function.spec.gpu:
        return Waiting("these machines hold no more containers of it", "busy", "one of them ends")
    limit = function.spec.max_containers
    if missing_containers(function, found, state.limits) <= 0 and limit is not None:
        return Waiting(f"max_containers={limit}, one is still stopping", "max-containers", "it has stopped")
    if is_held_back(state, function, found, at):
        first = request_name(found.entries[0].request)
        return Waiting(
            f"holds out for {first} before a fallback is taken", "fallback-hold",
            f"{first} is free, or gpu_fallback_after={function.spec.gpu_fallback_after_s:g} s is over",
        )  # fmt: skip
    return why_no_gpu(state, function, found, nodes, at)


def is_held_back(state: State, function: Function, found: Choices, at: float) -> bool:
    """Whether a later fallback could be had now and is not taken yet."""
    if len(acceptable_entries(function, found, at)) == len(found.entries):
        return False
    later = Choices(found.fleet_version, found.node_ids, found.entries[1:], (), found.most_containers)
    held_until, function.held_back_until = function.held_back_until, 0.0
    try:
        offer = find_offer(state, function, later, claims_before(state, function, at), at, True)
    finally:
        function.held_back_until = held_until
    return offer is not None and offer.level < RETIRING


def why_no_gpu(
    state: State, function: Function, found: Choices, nodes: Sequence[NodeState], at: float
) -> Waiting:
    claims = claims_before(state, function, at)
    alone = find_offer(state, function, found, Claims(), at, True)
    offer = find_offer(state, function, found, claims, at, True)
    asked = " or ".join(request_name(entry.request) for entry in acceptable_entries(function, found, at))
    if alone is not None and alone.level < RETIRING and (offer is None or offer.level >= RETIRING):
        return why_claimed(claims, alone, asked)
    unusable = unusable_gpus(nodes, found)
    held = [gpu for node, gpu in unusable if gpu.healthy and gpu.uuid not in node.cordoned]
    if offer is not None and offer.level < RETIRING:
        holders = ", ".join(f"{one.id} of {one.function.spec.name}" for one in offer.holders)
        return Waiting(f"{asked}: {holders} is stopping to make room", "stopping", "it has stopped")
    if held and not any_of_ours(nodes, found):
        text = "; ".join(foreign_words(node, gpu) for node, gpu in unusable if gpu in held)
        return Waiting(f"{asked}: {text}", "foreign-use", "that ends, or another type is asked for")
    if unusable and not held and not any_of_ours(nodes, found):
        text = "; ".join(unhealthy_words(node, gpu) for node, gpu in unusable)
        return Waiting(f"{asked}: {text}", "gpu-unhealthy", "it is reset and its machine joins again")
    return why_busy(function, offer or alone, asked, nodes, found)


def why_claimed(claims: Claims, alone: Offer, asked: str) -> Waiting:
    for gpu in alone.gpus:
        larger = claims.collecting.get(gpu.uuid)
        if larger is not None:
            request = request_name(larger.spec.gpu[0])
            where, name = alone.node.node.id, larger.spec.name
            text = f"{asked}: what is free on {where} is being collected for {request} of {name}"
            return Waiting(text, "reserved-for-larger", f"{name} has run")
    first = next((claims.firm[gpu.uuid] for gpu in alone.gpus if gpu.uuid in claims.firm), None)
    name = first.spec.name if first is not None else "another function"
    return Waiting(f"{asked}: {name} has waited longer and is next", "claimed", f"{name} has run")


def why_busy(
    function: Function, offer: Offer | None, asked: str, nodes: Sequence[NodeState], found: Choices
) -> Waiting:
    if offer is None:
        holders = holders_of(nodes, found)
    else:
        holders = [one for one in offer.holders if one.status != DRAINING]
    words = [f"{one.id} of {one.function.spec.name}{gpus_of(one)}" for one in holders[:4]]
    if len(holders) > 4:
        words.append(f"{len(holders) - 4} more")
    held_by = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    count = offer.entry.request.count if offer is not None else 1
    where = f" on {offer.node.node.id}" if offer is not None else ""
    free = sum(gpu.uuid not in offer.node.holders for gpu in offer.gpus) if offer is not None else 0
    some_free = f", {free} of {count} free{where}" if free and count > 1 else ""
    return Waiting(f"{asked} is in use by {held_by}{some_free}", "gpu-busy", "its inputs end")


def kinds_of(found: Choices) -> list[tuple[str, int, bool]]:
    return list(dict.fromkeys(kind for entry in found.entries for tier in entry.tiers for kind in tier))


def unusable_gpus(nodes: Sequence[NodeState], found: Choices) -> list[tuple[NodeState, Gpu]]:
    """GPUs that would serve it but for what is wrong with them or who uses them."""
    return [
        (node, gpu)
        for node in nodes
        for kind in kinds_of(found)
        for gpu in node.by_kind.get(kind, ())
        if gpu.uuid not in node.holders and (not gpu.is_free or gpu.uuid in node.cordoned)
    ]


def holders_of(nodes: Sequence[NodeState], found: Choices) -> list[Container]:
    holders = {
        node.holders[gpu.uuid].id: node.holders[gpu.uuid]
        for node in nodes
        for kind in kinds_of(found)
        for gpu in node.by_kind.get(kind, ())
        if gpu.uuid in node.holders
    }
    return list(holders.values())


def any_of_ours(nodes: Sequence[NodeState], found: Choices) -> bool:
    return bool(holders_of(nodes, found))


def foreign_words(node: NodeState, gpu: Gpu) -> str:
    where = f"GPU {gpu.index} of {node.node.id} ({gpu.variant})"
    if gpu.foreign:
        use = gpu.foreign[0]
        return f"{where} is used by pid {use.pid} of {use.user} ({use.memory_mib:,} MiB)"
    return f"{where} is locked by {gpu.locked_by}"


def unhealthy_words(node: NodeState, gpu: Gpu) -> str:
    reason = node.cordoned.get(gpu.uuid) or gpu.unhealthy_reason or "unhealthy"
    return f"GPU {gpu.index} of {node.node.id} ({gpu.variant}) is out of service: {reason}"


def gpus_of(container: Container) -> str:
    allocation = container.allocation
    if not allocation.gpu_uuids:
        return ""
    return f" ({len(allocation.gpu_uuids)}×{allocation.gpu_type} on {allocation.node_id})"
