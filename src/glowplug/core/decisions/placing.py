"""Where a container goes now: a node and its GPUs, what must make room for it first, or what it waits for.

Free before being freed before evictable, and the preferred tier of the preferred entry before the next one.
Nothing is remembered between two looks: claims are worked out anew, in order of priority, whenever capacity
changes, so there is no reservation that could be out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heapreplace
from itertools import islice

from glowplug.core.decisions.autoscaling import cpu_containers, missing_containers
from glowplug.core.lifecycles import DRAINING, READY, STARTING
from glowplug.core.limits import Limits
from glowplug.core.state import Choices, Container, Entry, Function, Kind, NodeState, State
from glowplug.model.node import Gpu

FREE, COMING, EVICTABLE, PINNED, RETIRING, BUSY = range(6)
"""How near a GPU is: free; its container is stopping; idle above min_containers; idle and promised by
min_containers; in use by a container that takes no further input; in use."""


@dataclass(slots=True)
class Claims:
    """What functions of higher priority count on in this look, by GPU UUID."""

    firm: dict[str, Function] = field(default_factory=dict[str, Function])
    """About to be free, or made free for them."""
    collecting: dict[str, Function] = field(default_factory=dict[str, Function])
    """Kept while the rest of a large request is still in use; short runs may use these meanwhile."""


@dataclass(frozen=True, slots=True)
class Offer:
    node: NodeState
    gpus: tuple[Gpu, ...]
    entry: Entry
    level: int
    """How near the farthest of its GPUs is."""
    holders: tuple[Container, ...]
    """Whose GPUs they are now."""


def turns(state: State, at: float) -> Iterator[Function]:
    """Who is given a container next, one at a time: waiting inputs before promises, who holds least before
    who holds more, then who waits longest. What is given out on the way counts as held."""
    lacking = [
        (not function.queued, function.held, function.waiting_since or 0.0, number, function, missing)
        for number, function in enumerate(state.waiting.values())
        if function.spec.gpu and function.choices is not None and function.start_not_before <= at
        if (missing := missing_containers(function, function.choices, state.limits)) > 0
    ]
    heapify(lacking)
    while lacking:
        is_promise, held, _, number, function, missing = lacking[0]
        yield function
        if missing > 1:
            heapreplace(lacking, (is_promise, held + 1, at, number, function, missing - 1))
        else:
            heappop(lacking)


def is_aged(function: Function, at: float, limits: Limits) -> bool:
    """Whether it holds nothing and has waited so long that others make room for it between two inputs."""
    since = function.waiting_since
    return not function.held and since is not None and at - since >= limits.ageing_s


def claim(claims: Claims, function: Function, offer: Offer, aged: bool) -> None:
    kept = claims.firm if offer.level < RETIRING or aged else claims.collecting
    for gpu in offer.gpus:
        kept[gpu.uuid] = function


def claims_before(state: State, function: Function, at: float) -> Claims:
    """What those before it in turn would claim if everything that waits were looked at now."""
    claims = Claims()
    for other in turns(state, at):
        if other is function:
            break
        assert other.choices is not None
        entries = acceptable_entries(other, other.choices, at)
        offer = find_offer(state, other, other.choices, entries, claims, other.queued > 0)
        if offer is not None:
            claim(claims, other, offer, is_aged(other, at, state.limits))
    return claims


Usable = Callable[[Gpu], bool]


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
    state: State,
    function: Function,
    found: Choices,
    entries: Sequence[Entry],
    claims: Claims,
    urgent: bool,
) -> Offer | None:
    """The best place for one more container, or what it should wait for; None: there is nothing to claim.

    ``entries``: the fallbacks that may be taken. ``urgent``: an input waits for it, so idle containers of
    others make room.
    """
    usable = usable_gpus(function, claims, state.limits)
    entries = [leave_to_explicit(state, function, entry) for entry in entries]
    deepest = EVICTABLE if urgent else COMING
    for entry in entries:
        for tier in entry.tiers:
            offer = best_in_tier(state, found, entry, tier, usable, deepest)
            if offer is not None:
                return offer
    if not urgent:
        return None
    for entry in entries:
        if only_promised_could(state, found, entry):
            kinds = [kind for tier in entry.tiers for kind in tier]
            offer = best_in_tier(state, found, entry, kinds, usable, PINNED)
            if offer is not None:
                return offer
    return least_missing(state, function, found, entries, usable)


def acceptable_entries(function: Function, found: Choices, at: float) -> tuple[Entry, ...]:
    """The fallbacks that may be taken now: only the first while its hold-out lasts."""
    held_until = function.held_back_until
    if function.spec.gpu_fallback_after_s and (held_until is None or at < held_until):
        return found.entries[:1]
    return found.entries


def usable_gpus(function: Function, claims: Claims, limits: Limits) -> Usable:
    """Whether a GPU is left to a function by those of higher priority."""
    firm, collecting = claims.firm, claims.collecting
    if is_short(function.run_time_s, limits):
        return lambda gpu: gpu.uuid not in firm
    return lambda gpu: gpu.uuid not in firm and gpu.uuid not in collecting


def is_short(run_time_s: float | None, limits: Limits) -> bool:
    """Whether runs are known to be so short that they may use what is being collected."""
    return run_time_s is not None and run_time_s < limits.backfill_run_s


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


def best_in_tier(
    state: State, found: Choices, entry: Entry, kinds: Sequence[Kind], usable: Usable, deepest: int
) -> Offer | None:
    """The nearest GPUs of any of these kinds; of equally near ones the first kind's, then the tightest fit,
    which leaves the larger holes to larger requests."""
    count = entry.request.count
    nodes = [
        (number, node, levels)
        for number, kind in enumerate(kinds)
        for node, levels in gpus_by_level(state, found, kind, usable)
    ]
    for level in range(deepest + 1):
        best: tuple[tuple[int, int, int], NodeState, list[list[Gpu]]] | None = None
        for number, node, levels in nodes:
            if sum(len(nearer) for nearer in levels[: level + 1]) < count:
                continue
            free = len(levels[FREE])
            key = (number, max(0, count - free), free)
            if best is None or key < best[0]:
                best = (key, node, levels)
        if best is not None:
            return make_offer(entry, best[1], best[2], level)
    return None


def make_offer(entry: Entry, node: NodeState, levels: list[list[Gpu]], level: int) -> Offer:
    gpus = pick(levels, entry.request.count)
    holders = {node.holders[gpu.uuid].id: node.holders[gpu.uuid] for gpu in gpus if gpu.uuid in node.holders}
    return Offer(node, gpus, entry, level, tuple(holders.values()))


def pick(levels: list[list[Gpu]], count: int) -> tuple[Gpu, ...]:
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


def gpus_by_level(
    state: State, found: Choices, kind: Kind, usable: Usable
) -> Iterator[tuple[NodeState, list[list[Gpu]]]]:
    """The usable GPUs of a kind, by how near they are, on every node that suits."""
    for node_id in found.node_ids:
        node = state.nodes[node_id]
        if node.draining:
            continue
        levels: list[list[Gpu]] = [[], [], [], [], [], []]
        for gpu in node.by_kind.get(kind, ()):
            if usable(gpu):
                level = level_of(node, gpu)
                if level is not None:
                    levels[level].append(gpu)
        if len(levels[EVICTABLE]) > 1:
            # The longest idle first, and the GPUs of one container together.
            levels[EVICTABLE].sort(key=lambda gpu: idle_rank(node.holders[gpu.uuid]))
        if any(levels):
            yield node, levels


def idle_rank(container: Container) -> tuple[float, int]:
    return container.idle_since, container.allocation.epoch


def level_of(node: NodeState, gpu: Gpu) -> int | None:
    """How near a GPU is to being free; None if it cannot be used."""
    if not gpu.healthy or gpu.uuid in node.cordoned:
        return None
    holder = node.holders.get(gpu.uuid)
    if holder is None:
        return FREE if gpu.is_free else None
    if holder.status == DRAINING:
        return COMING
    function = holder.function
    is_idle = holder.id in function.idle or (holder.status == STARTING and not function.queued)
    if is_idle:
        return PINNED if is_promised(holder) else EVICTABLE
    return RETIRING if holder.retiring else BUSY


def is_promised(container: Container) -> bool:
    """Whether it is one of those ``min_containers`` keeps: the oldest that serve."""
    function = container.function
    promised = function.spec.min_containers
    if not promised or container.status == DRAINING or container.retiring:
        return False
    serving = (
        one for one in function.containers.values() if one.status in (READY, STARTING) and not one.retiring
    )
    return any(one is container for one in islice(serving, promised))


def only_promised_could(state: State, found: Choices, entry: Entry) -> bool:
    """Whether no machine has enough GPUs for this besides those min_containers keeps: only then these
    yield."""
    for kind in (kind for tier in entry.tiers for kind in tier):
        for node_id in found.node_ids:
            node = state.nodes[node_id]
            others = 0
            for gpu in node.by_kind.get(kind, ()):
                holder = node.holders.get(gpu.uuid)
                is_usable = gpu.healthy and gpu.uuid not in node.cordoned
                others += is_usable and not (holder is not None and is_promised(holder))
            if others >= entry.request.count:
                return False
    return True


def least_missing(
    state: State, function: Function, found: Choices, entries: Sequence[Entry], usable: Usable
) -> Offer | None:
    """Where the fewest GPUs are still in use: what is free there is kept until the rest is."""
    best: tuple[tuple[int, int, bool, int], Entry, NodeState, list[list[Gpu]]] | None = None
    for position, entry in enumerate(entries):
        count = entry.request.count
        promised_too = only_promised_could(state, found, entry)
        for kind in (kind for tier in entry.tiers for kind in tier):
            for node, levels in gpus_by_level(state, found, kind, usable):
                if not promised_too:
                    levels[PINNED].clear()
                    levels[BUSY] = [gpu for gpu in levels[BUSY] if not is_promised(node.holders[gpu.uuid])]
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
