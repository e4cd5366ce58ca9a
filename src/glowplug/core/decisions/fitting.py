"""Which GPUs of this fleet could serve a request at all, and in what order of preference.

Decided from what exists, not from what is free: a request becomes tiers of GPU kinds, a fallback list
becomes the entries this fleet could satisfy if it were empty. Where they go now is ``placing``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from glowplug.core.decisions.autoscaling import cpu_containers
from glowplug.core.describe import some
from glowplug.core.state import Choices, Entry, Kind, NodeState, State
from glowplug.model import catalog
from glowplug.model.function import FunctionSpec
from glowplug.model.gpu import ANY, GpuRequest, format_request
from glowplug.model.node import Gpu


@dataclass(frozen=True)
class Problem:
    """Why a function cannot run on this fleet. ``text`` says what it has and what would run it."""

    function_name: str
    text: str


def kind_of(gpu: Gpu) -> Kind:
    return gpu.type, gpu.memory_gb, gpu.is_slice


def kind_name(kind: Kind) -> str:
    type, memory_gb, is_slice = kind
    if is_slice:
        return f"{type}-{memory_gb}GB"
    return catalog.variant_name(type, memory_gb)


def price_of(gpu: Gpu) -> float:
    """US dollars an hour: the operator's own price, else the list's."""
    return gpu.price_usd_per_hour or catalog.price_usd_per_hour(gpu.type, gpu.memory_gb, gpu.is_slice)


def choices(state: State, spec: FunctionSpec) -> Choices:
    """What of the fleet suits a function, whoever uses it now."""
    nodes = [node for node in state.nodes.values() if label_problem(state, node, spec) is None]
    node_ids = tuple(node.node.id for node in nodes)
    if not spec.gpu:
        most = sum(cpu_containers(spec, node.node, len(nodes), state.limits) for node in nodes)
        return Choices(state.fleet_version, node_ids, (), (), most)
    counts = [count_kinds(node) for node in nodes]
    prices = kind_prices(nodes)
    entries: list[Entry] = []
    skipped: list[str] = []
    most = 0
    for index, request in enumerate(spec.gpu):
        mapped, notice = substitute(request, spec.gpu_map)
        tiers = tiers_of(mapped, prices)
        kinds = {kind for tier in tiers for kind in tier}
        room = sum(n // mapped.count for on_node in counts for kind, n in on_node.items() if kind in kinds)
        if room:
            notice = notice or partial_notice(mapped, tiers)
            entries.append(Entry(index, mapped, tiers, notice))
            most += room
        else:
            skipped.append(why_unsatisfiable(request, mapped, counts))
    return Choices(state.fleet_version, node_ids, tuple(entries), tuple(skipped), most)


def tiers_of(request: GpuRequest, prices: Mapping[Kind, float]) -> tuple[tuple[Kind, ...], ...]:
    """The kinds of this fleet (the keys of ``prices``) that serve a request, in groups of preference."""
    whole = [kind for kind in sorted(prices) if not kind[2]]
    if request.type == ANY:
        flagged = [kind for kind in whole if catalog.any_eligible(*kind)]
        # A price of 0 is one that nobody lists: after those known to be cheap.
        return _tiers(sorted(flagged or whole, key=lambda kind: (prices[kind] or 1e9, kind)))
    of_type = [kind for kind in whole if kind[0] == request.type]
    if request.memory_gb is None:
        # "A100" means 40 GB; a larger card is second best, and only while nobody waits for it.
        usual_gb = catalog.default_memory_gb(request.type)
        usual = [kind for kind in of_type if usual_gb is None or kind[1] == usual_gb]
        others = [kind for kind in of_type if kind not in usual]
        tiers = [usual, *([kind] for kind in others)]
    elif catalog.is_partial(request.type, request.memory_gb):
        slices = [(request.type, request.memory_gb, True)]
        has_slice = request.count == 1 and slices[0] in prices
        tiers = [slices] if has_slice else [[kind] for kind in of_type if kind[1] > request.memory_gb]
    else:
        tiers = [[kind for kind in of_type if kind[1] == request.memory_gb]]
    if request.or_successor:
        later = catalog.successors(request.type)
        tiers.append([kind for kind in whole if kind[0] in later and kind[1] >= (request.memory_gb or 0)])
    return _tiers(*tiers)


def _tiers(*groups: Iterable[Kind]) -> tuple[tuple[Kind, ...], ...]:
    return tuple(tier for tier in map(tuple, groups) if tier)


def substitute(request: GpuRequest, gpu_map: Mapping[str, str]) -> tuple[GpuRequest, str]:
    """The request after the user's own ``--gpu-map``, and what to tell about it."""
    if request.exact:
        return request, ""
    for name in map_names(request):
        target = gpu_map.get(name)
        if target is not None:
            type, memory_gb = parse_variant(target)
            mapped = GpuRequest(type=type, count=request.count, memory_gb=memory_gb)
            served = f"{format_request(request)} is served by {format_request(mapped)}"
            return mapped, f"{served}, as --gpu-map {name}={target} says"
    return request, ""


def map_names(request: GpuRequest) -> list[str]:
    """The names a ``--gpu-map`` may know a request by: with its memory, the usual one if it names none."""
    memory_gb = request.memory_gb or catalog.default_memory_gb(request.type)
    return [f"{request.type}-{memory_gb}GB", request.type] if memory_gb else [request.type]


def parse_variant(text: str) -> tuple[str, int | None]:
    """Type and memory of "A100-80GB"."""
    match = re.fullmatch(r"(.+?)(?:-(\d+)GB?)?", text.strip(), re.IGNORECASE)
    assert match is not None
    type = catalog.canonical_type(match[1]) or match[1].upper()
    return type, int(match[2]) if match[2] else None


def partial_notice(request: GpuRequest, tiers: Sequence[Sequence[Kind]]) -> str:
    if request.memory_gb is None or tiers[0][0][1] == request.memory_gb or request.or_successor:
        return ""
    return (
        f"{format_request(request)} asks for a MIG slice and no machine has one: a whole "
        f"{kind_name(tiers[0][0])} serves it (glowplug doctor prints how to make slices)"
    )


def count_kinds(node: NodeState) -> dict[Kind, int]:
    return {kind: len(gpus) for kind, gpus in node.by_kind.items()}


def kind_prices(nodes: Iterable[NodeState]) -> dict[Kind, float]:
    """Every kind the nodes have, with the lowest price of one."""
    prices: dict[Kind, float] = {}
    for node in nodes:
        for gpu in node.gpus.values():
            kind = kind_of(gpu)
            prices[kind] = min(price_of(gpu), prices.get(kind, float("inf")))
    return prices


def label_problem(state: State, node: NodeState, spec: FunctionSpec) -> str | None:
    """Why a node's labels exclude it; None if they do not. A node without a label matches any value only
    while no node of the fleet carries that label."""
    for label, wanted in (("cloud", (spec.cloud,) if spec.cloud else ()), ("region", spec.regions)):
        if not wanted:
            continue
        known = known_labels(state, label)
        if known and not any(label_matches(node.node.labels.get(label, ""), value) for value in wanted):
            return f"{label}={' or '.join(wanted)}"
    return None


def known_labels(state: State, label: str) -> list[str]:
    return sorted({node.node.labels[label] for node in state.nodes.values() if node.node.labels.get(label)})


def label_matches(value: str, wanted: str) -> bool:
    """Asked for "us-east", both "us-east" and "us-east-1" match."""
    value, wanted = value.lower(), wanted.lower()
    return value == wanted or value.startswith(wanted + "-")


def check_satisfiable(state: State, spec: FunctionSpec) -> list[Problem]:
    """What keeps this fleet from ever running a function, were it empty; nothing if one fallback fits."""
    found = choices(state, spec)
    if not state.nodes or found.most_containers:
        return []
    if not found.node_ids:
        return [Problem(spec.name, label_message(state, spec))]
    return [Problem(spec.name, gpu_message(state, spec, found))]


def refusal(state: State, specs: Sequence[FunctionSpec]) -> str:
    """What keeps any of these from ever running here, a line each; "" if nothing does.

    That there is no GPU at all is said once.
    """
    problems = [problem for spec in specs for problem in check_satisfiable(state, spec)]
    if len(problems) > 1 and not any(node.gpus for node in state.nodes.values()):
        lacking = [spec for spec in specs if spec.gpu]
        if len(lacking) == len(problems):
            return no_gpu_message(
                f"functions {some([spec.name for spec in lacking])} ask for GPUs", lacking[0]
            )
    return "\n".join(problem.text for problem in problems)


def no_gpu_message(who: str, spec: FunctionSpec) -> str:
    """One message, three ways on."""
    first = spec.gpu[0]
    named = format_request(GpuRequest("T4" if first.type == ANY else first.type, memory_gb=first.memory_gb))
    return (
        f"{who}, and no machine here has a GPU (`glowplug doctor` says why). "
        "Run it on a machine with GPUs (ssh USER@BOX glowplug run …), "
        "on a virtual fleet, where functions run on the CPU "
        f'(GLOWPLUG_GPUS="{first.count}x{named}"), or without GPUs (--gpu none)'
    )


def label_message(state: State, spec: FunctionSpec) -> str:
    parts: list[str] = []
    for label, wanted in (("cloud", (spec.cloud,) if spec.cloud else ()), ("region", spec.regions)):
        if wanted:
            known = known_labels(state, label)
            parts.append(f"{label}={' or '.join(wanted)} (this fleet has {', '.join(known) or 'none'})")
    asked = " and ".join(parts)
    return f"function {spec.name} asks for {asked}: no machine carries that; name one that is there"


def gpu_message(state: State, spec: FunctionSpec, found: Choices) -> str:
    nodes = [state.nodes[node_id] for node_id in found.node_ids]
    asked = ", ".join(format_request(request) for request in spec.gpu)
    if not any(node.gpus for node in state.nodes.values()):
        return no_gpu_message(f"function {spec.name} asks for gpu={asked!r}", spec)
    has = fleet_text(nodes)
    reasons = "; ".join(found.skipped)
    return (
        f"function {spec.name} asks for gpu={asked!r}: {reasons}. This fleet has {has}.{way_out(spec, nodes)}"
    )


def way_out(spec: FunctionSpec, nodes: Sequence[NodeState]) -> str:
    """The exact option that would run it here, if there is one."""
    for request in spec.gpu:
        if request.exact or request.type == ANY:
            continue
        fitting = substitutes(request, nodes)
        if fitting:
            source = format_request(GpuRequest(request.type, memory_gb=request.memory_gb))
            return f" To run it on what is here: --gpu-map {source}={kind_name(fitting[0])}"
    return " Ask for a type and count one machine has (glowplug gpus lists them)"


def substitutes(request: GpuRequest, nodes: Sequence[NodeState]) -> list[Kind]:
    """Whole kinds of which one machine has enough, the best first: with enough memory the cheapest, else the
    largest."""
    prices = kind_prices(nodes)
    needed_gb = request.memory_gb or catalog.default_memory_gb(request.type) or 0
    enough = {
        kind
        for node in nodes
        for kind, count in count_kinds(node).items()
        if count >= request.count and not kind[2]
    }
    large = [kind for kind in enough if kind[1] >= needed_gb]
    small = [kind for kind in enough if kind[1] < needed_gb]
    return [
        *sorted(large, key=lambda kind: (prices[kind] or 1e9, kind)),
        *sorted(small, key=lambda kind: (-kind[1], prices[kind] or 1e9, kind)),
    ]


def why_unsatisfiable(request: GpuRequest, mapped: GpuRequest, counts: Sequence[Mapping[Kind, int]]) -> str:
    prices = {kind: 0.0 for on_node in counts for kind in on_node}
    kinds = [kind for tier in tiers_of(mapped, prices) for kind in tier]
    most = max((on_node.get(kind, 0) for on_node in counts for kind in kinds), default=0)
    name = format_request(mapped)
    via = f" ({format_request(request)} is mapped to it)" if mapped is not request else ""
    if most:
        return f"no machine has {mapped.count} {name.partition(':')[0]}{via}, the most on one is {most}"
    if mapped.type == ANY:
        return "no machine has a GPU"
    return f"no machine has {with_article(name.partition(':')[0])}{via}"


def with_article(name: str) -> str:
    """ "an H100", "a T4": names are read letter by letter."""
    return f"an {name}" if name[0] in "AEFHILMNORSX" else f"a {name}"


def fleet_text(nodes: Sequence[NodeState]) -> str:
    """As in "2×RTX-4090 + 1×T4 on box, 8×H100 on dgx"."""
    parts: list[str] = []
    for node in nodes:
        counts = count_kinds(node)
        if counts:
            held = " + ".join(f"{count}×{kind_name(kind)}" for kind, count in sorted(counts.items()))
            parts.append(f"{held} on {node.node.id}")
    return ", ".join(parts) or "no GPU"
