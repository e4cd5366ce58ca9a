"""Where a container goes now: a node and its GPUs, what must make room for it first, or what it waits for.

Free before being freed before evictable, and the preferred tier of the preferred entry before the next one.
Nothing is remembered between two looks: claims are worked out anew, in turn, whenever capacity changes, so
there is no reservation that could be out of date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glowplug.core.decisions.autoscaling import cpu_containers
from glowplug.core.decisions.nearness import (
    BUSY,
    COMING,
    EVICTABLE,
    FREE,
    PINNED,
    RETIRING,
    Levels,
    Look,
    is_promised,
)
from glowplug.core.decisions.turns import is_aged, is_short, turns
from glowplug.core.state import Choices, Container, Entry, Function, Kind, NodeState, State
from glowplug.model.node import Gpu


@dataclass(frozen=True, slots=True)
class Offer:
    node: NodeState
    gpus: tuple[Gpu, ...]
    entry: Entry
    level: int
    """How near the farthest of its GPUs is."""
    holders: tuple[Container, ...]
    """Whose GPUs they are now."""


def claim(look: Look, function: Function, offer: Offer, aged: bool) -> None:
    """It counts on what it was offered; what is only being collected stays open to short runs."""
    look.take(function, offer.node, offer.gpus, is_firm=offer.level < RETIRING or aged)


def look_before(state: State, function: Function, at: float) -> Look:
    """What is left to a function by those before it in turn, if everything that waits were looked at now."""
    look = Look(state)
    done: dict[str, Function] = {}
    for other in turns(state, at, done):
        if other is function:
            break
        assert other.choices is not None
        entries = acceptable_entries(other, other.choices, at)
        offer = find_offer(look, other, other.choices, entries, other.queued > 0)
        if offer is not None:
            claim(look, other, offer, is_aged(other, at, state.limits))
        if offer is None or offer.level >= RETIRING:
            done[other.spec.id] = other
    return look


def node_for_cpu(state: State, function: Function, found: Choices) -> NodeState | None:
    """The node with the most room for a further container of a function without GPUs."""
    best: NodeState | None = None
    most = 0
    for node_id in found.node_ids:
        node = state.nodes[node_id]
        if node.draining:
            continue
        held = sum(container.function is function for container in node.containers.values())
        room = cpu_containers(function.spec, node.node, len(found.node_ids), state.limits) - held
        if room > most:
            best, most = node, room
    return best


def find_offer(
    look: Look, function: Function, found: Choices, entries: Sequence[Entry], urgent: bool
) -> Offer | None:
    """The best place for one more container, or what it should wait for; None: there is nothing to claim.

    ``entries``: the fallbacks that may be taken. ``urgent``: an input waits for it, so idle containers of
    others make room.
    """
    state = look.state
    short = is_short(function.run_time_s, state.limits)
    entries = [leave_to_explicit(state, function, entry) for entry in entries]
    deepest = EVICTABLE if urgent else COMING
    for entry in entries:
        for tier in entry.tiers:
            offer = best_in_tier(look, found, entry, tier, short, deepest)
            if offer is not None:
                return offer
    if not urgent:
        return None
    for entry in entries:
        if only_promised_could(look, function, found, entry):
            offer = best_in_tier(look, found, entry, kinds_of(entry), short, PINNED)
            if offer is not None:
                return offer
    if all(entry.request.count == 1 for entry in entries) and not is_aged(function, state.now, state.limits):
        # A single card in use leaves nothing to collect meanwhile.
        return None
    return least_missing(look, function, found, entries)


def acceptable_entries(function: Function, found: Choices, at: float) -> tuple[Entry, ...]:
    """The fallbacks that may be taken now: only the first while its hold-out lasts."""
    held_until = function.held_back_until
    if function.spec.gpu_fallback_after_s and (held_until is None or at < held_until):
        return found.entries[:1]
    return found.entries


def leave_to_explicit(state: State, function: Function, entry: Entry) -> Entry:
    """The entry without larger cards than it means, where a request for exactly such a card waits: "A100"
    may be served by 80 GB, but not before an "A100-80GB". Who has waited too long asks nobody."""
    request = entry.request
    if request.memory_gb is not None or len(entry.tiers) == 1 or is_aged(function, state.now, state.limits):
        return entry
    asked_for = {
        (other_request.type, other_request.memory_gb)
        for other in state.waiting.values()
        if other is not function
        for other_request in other.spec.gpu
        if other_request.type == request.type
    }
    tiers = (tuple(kind for kind in tier if kind[:2] not in asked_for) for tier in entry.tiers[1:])
    return replace(entry, tiers=(entry.tiers[0], *(tier for tier in tiers if tier)))


def kinds_of(entry: Entry) -> list[Kind]:
    return [kind for tier in entry.tiers for kind in tier]


def best_in_tier(
    look: Look, found: Choices, entry: Entry, kinds: Sequence[Kind], short: bool, deepest: int
) -> Offer | None:
    """The nearest GPUs of any of these kinds; of equally near ones the first kind's, then the tightest fit,
    which leaves the larger holes to larger requests."""
    count = entry.request.count
    nodes = [
        (number, node, levels)
        for number, kind in enumerate(kinds)
        for node, levels in look.nodes(found, kind, short, near=True)
    ]
    for level in range(deepest + 1):
        best: tuple[tuple[int, int, int], NodeState, Levels] | None = None
        for number, node, levels in nodes:
            free = near = len(levels[FREE])
            for nearer in range(1, level + 1):
                near += len(levels[nearer])
            if near >= count:
                key = (number, max(0, count - free), free)
                if best is None or key < best[0]:
                    best = (key, node, levels)
        if best is not None:
            return make_offer(entry, best[1], best[2], level)
    return None


def make_offer(entry: Entry, node: NodeState, levels: Levels, level: int) -> Offer:
    gpus = pick(levels, entry.request.count)
    holders = {node.holders[gpu.uuid].id: node.holders[gpu.uuid] for gpu in gpus if gpu.uuid in node.holders}
    return Offer(node, gpus, entry, level, tuple(holders.values()))


def pick(levels: Levels, count: int) -> tuple[Gpu, ...]:
    """The nearest GPUs, and of several free ones a set linked to each other."""
    free = levels[FREE]
    if len(free) >= count:
        return linked(free, count)
    return tuple([gpu for level in levels for gpu in level][:count])


def linked(free: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
    """The set with most NVLinks inside; a single GPU is the one with the fewest links to other free ones."""
    uuids = {gpu.uuid for gpu in free}
    if count == 1:
        return (min(free, key=lambda gpu: sum(peer in uuids for peer in gpu.nvlink_peers)),)
    if count == len(free):
        return tuple(free)
    best = tuple(free[:count])
    most = links_inside(best)
    for seed in free if any(gpu.nvlink_peers for gpu in free) else ():
        chosen = [seed]
        while len(chosen) < count:
            rest = [gpu for gpu in free if gpu not in chosen]
            chosen.append(max(rest, key=lambda gpu: sum(one.uuid in gpu.nvlink_peers for one in chosen)))
        links = links_inside(chosen)
        if links > most:
            best, most = tuple(sorted(chosen, key=lambda gpu: gpu.index)), links
    return best


def links_inside(gpus: Sequence[Gpu]) -> int:
    return sum(other.uuid in gpu.nvlink_peers for gpu in gpus for other in gpus)


def only_promised_could(look: Look, function: Function, found: Choices, entry: Entry) -> bool:
    """Whether no machine has enough GPUs for this besides those min_containers keeps: only then these
    yield."""
    if not look.has_promises:
        return False
    for kind in kinds_of(entry):
        for node_id in found.node_ids:
            node = look.state.nodes[node_id]
            others = 0
            for gpu in node.by_kind.get(kind, ()):
                holder = node.holders.get(gpu.uuid)
                is_usable = gpu.healthy and gpu.uuid not in node.cordoned
                is_kept = holder is not None and holder.function is not function and is_promised(holder)
                others += is_usable and not is_kept
            if others >= entry.request.count:
                return False
    return True


def least_missing(look: Look, function: Function, found: Choices, entries: Sequence[Entry]) -> Offer | None:
    """Where the fewest GPUs are still in use: what is free there is kept until the rest is."""
    short = is_short(function.run_time_s, look.state.limits)
    best: tuple[tuple[int, int, bool, int], Entry, NodeState, Levels] | None = None
    for position, entry in enumerate(entries):
        count = entry.request.count
        keeps_promises = look.has_promises and not only_promised_could(look, function, found, entry)
        for kind in kinds_of(entry):
            for node, all_levels in look.nodes(found, kind, short):
                levels = without_promised(node, all_levels) if keeps_promises else all_levels
                total = sum(map(len, levels))
                if total < count:
                    continue
                not_busy = total - len(levels[BUSY])
                near = not_busy - len(levels[RETIRING])
                # Staying where GPUs are being collected already keeps two large requests from trading places.
                elsewhere = node.node.id != function.reserved_node
                key = (max(0, count - not_busy), max(0, count - near), elsewhere, position)
                if best is None or key < best[0]:
                    best = (key, entry, node, levels)
    return make_offer(best[1], best[2], best[3], BUSY) if best else None


def without_promised(node: NodeState, levels: Levels) -> Levels:
    busy = [gpu for gpu in levels[BUSY] if not is_promised(node.holders[gpu.uuid])]
    return [*levels[:PINNED], [], levels[RETIRING], busy]
