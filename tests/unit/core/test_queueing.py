"""Order of inputs, leases, look-ahead and what comes back."""

from __future__ import annotations

import pytest

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.model.function import RetryPolicy
from unit.core.driver import Core, function, machine


def one_container(**options: object) -> Core:
    core = Core(machine("box"))
    core.app(function("f", min_containers=1, max_containers=1, **options))
    core.ready()
    return core


def made_fast(core: Core, run_s: float = 1e-5) -> Core:
    (input_id,) = core.accept("f")
    core.answer("ct-e-1", input_id, run_s=run_s)
    return core


def test_one_input_at_a_time_in_the_order_accepted() -> None:
    core = one_container()
    ids = core.accept("f", 3)
    assert core.leases() == {"ct-e-1": ids[:1]}
    for number, input_id in enumerate(ids):
        assert core.running("ct-e-1") == [input_id]
        assert core.ahead("ct-e-1") == []
        core.answer("ct-e-1", input_id)
        assert core.leases() == ({"ct-e-1": [ids[number + 1]]} if number < 2 else {})


def test_concurrent_inputs_run_side_by_side() -> None:
    core = one_container(max_concurrent_inputs=3)
    ids = core.accept("f", 5)
    assert core.leases() == {"ct-e-1": ids[:3]}
    core.answer("ct-e-1", ids[1])
    assert core.running("ct-e-1") == [ids[0], ids[2], ids[3]]


def test_nothing_is_leased_ahead_before_a_run_is_measured() -> None:
    core = one_container()
    core.accept("f", 100)
    assert core.ahead("ct-e-1") == []


@pytest.mark.parametrize(
    ("run_s", "ahead"), [(1e-6, 32), (1e-4, 20), (4e-4, 5), (9.9e-4, 2), (1e-3, 0), (0.5, 0)]
)
def test_two_milliseconds_of_work_are_leased_ahead(run_s: float, ahead: int) -> None:
    core = made_fast(one_container(), run_s)
    core.accept("f", 100)
    assert len(core.running("ct-e-1")) == 1
    assert len(core.ahead("ct-e-1")) == ahead


def test_look_ahead_is_refilled_many_at_a_time() -> None:
    core = made_fast(one_container())
    ids = core.accept("f", 100)
    for input_id in ids[:16]:
        core.answer("ct-e-1", input_id, run_s=1e-5)
        assert core.leases() == {}
    core.answer("ct-e-1", ids[16], run_s=1e-5)
    assert core.leases() == {"ct-e-1": ids[33:50]}


def test_a_burst_spreads_over_the_ready_containers() -> None:
    core = Core(machine("box"))
    core.app(function("f", min_containers=3, max_containers=3))
    core.ready()
    (warm,) = core.accept("f")
    core.answer(*core.leases(), warm, run_s=1e-5)
    core.accept("f", 30)
    assert sorted(map(len, core.leases().values())) == [10, 10, 10]


def test_the_last_used_of_several_idle_containers_gets_the_next_input() -> None:
    core = Core(machine("box"))
    core.app(function("f", min_containers=3, max_containers=3))
    core.ready()
    first, second = core.accept("f", 2)
    core.answer(core.state.inputs[second].container.id, second)
    used_last = core.state.inputs[first].container.id
    core.answer(used_last, first)
    core.accept("f")
    assert list(core.leases()) == [used_last]


def test_inputs_behind_a_slow_one_are_recalled_and_go_back_in_order() -> None:
    core = made_fast(one_container())
    ids = core.accept("f", 5)
    assert core.ahead("ct-e-1") == ids[1:]
    core.sleep(core.state.limits.look_ahead_stall_s)
    recall = core.the(c.RecallInputs)
    assert recall.input_ids == tuple(ids[1:])
    core.do(e.InputsReturned(core.now, "ct-e-1", recall.input_ids[1:]))
    assert core.queued("f") == ids[2:]
    assert core.leases() == {}, "nothing is leased ahead behind a slow input"
    # What was not returned had been begun by then: its output comes in order.
    core.answer("ct-e-1", ids[0], run_s=0.1)
    assert core.running("ct-e-1")[0] == ids[1]


def test_recalled_inputs_go_to_another_container() -> None:
    core = Core(machine("box"))
    core.app(function("f", max_containers=2))
    (warm,) = core.accept("f")
    core.ready()
    core.answer("ct-e-1", warm, run_s=1e-5)
    ids = core.accept("f", 4)
    assert core.ahead("ct-e-1") == ids[1:]
    assert core.starting() == ["ct-e-2"], "what waits behind a running input is worth a container"
    core.sleep(1.0)
    core.do(e.InputsReturned(core.now, "ct-e-1", tuple(ids[1:])))
    core.ready("ct-e-2")
    assert core.leases() == {"ct-e-2": ids[1:3]}
    assert core.state.inputs[ids[1]].attempt == 2
    core.answer("ct-e-2", *ids[1:3], run_s=1e-5)
    assert core.leases() == {"ct-e-2": ids[3:]}


def test_a_container_that_died_gives_back_what_it_had_not_begun_uncharged() -> None:
    core = made_fast(one_container())
    ids = core.accept("f", 6)
    core.exit("ct-e-1", signal=11)
    assert core.queued("f") == ids
    assert [core.state.inputs[input_id].crashes for input_id in ids] == [1, 0, 0, 0, 0, 0]
    assert [command.outcome for command in core.got(c.RecordAttempt)] == ["crashed"]


def test_what_comes_back_goes_before_what_was_never_leased() -> None:
    core = Core(machine("box", cpus=2))
    core.app(function("f", max_containers=2))
    ids = core.accept("f", 6)
    core.ready()
    core.answer("ct-e-1", ids[0])
    assert core.running("ct-e-1") == [ids[2]]
    core.exit("ct-e-1", signal=9)
    core.exit("ct-e-2", signal=9)
    assert core.queued("f") == ids[1:]


def test_a_retry_keeps_its_place() -> None:
    core = one_container(retries=RetryPolicy(3))
    ids = core.accept("f", 4)
    core.answer("ct-e-1", ids[0], status="failure")
    core.sleep(1.0)
    core.answer("ct-e-1", ids[1])
    assert core.leases() == {"ct-e-1": [ids[0]]}


def test_max_inputs_replaces_the_container() -> None:
    core = Core(machine("box"))
    core.app(function("f", max_inputs=2, max_containers=1))
    ids = core.accept("f", 3)
    core.ready()
    core.answer("ct-e-1", ids[0])
    core.answer("ct-e-1", ids[1])
    assert core.the(c.StopContainer).container_id == "ct-e-1"
    assert core.starting() == [], "max_containers counts the one that is stopping"
    core.exit("ct-e-1")
    assert core.the(c.StartContainer).container_id == "ct-e-2"


def test_an_output_of_an_input_not_known_to_have_begun() -> None:
    """Messages may overtake each other: the output itself says that it had begun."""
    core = made_fast(one_container())
    ids = core.accept("f", 3)
    core.answer("ct-e-1", ids[1], run_s=1e-5)
    assert core.outcomes()[ids[1]] == "success"
    assert core.running("ct-e-1") == [ids[0]]
    assert core.ahead("ct-e-1") == [ids[2]]


def test_resent_inputs_are_ignored_before_and_after_their_output() -> None:
    core = one_container()
    (input_id,) = core.accept("f", call_id="fc-1")
    assert core.do(e.InputsAccepted(core.now, "f", "fc-1", (input_id,))) == []
    core.answer("ct-e-1", input_id)
    assert core.do(e.InputsAccepted(core.now, "f", "fc-1", (input_id,))) == []


def test_a_second_output_is_ignored() -> None:
    core = one_container()
    (input_id,) = core.accept("f")
    fact = e.OutputFact(input_id, 1, "success", 0.1)
    core.do(e.OutputsArrived(core.now, "ct-e-1", (fact,)))
    assert core.do(e.OutputsArrived(core.now, "ct-e-1", (fact,))) == []


def test_a_stale_return_is_ignored() -> None:
    core = made_fast(one_container())
    ids = core.accept("f", 3)
    assert core.do(e.InputsReturned(core.now, "ct-e-1", tuple(ids[1:]))) == []
    assert core.ahead("ct-e-1") == ids[1:]


def test_inputs_for_an_unknown_function_are_refused_once() -> None:
    core = one_container()
    core.do(e.InputsAccepted(core.now, "fu-unknown", "fc-9", ("in-x",)))
    refusal = core.the(c.FinishInput)
    assert (refusal.status, refusal.error) == ("error", "NotFoundError")
    assert "fu-unknown" in refusal.message
    assert core.do(e.InputsAccepted(core.now, "fu-unknown", "fc-9", ("in-x",))) == []


def test_a_late_success_of_an_attempt_given_up_ends_the_input_that_waits_again() -> None:
    core = one_container()
    (input_id,) = core.accept("f")
    core.exit("ct-e-1", signal=9)
    assert core.queued("f") == [input_id]
    fact = e.OutputFact(input_id, 1, "success", 0.1)
    core.do(e.OutputsArrived(core.now, "ct-e-1", (fact,)))
    assert core.outcomes() == {input_id: "success"}


def test_a_late_output_of_an_attempt_that_runs_again_is_ignored() -> None:
    core = Core(machine("box"))
    core.app(function("f", min_containers=2, max_containers=2))
    core.ready()
    (input_id,) = core.accept("f")
    (used,) = core.leases()
    core.exit(used, signal=9)
    assert core.state.inputs[input_id].attempt == 2
    fact = e.OutputFact(input_id, 1, "success", 0.1)
    assert core.do(e.OutputsArrived(core.now, used, (fact,))) == []


def test_a_return_told_twice_does_not_take_back_the_next_lease() -> None:
    core = made_fast(one_container())
    ids = core.accept("f", 3)
    core.sleep(core.state.limits.look_ahead_stall_s)
    core.do(e.InputsReturned(core.now, "ct-e-1", tuple(ids[1:])))
    core.answer("ct-e-1", ids[0], run_s=1e-5)
    assert core.leases() == {"ct-e-1": ids[1:]}
    assert core.do(e.InputsReturned(core.now, "ct-e-1", tuple(ids[1:]))) == []
    assert core.ahead("ct-e-1") == ids[2:]


def test_what_stalls_again_is_recalled_again() -> None:
    core = made_fast(one_container())
    ids = core.accept("f", 3)
    for first in (0, 1):
        core.sleep(core.state.limits.look_ahead_stall_s)
        assert core.the(c.RecallInputs).input_ids == tuple(ids[first + 1 :])
        core.do(e.InputsReturned(core.now, "ct-e-1", ()))
        core.answer("ct-e-1", ids[first], run_s=1e-5)


def test_an_old_failure_told_twice_does_not_end_the_retry() -> None:
    core = one_container(retries=RetryPolicy(1))
    (input_id,) = core.accept("f")
    old = e.OutputsArrived(core.now, "ct-e-1", (e.OutputFact(input_id, 1, "failure", 0.1),))
    core.do(old)
    core.sleep(1)
    assert core.running("ct-e-1") == [input_id]
    assert core.do(old) == []
    assert core.running("ct-e-1") == [input_id]


def test_a_late_success_ends_an_input_that_waits_for_its_retry() -> None:
    core = one_container(timeout_s=10.0, retries=RetryPolicy(1))
    (input_id,) = core.accept("f")
    core.sleep(10 + core.state.limits.cancel_grace_s)
    assert core.state.inputs[input_id].status == "delayed"
    core.do(e.OutputsArrived(core.now, "ct-e-1", (e.OutputFact(input_id, 1, "success", 9.9),)))
    assert core.outcomes() == {input_id: "success"}
    core.sleep(60)
    assert core.got(c.LeaseInputs) == []
