"""Which GPUs a container gets now, who makes room for it, and who waits for whom."""

from __future__ import annotations

from dataclasses import replace

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.story import why_waiting
from glowplug.model.node import ForeignUse, Gpu, Node
from unit.core.driver import Core, cards, function, machine


def placed(core: Core) -> list[tuple[str, ...]]:
    return [start.allocation.gpu_uuids for start in core.got(c.StartContainer)]


def test_two_containers_of_one_gpu_each_are_on_different_cards() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("f", "H100"))
    core.accept("f", 2)
    assert placed(core) == [("box/H100-80-0",), ("box/H100-80-1",)]
    assert core.got(c.StartContainer)[0].allocation.gpu_type == "H100"


def test_the_tightest_fit_leaves_larger_holes() -> None:
    core = Core(machine("big", cards("H100", 8)), machine("small", cards("H100", 2)))
    core.app(function("one", "H100"), function("eight", "H100:8"))
    core.accept("one")
    assert core.the(c.StartContainer).allocation.node_id == "small"
    core.accept("eight")
    assert core.the(c.StartContainer).allocation.node_id == "big"


def linked(groups: list[list[int]]) -> Node:
    gpus = []
    for group in groups:
        for index in group:
            peers = tuple(f"g{other}" for other in group if other != index)
            gpus.append(Gpu(f"g{index}", "H100", 80, index=index, nvlink_peers=peers))
    return Node("box", tuple(gpus), cpus=4)


def test_several_gpus_are_linked_to_each_other_where_possible() -> None:
    core = Core(linked([[0, 2], [1, 3, 4]]))
    core.app(function("two", "H100:2"), function("three", "H100:3"))
    core.accept("three")
    assert placed(core) == [("g1", "g3", "g4")]
    core.accept("two")
    assert placed(core) == [("g0", "g2")]


def test_a_single_gpu_breaks_up_the_least() -> None:
    core = Core(linked([[0, 1], [2]]))
    core.app(function("one", "H100"))
    core.accept("one")
    assert placed(core) == [("g2",)]


def test_an_80_gb_card_serves_a100_only_when_no_40_is_free() -> None:
    core = Core(machine("box", cards("A100", 1, 80), cards("A100", 1, 40)))
    core.app(function("f", "A100"))
    core.accept("f", 2)
    assert placed(core) == [("box/A100-40-0",), ("box/A100-80-0",)]


def test_an_80_gb_card_is_left_to_a_request_for_80_that_waits() -> None:
    core = Core(machine("box", cards("A100", 1, 40), cards("A100", 1, 80)))
    core.app(function("small", "A100"), function("large", "A100-80GB"), function("first", "A100-80GB"))
    core.accept("first")
    core.ready()
    core.accept("small")
    core.ready()
    core.accept("large")
    core.accept("small")
    core.exit("ct-e-1", signal=9)
    # Both wait now, "first" too; the 40 GB card is in use.
    takers = [core.state.containers[one].function.spec.id for one in core.starting()]
    assert takers == ["large"]


# Idle containers are a cache


def with_idle(core: Core, *function_ids: str) -> None:
    """Each function has run one input and is idle."""
    for function_id in function_ids:
        (input_id,) = core.accept(function_id)
        core.ready()
        core.answer(core.state.inputs[input_id].container.id, input_id)
        core.sleep(1)


def test_an_idle_container_makes_room_with_time_for_its_exit_hooks() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("f", "H100"), function("g", "H100"))
    with_idle(core, "f")
    core.accept("g")
    stop = core.the(c.StopContainer)
    assert stop.container_id == "ct-e-1"
    assert stop.grace_s == core.state.limits.stop_grace_s
    assert "needed by function g" in stop.reason
    core.exit("ct-e-1")
    assert placed(core) == [("box/H100-80-0",)]


def test_the_longest_idle_goes_first_and_only_as_many_as_needed() -> None:
    core = Core(machine("box", cards("H100", 3)))
    core.app(*(function(name, "H100") for name in "abc"), function("two", "H100:2"))
    with_idle(core, "a", "b", "c")
    core.accept("two")
    assert [stop.container_id for stop in core.got(c.StopContainer)] == ["ct-e-1", "ct-e-2"]
    core.sleep(1)
    core.exit("ct-e-1")
    assert core.out == [], "the one that is still stopping is counted on, nobody else is stopped"
    core.exit("ct-e-2")
    assert len(placed(core)[0]) == 2


def test_a_free_card_is_taken_before_anybody_is_stopped() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("f", "H100"), function("g", "H100"))
    with_idle(core, "f")
    core.accept("g")
    assert placed(core) == [("box/H100-80-1",)]
    assert core.got(c.StopContainer) == []


def test_an_evictable_preferred_card_comes_before_a_free_fallback() -> None:
    core = Core(machine("box", cards("H100", 1), cards("T4", 1, 16)))
    core.app(function("f", "H100"), function("g", ["H100", "T4"]))
    with_idle(core, "f")
    core.accept("g")
    assert core.the(c.StopContainer).container_id == "ct-e-1"
    core.exit("ct-e-1")
    assert core.the(c.StartContainer).allocation.gpu_type == "H100"


def test_any_takes_a_free_card_before_it_stops_a_cheaper_idle_one() -> None:
    core = Core(machine("box", cards("T4", 1, 16), cards("L4", 1, 24)))
    core.app(function("f", "T4"), function("g", "any"))
    with_idle(core, "f")
    core.accept("g")
    assert core.the(c.StartContainer).allocation.gpu_type == "L4"


def test_a_surplus_container_that_is_still_starting_makes_room_too() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("f", "H100"), function("g", "H100"))
    first, second = core.accept("f", 2)
    core.ready("ct-e-1")
    core.answer("ct-e-1", first)
    core.answer("ct-e-1", second)
    core.accept("f")
    core.accept("g")
    assert core.the(c.StopContainer).container_id == "ct-e-2"


def test_promised_containers_yield_only_to_what_nothing_else_could_satisfy() -> None:
    core = Core(machine("a", cards("H100", 1)), machine("b", cards("H100", 1)))
    core.app(function("kept", "H100", min_containers=1))
    core.ready()
    core.app(function("f", "H100"), app_id="ap-1")
    core.accept("f")
    core.ready()
    core.accept("f")
    assert core.got(c.StopContainer) == [], "the other card will do, once it is free"
    core.answer("ct-e-2", *core.running("ct-e-2"))
    assert core.leases() == {"ct-e-2": ["in-1"]}

    both = Core(machine("a", cards("H100", 2)))
    both.app(function("kept", "H100", min_containers=1), function("two", "H100:2"))
    both.ready()
    both.accept("two")
    assert both.the(c.StopContainer).container_id == "ct-e-1", "both cards of this machine, or never"
    both.exit("ct-e-1")
    assert len(placed(both)[0]) == 2


def test_a_promise_does_not_evict() -> None:
    """min_containers without an input takes free cards only: two promises would stop each other for ever."""
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("f", "H100"))
    with_idle(core, "f")
    core.app(function("kept", "H100", min_containers=1))
    assert core.out == []
    core.accept("kept")
    assert core.the(c.StopContainer).container_id == "ct-e-1"


# Fallbacks


def test_fallbacks_are_tried_in_order_at_every_scale_up() -> None:
    core = Core(machine("box", cards("H100", 1), cards("A100", 2, 40)))
    core.app(function("f", ["h100", "a100-40gb:2"]))
    core.accept("f", 2)
    types = [
        (start.allocation.gpu_type, start.allocation.fallback_index) for start in core.got(c.StartContainer)
    ]
    assert types == [("H100", 0), ("A100-40GB", 1)]


def test_a_skipped_fallback_is_told_once() -> None:
    core = Core(machine("box", cards("T4", 1, 16)))
    core.app(function("f", ["H100", "T4"]))
    core.accept("f", 2)
    told = [command.text for command in core.said if isinstance(command, c.Notify)]
    assert told == ["skipped a fallback of f: no machine has an H100"]


def test_a_substitution_is_told_once_in_a_run() -> None:
    core = Core(machine("box", cards("T4", 2, 16)))
    core.app(function("f", "A10G", gpu_map={"A10G": "T4"}))
    core.accept("f", 2)
    told = [command.text for command in core.said if isinstance(command, c.Notify)]
    assert told == ["A10G is served by T4, as --gpu-map A10G=T4 says"]


def test_holding_out_for_the_first_entry() -> None:
    core = Core(machine("box", cards("H100", 1), cards("T4", 1, 16)))
    core.app(function("busy", "H100"), function("f", ["H100", "T4"], gpu_fallback_after_s=60.0))
    core.accept("busy")
    core.ready()
    core.accept("f")
    assert core.out == []
    waiting = why_waiting(core.state, "f", core.now)
    assert waiting is not None
    assert waiting.code == "fallback-hold"
    core.sleep(59)
    assert core.got(c.StartContainer) == []
    core.sleep(1.1)
    assert core.the(c.StartContainer).allocation.gpu_type == "T4"


def test_the_first_entry_is_taken_when_it_frees_during_the_hold() -> None:
    core = Core(machine("box", cards("H100", 1), cards("T4", 1, 16)))
    core.app(function("busy", "H100"), function("f", ["H100", "T4"], gpu_fallback_after_s=60.0))
    core.accept("busy")
    core.ready()
    core.accept("f")
    core.sleep(30)
    core.exit("ct-e-1", signal=9)
    assert "H100" in [start.allocation.gpu_type for start in core.got(c.StartContainer)]


# Large requests, small requests


def test_a_large_request_collects_gpus_while_small_ones_go_elsewhere() -> None:
    core = Core(machine("a", cards("H100", 4)), machine("b", cards("H100", 4)))
    core.app(*(function(f"s{n}", "H100") for n in range(8)), function("large", "H100:4"))
    for n in range(6):
        core.accept(f"s{n}")
    core.ready()
    core.accept("large")
    assert core.out == []
    collecting = core.state.functions["large"].reserved_node
    assert collecting == "b", "a is full, b has two free"
    core.accept("s6")
    assert core.out == [], "what is collected is not given away"
    waiting = why_waiting(core.state, "s6", core.now)
    assert waiting is not None
    assert waiting.code == "reserved-for-larger"
    assert "large" in waiting.text
    on_a = next(one for one in core.state.containers.values() if one.allocation.node_id == "a")
    core.answer(on_a.id, *core.running(on_a.id))
    assert core.the(c.StopContainer).container_id == on_a.id, "the small one takes an idle one's card on a"
    core.exit(on_a.id)
    assert core.the(c.StartContainer).function_id == "s6"
    for one in [one for one in core.state.containers.values() if one.allocation.node_id == "b"]:
        core.answer(one.id, *core.running(one.id))
    stopped = [stop.container_id for stop in core.said if isinstance(stop, c.StopContainer)]
    for container_id in stopped:
        if container_id in core.state.containers:
            core.exit(container_id)
    assert [one.function.spec.id for one in core.state.containers.values() if one.status == "starting"][
        -1
    ] == "large"


def test_short_runs_may_use_what_is_being_collected() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("long", "H100"), function("short", "H100"), function("large", "H100:2"))
    (input_id,) = core.accept("short")
    core.ready()
    core.answer("ct-e-1", input_id, run_s=0.5)
    core.exit("ct-e-1", signal=9)
    core.accept("long")
    core.ready()
    core.accept("large")
    assert core.out == []
    core.accept("short")
    assert core.the(c.StartContainer).function_id == "short"


def test_a_function_that_holds_nothing_comes_before_one_that_wants_more() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("many", "H100"), function("other", "H100"), function("late", "H100"))
    core.accept("other")
    core.accept("many", 10)
    core.ready()
    core.sleep(1)
    core.accept("late")
    core.exit("ct-e-1", signal=9)
    # other's own input is first in its queue again, late holds nothing either; many holds one.
    assert "many" not in [start.function_id for start in core.got(c.StartContainer)]


def test_nobody_starves_behind_a_function_that_is_never_idle() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("many", "H100"), function("late", "H100"))
    core.accept("many", 1000)
    core.ready()
    core.accept("late")
    for _ in range(29):
        core.sleep(1)
        core.answer("ct-e-1", *core.running("ct-e-1"), run_s=1.0)
        assert core.got(c.StopContainer) == []
    core.sleep(2)
    core.answer("ct-e-1", *core.running("ct-e-1"), run_s=1.0)
    assert core.the(c.StopContainer).container_id == "ct-e-1", "between two inputs, after the ageing time"
    core.exit("ct-e-1")
    assert core.the(c.StartContainer).function_id == "late"
    core.ready()
    core.answer("ct-e-2", *core.running("ct-e-2"))
    assert core.the(c.StopContainer).container_id == "ct-e-2", "idle again: many's inputs wait"


def test_an_aged_large_request_gets_its_machine_from_busy_ones() -> None:
    core = Core(machine("box", cards("H100", 4)))
    core.app(function("many", "H100"), function("large", "H100:4"))
    core.accept("many", 1000)
    core.ready()
    core.accept("large")
    core.sleep(31)
    for container_id in list(core.state.containers):
        core.answer(container_id, *core.running(container_id), run_s=1.0)
        assert core.the(c.StopContainer).container_id == container_id
        core.exit(container_id)
    assert core.the(c.StartContainer).function_id == "large"


# Free means free


def changed(node: Node, index: int, **changes: object) -> e.NodeChanged:
    gpus = tuple(replace(gpu, **changes) if gpu.index == index else gpu for gpu in node.gpus)
    return e.NodeChanged(2000.0, replace(node, gpus=gpus))


def test_a_card_someone_else_uses_is_not_free_until_they_are_gone() -> None:
    box = machine("box", cards("H100", 1))
    core = Core(box)
    core.now = 2000.0
    core.app(function("f", "H100"))
    core.do(changed(box, 0, foreign=(ForeignUse(77, "bob", 20_000),)))
    core.accept("f")
    assert core.out == []
    waiting = why_waiting(core.state, "f", core.now)
    assert waiting is not None
    assert waiting.code == "foreign-use"
    assert "pid 77 of bob (20,000 MiB)" in waiting.text
    core.do(changed(box, 0))
    assert len(placed(core)) == 1


def test_a_card_locked_by_another_server_is_not_free() -> None:
    box = machine("box", cards("H100", 1, locked_by="uid 1001, pid 5"))
    core = Core(box)
    core.app(function("f", "H100"))
    core.accept("f")
    assert core.out == []
    waiting = why_waiting(core.state, "f", core.now)
    assert waiting is not None
    assert (waiting.code, "uid 1001, pid 5" in waiting.text) == ("foreign-use", True)


def test_foreign_use_of_a_card_of_ours_disturbs_nobody() -> None:
    box = machine("box", cards("H100", 1))
    core = Core(box)
    core.now = 2000.0
    core.app(function("f", "H100"))
    (input_id,) = core.accept("f")
    core.ready()
    core.do(changed(box, 0, foreign=(ForeignUse(77, "bob", 20_000),)))
    assert core.out == []
    core.answer("ct-e-1", input_id)
    assert core.outcomes() == {input_id: "success"}


def test_an_unhealthy_card_is_not_used() -> None:
    core = Core(machine("box", cards("H100", 1, healthy=False, unhealthy_reason="Xid 79")))
    core.app(function("f", "H100"))
    core.accept("f")
    assert core.out == []
    waiting = why_waiting(core.state, "f", core.now)
    assert waiting is not None
    assert (waiting.code, "Xid 79" in waiting.text) == ("gpu-unhealthy", True)


def test_what_the_fleet_can_never_satisfy_is_refused_after_a_grace() -> None:
    big, small = machine("big", cards("H100", 8)), machine("small", cards("T4", 1, 16))
    core = Core(big, small)
    core.app(function("f", "H100:8"))
    core.do(e.NodeLost(core.now, "big", "gone"))
    (input_id,) = core.accept("f")
    core.sleep(core.state.limits.unsatisfiable_grace_s - 1)
    assert core.outcomes() == {}
    core.sleep(1.1)
    refusal = core.the(c.FinishInput)
    assert (refusal.input_id, refusal.error) == (input_id, "InvalidError")
    assert "no machine has an H100" in refusal.message
    assert "1×T4 on small" in refusal.message


def test_a_node_that_comes_back_in_time_serves_them() -> None:
    big, small = machine("big", cards("H100", 8)), machine("small", cards("T4", 1, 16))
    core = Core(big, small)
    core.app(function("f", "H100:8"))
    core.do(e.NodeLost(core.now, "big", "gone"))
    core.accept("f")
    core.sleep(30)
    core.do(e.NodeJoined(core.now, big))
    assert len(placed(core)) == 1
    core.ready()
    core.sleep(100)
    assert core.outcomes() == {}


def test_what_was_kept_for_someone_goes_on_when_they_want_it_no_more() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("busy", "H100"), function("large", "H100:2"), function("small", "H100"))
    core.accept("busy")
    core.ready()
    core.accept("large", call_id="fc-large")
    core.accept("small")
    assert core.out == []
    core.do(e.CallCancelled(core.now, "fc-large"))
    assert core.the(c.StartContainer).function_id == "small"


def test_everybody_has_a_first_container_before_anybody_has_a_second() -> None:
    core = Core(machine("box", cards("H100", 4)))
    core.app(function("whole", "H100:4"), function("many", "H100"), function("other", "H100"))
    core.accept("whole")
    core.ready()
    core.accept("many", 10)
    core.accept("other", 10)
    core.exit("ct-e-1", signal=9)
    core.do(e.CallCancelled(core.now, "fc-in-0"))
    assert sorted(start.function_id for start in core.said if isinstance(start, c.StartContainer)) == [
        "many",
        "many",
        "other",
        "other",
        "whole",
    ]
