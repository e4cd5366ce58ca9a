"""What is due: timeouts, retries, scale-down, hold-outs, refusals."""

from __future__ import annotations

from glowplug.core.commands import Command
from glowplug.core.events import TimePassed
from glowplug.core.lifecycles import DELAYED, READY
from glowplug.core.on.containers import fail_waiting
from glowplug.core.state import Container, Function, Input, State, Subject
from glowplug.core.steps.containers import recall, stop
from glowplug.core.steps.inputs import cancelled, interrupt, record, requeue, take_from_container, timed_out
from glowplug.core.steps.scaling import refusal


def time_passed(state: State, event: TimePassed, out: list[Command]) -> None:
    """Nothing but time: ``handle`` looks at whatever is due after every event."""


def look_at(state: State, subject: Subject, at: float, out: list[Command]) -> None:
    """Do what is due for it and have it looked at again when the next thing is."""
    if isinstance(subject, Container):
        look_at_container(state, subject, at, out)
    elif isinstance(subject, Input):
        look_at_input(state, subject, at)
    else:
        look_at_function(state, subject, at, out)


def look_at_input(state: State, input: Input, at: float) -> None:
    if input.status != DELAYED:
        return
    if input.due_at > at:
        state.wake(input, input.due_at)
        return
    input.function.delayed -= 1
    requeue(input)
    state.dirty[input.function.spec.id] = input.function


def look_at_container(state: State, container: Container, at: float, out: list[Command]) -> None:
    if container.id not in state.containers:
        return
    spec = container.function.spec
    limits = state.limits
    for input in list(container.running.values()):
        if input.ending:
            if input.kill_at <= at:
                kill_for(state, container, input, at, out)
            else:
                state.wake(container, input.kill_at)
        elif input.started_at + spec.timeout_s <= at and container.status == READY:
            interrupt(state, input, "timeout", at, out)
        else:
            state.wake(container, input.started_at + spec.timeout_s)
    if container.ahead and not container.recalling and container.status == READY:
        longest = min(input.started_at for input in container.running.values())
        if longest + limits.look_ahead_stall_s <= at:
            recall(container, out)
        else:
            state.wake(container, longest + limits.look_ahead_stall_s)
    if container.id in container.function.idle:
        look_at_idle(state, container, at, out)


def kill_for(state: State, container: Container, input: Input, at: float, out: list[Command]) -> None:
    """An attempt that did not let itself be interrupted ends with its container."""
    ending = input.ending
    run_s = at - input.started_at
    take_from_container(input)
    if ending == "timeout":
        timed_out(state, input, container, run_s, at, out)
    else:
        record(input, container, run_s, "cancelled", out)
        cancelled(state, input, out)
    stop(state, container, 0.0, f"input {input.id} did not end when interrupted ({ending})", out)


def look_at_idle(state: State, container: Container, at: float, out: list[Command]) -> None:
    """Scale down what was idle for its window, above ``min_containers`` and ``buffer_containers``."""
    function = container.function
    due = container.idle_since + function.spec.scaledown_window_s
    if due > at:
        state.wake(container, due)
        return
    spec = function.spec
    kept = spec.min_containers
    if spec.buffer_containers and len(function.idle) < len(function.ready):
        kept = max(kept, len(function.ready) - len(function.idle) + spec.buffer_containers)
    if function.live > kept:
        stop(state, container, state.limits.stop_grace_s, f"idle for {spec.scaledown_window_s:g} s", out)
    else:
        state.wake(container, at + max(spec.scaledown_window_s, 1.0))


def look_at_function(state: State, function: Function, at: float, out: list[Command]) -> None:
    if function.spec.id not in state.functions:
        return
    if function.refuse_at is not None and function.refuse_at <= at:
        function.refuse_at = None
        found = function.choices
        if found is None or not found.most_containers:
            fail_waiting(state, function, "InvalidError", refusal(state, function), out)
    for due in (function.start_not_before, function.held_back_until, function.refuse_at):
        if due is not None and due > at:
            state.wake(function, due)
    if function.waiting_since is not None:
        state.wake(
            function, max(function.waiting_since + state.limits.ageing_s, at + state.limits.ageing_s / 4)
        )
        state.capacity_changed = True
    state.dirty[function.spec.id] = function
