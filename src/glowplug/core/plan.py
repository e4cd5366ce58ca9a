"""Where each function of an app would run now, what it would wait for and what an hour costs, before
anything runs.

Asks the decisions that place containers, on the state as it is; nothing is started and nothing changes. Every
function is planned as if it alone were called, except that what ``min_containers`` of the app's functions
would hold from its start on is taken first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glowplug.core.decisions.fitting import (
    check_satisfiable,
    choices,
    kind_name,
    kind_of,
    price_of,
)
from glowplug.core.decisions.nearness import COMING, EVICTABLE, FREE, PINNED, Look
from glowplug.core.decisions.placing import (
    Offer,
    acceptable_entries,
    claim,
    find_offer,
    least_missing,
    look_before,
    node_for_cpu,
)
from glowplug.core.state import App, Choices, Function, State
from glowplug.core.waiting import broken_words, busy_words, foreign_words, holders_words, stopping_words
from glowplug.model.function import FunctionSpec
from glowplug.model.gpu import format_request


@dataclass(frozen=True, slots=True)
class PlannedFunction:
    name: str
    asked: str
    """Its ``gpu=`` as requested, "" for none."""
    node_id: str = ""
    """Where the first container would go; "" when nothing here could run it."""
    gpu_uuids: tuple[str, ...] = ()
    gpu_type: str = ""
    """The variant it would get ("A100-80GB"), "" without a GPU."""
    gpu_count: int = 0
    fallback_index: int = -1
    """Which entry of ``gpu=`` that is."""
    starts_now: bool = False
    waits_for: str = ""
    """What has to happen first, in words; "" if it starts now."""
    evicts: tuple[str, ...] = ()
    """Idle containers that would be stopped for it, with their functions."""
    usd_per_hour: float = 0.0
    """Of one container."""
    most_containers: int = 0
    """How many of it these machines (and its own max_containers) allow at once."""
    notices: tuple[str, ...] = ()
    """Substitutions and skipped fallbacks."""
    warnings: tuple[str, ...] = ()
    problem: str = ""
    """Why it cannot run here at all."""


def plan(state: State, specs: Sequence[FunctionSpec], at: float) -> list[PlannedFunction]:
    """One entry for each function, in order."""
    app = App("", "")
    functions = [Function(spec, app, state.counted_functions + 1 + n) for n, spec in enumerate(specs)]
    kept = promised_gpus(state, functions)
    return [plan_function(state, function, kept, at) for function in functions]


Kept = list[tuple[Function, Offer]]
"""What the app's functions would hold once all of their min_containers run."""


def promised_gpus(state: State, functions: Sequence[Function]) -> Kept:
    look = Look(state)
    kept: Kept = []
    for function in functions:
        found = choices(state, function.spec)
        for _ in range(function.spec.min_containers if function.spec.gpu else 0):
            offer = find_offer(look, function, found, found.entries, urgent=False)
            if offer is None:
                break
            claim(look, function, offer, aged=False)
            kept.append((function, offer))
    return kept


def plan_function(state: State, function: Function, kept: Kept, at: float) -> PlannedFunction:
    spec = function.spec
    asked = ", ".join(format_request(request) for request in spec.gpu)
    problems = check_satisfiable(state, spec)
    if problems or not state.nodes:
        return PlannedFunction(
            spec.name, asked, problem=problems[0].text if problems else "no machine is here"
        )
    found = choices(state, spec)
    most = found.most_containers
    if spec.max_containers is not None:
        most = min(most, spec.max_containers)
    warnings = tuple(holding_warnings(function, kept))
    skipped = tuple(f"skipped a fallback: {reason}" for reason in found.skipped)
    if not spec.gpu:
        node = node_for_cpu(state, function, found)
        return PlannedFunction(
            spec.name,
            asked,
            node_id=node.node.id if node else "",
            starts_now=node is not None,
            waits_for="" if node else drain_or_room(state, found),
            most_containers=most,
            warnings=warnings,
        )
    look = look_after_others(state, function, kept, at)
    entries = acceptable_entries(function, found, at)
    offer = find_offer(look, function, found, entries, urgent=True)
    if offer is None:
        alone = Look(state)
        offer = find_offer(alone, function, found, entries, urgent=True)
        offer = offer or least_missing(alone, function, found, entries)
    if offer is None:
        obstacles = foreign_words(state, found) + broken_words(state, found)
        waits_for = "; ".join(obstacles) or drain_or_room(state, found)
        return PlannedFunction(
            spec.name, asked, waits_for=waits_for, most_containers=most, notices=skipped, warnings=warnings
        )
    waits_for = words_of_wait(offer, look)
    notice = (offer.entry.notice,) if offer.entry.notice else ()
    return PlannedFunction(
        name=spec.name,
        asked=asked,
        node_id=offer.node.node.id,
        gpu_uuids=tuple(gpu.uuid for gpu in offer.gpus),
        gpu_type=kind_name(kind_of(offer.gpus[0])),
        gpu_count=len(offer.gpus),
        fallback_index=offer.entry.index,
        starts_now=offer.level == FREE and not waits_for,
        waits_for=waits_for,
        evicts=evicted(offer),
        usd_per_hour=sum(map(price_of, offer.gpus)),
        most_containers=most,
        notices=skipped + notice,
        warnings=warnings,
    )


def look_after_others(state: State, function: Function, kept: Kept, at: float) -> Look:
    """What waits already comes first, then what the app's other functions keep."""
    look = look_before(state, function, at)
    for keeper, offer in kept:
        if keeper is not function:
            look.take(keeper, offer.node, offer.gpus, is_firm=True)
    return look


def drain_or_room(state: State, found: Choices) -> str:
    drains = [node_id for node_id in found.node_ids if state.nodes[node_id].draining]
    return f"the drain of {', '.join(drains)} to end" if drains else "room on these machines"


def words_of_wait(offer: Offer, look: Look) -> str:
    if offer.level == FREE:
        keeper = next((look.firm[gpu.uuid] for gpu in offer.gpus if gpu.uuid in look.firm), None)
        return f"{keeper.spec.name}, whose min_containers hold its GPUs" if keeper else ""
    if offer.level == COMING:
        return stopping_words(offer)
    if offer.level <= PINNED:
        return f"idle {holders_words(offer.holders)} to be stopped"
    return busy_words(offer)


def evicted(offer: Offer) -> tuple[str, ...]:
    if offer.level not in (EVICTABLE, PINNED):
        return ()
    return tuple(f"{one.id} of {one.function.spec.name}" for one in offer.holders)


def holding_warnings(function: Function, kept: Kept) -> list[str]:
    spec = function.spec
    if not spec.min_containers or not spec.gpu:
        return []
    count = sum(len(offer.gpus) for keeper, offer in kept if keeper is function)
    if not count:
        return [f"min_containers={spec.min_containers} cannot be kept now: its GPUs are in use"]
    cards = "1 GPU" if count == 1 else f"{count} GPUs"
    return [f"min_containers={spec.min_containers} holds {cards} from the start of the run to its end"]
