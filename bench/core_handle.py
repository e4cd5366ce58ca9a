"""What one event costs in the core: microseconds of ``handle()``, median of several rounds.

    python bench/core_handle.py [--profile]

Nothing but the core runs: no payloads, no connections. Each line is one steady state a server is in.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
from collections.abc import Callable
from time import perf_counter

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.machine import handle
from glowplug.core.state import State
from glowplug.model.function import FunctionSpec
from glowplug.model.gpu import GpuRequest
from glowplug.model.node import Gpu, Node

ROUNDS = 7
NO_OP_S = 5e-6


class Fleet:
    """A core with ready containers of one function, answering its leases at once."""

    def __init__(self, containers: int = 1, gpu: bool = False, others: int = 0, cpus: float = 64) -> None:
        self.state = State()
        self.now = 0.0
        self.counted = 0
        gpus = tuple(Gpu(f"GPU-{n}", "H100", 80, index=n) for n in range(8)) if gpu else ()
        request = (GpuRequest("H100"),) if gpu else ()
        spec = FunctionSpec(
            "fu-1", "ap-1", "f", request, min_containers=containers, max_containers=containers
        )
        rest = [FunctionSpec(f"fu-o{n}", "ap-1", f"o{n}") for n in range(others)]
        self.do(e.ServerStarted(0.0, "e"))
        self.do(e.NodeJoined(0.0, Node("n1", gpus, cpus=cpus)))
        for command in self.do(e.AppStarted(0.0, "ap-1", "app", (spec, *rest))):
            if isinstance(command, c.StartContainer):
                self.do(e.ContainerReady(0.0, command.container_id))

    def do(self, event: e.Event) -> list[c.Command]:
        return handle(self.state, event)

    def ids(self, count: int) -> tuple[str, ...]:
        first = self.counted
        self.counted += count
        return tuple(f"in-{number}" for number in range(first, self.counted))


def one_call_at_a_time(fleet: Fleet, calls: int) -> dict[str, float]:
    """The warm ``.remote()``: one input in, leased; one output back, finished."""
    accepting = answering = 0.0
    for _ in range(calls):
        fleet.now += 0.001
        (input_id,) = fleet.ids(1)
        event = e.InputsAccepted(fleet.now, "fu-1", f"fc-{input_id}", (input_id,))
        begin = perf_counter()
        out = handle(fleet.state, event)
        accepting += perf_counter() - begin
        (lease,) = out
        assert isinstance(lease, c.LeaseInputs)
        fact = e.OutputFact(input_id, lease.leases[0].attempt, "success", NO_OP_S)
        answer = e.OutputsArrived(fleet.now + 1e-4, lease.container_id, (fact,))
        begin = perf_counter()
        out = handle(fleet.state, answer)
        answering += perf_counter() - begin
        assert len(out) == 2
    return {"InputsAccepted of 1": accepting / calls, "OutputsArrived of 1": answering / calls}


def map_of(fleet: Fleet, inputs: int, batch: int) -> dict[str, float]:
    """A map: batches of inputs in, containers answer as many as they were leased."""
    accepting = answering = 0.0
    answers = 0
    ids = fleet.ids(inputs)
    leases: list[c.Command] = []
    for first in range(0, inputs, batch):
        fleet.now += 0.0001
        event = e.InputsAccepted(fleet.now, "fu-1", f"fc-{ids[0]}", ids[first : first + batch])
        begin = perf_counter()
        leases += handle(fleet.state, event)
        accepting += perf_counter() - begin
    finished = 0
    while leases:
        command = leases.pop(0)
        if isinstance(command, c.FinishInput):
            finished += 1
        if not isinstance(command, c.LeaseInputs):
            continue
        fleet.now += 0.0001
        facts = tuple(
            e.OutputFact(lease.input_id, lease.attempt, "success", NO_OP_S) for lease in command.leases
        )
        event = e.OutputsArrived(fleet.now, command.container_id, facts)
        begin = perf_counter()
        out = handle(fleet.state, event)
        answering += perf_counter() - begin
        answers += 1
        leases += out
    assert finished == inputs
    return {
        f"InputsAccepted, batches of {batch}: per input": accepting / inputs,
        f"OutputsArrived, {inputs / answers:.0f} at a time: per input": answering / inputs,
    }


def measure(name: str, run: Callable[[], dict[str, float]]) -> None:
    rounds = [run() for _ in range(ROUNDS)]
    for what in rounds[0]:
        print(
            f"{statistics.median(result.get(what, 0.0) for result in rounds) * 1e6:8.2f} µs  {name}: {what}"
        )


def warm(fleet: Fleet) -> Fleet:
    one_call_at_a_time(fleet, 200)
    return fleet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="print where the warm path spends its time")
    if parser.parse_args().profile:
        profile = cProfile.Profile()
        fleet = warm(Fleet())
        profile.runcall(one_call_at_a_time, fleet, 20_000)
        pstats.Stats(profile).sort_stats("tottime").print_stats(22)
        return
    for name, fleet in (
        ("one warm container", warm(Fleet())),
        ("one warm GPU container", warm(Fleet(gpu=True))),
        ("64 warm containers", warm(Fleet(64))),
        ("one warm container, 200 other functions", warm(Fleet(others=200))),
    ):
        measure(name, lambda fleet=fleet: one_call_at_a_time(fleet, 5_000))
    for containers in (1, 2, 16):
        fleet = warm(Fleet(containers))
        measure(f"map over {containers}", lambda fleet=fleet: map_of(fleet, 10_000, 1_000))
    fleet = warm(Fleet(2))
    measure("map over 2", lambda: map_of(fleet, 10_000, 49))


if __name__ == "__main__":
    main()
