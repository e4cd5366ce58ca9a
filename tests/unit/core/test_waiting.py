"""Every reason to wait has its code, names who holds what, and stays the same text while it holds."""

from __future__ import annotations

import pytest

from glowplug.core import events as e
from glowplug.core.story import Waiting, why_waiting
from glowplug.model.function import RetryPolicy
from unit.core.driver import Core, cards, function, machine


def why(core: Core, function_id: str = "f") -> Waiting:
    waiting = why_waiting(core.state, function_id, core.now)
    assert waiting is not None
    assert waiting.text
    assert waiting.unblocks
    return waiting


def test_nothing_waits() -> None:
    core = Core(machine("box"))
    core.app(function("f"))
    assert why_waiting(core.state, "f", core.now) is None
    assert why_waiting(core.state, "unknown", core.now) is None
    core.accept("f")
    core.ready()
    assert why_waiting(core.state, "f", core.now) is None, "it runs"


def test_a_container_is_starting() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("f", "H100"))
    core.accept("f")
    assert why(core) == Waiting(
        "container ct-e-1 is starting on box (1×H100 on box)", "container-starting", "it is ready"
    )


def test_a_retry_waits_for_its_time() -> None:
    core = Core(machine("box"))
    core.app(function("f", retries=RetryPolicy(1)))
    (input_id,) = core.accept("f")
    core.ready()
    core.answer("ct-e-1", input_id, status="failure")
    assert why(core).code == "retry-backoff"


def test_a_failed_start_waits_for_the_next_try() -> None:
    core = Core(machine("box"))
    core.app(function("f"))
    core.accept("f")
    core.do(e.ContainerStartFailed(core.now, "ct-e-1", "no space left on device", False))
    assert (why(core).code, "no space left" in why(core).text) == ("start-backoff", True)


def test_max_containers() -> None:
    core = Core(machine("box"))
    core.app(function("f", max_containers=1))
    core.accept("f", 2)
    core.ready()
    assert why(core) == Waiting(
        "its container is busy, max_containers=1", "max-containers", "one of their inputs ends"
    )


def test_all_that_the_machines_hold() -> None:
    core = Core(machine("box", cpus=2))
    core.app(function("f"))
    core.accept("f", 5)
    core.ready()
    assert why(core).code == "busy"
    assert "all its 2 containers are busy" in why(core).text


def test_no_machine() -> None:
    core = Core()
    core.app(function("f"))
    core.accept("f")
    assert why(core).code == "no-node"


def test_no_such_gpu() -> None:
    core = Core(machine("box", cards("T4", 1, 16)))
    core.app(function("f", "H100"))
    core.accept("f")
    assert why(core).code == "no-such-gpu"
    assert "1×T4 on box" in why(core).text


def test_a_busy_gpu_names_its_holder() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("f", "H100:2"), function("g", "H100"))
    core.accept("g")
    core.ready()
    core.accept("f")
    waiting = why(core)
    assert waiting.code == "gpu-busy"
    assert waiting.text == "H100:2: in use by ct-e-1 of g (1×H100 on box), 1 of 2 free on box"
    core.sleep(5)
    assert why(core) == waiting, "the same text for as long as the reason is the same"


def test_an_idle_container_is_not_in_the_way() -> None:
    core = Core(machine("box", cards("H100", 2)))
    core.app(function("f", "H100:2"), function("g", "H100"), function("h", "H100"))
    (input_id,) = core.accept("h")
    core.ready()
    core.answer("ct-e-1", input_id)
    core.accept("g")
    core.ready()
    core.accept("f")
    assert why(core).text == "H100:2: in use by ct-e-2 of g (1×H100 on box), 1 of 2 free on box"


def test_a_container_that_stops_to_make_room() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("f", "H100"), function("g", "H100"))
    (input_id,) = core.accept("g")
    core.ready()
    core.answer("ct-e-1", input_id)
    core.accept("f")
    assert (why(core).code, "ct-e-1 of g is stopping" in why(core).text) == ("stopping", True)


def test_somebody_waits_longer() -> None:
    core = Core(machine("box", cards("H100", 1)))
    core.app(function("f", "H100"), function("g", "H100"), function("h", "H100"))
    (input_id,) = core.accept("h")
    core.ready()
    core.accept("g")
    core.sleep(1)
    core.accept("f")
    assert why(core).code == "gpu-busy"
    core.answer("ct-e-1", input_id)
    assert (why(core, "g").code, why(core, "f").code) == ("stopping", "claimed")
    assert "g has waited longer" in why(core, "f").text


@pytest.mark.parametrize("others", [0, 1])
def test_asking_changes_nothing(others: int) -> None:
    core = Core(machine("box", cards("H100", 2), cards("T4", 1, 16)))
    core.app(function("f", ["H100:2", "T4"], gpu_fallback_after_s=20.0), function("g", "H100"))
    core.accept("g", 1 + others)
    core.ready()
    core.accept("f")
    waited_since = core.state.functions["f"].waiting_since
    held_until = core.state.functions["f"].held_back_until
    for _ in range(3):
        assert why(core).code == "fallback-hold"
    assert core.state.functions["f"].waiting_since == waited_since
    assert core.state.functions["f"].held_back_until == held_until
