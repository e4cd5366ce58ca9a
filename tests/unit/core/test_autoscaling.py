"""How many containers a function gets, and when they go."""

from __future__ import annotations

import pytest

from glowplug.core import commands as c
from glowplug.core.state import Limits
from unit.core.driver import Core, cards, function, machine


@pytest.mark.parametrize(("cpus", "containers"), [(0, 2), (1, 2), (2, 2), (4, 4), (7.5, 7)])
def test_a_cpu_function_has_as_many_containers_as_its_node_has_cpus(cpus: float, containers: int) -> None:
    core = Core(machine("box", cpus=cpus))
    core.app(function("f"))
    core.accept("f", 1000)
    assert len(core.got(c.StartContainer)) == containers


def test_as_many_as_inputs_wait() -> None:
    core = Core(machine("box", cpus=64))
    core.app(function("f"))
    core.accept("f", 3)
    assert len(core.got(c.StartContainer)) == 3
    core.accept("f", 2)
    assert len(core.got(c.StartContainer)) == 2


def test_concurrent_inputs_share_a_container() -> None:
    core = Core(machine("box", cpus=64))
    core.app(function("f", max_concurrent_inputs=10))
    core.accept("f", 25)
    assert len(core.got(c.StartContainer)) == 3


def test_max_containers_bounds() -> None:
    core = Core(machine("box", cpus=64))
    core.app(function("f", max_containers=2))
    core.accept("f", 25)
    assert len(core.got(c.StartContainer)) == 2


def test_a_fast_function_needs_work_for_a_further_container() -> None:
    """A thousand no-ops take a millisecond: one container more, not a thousand."""
    core = Core(machine("box", cpus=64))
    core.app(function("f"))
    (input_id,) = core.accept("f")
    core.ready()
    core.answer("ct-e-1", input_id, run_s=1e-6)
    core.accept("f", 1000)
    assert len(core.got(c.StartContainer)) == 1


def test_cpu_containers_spread_over_nodes() -> None:
    core = Core(machine("a", cpus=2), machine("b", cpus=4))
    core.app(function("f"))
    core.accept("f", 10)
    nodes = [start.allocation.node_id for start in core.got(c.StartContainer)]
    assert sorted(nodes) == ["a", "a", "b", "b", "b", "b"]
    assert nodes[0] == "b", "the node with the most room is first"


def test_min_containers_start_with_the_app_and_are_kept() -> None:
    core = Core(machine("box"))
    core.app(function("f", min_containers=2, scaledown_window_s=1.0))
    assert len(core.got(c.StartContainer)) == 2
    assert core.got(c.StartContainer)[0].reason == "min_containers"
    core.ready()
    core.sleep(3600)
    assert core.got(c.StopContainer) == []
    core.exit("ct-e-1", signal=9)
    assert len(core.got(c.StartContainer)) == 1


def test_min_containers_beyond_the_cpus_are_kept_all_the_same() -> None:
    core = Core(machine("box", cpus=1))
    core.app(function("f", min_containers=5))
    assert len(core.got(c.StartContainer)) == 5


def test_idle_containers_go_after_their_window() -> None:
    core = Core(machine("box"))
    core.app(function("f", scaledown_window_s=10.0))
    ids = core.accept("f", 2)
    core.ready()
    core.answer("ct-e-1", ids[0])
    core.sleep(5)
    core.answer("ct-e-2", ids[1])
    core.sleep(4.9)
    assert core.out == []
    core.sleep(0.2)
    stop = core.the(c.StopContainer)
    assert (stop.container_id, stop.grace_s) == ("ct-e-1", core.state.limits.stop_grace_s)
    assert "idle for 10 s" in stop.reason
    core.sleep(5)
    assert core.the(c.StopContainer).container_id == "ct-e-2"


def test_use_renews_the_window() -> None:
    core = Core(machine("box"))
    core.app(function("f", scaledown_window_s=10.0))
    core.accept("f")
    core.ready()
    for _ in range(5):
        core.answer("ct-e-1", *core.running("ct-e-1"))
        assert core.sleep(9) == []
        core.accept("f")
    assert core.leases() == {"ct-e-1": ["in-5"]}


def test_buffer_containers_stand_by_while_the_function_is_active() -> None:
    core = Core(machine("box"))
    core.app(function("f", buffer_containers=1, scaledown_window_s=5.0))
    assert core.out == []
    (input_id,) = core.accept("f")
    assert len(core.got(c.StartContainer)) == 2
    core.ready()
    core.sleep(60)
    assert core.got(c.StopContainer) == []
    core.answer(core.state.inputs[input_id].container.id, input_id)
    core.sleep(60)
    assert len(core.got(c.StopContainer)) == 2


def test_gpu_containers_are_bounded_by_the_cards() -> None:
    core = Core(machine("box", cards("H100", 4)))
    core.app(function("f", "H100"), function("g", "H100:2", app_id="ap-1"))
    core.accept("f", 100)
    assert len(core.got(c.StartContainer)) == 4
    assert "f" not in core.state.waiting, "it has all there is and waits for no more"


def test_a_failed_start_is_tried_again_later_and_later() -> None:
    core = Core(machine("box"), limits=Limits(start_failures_in_a_row=100))
    core.app(function("f", max_containers=1))
    core.accept("f")
    waits = []
    for number in range(1, 8):
        failed_at = core.now
        core.exit(f"ct-e-{number}", exit_code=1)
        assert core.got(c.StartContainer) == []
        while not core.starting():
            core.sleep(0.01)
        waits.append(round(core.now - failed_at, 1))
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
