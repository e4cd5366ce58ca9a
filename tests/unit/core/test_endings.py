"""How attempts end: retries, timeouts, crashes, failed starts, cancellation, and what each costs."""

from __future__ import annotations

from typing import Any

import pytest

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.state import Limits
from glowplug.model.function import RetryPolicy
from unit.core.driver import Core, cards, function, machine


def one_container(limits: Limits | None = None, **options: Any) -> Core:
    core = Core(machine("box"), limits=limits)
    core.app(function("f", min_containers=1, max_containers=1, **options))
    core.ready()
    return core


def outcomes_recorded(core: Core) -> list[str]:
    return [command.outcome for command in core.said if isinstance(command, c.RecordAttempt)]


# Retries


def test_an_exception_without_retries_is_the_output() -> None:
    core = one_container()
    (input_id,) = core.accept("f")
    core.answer("ct-e-1", input_id, status="failure")
    finished = core.the(c.FinishInput)
    assert (finished.status, finished.attempt, finished.error) == ("failure", 1, "")
    assert outcomes_recorded(core) == ["failure"]


def test_retries_wait_longer_each_time_and_the_last_failure_is_the_output() -> None:
    policy = RetryPolicy(max_retries=3, backoff_coefficient=2.0, initial_delay_s=1.0, max_delay_s=3.0)
    core = one_container(retries=policy)
    (input_id,) = core.accept("f")
    waits = []
    for _ in range(3):
        core.answer("ct-e-1", input_id, status="failure")
        assert core.got(c.FinishInput) == []
        failed_at = core.now
        while not core.running("ct-e-1"):
            core.sleep(0.25)
        waits.append(core.now - failed_at)
    assert waits == [1.0, 2.0, 3.0]
    core.answer("ct-e-1", input_id, status="failure")
    finished = core.the(c.FinishInput)
    assert (finished.status, finished.attempt) == ("failure", 4)


def test_a_retry_may_succeed() -> None:
    core = one_container(retries=RetryPolicy(1))
    (input_id,) = core.accept("f")
    core.answer("ct-e-1", input_id, status="failure")
    core.sleep(1)
    core.answer("ct-e-1", input_id)
    assert core.outcomes() == {input_id: "success"}
    assert outcomes_recorded(core) == ["failure", "success"]


def test_other_inputs_run_while_one_waits_for_its_retry() -> None:
    core = one_container(retries=RetryPolicy(1))
    first, second = core.accept("f", 2)
    core.answer("ct-e-1", first, status="failure")
    assert core.running("ct-e-1") == [second]


# Timeouts


def test_a_timeout_interrupts_and_is_the_output() -> None:
    core = one_container(timeout_s=10.0)
    (input_id,) = core.accept("f")
    core.sleep(9.9)
    assert core.out == []
    core.sleep(0.2)
    assert core.the(c.CancelInput) == c.CancelInput("ct-e-1", input_id, 1)
    core.answer("ct-e-1", input_id, status="cancelled", run_s=10.1)
    finished = core.the(c.FinishInput)
    assert finished.error == "FunctionTimeoutError"
    assert "function f ran longer than its timeout of 10 s" in finished.message
    assert outcomes_recorded(core) == ["timeout"]
    assert "ct-e-1" in core.state.functions["f"].idle


def test_queueing_does_not_count() -> None:
    core = one_container(timeout_s=10.0)
    first, second = core.accept("f", 2)
    core.sleep(8)
    core.answer("ct-e-1", first)
    core.sleep(8)
    assert core.got(c.CancelInput) == []
    core.answer("ct-e-1", second)
    assert set(core.outcomes().values()) == {"success"}


def test_a_container_that_does_not_let_itself_be_interrupted_is_killed() -> None:
    core = one_container(timeout_s=10.0, retries=RetryPolicy(1))
    (input_id,) = core.accept("f")
    core.sleep(10)
    core.sleep(core.state.limits.cancel_grace_s)
    stop = core.the(c.StopContainer)
    assert (stop.container_id, stop.grace_s) == ("ct-e-1", 0.0)
    assert core.outcomes() == {}, "a retry is left"
    core.exit("ct-e-1", signal=9)
    core.ready()
    core.sleep(1)
    assert core.state.inputs[input_id].attempt == 2


def test_each_attempt_has_the_whole_timeout() -> None:
    core = one_container(timeout_s=10.0, retries=RetryPolicy(1))
    (input_id,) = core.accept("f")
    for _ in range(2):
        core.sleep(10)
        assert len(core.got(c.CancelInput)) == 1
        core.answer("ct-e-1", input_id, status="cancelled")
        core.sleep(1)
    assert core.outcomes() == {input_id: "FunctionTimeoutError"}


def test_a_result_that_crossed_the_interruption_counts() -> None:
    core = one_container(timeout_s=10.0)
    (input_id,) = core.accept("f")
    core.sleep(10)
    core.answer("ct-e-1", input_id)
    assert core.outcomes() == {input_id: "success"}


def test_the_others_of_a_killed_container_run_again_uncharged() -> None:
    core = one_container(timeout_s=10.0, max_concurrent_inputs=2, retries=RetryPolicy(0))
    (first,) = core.accept("f")
    core.sleep(8)
    (second,) = core.accept("f")
    core.sleep(2 + core.state.limits.cancel_grace_s)
    assert core.the(c.StopContainer).grace_s == 0
    core.exit("ct-e-1", signal=9)
    assert core.outcomes() == {first: "FunctionTimeoutError"}
    assert core.queued("f") == [second]
    assert (core.state.inputs[second].crashes, core.state.inputs[second].retries) == (0, 0)


# Crashes


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"out_of_memory": True, "signal": 9}, "ran out of memory"),
        ({"signal": 11}, "signal 11 (segmentation fault)"),
        ({"exit_code": 3}, "exited with code 3"),
        ({"exit_code": 1, "message": "torch was not there"}, "torch was not there"),
        ({"signal": 63}, "signal 63"),
    ],
)
def test_an_input_whose_containers_die_fails_in_the_end_saying_how(how: dict[str, Any], words: str) -> None:
    core = one_container()
    (input_id,) = core.accept("f")
    for number in range(core.state.limits.crashes_per_input):
        assert core.outcomes() == {}
        core.exit(f"ct-e-{number + 1}", **how)
        finished = core.got(c.FinishInput)
        core.sleep(20)
        core.ready()
    assert finished[0].error == "RemoteError"
    assert words in finished[0].message
    assert input_id in finished[0].message
    assert outcomes_recorded(core) == ["crashed"] * 3


def test_a_crash_spends_no_retry() -> None:
    core = one_container(retries=RetryPolicy(1))
    (input_id,) = core.accept("f")
    core.exit("ct-e-1", signal=11)
    notice = core.the(c.Notify)
    assert notice.level == "warning"
    assert "ct-e-1 of f died of signal 11 (segmentation fault); 1 input runs again" in notice.text
    core.ready()
    assert core.state.inputs[input_id].retries == 0
    core.answer("ct-e-2", input_id)
    assert core.outcomes() == {input_id: "success"}


def test_a_function_that_only_crashes_is_given_up() -> None:
    core = one_container(limits=Limits(crashes_in_a_row=4))
    core.accept("f", 10)
    for number in range(1, 5):
        assert len(core.outcomes()) <= 1
        core.exit(f"ct-e-{number}", signal=11)
        core.sleep(20)
        core.ready()
    assert set(core.outcomes().values()) == {"RemoteError"}
    assert len(core.outcomes()) == 10


def test_an_output_in_between_ends_the_row() -> None:
    core = one_container(limits=Limits(crashes_in_a_row=2))
    core.accept("f", 10)
    for number in range(1, 5):
        core.answer(f"ct-e-{number}", *core.running(f"ct-e-{number}"))
        core.exit(f"ct-e-{number}", signal=11)
        core.ready()
    assert set(core.outcomes().values()) == {"success"}


def test_an_idle_container_that_dies_harms_nobody() -> None:
    core = Core(machine("box"))
    core.app(function("f"))
    (input_id,) = core.accept("f")
    core.ready()
    core.answer("ct-e-1", input_id)
    core.exit("ct-e-1", signal=9)
    assert core.out == []


def test_a_container_that_ends_because_one_of_its_inputs_was_interrupted_has_not_crashed() -> None:
    """Side by side in threads, inputs can be interrupted only with their container."""
    core = one_container(max_concurrent_inputs=2, timeout_s=10.0)
    (first,) = core.accept("f")
    core.sleep(5)
    (second,) = core.accept("f")
    core.sleep(5)
    assert core.the(c.CancelInput).input_id == first
    core.exit("ct-e-1", signal=2)
    assert core.outcomes() == {first: "FunctionTimeoutError"}
    assert outcomes_recorded(core) == ["timeout", "interrupted"]
    assert core.state.inputs[second].crashes == 0
    assert core.state.functions["f"].crashes_in_a_row == 0


# Starts


def test_a_start_that_cannot_work_fails_what_waits_with_its_message() -> None:
    core = Core(machine("box"))
    core.app(function("f", max_containers=1))
    ids = core.accept("f", 2)
    core.do(
        e.ContainerStartFailed(core.now, "ct-e-1", "ModuleNotFoundError: no module named 'tokenizers'", True)
    )
    assert core.outcomes() == dict.fromkeys(ids, "ExecutionError")
    message = core.got(c.FinishInput)[0].message
    assert "container of function f could not start" in message
    assert "no module named 'tokenizers'" in message
    core.sleep(60)
    assert core.out == []


def test_a_later_call_tries_to_start_again() -> None:
    core = Core(machine("box"))
    core.app(function("f", max_containers=1))
    core.accept("f")
    core.do(e.ContainerStartFailed(core.now, "ct-e-1", "broken", True))
    core.sleep(60)
    core.accept("f")
    assert core.the(c.StartContainer).container_id == "ct-e-2"


def test_min_containers_of_a_broken_function_are_not_started_for_ever() -> None:
    core = Core(machine("box"))
    core.app(function("f", min_containers=1))
    core.do(e.ContainerStartFailed(core.now, "ct-e-1", "broken", True))
    core.sleep(3600)
    assert core.got(c.StartContainer) == []


def test_a_start_that_fails_now_and_then_is_tried_again() -> None:
    core = Core(machine("box"))
    core.app(function("f", max_containers=1))
    (input_id,) = core.accept("f")
    for number in range(1, core.state.limits.start_failures_in_a_row):
        core.do(e.ContainerStartFailed(core.now, f"ct-e-{number}", "no space", False))
        assert core.outcomes() == {}
        core.sleep(5)
    core.do(e.ContainerStartFailed(core.now, core.starting()[0], "no space", False))
    assert core.outcomes() == {input_id: "ExecutionError"}
    assert "3 times in a row: no space" in core.got(c.FinishInput)[0].message


def test_a_container_that_is_not_ready_in_time_is_killed_and_counts_as_a_failed_start() -> None:
    core = Core(machine("box"), limits=Limits(start_failures_in_a_row=1))
    core.app(function("f", max_containers=1, startup_timeout_s=20.0))
    (input_id,) = core.accept("f")
    core.sleep(20)
    assert core.the(c.StopContainer) == c.StopContainer("ct-e-1", 0.0, "not ready within 20 s")
    core.exit("ct-e-1", signal=9)
    assert core.outcomes() == {input_id: "ExecutionError"}
    assert "startup_timeout=20 s" in core.got(c.FinishInput)[0].message


# Cancellation


def test_queued_inputs_of_a_cancelled_call_are_dropped_and_running_ones_interrupted() -> None:
    core = one_container(retries=RetryPolicy(5))
    first, second = core.accept("f", 2, call_id="fc-1")
    (other,) = core.accept("f", call_id="fc-2")
    core.do(e.CallCancelled(core.now, "fc-1"))
    assert core.outcomes() == {second: "InputCancellation"}
    assert core.the(c.CancelInput).input_id == first
    core.answer("ct-e-1", first, status="cancelled")
    assert core.outcomes()[first] == "InputCancellation"
    assert outcomes_recorded(core) == ["cancelled"]
    assert core.running("ct-e-1") == [other]


def test_cancelling_twice_interrupts_once() -> None:
    core = one_container()
    core.accept("f", call_id="fc-1")
    core.do(e.CallCancelled(core.now, "fc-1"))
    assert core.do(e.CallCancelled(core.now, "fc-1")) == []


def test_a_cancelled_input_that_does_not_stop_is_ended_with_its_container() -> None:
    core = one_container()
    (input_id,) = core.accept("f", call_id="fc-1")
    core.do(e.CallCancelled(core.now, "fc-1"))
    core.sleep(core.state.limits.cancel_grace_s)
    assert core.the(c.StopContainer).grace_s == 0
    assert core.outcomes() == {input_id: "InputCancellation"}


def test_a_cancelled_input_leased_ahead_is_asked_back() -> None:
    core = one_container()
    (warm,) = core.accept("f")
    core.answer("ct-e-1", warm, run_s=1e-5)
    (running,) = core.accept("f", call_id="fc-1")
    (ahead,) = core.accept("f", call_id="fc-2")
    core.do(e.CallCancelled(core.now, "fc-2"))
    assert core.the(c.RecallInputs).input_ids == (ahead,)
    core.do(e.InputsReturned(core.now, "ct-e-1", (ahead,)))
    assert core.outcomes()[ahead] == "InputCancellation"
    assert core.running("ct-e-1") == [running]


def test_a_cancelled_input_that_had_been_begun_meanwhile_is_interrupted() -> None:
    core = one_container()
    (warm,) = core.accept("f")
    core.answer("ct-e-1", warm, run_s=1e-5)
    (running,) = core.accept("f", call_id="fc-1")
    (ahead,) = core.accept("f", call_id="fc-2")
    core.do(e.CallCancelled(core.now, "fc-2"))
    core.answer("ct-e-1", running, run_s=1e-5)
    assert core.the(c.CancelInput).input_id == ahead
    core.do(e.InputsReturned(core.now, "ct-e-1", ()))
    core.answer("ct-e-1", ahead, status="cancelled")
    assert core.outcomes()[ahead] == "InputCancellation"


def test_a_cancelled_retry_is_not_tried_again() -> None:
    core = one_container(retries=RetryPolicy(3))
    (input_id,) = core.accept("f", call_id="fc-1")
    core.answer("ct-e-1", input_id, status="failure")
    core.do(e.CallCancelled(core.now, "fc-1"))
    assert core.outcomes() == {input_id: "InputCancellation"}
    core.sleep(10)
    assert core.got(c.LeaseInputs) == []


def test_terminating_the_containers_moves_the_others_uncharged() -> None:
    core = one_container(max_concurrent_inputs=2)
    (mine,) = core.accept("f", call_id="fc-1")
    (other,) = core.accept("f", call_id="fc-2")
    core.do(e.CallCancelled(core.now, "fc-1", terminate_containers=True))
    assert core.the(c.StopContainer).grace_s == 0
    assert core.outcomes() == {mine: "InputCancellation"}
    core.exit("ct-e-1", signal=9)
    core.ready()
    assert core.running("ct-e-2") == [other]
    core.answer("ct-e-2", other)
    assert core.outcomes()[other] == "success"


# Money


def test_an_attempt_costs_seconds_times_cards_times_price() -> None:
    core = Core(machine("box", cards("H100", 2, price_usd_per_hour=3.6)))
    core.app(function("f", "H100:2"))
    (input_id,) = core.accept("f")
    core.ready()
    core.answer("ct-e-1", input_id, run_s=100.0)
    attempt = core.the(c.RecordAttempt)
    assert (attempt.gpu_type, attempt.gpu_count, attempt.run_s) == ("H100", 2, 100.0)
    assert attempt.cost_usd == pytest.approx(100 * 2 * 3.6 / 3600)
    assert (attempt.app_id, attempt.container_id) == ("ap-1", "ct-e-1")


def test_a_crashed_attempt_costs_the_time_it_ran() -> None:
    core = Core(machine("box", cards("H100", 1, price_usd_per_hour=3.6)))
    core.app(function("f", "H100"))
    core.accept("f")
    core.ready()
    core.sleep(50)
    core.exit("ct-e-1", signal=9)
    assert core.the(c.RecordAttempt).cost_usd == pytest.approx(50 * 3.6 / 3600)


def test_without_a_gpu_nothing_is_charged() -> None:
    core = one_container()
    (input_id,) = core.accept("f")
    core.answer("ct-e-1", input_id)
    assert core.the(c.RecordAttempt).cost_usd == 0.0
