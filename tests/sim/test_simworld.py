"""The simulation itself: the same seed is the same world, it meets every fault, and it notices defects."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from heapq import heappush
from typing import Any

import pytest

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.decisions import nearness
from glowplug.core.on import containers, inputs
from glowplug.core.state import State
from glowplug.core.steps import inputs as input_steps
from glowplug.core.steps import scaling
from glowplug.testing.scenario import FAULTS, draw_scenario
from glowplug.testing.simworld import SimFailure, SimWorld, shortest_failure

DIGESTS = """
from glowplug.testing.simworld import SimWorld
for seed in (3, 13, 46, 97):
    print(seed, SimWorld(seed).run().digest())
"""


def digests(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", DIGESTS], env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_the_same_seed_is_the_same_trace_whatever_the_hash_seed() -> None:
    first, second = digests("1"), digests("4711")
    assert first == second
    assert len(set(first.split())) == 8


def test_worlds_differ() -> None:
    assert SimWorld(1).run().digest() != SimWorld(2).run().digest()


def test_thirty_worlds_meet_every_event_and_command_and_end_inputs_in_every_way() -> None:
    seen: Counter[type] = Counter()
    endings: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for seed in range(200, 230):
        world = SimWorld(seed).run()
        kinds.update(world.scenario.kinds)
        for event, out in world.trace:
            seen[type(event)] += 1
            for command in out:
                seen[type(command)] += 1
                if isinstance(command, c.FinishInput):
                    endings[command.error or command.status] += 1
                elif isinstance(command, c.RecordAttempt):
                    attempts[command.outcome] += 1
    assert set(e.Event.__subclasses__()) <= set(seen)
    assert set(c.Command.__subclasses__()) <= set(seen)
    assert set(kinds) == set(FAULTS)
    for ending in ("success", "failure", "InputCancellation", "FunctionTimeoutError", "RemoteError"):
        assert endings[ending], ending
    assert set(attempts) == {"success", "failure", "timeout", "cancelled", "interrupted", "crashed"}


def test_faults_can_be_left_out() -> None:
    world = SimWorld(5, frozenset()).run()
    assert world.scenario.kinds == frozenset()
    assert draw_scenario(5, frozenset()).calls[0].input_ids == draw_scenario(5).calls[0].input_ids


# Planted defects: a simulation that cannot fail proves nothing


def back_of_the_queue(function: Any, input: Any) -> None:
    function.fresh.append(input)


def leased_without_looking(function: Any, container: Any, ahead: int, share: int, has_stalled: bool) -> int:
    return function.queued


def always_another_try(input: Any) -> float:
    return 1.0


def lost_when_interrupted(state: Any, input: Any, why: str, out: Any) -> None:
    input.status = "delayed"
    input.due_at = float("inf")
    input.function.delayed += 1


def every_gpu_is_free(node: Any, gpu: Any) -> int:
    return nearness.FREE


def no_timer_is_set(state: Any, subject: Any, at: float) -> None:
    if subject.check_at is None:
        subject.check_at = at
        heappush(state.timers, (at + 1e9, state.counted_timers, subject))
        state.counted_timers += 1


DEFECTS: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {
    "inputs come back at the end": [(input_steps, "put_back", back_of_the_queue)],
    "leases have no bound": [(input_steps, "lease_count", leased_without_looking)],
    "retries have no end": [(input_steps, "retry_delay_s", always_another_try)],
    "an interrupted input is lost": [
        (containers, "interrupted", lost_when_interrupted),
        (inputs, "interrupted", lost_when_interrupted),
    ],
    "a GPU is given out twice": [(nearness, "level_of", every_gpu_is_free)],
    "timers never fire": [(State, "wake", no_timer_is_set)],
    "resent inputs run again": [(State, "is_finished", lambda state, input_id: False)],
    "nothing makes room": [(scaling, "make_room", lambda *_: None)],
    "no container is started": [(scaling, "node_for_cpu", lambda *_: None)],
    "a crash is forgotten": [(containers, "requeue", lambda input: None)],
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_noticed(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, replacement in DEFECTS[defect]:
        assert hasattr(owner, name)
        monkeypatch.setattr(owner, name, replacement)
    for seed in range(60):
        try:
            SimWorld(seed).run()
        except SimFailure as failure:
            text = str(failure)
            assert text.startswith(f"seed {seed}, faults [")
            assert "the end of the trace:" in text
            return
        except Exception:  # the defect broke the core outright
            return
    pytest.fail(f"sixty worlds did not notice that {defect}")


def test_a_failure_is_shown_in_the_simplest_world_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "node_for_cpu", lambda *_: None)
    failing = next(seed for seed in range(60) if fails(seed))
    failure = shortest_failure(failing)
    assert f"seed {failing}, faults []" in str(failure), "no fault is needed to show it"


def fails(seed: int) -> bool:
    try:
        SimWorld(seed).run()
    except SimFailure:
        return True
    return False
