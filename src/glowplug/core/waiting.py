"""Why a function's inputs wait now: who holds what they need, and what would end the wait.

Asks the same decisions that place containers, on the same state, and changes nothing. Texts do not count
seconds, so the same reason is the same text for as long as it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glowplug.core.decisions.autoscaling import missing_containers
from glowplug.core.decisions.fitting import check_satisfiable
from glowplug.core.decisions.nearness import RETIRING, Look
from glowplug.core.decisions.placing import Offer, acceptable_entries, find_offer, least_missing, look_before
from glowplug.core.lifecycles import DRAINING
from glowplug.core.state import Choices, Container, Function, NodeState, State
from glowplug.model.gpu import format_request
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
    look = look_before(state, function, at)
    if is_held_back(function, found, look, at):
        first = format_request(found.entries[0].request)
        hold_s = function.spec.gpu_fallback_after_s or 0.0
        text = f"holds out for {first} before a fallback is taken"
        return Waiting(text, "fallback-hold", f"{first} is free, or gpu_fallback_after={hold_s:g} s is over")
    return why_no_gpu(state, function, found, look, at)


def is_held_back(function: Function, found: Choices, look: Look, at: float) -> bool:
    """Whether a later fallback could be had now and is not taken yet."""
    later = found.entries[len(acceptable_entries(function, found, at)) :]
    offer = find_offer(look, function, found, later, urgent=True)
    return offer is not None and offer.level < RETIRING


def why_no_gpu(state: State, function: Function, found: Choices, look: Look, at: float) -> Waiting:
    entries = acceptable_entries(function, found, at)
    everything = Look(state)
    alone = find_offer(everything, function, found, entries, urgent=True)
    alone = alone or least_missing(everything, function, found, entries)
    offer = find_offer(look, function, found, entries, urgent=True)
    asked = " or ".join(format_request(entry.request) for entry in entries)
    if offer is not None and offer.level < RETIRING:
        return Waiting(f"{asked}: {stopping_words(offer)}", "stopping", "it has stopped")
    if alone is not None and alone.level < RETIRING:
        return why_claimed(look, alone, asked)
    busy = busy_words(alone) if alone is not None else holders_words(holders_of(state, found))
    foreign = foreign_words(state, found)
    broken = broken_words(state, found)
    parts = [f"in use by {busy}"] if busy else []
    text = f"{asked}: " + "; ".join(parts + foreign + broken)
    if foreign and (not busy or alone is None):
        return Waiting(text, "foreign-use", "that use ends, or another type is asked for")
    if broken and not busy:
        return Waiting(text, "gpu-unhealthy", "it is reset and its machine joins again")
    return Waiting(text, "gpu-busy", "their inputs end")


def why_claimed(look: Look, alone: Offer, asked: str) -> Waiting:
    """It could be had, but for those of higher priority."""
    for gpu in alone.gpus:
        larger = look.collecting.get(gpu.uuid)
        if larger is not None:
            request = format_request(larger.spec.gpu[0])
            where, name = alone.node.node.id, larger.spec.name
            text = f"{asked}: what is free on {where} is being collected for {request} of {name}"
            return Waiting(text, "reserved-for-larger", f"{name} has run")
    first = next((look.firm[gpu.uuid] for gpu in alone.gpus if gpu.uuid in look.firm), None)
    name = first.spec.name if first is not None else "another function"
    return Waiting(f"{asked}: {name} has waited longer and is next", "claimed", f"{name} has run")


def stopping_words(offer: Offer) -> str:
    names = ", ".join(f"{one.id} of {one.function.spec.name}" for one in offer.holders)
    return f"{names} is stopping to make room"


def busy_words(offer: Offer) -> str:
    """Who is in the way of an offer, and how much of it is free already: an idle container is a cache."""
    staying = [one for one in offer.holders if one.status != DRAINING]
    in_the_way = [one for one in staying if not is_idle_cache(one)] or staying
    count = offer.entry.request.count
    free = sum(
        holder is None or (holder not in in_the_way and holder.status != DRAINING)
        for holder in (offer.node.holders.get(gpu.uuid) for gpu in offer.gpus)
    )
    words = holders_words(in_the_way)
    return f"{words}, {free} of {count} free on {offer.node.node.id}" if free else words


def is_idle_cache(container: Container) -> bool:
    """Whether its GPUs count as free: nothing runs in it and nobody was promised that it stays."""
    is_idle = container.id in container.function.idle
    return is_idle and not container.function.spec.min_containers


def holders_words(holders: Sequence[Container]) -> str:
    words = [f"{one.id} of {one.function.spec.name}{gpus_of(one)}" for one in holders[:4]]
    if len(holders) > 4:
        words.append(f"{len(holders) - 4} more")
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def gpus_that_would_do(state: State, found: Choices) -> list[tuple[NodeState, Gpu]]:
    """Everything of the kinds that serve it, whoever uses it and whatever is wrong with it."""
    kinds = dict.fromkeys(kind for entry in found.entries for tier in entry.tiers for kind in tier)
    nodes = [state.nodes[node_id] for node_id in found.node_ids]
    return [(node, gpu) for node in nodes for kind in kinds for gpu in node.by_kind.get(kind, ())]


def holders_of(state: State, found: Choices) -> list[Container]:
    holding = [node.holders.get(gpu.uuid) for node, gpu in gpus_that_would_do(state, found)]
    return list({holder.id: holder for holder in holding if holder is not None}.values())


def foreign_words(state: State, found: Choices) -> list[str]:
    """Who else uses GPUs that would serve it."""
    words: list[str] = []
    for node, gpu in gpus_that_would_do(state, found):
        where = f"GPU {gpu.index} of {node.node.id} ({gpu.variant})"
        if gpu.uuid in node.holders:
            continue
        if gpu.foreign:
            use = gpu.foreign[0]
            words.append(f"{where} is used by pid {use.pid} of {use.user} ({use.memory_mib:,} MiB)")
        elif gpu.locked_by:
            words.append(f"{where} is locked by {gpu.locked_by}")
    return words


def broken_words(state: State, found: Choices) -> list[str]:
    """Which GPUs that would serve it are out of service."""
    words: list[str] = []
    for node, gpu in gpus_that_would_do(state, found):
        reason = node.cordoned.get(gpu.uuid) or ("" if gpu.healthy else gpu.unhealthy_reason or "unhealthy")
        if reason:
            words.append(f"GPU {gpu.index} of {node.node.id} ({gpu.variant}) is out of service: {reason}")
    return words


def gpus_of(container: Container) -> str:
    allocation = container.allocation
    if not allocation.gpu_uuids:
        return ""
    return f" ({len(allocation.gpu_uuids)}×{allocation.gpu_type} on {allocation.node_id})"
