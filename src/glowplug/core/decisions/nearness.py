"""How near every GPU is to being free, and who counts on it already: one look at the fleet.

A look is made when capacity has changed and is thrown away after it. Nothing in it outlives the event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from glowplug.core.decisions.fitting import kind_of
from glowplug.core.lifecycles import DRAINING, READY, STARTING
from glowplug.core.state import Choices, Container, Function, Kind, NodeState, State
from glowplug.model.node import Gpu

FREE, COMING, EVICTABLE, PINNED, RETIRING, BUSY = range(6)
"""How near a GPU is: free; its container is stopping; idle above min_containers; idle and promised by
min_containers; in use by a container that takes no further input; in use."""

Levels = list[list[Gpu]]
"""The GPUs of one kind on one node, by how near they are."""


class Look:
    """The GPUs nobody of higher priority counts on, by kind and node, worked out once a kind."""

    __slots__ = ("_near", "_tables", "collecting", "firm", "has_promises", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.firm: dict[str, Function] = {}
        """Counted on, by UUID: free, about to be free, or made free for them."""
        self.collecting: dict[str, Function] = {}
        """Kept while the rest of a large request is still in use; short runs may use these meanwhile."""
        self.has_promises = any(function.spec.min_containers for function in state.functions.values())
        self._tables: dict[tuple[Kind, bool], dict[str, Levels]] = {}
        self._near: dict[tuple[Kind, bool], dict[str, Levels]] = {}
        """Of a table, the nodes where anything is not in use: in a full fleet, few of many."""

    def nodes(
        self, found: Choices, kind: Kind, is_short: bool, near: bool = False
    ) -> Iterator[tuple[NodeState, Levels]]:
        """What is left of a kind on every node that suits; with ``is_short`` also what is being collected,
        with ``near`` only nodes where anything is not in use."""
        if (kind, is_short) not in self._tables:
            table = self._tables[kind, is_short] = dict(self._table(kind, is_short))
            self._near[kind, is_short] = {
                node_id: levels for node_id, levels in table.items() if any(levels[:RETIRING])
            }
        table = (self._near if near else self._tables)[kind, is_short]
        suits = table if len(found.node_ids) == len(self.state.nodes) else found.node_ids
        for node_id in suits:
            levels = table.get(node_id)
            if levels is not None:
                yield self.state.nodes[node_id], levels

    def _table(self, kind: Kind, is_short: bool) -> Iterator[tuple[str, Levels]]:
        for node in self.state.nodes.values():
            if node.draining or kind not in node.by_kind:
                continue
            levels: Levels = [[], [], [], [], [], []]
            for gpu in node.by_kind[kind]:
                if gpu.uuid in self.firm or (gpu.uuid in self.collecting and not is_short):
                    continue
                level = level_of(node, gpu)
                if level is not None:
                    levels[level].append(gpu)
            if len(levels[EVICTABLE]) > 1:
                # The longest idle first, and the GPUs of one container together.
                levels[EVICTABLE].sort(key=lambda gpu: idle_rank(node.holders[gpu.uuid]))
            if any(levels):
                yield node.node.id, levels

    def take(self, function: Function, node: NodeState, gpus: Sequence[Gpu], is_firm: bool) -> None:
        """A function counts on these from now on."""
        keeper = self.firm if is_firm else self.collecting
        for gpu in gpus:
            keeper[gpu.uuid] = function
        kind = kind_of(gpus[0])
        for is_short in (False, True) if is_firm else (False,):
            levels = self._tables.get((kind, is_short), {}).get(node.node.id)
            if levels is not None:
                levels[:] = [[gpu for gpu in level if gpu not in gpus] for level in levels]


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
