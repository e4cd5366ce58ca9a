"""What is due: timeouts, retries, scale-down, hold-outs, refusals."""

from __future__ import annotations

from glowplug.core.commands import Command
from glowplug.core.decisions.autoscaling import wanted_containers
from glowplug.core.decisions.queueing import recall_due
from glowplug.core.events import TimePassed
from glowplug.core.lifecycles import DELAYED, READY, STARTING
from glowplug.core.state import Container, Function, Input, State, Subject
from glowplug.core.steps.containers import recall, stop
from glowplug.core.steps.inputs import cancelled, interrupt, record, requeue, take_from_container, timed_out


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
    if container.status == STARTING:
        look_at_starting(state, container, at, out)
    for input in list(container.running.values()):
        if container.running.get(input.id) is input:
            look_at_running(state, container, input, at, out)
    if container.ahead and not container.recalling and container.status == READY:
        due = recall_due(container, state.limits)
        if due <= at:
            recall(container, out)
        else:
            state.wake(container, due)
    if container.id in container.function.idle:
        look_at_idle(state, container, at, out)


def look_at_starting(state: State, container: Container, at: float, out: list[Command]) -> None:
    due = container.created_at + container.function.spec.startup_timeout_s
    if due <= at:
        container.start_overdue = True
        stop(state, container, 0.0, f"not ready within {container.function.spec.startup_timeout_s:g} s", out)
    else:
        state.wake(container, due)


def look_at_running(state: State, container: Container, input: Input, at: float, out: list[Command]) -> None:
    due = input.kill_at if input.ending else input.started_at + container.function.spec.timeout_s
    if due > at:
        state.wake(container, due)
    elif input.ending:
        kill_for(state, container, input, at, out)
    elif container.status == READY:
        interrupt(state, input, "timeout", at, out)


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
    # One that min_containers or buffer_containers keep is looked at again when they no longer do.
    if function.live > wanted_containers(function, state.limits):
        reason = f"idle for {function.spec.scaledown_window_s:g} s"
        stop(state, container, state.limits.stop_grace_s, reason, out)


def look_at_function(state: State, function: Function, at: float, out: list[Command]) -> None:
    if function.spec.id not in state.functions:
        return
    for due in (function.start_not_before, function.held_back_until, function.refuse_at):
        if due is not None and due > at:
            state.wake(function, due)
    if function.waiting_since is not None:
        state.wake(
            function, max(function.waiting_since + state.limits.ageing_s, at + state.limits.ageing_s / 4)
        )
        state.capacity_changed = True
    state.dirty[function.spec.id] = function
