"""Drains, lost nodes, failing GPUs, ending apps: what was running goes on elsewhere, uncharged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.story import why_waiting
from glowplug.model.function import FunctionSpec
from unit.core.driver import Core, cards, function, machine


def two_boxes() -> Core:
    """An input of f runs on a, while b is free."""
    core = Core(machine("a", cards("H100", 1)), machine("b", cards("H100", 1)))
    core.app(function("f", "H100"))
    core.accept("f")
    core.ready()
    return core


def test_a_drain_interrupts_and_the_input_goes_on_elsewhere_uncharged() -> None:
    core = two_boxes()
    core.do(e.NodeDrainRequested(core.now, "a", "kernel update", grace_s=25.0))
    stop = core.the(c.StopContainer)
    assert (stop.container_id, stop.grace_s) == ("ct-e-1", 25.0)
    assert "kernel update" in stop.reason
    assert core.the(c.StartContainer).allocation.node_id == "b", "its successor starts meanwhile"
    core.ready()
    assert core.leases() == {}, "the input is still in the hands of exit handlers"
    core.exit("ct-e-1")
    assert core.leases() == {"ct-e-2": ["in-0"]}
    assert core.the(c.RecordAttempt).outcome == "interrupted"
    assert "goes on elsewhere" in core.the(c.Notify).text
    input = core.state.inputs["in-0"]
    assert (input.retries, input.crashes) == (0, 0)


def test_a_container_that_its_operator_stops_gives_its_input_to_another() -> None:
    core = two_boxes()
    core.do(e.ContainerStopRequested(core.now, "ct-e-1", "looked odd", grace_s=5.0))
    stop = core.the(c.StopContainer)
    assert (stop.container_id, stop.grace_s, stop.reason) == ("ct-e-1", 5.0, "looked odd")
    core.ready()
    core.exit("ct-e-1")
    assert core.leases() == {"ct-e-2": ["in-0"]}
    assert core.the(c.RecordAttempt).outcome == "interrupted"
    input = core.state.inputs["in-0"]
    assert (input.retries, input.crashes) == (0, 0)
    assert core.do(e.ContainerStopRequested(core.now, "ct-e-1", "again")) == []


def test_an_input_that_ends_during_the_drain_is_done() -> None:
    core = two_boxes()
    core.do(e.NodeDrainRequested(core.now, "a", "update"))
    core.answer("ct-e-1", "in-0")
    assert core.outcomes() == {"in-0": "success"}
    core.exit("ct-e-1")
    assert core.got(c.LeaseInputs) == []


def test_an_attempt_broken_off_by_the_drain_is_no_failure() -> None:
    core = two_boxes()
    core.do(e.NodeDrainRequested(core.now, "a", "update"))
    core.answer("ct-e-1", "in-0", status="cancelled")
    assert core.outcomes() == {}
    assert core.queued("f") == ["in-0"]


def test_interrupted_inputs_go_to_the_front_in_their_order() -> None:
    core = Core(machine("a", cpus=2))
    core.app(function("f", max_concurrent_inputs=2, max_containers=1))
    ids = core.accept("f", 5)
    core.ready()
    core.do(e.NodeDrainRequested(core.now, "a", "update"))
    core.exit("ct-e-1")
    assert core.queued("f") == ids


def test_nothing_starts_on_a_draining_node_until_the_drain_ends() -> None:
    core = Core(machine("a", cards("H100", 1)))
    core.app(function("f", "H100"), function("g"))
    core.do(e.NodeDrainRequested(core.now, "a", "kernel update"))
    core.accept("f")
    core.accept("g")
    assert core.said == []
    for function_id in ("f", "g"):
        waiting = why_waiting(core.state, function_id, core.now)
        assert waiting is not None
        assert (waiting.code, "kernel update" in waiting.text) == ("draining", True)
    core.do(e.NodeDrainEnded(core.now, "a"))
    assert {start.function_id for start in core.got(c.StartContainer)} == {"f", "g"}


def test_a_lost_node_gives_everything_back_at_once() -> None:
    core = two_boxes()
    core.do(e.NodeLost(core.now, "a", "no heartbeat"))
    assert core.the(c.RecordAttempt).outcome == "interrupted"
    assert core.the(c.StartContainer).allocation.node_id == "b"
    core.ready()
    assert core.leases() == {"ct-e-2": ["in-0"]}
    late = e.OutputFact("in-0", 1, "success", 1.0)
    assert core.do(e.OutputsArrived(core.now, "ct-e-1", (late,))) == [], "it runs again already"


def test_a_failed_gpu_is_cordoned_until_its_node_joins_anew() -> None:
    box = machine("a", cards("H100", 1))
    core = Core(box)
    core.app(function("f", "H100"))
    core.accept("f")
    core.ready()
    core.do(e.GpuFailed(core.now, "a", "a/H100-80-0", "Xid 79: fallen off the bus"))
    assert "Xid 79" in core.the(c.StopContainer).reason
    core.exit("ct-e-1")
    core.do(e.NodeChanged(core.now, box))
    assert core.got(c.StartContainer) == [], "a fresh inventory does not make it well"
    core.do(e.NodeJoined(core.now, box))
    assert len(core.got(c.StartContainer)) == 1


def test_an_inventory_that_calls_a_used_gpu_unhealthy_moves_its_input() -> None:
    box = machine("a", cards("H100", 2))
    core = Core(box)
    core.app(function("f", "H100"))
    core.accept("f")
    core.ready()
    sick = replace(box.gpus[0], healthy=False, unhealthy_reason="uncorrectable ECC errors")
    core.do(e.NodeChanged(core.now, replace(box, gpus=(sick, box.gpus[1]))))
    assert "uncorrectable ECC" in core.the(c.StopContainer).reason
    assert core.gpus_of(core.starting()[0]) == (box.gpus[1].uuid,)


def test_a_gpu_that_vanished_takes_its_container_with_it() -> None:
    box = machine("a", cards("H100", 2))
    core = Core(box)
    core.app(function("f", "H100"))
    core.accept("f")
    core.ready()
    core.do(e.NodeChanged(core.now, replace(box, gpus=box.gpus[1:])))
    assert "is gone" in core.the(c.StopContainer).reason


# Generators


@pytest.mark.parametrize(("restarts", "expected"), [(False, {"in-0": "RemoteError"}), (True, {})])
@pytest.mark.parametrize("how", ["drain", "crash", "lost"])
def test_a_generator_that_has_yielded_is_not_rerun_silently(
    restarts: bool, expected: dict[str, str], how: str
) -> None:
    core = Core(machine("a"))
    core.app(function("f", is_generator=True, restart_generator=restarts))
    (input_id,) = core.accept("f")
    core.ready()
    core.do(e.FirstItemYielded(core.now, "ct-e-1", input_id, 1))
    if how == "drain":
        core.do(e.NodeDrainRequested(core.now, "a", "update"))
        core.exit("ct-e-1")
    elif how == "crash":
        core.exit("ct-e-1", signal=11)
    else:
        core.do(e.NodeLost(core.now, "a", "gone"))
    assert core.outcomes() == expected
    if expected:
        message = core.got(c.FinishInput)[0].message
        assert "generator f was interrupted" in message
        assert "restart_generator=True" in message
    told = [each.text for each in core.got(c.Notify)]
    assert any("goes on" in text or "runs again" in text for text in told) == restarts


def test_a_generator_that_has_not_yielded_is_rerun() -> None:
    core = Core(machine("a"))
    core.app(function("f", is_generator=True))
    core.accept("f")
    core.ready()
    core.exit("ct-e-1", signal=11)
    assert core.outcomes() == {}


# Apps


def test_an_app_that_stops_ends_its_inputs_and_containers_and_is_forgotten() -> None:
    core = Core(machine("a", cards("H100", 2)))
    core.app(function("f", "H100", max_concurrent_inputs=2), function("g", min_containers=1))
    ids = core.accept("f", 8)
    core.ready("ct-e-1", "ct-e-2")
    core.do(e.AppStopped(core.now, "ap-1", "its client is gone"))
    assert core.outcomes() == dict.fromkeys(ids, "InputCancellation")
    assert "its client is gone" in core.got(c.FinishInput)[0].message
    stops = core.got(c.StopContainer)
    assert len(stops) == 3
    assert {stop.grace_s for stop in stops} == {core.state.limits.app_stop_grace_s}
    for stop in stops:
        assert "ap-1" in core.state.apps
        core.exit(stop.container_id)
    state = core.state
    assert [state.apps, state.functions, state.calls, state.inputs, state.containers] == [{}] * 5
    assert state.nodes["a"].holders == {}


@pytest.mark.parametrize("specs", [(function("f"),), ()], ids=["idle", "without functions"])
def test_an_app_without_containers_is_forgotten_at_once(specs: tuple[FunctionSpec, ...]) -> None:
    core = Core(machine("a"))
    core.app(*specs)
    core.do(e.AppStopped(core.now, "ap-1", "done"))
    assert core.state.apps == {}
    assert core.do(e.AppStopped(core.now, "ap-1", "done")) == []


def test_inputs_that_come_too_late_are_refused() -> None:
    core = Core(machine("a"))
    core.app(function("f", min_containers=1))
    core.do(e.AppStopped(core.now, "ap-1", "done"))
    core.accept("f")
    assert core.the(c.FinishInput).error == "InputCancellation"


def test_the_cards_of_a_stopping_app_go_to_those_who_wait() -> None:
    core = Core(machine("a", cards("H100", 1)))
    core.app(function("f", "H100"))
    core.app(function("g", "H100", app_id="ap-2"), app_id="ap-2")
    core.accept("f")
    core.ready()
    core.accept("g")
    core.do(e.AppStopped(core.now, "ap-1", "done"))
    core.exit("ct-e-1")
    assert core.the(c.StartContainer).function_id == "g"


def test_a_client_that_names_its_app_again_changes_nothing() -> None:
    core = Core(machine("a"))
    core.app(function("f", min_containers=1))
    assert core.app(function("f", min_containers=1)) == []


def test_a_container_of_an_earlier_life_is_told_to_stop() -> None:
    core = Core(machine("a"))
    core.do(e.ContainerReady(core.now, "ct-old-1"))
    assert core.the(c.StopContainer).container_id == "ct-old-1"


def test_container_ids_of_two_lives_differ() -> None:
    core = Core(machine("a"))
    core.do(e.ServerStarted(core.now, "later"))
    core.app(function("f", min_containers=1))
    assert core.the(c.StartContainer).container_id == "ct-later-1"
