"""Containers that are forks of a process with torch imported, and those that cannot be."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import uuid

import pytest

from cards import PROGRAMS, Fleet
from commands import Home

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(120)]

FRESH_PROCESSES = 3


def test_two_containers_at_once_on_different_cards(home: Home, two_cards: Fleet, record_property):
    done = home.run(PROGRAMS / "side_by_side.py", "--run", uuid.uuid4().hex[:8], name="main", timeout_s=100)
    first, second = done.value
    for each in (first, second):
        assert each["cuda"] == each["allocated"], "CUDA opens another card than was allocated"
        assert each["right"], "a product came out wrong"
        assert not each["initialized_before"], "CUDA was initialised before the fork"
    assert first["container"] != second["container"]
    assert set(first["allocated"]).isdisjoint(second["allocated"])
    together_s = min(first["ended_at"], second["ended_at"]) - max(first["begun_at"], second["begun_at"])
    assert together_s > 0
    record_property("ran together for", f"{together_s:.2f} s")


def test_a_fork_is_ready_before_a_fresh_process(home: Home, record_property):
    forks = home.run(PROGRAMS / "warm_forks.py", name="main", timeout_s=100).value
    fresh_s = []
    for _ in range(FRESH_PROCESSES):
        begun = time.perf_counter()
        subprocess.run([sys.executable, str(PROGRAMS / "fresh_process.py")], check=True)
        fresh_s.append(time.perf_counter() - begun)
    assert len({fork["container"] for fork in forks}) == len(forks)
    # The first waits for the import; the others are what a further container costs.
    further_s = [fork["seconds"] for fork in forks[1:]]
    record_property("a further container, from asking to its first CUDA result", f"{spread(further_s)}")
    record_property("of which CUDA", f"{spread([fork['cuda_s'] for fork in forks[1:]])}")
    record_property("the first container, imports included", f"{forks[0]['seconds']:.2f} s")
    record_property("a fresh process, without Glowplug", f"{spread(fresh_s)}")
    assert statistics.median(further_s) < statistics.median(fresh_s)


def spread(seconds: list[float]) -> str:
    middle = statistics.median(seconds)
    return f"{middle:.2f} s (median of {len(seconds)}; {min(seconds):.2f}–{max(seconds):.2f})"


def test_asking_for_cuda_at_import_keeps_a_module_warm(home: Home, record_property):
    done = home.run(PROGRAMS / "device_at_import.py", name="main")
    for complaint in ("cannot be kept warm", "NVML"):
        assert complaint not in done.stderr, done.said
    assert done.value == {"with a card": ["cuda", 45.0, []], "without": ["cpu", 45.0, []]}
    record_property('`"cuda" if torch.cuda.is_available() else "cpu"` at import', "forks, right in both")


def test_a_module_that_uses_cuda_at_import_runs_in_fresh_processes(home: Home, record_property):
    done = home.run(PROGRAMS / "cuda_at_import.py", name="main")
    assert done.value == [332833500, 332833500]
    notices = [line for line in done.stderr.splitlines() if "cannot be kept warm" in line]
    assert len(notices) == 1, done.said
    assert "initialises CUDA" in notices[0]
    record_property("said once", notices[0])
