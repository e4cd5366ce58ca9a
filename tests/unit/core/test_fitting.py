"""What of a fleet serves a request, in what order, and what is said when nothing does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowplug.core.decisions.fitting import check_satisfiable, choices, kind_name
from glowplug.core.decisions.fitting import refusal as refusals
from glowplug.model.catalog import price_usd_per_hour
from glowplug.model.gpu import parse_gpu
from glowplug.model.node import Gpu, Node
from unit.core.driver import Core, cards, function, machine


def slices(count: int, memory_gb: int = 20) -> tuple[Gpu, ...]:
    return cards("A100", count, memory_gb, "MIG", is_slice=True)


def tiers(fleet: list[Node], gpu: Any, **options: Any) -> list[list[list[str]]]:
    """For each entry that fits, its tiers as variant names."""
    found = choices(Core(*fleet).state, function("f", gpu, **options))
    return [[[kind_name(kind) for kind in tier] for tier in entry.tiers] for entry in found.entries]


MIXED = machine(
    "mixed",
    cards("T4", 2, 16),
    cards("L4", 2, 24),
    cards("A100", 2, 40),
    cards("A100", 2, 80),
    cards("H100", 2),
)


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("any", [[["T4", "L4"]]]),
        ("T4", [[["T4"]]]),
        ("A100", [[["A100-40GB"], ["A100-80GB"]]]),
        ("A100-40GB", [[["A100-40GB"]]]),
        ("a100-80gb:2", [[["A100-80GB"]]]),
        ("H100!", [[["H100"]]]),
        ("a100-20g", [[["A100-40GB"], ["A100-80GB"]]]),
        (["h100:2", "a100-40gb:2"], [[["H100"]], [["A100-40GB"]]]),
        (["B200", "H100"], [[["H100"]]]),
    ],
)
def test_kinds_in_order_of_preference(gpu: Any, expected: list[list[list[str]]]) -> None:
    assert tiers([MIXED], gpu) == expected


def test_any_takes_the_cheapest_type_flagged_for_it() -> None:
    fleet = [machine("a", cards("A10G", 1, 24), cards("T4", 1, 16), cards("RTX-4090", 1, 24))]
    ((tier,),) = tiers(fleet, "any")
    assert sorted(tier, key=price_usd_per_hour) == tier
    assert set(tier) == {"A10G", "T4", "RTX-4090"}


def test_any_takes_whatever_there_is_when_nothing_is_flagged() -> None:
    fleet = [machine("a", cards("H100", 1), cards("B200", 1, 180))]
    assert tiers(fleet, "any") == [[["H100", "B200"]]]


def test_any_never_takes_a_slice() -> None:
    assert tiers([machine("a", slices(2))], "any") == []
    assert tiers([machine("a", slices(2), cards("T4", 1, 16))], "any") == [[["T4"]]]


def test_operator_prices_count() -> None:
    fleet = [machine("a", cards("T4", 1, 16, price_usd_per_hour=9.0), cards("L4", 1, 24))]
    assert tiers(fleet, "any") == [[["L4", "T4"]]]


def test_whole_requests_never_take_a_slice() -> None:
    assert tiers([machine("a", slices(2, 40))], "A100") == []
    assert tiers([machine("a", slices(2, 40))], "A100-40GB") == []


def test_a_partial_size_is_a_slice_where_there_is_one() -> None:
    with_slices = machine("a", slices(2), cards("A100", 1, 40))
    assert tiers([with_slices], "a100-20g") == [[["A100-20GB"]]]


def test_a_partial_size_takes_a_whole_card_with_a_notice() -> None:
    core = Core(MIXED)
    (entry,) = choices(core.state, function("f", "a100-20g")).entries
    assert "MIG" in entry.notice
    assert "whole A100-40GB" in entry.notice


def test_a_successor_comes_after_the_type_itself() -> None:
    fleet = [machine("a", cards("H100", 1), cards("H200", 1, 141))]
    assert tiers(fleet, "H100+") == [[["H100"], ["H200"]]]
    assert tiers(fleet, "H100") == [[["H100"]]]


@pytest.mark.parametrize(
    ("gpu", "gpu_map", "expected"),
    [
        ("A10G", {"A10G": "T4"}, [[["T4"]]]),
        ("A10G:2", {"A10G": "A100-80GB"}, [[["A100-80GB"]]]),
        ("A100", {"A100-40GB": "H100"}, [[["H100"]]]),
        ("A100-80GB", {"A100": "H100"}, [[["H100"]]]),
        ("A100-80GB", {"A100-80GB": "T4", "A100": "H100"}, [[["T4"]]]),
        ("H100!", {"H100": "T4"}, [[["H100"]]]),
    ],
)
def test_the_users_map(gpu: str, gpu_map: dict[str, str], expected: list[list[list[str]]]) -> None:
    assert tiers([MIXED], gpu, gpu_map=gpu_map) == expected


def test_a_substitution_is_told() -> None:
    core = Core(MIXED)
    (entry,) = choices(core.state, function("f", "A10G:2", gpu_map={"A10G": "T4"})).entries
    assert entry.notice == "A10G:2 is served by T4:2, as --gpu-map A10G=T4 says"


def test_a_count_is_on_one_machine() -> None:
    apart = [machine("a", cards("T4", 2, 16)), machine("b", cards("T4", 2, 16))]
    assert tiers(apart, "T4:3") == []
    assert tiers(apart, "T4:2") == [[["T4"]]]


def test_several_of_any_are_all_one_type() -> None:
    assert tiers([machine("a", cards("T4", 1, 16), cards("L4", 1, 24))], "any:2") == []


# Refusals


def refusal(fleet: list[Node], gpu: Any, **options: Any) -> str:
    problems = check_satisfiable(Core(*fleet).state, function("train", gpu, **options))
    return problems[0].text if problems else ""


def test_nothing_to_say_when_one_fallback_fits() -> None:
    assert refusal([MIXED], ["B200:8", "T4"]) == ""


def test_a_type_that_is_not_here_names_what_is_and_the_option_that_runs_it() -> None:
    text = refusal([machine("box", cards("RTX-4090", 2, 24))], "A10G")
    assert "train" in text
    assert "no machine has an A10G" in text
    assert "2×RTX-4090 on box" in text
    assert "--gpu-map A10G=RTX-4090" in text


def test_the_option_offered_has_enough_memory_and_is_cheap() -> None:
    fleet = [machine("a", cards("T4", 4, 16), cards("H100", 4), cards("L40S", 4, 48))]
    assert "--gpu-map A100=L40S" in refusal(fleet, "A100:2")
    assert "--gpu-map A100-80GB=H100" in refusal(fleet, "A100-80GB")


def test_the_option_offered_is_the_largest_if_none_has_enough_memory() -> None:
    fleet = [machine("a", cards("T4", 4, 16), cards("H100", 4), cards("L40S", 4, 48))]
    assert "--gpu-map B200=H100" in refusal(fleet, "B200")


def test_a_count_no_machine_has() -> None:
    text = refusal([machine("a", cards("H100", 4)), machine("b", cards("H100", 2))], "H100:8")
    assert "no machine has 8 H100, the most on one is 4" in text
    assert "--gpu-map" not in text


def test_no_gpu_at_all_shows_three_ways_on() -> None:
    text = refusal([machine("laptop")], "H100")
    assert "on a machine with GPUs" in text
    assert "ssh://" not in text  # servers elsewhere are not carried out yet
    assert 'GLOWPLUG_GPUS="1xH100"' in text
    assert "--gpu none" in text


def test_no_gpu_at_all_is_said_once_for_all_functions() -> None:
    state = Core(machine("laptop")).state
    specs = [function("cpu"), function("f", "A100-80GB:4"), function("g", "any")]
    text = refusals(state, specs)
    assert text.startswith("functions f, g ask for GPUs, and no machine here has a GPU")
    assert 'GLOWPLUG_GPUS="4xA100-80GB"' in text
    assert refusals(state, specs[:1]) == ""


def test_each_function_has_its_own_reason_where_there_are_gpus() -> None:
    state = Core(machine("box", cards("T4", 1, 16))).state
    text = refusals(state, [function("f", "H100"), function("g", "T4:2"), function("h", "T4")])
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "function f asks for gpu='H100'",
        "function g asks for gpu='T4",
    ]


def test_an_exact_type_is_offered_no_substitute() -> None:
    assert "--gpu-map" not in refusal([machine("a", cards("T4", 1, 16))], "H100!")


def test_an_empty_fleet_refuses_nothing_yet() -> None:
    assert refusal([], "H100") == ""


# Labels


def test_nodes_with_another_label_are_excluded() -> None:
    fleet = [machine("a", cloud="aws"), machine("g", cloud="gcp"), machine("n")]
    assert choices(Core(*fleet).state, function("f", cloud="gcp")).node_ids == ("g",)


def test_a_label_nobody_carries_excludes_nobody() -> None:
    fleet = [machine("a"), machine("b")]
    assert choices(Core(*fleet).state, function("f", cloud="gcp", regions=("us-east",))).node_ids == (
        "a",
        "b",
    )


def test_a_region_covers_its_parts() -> None:
    fleet = [
        machine("a", region="us-east-1"),
        machine("b", region="us-eastern"),
        machine("c", region="us-east"),
    ]
    found = choices(Core(*fleet).state, function("f", regions=("US-East",)))
    assert found.node_ids == ("a", "c")


def test_an_unknown_label_names_the_known_ones() -> None:
    text = refusal([machine("a", cloud="aws"), machine("g", cloud="gcp")], None, cloud="oci")
    assert "cloud=oci" in text
    assert "aws, gcp" in text


# Properties

TYPES = [("T4", 16), ("L4", 24), ("A100", 40), ("A100", 80), ("H100", 80), ("RTX-4090", 24)]
FLEETS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(TYPES), st.integers(1, 8)), max_size=3, unique_by=lambda group: group[0]
    ),
    min_size=1,
    max_size=4,
)
REQUESTS = st.sampled_from(
    ["any", "any:2", "T4", "A100", "A100:4", "A100-80GB:2", "H100:8", "a100-20g", "H100+"]
)


@settings(max_examples=150, deadline=None)
@given(FLEETS, REQUESTS)
def test_an_allocation_is_whole_cards_of_one_kind_on_one_machine(fleet: Any, gpu: str) -> None:
    nodes = [
        machine(f"n{number}", *(cards(type, count, memory_gb) for (type, memory_gb), count in groups))
        for number, groups in enumerate(fleet)
    ]
    core = Core(*nodes)
    core.app(function("f", gpu))
    core.accept("f", 3)
    (request,) = parse_gpu(gpu)
    counts = [
        sum(g.type == type and g.memory_gb == memory_gb for g in node.gpus)
        for node in nodes
        for type, memory_gb in TYPES
    ]
    for start in core.starting():
        allocation = core.container(start).allocation
        node = core.state.nodes[allocation.node_id]
        gpus = [node.gpus[uuid] for uuid in allocation.gpu_uuids]
        assert len(gpus) == request.count
        assert len({(gpu.type, gpu.memory_gb, gpu.is_slice) for gpu in gpus}) == 1
        assert request.type in ("ANY", gpus[0].type) or request.or_successor
    if request.type == "ANY":
        assert bool(core.starting()) == any(count >= request.count for count in counts) or any(
            gpu.type in ("T4", "L4", "RTX-4090") for node in nodes for gpu in node.gpus
        )
    else:
        assert bool(core.starting()) == (not check_satisfiable(core.state, function("g", gpu)))
