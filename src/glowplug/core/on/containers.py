"""Events of containers."""

from __future__ import annotations

from glowplug.core.commands import Command, Notify, StopContainer
from glowplug.core.decisions.outcomes import (
    crash_loop_message,
    crash_text,
    crashed_message,
    start_failed_message,
)
from glowplug.core.events import (
    ContainerExited,
    ContainerReady,
    ContainerStartFailed,
    ContainerStopRequested,
)
from glowplug.core.lifecycles import DRAINING, READY, RUNNING, STARTING, move_container
from glowplug.core.state import Container, Function, Input, State
from glowplug.core.steps.containers import became_idle, give_back_all, gone, stop
from glowplug.core.steps.inputs import (
    fail_waiting,
    finish,
    interrupted,
    record,
    refill,
    requeue,
    take_from_container,
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
    if function.queued:
        refill(state, container, event.at, out)
    if not container.running:
        became_idle(state, container, event.at, out)
    state.dirty[function.spec.id] = function


def container_start_failed(state: State, event: ContainerStartFailed, out: list[Command]) -> None:
    container = state.containers.get(event.container_id)
    if container is None:
        return
    function = container.function
    was_stopped = container.status == DRAINING and not container.start_overdue
    held = gone(state, container)
    give_back_all(state, container, held, event.message, event.at, out)
    if container.start_overdue:
        start_failed(state, function, overdue_message(function), False, event.at, out)
    elif event.permanent or not was_stopped:
        start_failed(state, function, event.message, event.permanent, event.at, out)


def start_failed(
    state: State, function: Function, message: str, permanent: bool, at: float, out: list[Command]
) -> None:
    function.start_failures_in_a_row += 1
    function.last_failure = message
    times = function.start_failures_in_a_row
    if permanent or times >= state.limits.start_failures_in_a_row:
        fail_waiting(state, function, "ExecutionError", start_failed_message(function, message, times), out)
        function.broken = True
        function.start_failures_in_a_row = 0
    back_off(state, function, times, at)


def overdue_message(function: Function) -> str:
    return (
        f"it was not ready within startup_timeout={function.spec.startup_timeout_s:g} s; "
        "its log says how far it came"
    )


def back_off(state: State, function: Function, times: int, at: float) -> None:
    limits = state.limits
    wait_s = min(limits.start_backoff_s * 2 ** min(times - 1, 30), limits.start_backoff_max_s)
    function.start_not_before = at + wait_s
    state.wake(function, function.start_not_before)


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
    elif status == DRAINING:
        if container.start_overdue:
            start_failed(state, function, overdue_message(function), False, event.at, out)
        give_back_all(state, container, held, container.stop_reason, event.at, out)
    elif any(input.ending for input in held if input.status == RUNNING):
        # Code that runs several inputs side by side can be interrupted only as a whole.
        give_back_all(state, container, held, "another of its inputs was interrupted", event.at, out)
    else:
        crashed(state, container, held, how, event.at, out)


def container_stop_requested(state: State, event: ContainerStopRequested, out: list[Command]) -> None:
    container = state.containers.get(event.container_id)
    if container is not None:
        stop(state, container, event.grace_s, event.reason, out)


def crashed(
    state: State, container: Container, held: list[Input], how: str, at: float, out: list[Command]
) -> None:
    """It died on its own: what it ran is tried again, up to a limit, and what it had not begun is not
    charged."""
    function = container.function
    function.crashes_in_a_row += 1
    function.last_failure = how
    rerun = sum([crashed_input(state, container, input, how, at, out) for input in held])
    if rerun:
        what = "1 input runs" if rerun == 1 else f"{rerun} inputs run"
        text = f"container {container.id} of {function.spec.name} {how}; {what} again"
        out.append(Notify(function.app.id, function.spec.id, "warning", text))
    if function.crashes_in_a_row >= state.limits.crashes_in_a_row:
        fail_waiting(state, function, "RemoteError", crash_loop_message(function, how), out)
        function.crashes_in_a_row = 0
    elif function.crashes_in_a_row > 1:
        back_off(state, function, function.crashes_in_a_row - 1, at)


def crashed_input(
    state: State, container: Container, input: Input, how: str, at: float, out: list[Command]
) -> bool:
    """What becomes of one input of a container that died; returns whether it had begun and runs again."""
    had_begun = input.status == RUNNING
    take_from_container(input)
    if not had_begun:
        interrupted(state, input, how, out)
        return False
    record(input, container, at - input.started_at, "crashed", out)
    input.crashes += 1
    limit = state.limits.crashes_per_input
    if input.crashes >= limit:
        finish(state, input, "error", out, "RemoteError", crashed_message(input, container.id, how, limit))
        return False
    if input.yielded:
        return interrupted(state, input, f"its container {how}", out)
    requeue(input)
    return True
