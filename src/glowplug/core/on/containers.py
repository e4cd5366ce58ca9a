"""Events of containers."""

from __future__ import annotations

from glowplug.core.commands import Command, StopContainer
from glowplug.core.decisions.outcomes import (
    crash_loop_message,
    crash_text,
    crashed_message,
    start_failed_message,
)
from glowplug.core.events import ContainerExited, ContainerReady, ContainerStartFailed
from glowplug.core.lifecycles import DRAINING, READY, RUNNING, STARTING, move_container
from glowplug.core.state import Function, State
from glowplug.core.steps.containers import became_idle, give_back_all, gone
from glowplug.core.steps.inputs import (
    cancelled,
    finish,
    interrupted,
    record,
    requeue,
    take_from_container,
    timed_out,
)


def container_ready(state: State, event: ContainerReady, out: list[Command]) -> None:
    container = state.containers.get(event.container_id)
    if container is None:
        # Of an earlier life of this server, or already given up.
        out.append(StopContainer(event.container_id, 0.0, "this server does not know it"))
        return
    if container.status != STARTING:
        return
    function = container.function
    move_container(container, READY)
    container.ready_at = event.at
    function.starting -= 1
    function.start_failures_in_a_row = 0
    function.ready[container.id] = container
    became_idle(state, container, event.at, out)
    state.dirty[function.spec.id] = function


def container_start_failed(state: State, event: ContainerStartFailed, out: list[Command]) -> None:
    container = state.containers.get(event.container_id)
    if container is None:
        return
    function = container.function
    asked_for = container.status == DRAINING
    held = gone(state, container)
    give_back_all(state, container, held, event.message, event.at, out)
    if not asked_for or event.permanent:
        start_failed(state, function, event.message, event.permanent, event.at, out)


def start_failed(
    state: State, function: Function, message: str, permanent: bool, at: float, out: list[Command]
) -> None:
    function.start_failures_in_a_row += 1
    function.last_failure = message
    times = function.start_failures_in_a_row
    if permanent or times >= state.limits.start_failures_in_a_row:
        fail_waiting(state, function, "ExecutionError", start_failed_message(function, message, times), out)
        if not permanent:
            function.start_failures_in_a_row = 0
    back_off(state, function, times, at)


def back_off(state: State, function: Function, times: int, at: float) -> None:
    limits = state.limits
    wait_s = min(limits.start_backoff_s * 2 ** min(times - 1, 30), limits.start_backoff_max_s)
    function.start_not_before = at + wait_s
    state.wake(function, function.start_not_before)


def fail_waiting(state: State, function: Function, error: str, message: str, out: list[Command]) -> None:
    """Every input of a function that no container holds gets this verdict."""
    waiting = [entry[1] for entry in sorted(function.returned, key=lambda entry: entry[0])]
    waiting += function.fresh
    function.returned.clear()
    function.fresh.clear()
    for input in waiting:
        finish(state, input, "error", out, error, message)


def container_exited(state: State, event: ContainerExited, out: list[Command]) -> None:
    container = state.containers.get(event.container_id)
    if container is None:
        return
    function = container.function
    status = container.status
    how = crash_text(event)
    held = gone(state, container)
    if status == STARTING:
        start_failed(state, function, f"its process {how}", False, event.at, out)
        return
    if status == DRAINING:
        for input in held:
            if input.ending == "timeout":
                take_from_container(input)
                timed_out(state, input, container, event.at - input.started_at, event.at, out)
        rest = [*container.running.values(), *container.ahead]
        give_back_all(state, container, rest, container.stop_reason, event.at, out)
        return
    function.crashes_in_a_row += 1
    function.last_failure = how
    limits = state.limits
    for input in held:
        begun = input.status == RUNNING
        take_from_container(input)
        if not begun:
            interrupted(state, input, how, out)
            continue
        run_s = event.at - input.started_at
        if input.ending == "timeout":
            timed_out(state, input, container, run_s, event.at, out)
            continue
        record(input, container, run_s, "crashed", out)
        input.crashes += 1
        if input.ending == "cancelled":
            cancelled(state, input, out)
        elif input.crashes >= limits.crashes_per_input:
            message = crashed_message(input, container.id, how, limits.crashes_per_input)
            finish(state, input, "error", out, "RemoteError", message)
        elif input.yielded:
            interrupted(state, input, f"its container {how}", out)
        else:
            requeue(input)
    if function.crashes_in_a_row >= limits.crashes_in_a_row:
        fail_waiting(state, function, "RemoteError", crash_loop_message(function, how), out)
        function.crashes_in_a_row = 0
    elif function.crashes_in_a_row > 1:
        back_off(state, function, function.crashes_in_a_row - 1, event.at)
