"""plan(): where functions would run, what they would wait for, what an hour costs."""

from __future__ import annotations

import pytest

from glowplug.core.plan import PlannedFunction, plan
from glowplug.model.catalog import price_usd_per_hour
from glowplug.model.function import FunctionSpec
from glowplug.model.node import ForeignUse
from unit.core.driver import Core, cards, function, machine


def planned(core: Core, *specs: FunctionSpec) -> list[PlannedFunction]:
    said = len(core.said)
    before = (len(core.state.containers), list(core.state.waiting), core.state.counted_functions)
    result = plan(core.state, specs, core.now)
    assert (len(core.state.containers), list(core.state.waiting), core.state.counted_functions) == before
    assert len(core.said) == said
    return result


def test_free_gpus_of_the_preferred_entry() -> None:
    core = Core(machine("box", cards("T4", 2, 16), cards("H100", 4)))
    cpu, one, any_gpu = planned(
        core, function("cpu"), function("two", ["B200", "H100:2"]), function("any", "any")
    )
    assert (cpu.node_id, cpu.gpu_count, cpu.usd_per_hour, cpu.starts_now) == ("box", 0, 0.0, True)
    assert (one.asked, one.gpu_type, one.gpu_count, one.fallback_index) == ("B200, H100:2", "H100", 2, 1)
    assert one.gpu_uuids == ("box/H100-80-0", "box/H100-80-1")
    assert one.usd_per_hour == pytest.approx(2 * price_usd_per_hour("H100"))
    assert (one.starts_now, one.waits_for, one.most_containers) == (True, "", 2)
    assert "B200" in one.notices[0]
    assert any_gpu.gpu_type == "T4"


def test_a_busy_card_is_waited_for() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("g", "H100"))
    core.accept("g")
    core.ready()
    (f,) = planned(core, function("f", "H100", app_id="ap-2"))
    assert not f.starts_now
    assert "ct-e-1 of g" in f.waits_for


def test_an_idle_container_would_make_room() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("g", "H100"))
    (input_id,) = core.accept("g")
    core.ready()
    core.answer("ct-e-1", input_id)
    (f,) = planned(core, function("f", "H100", app_id="ap-2"))
    assert f.evicts == ("ct-e-1 of g",)
    assert "to be stopped" in f.waits_for


def test_min_containers_are_warned_about_and_come_first() -> None:
    core = Core(machine("box", cards("H100", 1), cards("T4", 1, 16)))
    kept, other = planned(core, function("kept", "H100", min_containers=1), function("other", "H100"))
    assert kept.starts_now
    assert "holds 1 GPU" in kept.warnings[0]
    assert not other.starts_now
    assert "kept" in other.waits_for


def test_a_substitution_is_noticed() -> None:
    core = Core(machine("box", cards("RTX-4090", 1, 24)))
    (f,) = planned(core, function("f", "A10G", gpu_map={"A10G": "RTX-4090"}))
    assert f.gpu_type == "RTX-4090"
    assert "--gpu-map A10G=RTX-4090" in f.notices[0]


def test_what_cannot_run_says_why() -> None:
    core = Core(machine("box", cards("RTX-4090", 1, 24)))
    (f,) = planned(core, function("f", "A10G"))
    assert "--gpu-map A10G=RTX-4090" in f.problem
    assert (f.node_id, f.starts_now) == ("", False)
    (nowhere,) = planned(Core(), function("f", "A10G"))
    assert nowhere.problem == "no machine is here"


def test_a_card_someone_else_uses_is_waited_for() -> None:
    use = ForeignUse(77, "bob", 20_000)
    core = Core(machine("box", cards("H100", 1, foreign=(use,))))
    (f,) = planned(core, function("f", "H100"))
    assert not f.starts_now
    assert "pid 77 of bob" in f.waits_for


def test_max_containers_and_the_fleet_bound_how_many() -> None:
    core = Core(machine("a", cards("H100", 8)), machine("b", cards("H100", 8)))
    f, g = planned(core, function("f", "H100:4"), function("g", "H100:4", max_containers=3))
    assert (f.most_containers, g.most_containers) == (4, 3)
