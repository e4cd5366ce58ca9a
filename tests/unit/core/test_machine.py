"""The dispatch table, the transition tables, the invariants themselves, time, and what a trace tells."""

from __future__ import annotations

from typing import Any

import pytest

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.describe import COMMAND_WORDS, EVENT_WORDS
from glowplug.core.invariants import check
from glowplug.core.lifecycles import (
    DELAYED,
    DRAINING,
    FINISHED,
    LEASED,
    QUEUED,
    READY,
    RUNNING,
    STARTING,
    STOPPED,
    IllegalMove,
    move_container,
    move_input,
)
from glowplug.core.lifecycles.container import MOVES as CONTAINER_MOVES
from glowplug.core.lifecycles.input import MOVES as INPUT_MOVES
from glowplug.core.machine import HANDLERS
from glowplug.core.state import Limits
from glowplug.core.story import story
from glowplug.model.node import Node
from unit.core.driver import Core, cards, function, machine


def test_every_event_has_a_handler_and_every_fact_has_words() -> None:
    assert set(HANDLERS) == set(e.Event.__subclasses__())
    assert set(EVENT_WORDS) == set(e.Event.__subclasses__())
    assert set(COMMAND_WORDS) == set(c.Command.__subclasses__())


def busy_core() -> Core:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("f", max_containers=1), function("g", "H100"))
    (warm,) = core.accept("f")
    core.ready()
    core.answer("ct-e-1", warm, run_s=1e-5)
    core.accept("f", 4)
    core.accept("g", 3)
    core.ready()
    return core


# Transition tables


@pytest.mark.parametrize("old", [QUEUED, DELAYED, LEASED, RUNNING, FINISHED])
@pytest.mark.parametrize("new", [QUEUED, DELAYED, LEASED, RUNNING, FINISHED])
def test_an_illegal_move_of_an_input_raises_and_changes_nothing(old: str, new: str) -> None:
    core = busy_core()
    input = next(iter(core.state.inputs.values()))
    input.status = old
    if new in INPUT_MOVES[old]:
        move_input(input, new)
        assert input.status == new
    else:
        with pytest.raises(IllegalMove, match=f"input {input.id} cannot go from {old} to {new}"):
            move_input(input, new)
        assert input.status == old


@pytest.mark.parametrize("old", [STARTING, READY, DRAINING, STOPPED])
@pytest.mark.parametrize("new", [STARTING, READY, DRAINING, STOPPED])
def test_an_illegal_move_of_a_container_raises_and_changes_nothing(old: str, new: str) -> None:
    container = busy_core().container("ct-e-1")
    container.status = old
    if new in CONTAINER_MOVES[old]:
        move_container(container, new)
        assert container.status == new
    else:
        with pytest.raises(IllegalMove, match=f"container ct-e-1 cannot go from {old} to {new}"):
            move_container(container, new)
        assert container.status == old


def test_what_has_ended_stays_ended() -> None:
    assert INPUT_MOVES[FINISHED] == frozenset()
    assert CONTAINER_MOVES[STOPPED] == frozenset()


# Invariants: each can fail


def lose_an_input(core: Core) -> None:
    core.state.functions["f"].containers["ct-e-1"].ahead.popleft()


def lease_twice(core: Core) -> None:
    function = core.state.functions["f"]
    function.fresh.append(function.containers["ct-e-1"].ahead[0])


def mix_up_the_queue(core: Core) -> None:
    core.accept("g", 2)
    core.state.functions["g"].fresh.reverse()


def forget_a_call(core: Core) -> None:
    core.state.calls.popitem()


def miscount(core: Core) -> None:
    core.state.functions["f"].leased += 1


def share_a_gpu(core: Core) -> None:
    first, second = (core.container(one) for one in ("ct-e-2", "ct-e-3"))
    second.allocation = first.allocation


def free_a_gpu_in_use(core: Core) -> None:
    core.state.nodes["box"].holders.popitem()


def forget_a_timer(core: Core) -> None:
    core.state.timers.clear()


def forget_an_input(core: Core) -> None:
    core.state.inputs.pop(core.running("ct-e-2")[0])


def idle_beside_a_queue(core: Core) -> None:
    core.accept("g", 2)
    container = core.container("ct-e-2")
    core.state.functions["g"].idle[container.id] = container


def promise_too_much(core: Core) -> None:
    container = core.container("ct-e-1")
    container.running.update((input.id, input) for input in container.ahead)


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (lose_an_input, "found in no place"),
        (lease_twice, "is found twice"),
        (mix_up_the_queue, "out of order"),
        (forget_a_call, "calls: inputs is"),
        (miscount, "leased is"),
        (share_a_gpu, "is held by ct-e-2 and ct-e-3"),
        (free_a_gpu_in_use, "is free by its node's account"),
        (forget_a_timer, "nothing will look at it"),
        (forget_an_input, "and has ended"),
        (idle_beside_a_queue, "waits beside idle"),
        (promise_too_much, "runs 4 inputs at once"),
    ],
)
def test_a_broken_state_is_noticed(sabotage: Any, words: str) -> None:
    core = busy_core()
    assert check(core.state) == []
    sabotage(core)
    assert any(words in problem for problem in check(core.state)), check(core.state)


# Time


def test_no_deadline_when_nothing_is_due() -> None:
    core = Core(machine("box"))
    assert core.state.next_deadline is None
    core.app(function("f"))
    assert core.state.next_deadline is None


def test_whatever_is_due_fires_after_any_event() -> None:
    core = Core(machine("box"))
    core.app(function("f", timeout_s=10.0))
    (input_id,) = core.accept("f")
    core.ready()
    core.now += 11
    core.do(e.NodeJoined(core.now, machine("other")))
    assert core.the(c.CancelInput).input_id == input_id


def test_a_result_that_arrives_with_the_deadline_counts() -> None:
    core = Core(machine("box"))
    core.app(function("f", timeout_s=10.0))
    (input_id,) = core.accept("f")
    core.ready()
    core.now += 11
    core.answer("ct-e-1", input_id)
    assert core.outcomes() == {input_id: "success"}
    assert core.got(c.CancelInput) == []


def test_a_warm_container_keeps_one_timer_however_many_inputs_it_runs() -> None:
    core = Core(machine("box"))
    core.app(function("f"))
    core.accept("f")
    core.ready()
    for _ in range(1000):
        core.answer("ct-e-1", *core.running("ct-e-1"))
        core.accept("f")
        core.sleep(0.01)
    assert len(core.state.timers) < 10


def test_finished_inputs_are_remembered_up_to_a_limit() -> None:
    core = Core(machine("box"), limits=Limits(finished_inputs=10))
    core.app(function("f"))
    ids = []
    for _ in range(25):
        ids += core.accept("f")
        core.ready()
        core.answer("ct-e-1", ids[-1])
    assert core.state.is_finished(ids[-1])
    assert core.state.is_finished(ids[-10])
    assert not core.state.is_finished(ids[0])


def test_unknown_things_are_ignored() -> None:
    core = Core(machine("box"))
    for event in (
        e.NodeLost(core.now, "nowhere", ""),
        e.NodeDrainRequested(core.now, "nowhere", ""),
        e.NodeDrainEnded(core.now, "nowhere"),
        e.NodeChanged(core.now, Node("nowhere")),
        e.GpuFailed(core.now, "nowhere", "GPU", ""),
        e.GpuFailed(core.now, "box", "GPU", ""),
        e.AppStopped(core.now, "ap-9", ""),
        e.CallCancelled(core.now, "fc-9"),
        e.ContainerStartFailed(core.now, "ct-9", "", True),
        e.ContainerExited(core.now, "ct-9"),
        e.ContainerStopRequested(core.now, "ct-9", ""),
        e.InputsReturned(core.now, "ct-9", ("in-9",)),
        e.FirstItemYielded(core.now, "ct-9", "in-9", 1),
        e.OutputsArrived(core.now, "ct-9", (e.OutputFact("in-9", 1, "success", 0.0),)),
        e.TimePassed(core.now),
    ):
        assert core.do(event) == []


# Stories


def test_a_story_tells_what_happened_to_one_thing_only() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("f", "H100"), function("g"))
    mine, _ = core.accept("f", 2, call_id="fc-1")
    core.accept("g")
    core.ready("ct-e-1")
    core.sleep(1.5)
    core.exit("ct-e-1", signal=9)
    lines = story(core.state, mine)
    assert lines == [
        "+0.000 s  accepted in-0, in-1 of fc-1 for f",
        "+0.000 s  ct-e-1 ready",
        "          → lease in-0 #1 to ct-e-1",
        "+1.500 s  ct-e-1 exited: signal 9",
        "          → record in-0 #1 in ct-e-1: crashed, 1.5 s",
    ]
    assert any(
        "start ct-e-1 of f on box with 1×H100 (box/H100-80-0)" in line for line in story(core.state, "f")
    )
    assert any("lease in-0" in line for line in story(core.state, "fc-1"))
    assert not any("of g" in line for line in story(core.state, "f"))
    assert story(core.state, "in-unknown") == []


def test_the_ring_is_bounded() -> None:
    core = Core(machine("box"), limits=Limits(trace_facts=50))
    core.app(function("f"))
    for _ in range(100):
        core.accept("f")
        core.ready()
        core.answer("ct-e-1", *core.running("ct-e-1"))
    facts = [1 + len(out) for _, out in core.state.trace]
    assert 45 <= sum(facts) <= 50
    assert core.state.traced_facts == sum(facts)
    assert len(story(core.state, "in-99")) == 5
    assert story(core.state, "in-1") == []
