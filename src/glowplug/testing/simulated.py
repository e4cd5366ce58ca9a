"""A container as the simulation has it: a process on a node, holding GPUs, running inputs in order.

It behaves as the protocol with the core says and knows nothing of the core: it begins what it was leased in
order, answers recalls with what it has not begun, ends when stopped. Messages to the server keep their
order; only the news that the process is gone may overtake them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.model.function import FunctionSpec
from glowplug.testing.scenario import Behaviour

MakeEvent = Callable[[float], e.Event]


class World(Protocol):
    """What a container needs of the world it lives in."""

    now: float

    def after(self, delay_s: float, action: Callable[[], None]) -> None: ...
    def tell_server(self, source: SimContainer, make: MakeEvent, in_order: bool = True) -> None: ...
    def is_calm(self) -> bool: ...
    def container_died(self, container: SimContainer) -> None: ...


class Run:
    """One attempt in progress."""

    __slots__ = ("attempt", "began_at", "input_id", "is_over")

    def __init__(self, input_id: str, attempt: int, began_at: float) -> None:
        self.input_id = input_id
        self.attempt = attempt
        self.began_at = began_at
        self.is_over = False


class SimContainer:
    def __init__(
        self, world: World, start: c.StartContainer, spec: FunctionSpec, behaviour: Behaviour, rng: Random
    ) -> None:
        self.world = world
        self.id = start.container_id
        self.allocation = start.allocation
        self.spec = spec
        self.behaviour = behaviour
        self.rng = rng
        self.is_ready = False
        self.is_stopping = False
        self.is_alive = True
        self.held: deque[tuple[str, int]] = deque()
        self.runs: dict[str, Run] = {}
        self.unsent: list[e.OutputFact] = []
        self.last_sent_at = 0.0
        world.after(rng.uniform(*behaviour.start_s), self.finish_start)

    # what the server asks for

    def obey(self, command: c.StopContainer | c.LeaseInputs | c.RecallInputs | c.CancelInput) -> None:
        if isinstance(command, c.LeaseInputs):
            self.lease(command)
        elif isinstance(command, c.StopContainer):
            self.stop(command)
        elif isinstance(command, c.RecallInputs):
            self.recall(command)
        else:
            self.cancel(command)

    def lease(self, command: c.LeaseInputs) -> None:
        self.held.extend((lease.input_id, lease.attempt) for lease in command.leases)
        self.begin_next()

    def recall(self, command: c.RecallInputs) -> None:
        asked = set(command.input_ids)
        back = tuple(input_id for input_id, _ in self.held if input_id in asked)
        self.held = deque(entry for entry in self.held if entry[0] not in asked)
        self.send(lambda at: e.InputsReturned(at, self.id, back))

    def cancel(self, command: c.CancelInput) -> None:
        run = self.runs.get(command.input_id)
        if run is None or run.attempt != command.attempt or self.behaviour.ignores_cancel:
            return
        # Some code catches the interruption and returns all the same.
        status = "success" if self.rng.random() < 0.1 else "cancelled"
        self.world.after(self.rng.uniform(0, 0.3), lambda: self.end(run, status))

    def stop(self, command: c.StopContainer) -> None:
        if not self.is_alive:
            return
        if command.grace_s == 0:
            self.die(signal=9)
            return
        if self.is_stopping:
            return
        self.is_stopping = True
        for run in list(self.runs.values()):
            if self.rng.random() < 0.8:
                status = "success" if self.rng.random() < 0.2 else "cancelled"
                self.world.after(self.rng.uniform(0, 1), lambda run=run, status=status: self.end(run, status))
        self.world.after(min(command.grace_s, self.rng.uniform(*self.behaviour.exit_s) + 1), self.exit)

    # what happens inside

    def finish_start(self) -> None:
        if not self.is_alive or self.is_stopping:
            return
        if self.behaviour.never_starts:
            self.fail_start("ModuleNotFoundError: no module named 'gone'", permanent=True)
        elif not self.world.is_calm() and self.rng.random() < self.behaviour.start_failure:
            kind = self.rng.random()
            if kind < 0.5:
                self.fail_start("the sandbox could not be made", permanent=False)
            elif kind < 0.8:
                self.die(exit_code=1)
            # else it hangs and is never ready
        else:
            self.is_ready = True
            self.send(lambda at: e.ContainerReady(at, self.id))
            self.begin_next()

    def fail_start(self, message: str, permanent: bool) -> None:
        self.is_alive = False
        self.world.container_died(self)
        self.send(lambda at: e.ContainerStartFailed(at, self.id, message, permanent))

    def begin_next(self) -> None:
        while (
            self.is_ready
            and not self.is_stopping
            and self.is_alive
            and self.held
            and len(self.runs) < self.spec.max_concurrent_inputs
        ):
            run = Run(*self.held.popleft(), self.world.now)
            self.runs[run.input_id] = run
            self.begin(run)

    def begin(self, run: Run) -> None:
        run_s = self.rng.uniform(*self.behaviour.run_s)
        if self.spec.is_generator:
            self.world.after(run_s * self.rng.random(), lambda: self.yield_first(run))
        draw = 2.0 if self.world.is_calm() else self.rng.random()
        if draw < self.behaviour.crash:
            self.world.after(run_s * self.rng.random(), self.crash)
        elif draw < self.behaviour.crash + self.behaviour.hang:
            return
        else:
            status = "failure" if self.rng.random() < self.behaviour.failure else "success"
            self.world.after(run_s, lambda: self.end(run, status))

    def yield_first(self, run: Run) -> None:
        if self.is_alive and not run.is_over:
            self.send(lambda at: e.FirstItemYielded(at, self.id, run.input_id, run.attempt))

    def end(self, run: Run, status: e.OutputStatus) -> None:
        if not self.is_alive or run.is_over:
            return
        run.is_over = True
        del self.runs[run.input_id]
        fact = e.OutputFact(run.input_id, run.attempt, status, self.world.now - run.began_at)
        self.unsent.append(fact)
        if len(self.unsent) == 1:
            self.world.after(self.rng.choice((0.0, 5e-4, 2e-3)), self.flush)
        self.begin_next()

    def crash(self) -> None:
        if not self.is_alive:
            return
        if self.rng.random() < 0.3:
            self.die(out_of_memory=True, signal=9)
        elif self.rng.random() < 0.5:
            self.die(signal=11)
        else:
            self.die(exit_code=3)

    def exit(self) -> None:
        if self.is_alive:
            self.flush()
            self.die(exit_code=0)

    def vanish(self) -> None:
        """Its node is gone: no word of it."""
        self.is_alive = False
        self.world.container_died(self)

    def die(
        self, exit_code: int | None = None, signal: int | None = None, out_of_memory: bool = False
    ) -> None:
        if not self.is_alive:
            return
        if self.rng.random() < 0.5:
            self.flush()
        self.is_alive = False
        self.world.container_died(self)
        self.world.tell_server(
            self, lambda at: e.ContainerExited(at, self.id, exit_code, signal, out_of_memory), in_order=False
        )

    def flush(self) -> None:
        if self.is_alive and self.unsent:
            facts = tuple(self.unsent)
            self.unsent.clear()
            self.world.tell_server(self, lambda at: e.OutputsArrived(at, self.id, facts))

    def send(self, make: MakeEvent) -> None:
        self.flush()
        self.world.tell_server(self, make)
