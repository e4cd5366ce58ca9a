"""Where a container goes now: a node and its GPUs, what must make room for it first, or what it waits for.

Free before being freed before evictable, the preferred tier of the preferred entry before the next one. Nothing is
remembered between two looks: claims are worked out anew, in order of priority, whenever capacity changes, so there
is no reservation that could be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glowplug.core.decisions.autoscaling import containers_per_node
from glowplug.core.decisions.fitting import kind_of
from glowplug.core.lifecycles import DRAINING, READY
from glowplug.core.state import Choices, Container, Entry, Function, Kind, NodeState, State
from glowplug.model.node import Gpu

FREE, COMING, EVICTABLE, PINNED, BUSY = range(5)
"""How near a GPU is: free; its container is stopping; idle above min_containers; idle and promised by
min_containers; in use."""


@dataclass(frozen=True, slots=True)
class Offer:
    node: NodeState
    gpus: tuple[Gpu, ...]
    entry: Entry
    level: int
    evict: tuple[Container, ...]
    """Idle containers to stop first."""
    busy: tuple[Container, ...]
    """Containers in use that hold some of the GPUs."""


Claimed = Mapping[str, Function]
"""GPU UUIDs that earlier functions of this look count on."""


def node_for_cpu(state: State, function: Function, found: Choices) -> NodeState | None:
    """The node with the most room for a further container of a function without GPUs."""
    best: tuple[int, int, NodeState] | None = None
    for position, node_id in enumerate(found.node_ids):
        node = state.nodes[node_id]
        if node.draining:
            continue
        of_function = sum(1 for container in node.containers.values() if container.function is function)
        room = containers_per_node(node.node.cpus, state.limits) - of_function
        if room > 0 and (best is None or (-room, position) < best[:2]):
            best = (-room, position, node)
    return best[2] if best else None


def find_offer(
    state: State, function: Function, found: Choices, claimed: Claimed, at: float, urgent: bool
) -> Offer | None:
    """The best place for one more container, or what it should wait for; None: nothing can be claimed.

    ``urgent``: an input waits for it, so idle containers of others make room.
    """
    entries = acceptable_entries(function, found, at)
    deepest = EVICTABLE if urgent else COMING
    for entry in entries:
        for tier in entry.tiers:
            kinds = [kind for kind in tier if not kept_for_explicit(state, function, entry, kind)]
            offer = best_in_tier(state, function, found, entry, kinds, claimed, deepest)
            if offer is not None:
                return offer
    if not urgent:
        return None
    for entry in entries:
        if only_pinned_could(state, found, entry):
            kinds = [kind for tier in entry.tiers for kind in tier]
            offer = best_in_tier(state, function, found, entry, kinds, claimed, PINNED)
            if offer is not None:
                return offer
    return least_missing(state, function, found, entries, claimed)


def acceptable_entries(function: Function, found: Choices, at: float) -> tuple[Entry, ...]:
    """The fallbacks that may be taken now: only the first while its hold-out lasts."""
    held_until = function.held_back_until
    if function.spec.gpu_fallback_after_s and (held_until is None or at < held_until):
        return found.entries[:1]
    return found.entries


def kept_for_explicit(state: State, function: Function, entry: Entry, kind: Kind) -> bool:
    """A larger card serves a request without memory only while no request for exactly that size waits."""
    if entry.request.memory_gb is not None or kind in entry.tiers[0] or kind[0] != entry.request.type:
        return False
    return any(
        other is not function
        and any(request.type == kind[0] and request.memory_gb == kind[1] for request in other.spec.gpu)
        for other in state.waiting.values()
    )


def best_in_tier(
    state: State,
    function: Function,
    found: Choices,
    entry: Entry,
    kinds: list[Kind],
    claimed: Claimed,
    deepest: int,
) -> Offer | None:
    count = entry.request.count
    by_node = [
        (kind_number, node, levels)
        for kind_number, kind in enumerate(kinds)
        for node, levels in gpus_by_level(state, function, found, kind, claimed)
    ]
    for level in range(deepest + 1):
        best: tuple[tuple[int, int, int], NodeState, list[list[Gpu]]] | None = None
        for kind_number, node, levels in by_node:
            near = sum(len(levels[nearer]) for nearer in range(level + 1))
            if near < count:
                continue
            # The tightest fit leaves the larger holes to larger requests.
            missing = count - len(levels[FREE])
            key = (kind_number, max(0, missing), len(levels[FREE]))
            if best is None or key < best[0]:
                best = (key, node, levels)
        if best is not None:
            return make_offer(entry, best[1], best[2], level)
    return None


def make_offer(entry: Entry, node: NodeState, levels: list[list[Gpu]], level: int) -> Offer:
    gpus = pick(levels, entry.request.count)
    holders = {id(node.holders[gpu.uuid]): node.holders[gpu.uuid] for gpu in gpus if gpu.uuid in node.holders}
    evict = tuple(
        container
        for container in holders.values()
        if container.status == READY and not container.running and not container.ahead
    )
    busy = tuple(container for container in holders.values() if container.running or container.ahead)
    return Offer(node, gpus, entry, level, evict, busy)


def pick(levels: list[list[Gpu]], count: int) -> tuple[Gpu, ...]:
    """The nearest GPUs, and of several free ones a set linked to each other."""
    free = levels[FREE]
    if len(free) >= count:
        return linked(free, count)
    flat = [gpu for level in levels for gpu in level]
    return tuple(flat[:count])


def linked(free: list[Gpu], count: int) -> tuple[Gpu, ...]:
    """The first GPU and those with most links into the set so far; for one GPU, the one whose absence
    breaks up least."""
    uuids = {gpu.uuid for gpu in free}
    if count == 1:
        return (min(free, key=lambda gpu: sum(peer in uuids for peer in gpu.nvlink_peers)),)
    best: tuple[int, tuple[Gpu, ...]] | None = None
    for seed in free:
        chosen = [seed]
        links = 0
        while len(chosen) < count:
            rest = [gpu for gpu in free if gpu not in chosen]
            nearest = max(rest, key=lambda gpu: sum(member.uuid in gpu.nvlink_peers for member in chosen))
            links += sum(member.uuid in nearest.nvlink_peers for member in chosen)
            chosen.append(nearest)
        if best is None or links > best[0]:
            best = (links, tuple(sorted(chosen, key=lambda gpu: gpu.index)))
    assert best is not None
    return best[1]


def gpus_by_level(
    state: State, function: Function, found: Choices, kind: Kind, claimed: Claimed
) -> Iterator[tuple[NodeState, list[list[Gpu]]]]:
    """The unclaimed GPUs of a kind on every node that may be used, by how near they are."""
    for node_id in found.node_ids:
        node = state.nodes[node_id]
        if node.draining:
            continue
        levels: list[list[Gpu]] = [[], [], [], [], []]
        # The longest idle container of a function goes first; this many of each may go.
        spare: dict[int, int] = {}
        for gpu in node.gpus.values():
            if kind_of(gpu) != kind or gpu.uuid in claimed:
                continue
            level = level_of(node, gpu, spare)
            if level is not None:
                levels[level].append(gpu)
        if any(levels):
            if len(levels[EVICTABLE]) > 1:
                levels[EVICTABLE].sort(key=lambda gpu: node.holders[gpu.uuid].idle_since)
            yield node, levels


def level_of(node: NodeState, gpu: Gpu, spare: dict[int, int]) -> int | None:
    """How near a GPU is to being free; None if it cannot be used."""
    if not gpu.healthy or gpu.uuid in node.cordoned:
        return None
    holder = node.holders.get(gpu.uuid)
    if holder is None:
        return FREE if gpu.is_free else None
    if holder.status == DRAINING:
        return COMING
    if holder.status == READY and not holder.running and not holder.ahead:
        if holder.id in holder.function.idle and is_spare(holder):
            return EVICTABLE
        return PINNED
    return BUSY


def is_spare(container: Container) -> bool:
    """Whether an idle container is above what ``min_containers`` promises; the longest idle are."""
    function = container.function
    surplus = function.live - function.spec.min_containers
    if surplus >= len(function.idle):
        return True
    for position, idle in enumerate(function.idle.values()):
        if position >= surplus:
            return False
        if idle is container:
            return True
    return False


def only_pinned_could(state: State, found: Choices, entry: Entry) -> bool:
    """Whether no machine has enough GPUs for this besides those min_containers hold: only then these yield."""
    for tier in entry.tiers:
        for kind in tier:
            for node_id in found.node_ids:
                node = state.nodes[node_id]
                others = sum(
                    1
                    for gpu in node.gpus.values()
                    if kind_of(gpu) == kind and not is_promised(node.holders.get(gpu.uuid))
                )
                if others >= entry.request.count:
                    return False
    return True


def is_promised(holder: Container | None) -> bool:
    return holder is not None and 0 < holder.function.live <= holder.function.spec.min_containers


def least_missing(
    state: State, function: Function, found: Choices, entries: tuple[Entry, ...], claimed: Claimed
) -> Offer | None:
    """Where the fewest GPUs are missing: what is free there is kept for it until the rest is."""
    best: tuple[tuple[int, bool, int], Entry, NodeState, list[list[Gpu]]] | None = None
    for position, entry in enumerate(entries):
        for kind in (kind for tier in entry.tiers for kind in tier):
            for node, levels in gpus_by_level(state, function, found, kind, claimed):
                if sum(map(len, levels)) < entry.request.count:
                    continue
                near = sum(map(len, levels[:PINNED]))
                # Staying where GPUs are being collected already keeps two large requests from trading places.
                key = (entry.request.count - near, node.node.id != function.reserved_node, position)
                if best is None or key < best[0]:
                    best = (key, entry, node, levels)
    return make_offer(best[1], best[2], best[3], BUSY) if best else None
