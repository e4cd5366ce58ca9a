"""Moves of an input: leased, begun, back to its queue, finished."""

from __future__ import annotations

from heapq import heapify

from glowplug.core.commands import (
    CancelInput,
    Command,
    FinishInput,
    FinishStatus,
    Lease,
    LeaseInputs,
    RecordAttempt,
)
from glowplug.core.decisions.outcomes import interrupted_generator_message, retry_delay_s, timeout_message
from glowplug.core.decisions.queueing import (
    fair_share,
    lease_count,
    look_ahead,
    put_back,
    recall_due,
    stalls_at,
    take_next,
)
from glowplug.core.lifecycles import DELAYED, FINISHED, LEASED, QUEUED, READY, RUNNING, move_input
from glowplug.core.state import Container, Function, Input, State


def dispatch(state: State, function: Function, at: float, out: list[Command]) -> None:
    """Lease queued inputs to the containers that can take them: idle ones first, the last used before
    others."""
    if not function.ready or not (function.fresh or function.returned):
        return
    ahead = look_ahead(function, state.limits)
    share = fair_share(function)
    idle = function.idle
    while idle and function.queued:
        container = idle[next(reversed(idle))]
        lease(state, container, lease_count(function, container, ahead, share, False), at, out)
    if function.queued and (ahead or function.spec.max_concurrent_inputs > 1):
        for container in list(function.ready.values()):
            has_stalled = at >= stalls_at(container, state.limits)
            count = lease_count(function, container, ahead, share, has_stalled)
            if count:
                lease(state, container, count, at, out)


def refill(state: State, container: Container, at: float, out: list[Command]) -> None:
    """Lease queued inputs to one container that has just had outputs."""
    function = container.function
    has_stalled = at >= stalls_at(container, state.limits)
    ahead = look_ahead(function, state.limits)
    count = lease_count(function, container, ahead, fair_share(function), has_stalled)
    if count:
        lease(state, container, count, at, out)


def lease(state: State, container: Container, count: int, at: float, out: list[Command]) -> None:
    function = container.function
    at_once = function.spec.max_concurrent_inputs
    leases: list[Lease] = []
    for _ in range(count):
        input = take_next(function)
        move_input(input, LEASED)
        input.attempt += 1
        input.container = container
        leases.append(Lease(input.id, input.attempt))
        if len(container.running) < at_once:
            begin(state, container, input, at, out)
        else:
            container.ahead.append(input)
    function.leased += count
    container.taken += count
    function.idle.pop(container.id, None)
    if function.spec.max_inputs is not None and container.taken >= function.spec.max_inputs:
        container.retiring = f"it has taken its {container.taken} inputs"
        function.ready.pop(container.id)
        state.dirty[function.spec.id] = function
        if state.waiting and container.allocation.gpu_uuids:
            state.capacity_changed = True
    if function.starting and state.waiting:
        state.dirty[function.spec.id] = function
    if container.ahead:
        state.wake(container, recall_due(container, state.limits))
    out.append(LeaseInputs(container.id, tuple(leases)))


def begin(state: State, container: Container, input: Input, at: float, out: list[Command]) -> None:
    """The container runs it from now on, so its timeout does too."""
    move_input(input, RUNNING)
    input.started_at = at
    container.running[input.id] = input
    state.wake(container, at + container.function.spec.timeout_s)
    if input.ending:
        interrupt(state, input, input.ending, at, out)


def begin_next(state: State, container: Container, at: float, out: list[Command]) -> None:
    """A slot is free: by its order the container has begun the next one it holds. One that was told to stop
    begins nothing any more."""
    if container.status != READY:
        return
    at_once = container.function.spec.max_concurrent_inputs
    while container.ahead and len(container.running) < at_once:
        begin(state, container, container.ahead.popleft(), at, out)


def interrupt(state: State, input: Input, ending: str, at: float, out: list[Command]) -> None:
    """Ask the container to break off a running attempt; it is killed if it does not."""
    container = input.container
    assert container is not None
    input.ending = ending
    input.kill_at = at + state.limits.cancel_grace_s
    state.wake(container, input.kill_at)
    out.append(CancelInput(container.id, input.id, input.attempt))


def take_from_container(input: Input) -> Container:
    """Out of its container's hands; the caller says where to."""
    container = input.container
    assert container is not None
    if container.running.pop(input.id, None) is None:
        container.ahead.remove(input)
    container.function.leased -= 1
    input.container = None
    input.recalled = False
    return container


def requeue(input: Input) -> None:
    """Back to its place in the queue, in front of everything accepted later."""
    move_input(input, QUEUED)
    input.ending = ""
    put_back(input.function, input)


def finish(
    state: State, input: Input, status: FinishStatus, out: list[Command], error: str = "", message: str = ""
) -> None:
    """The one output of an input that is in no container and no queue any more."""
    move_input(input, FINISHED)
    state.inputs.pop(input.id)
    call = state.calls[input.call_id]
    call.inputs.pop(input.id)
    if not call.inputs:
        state.calls.pop(call.id)
    state.remember_finished(input.id)
    out.append(
        FinishInput(input.id, input.call_id, input.function.spec.id, input.attempt, status, error, message)
    )


def record(input: Input, container: Container, run_s: float, outcome: str, out: list[Command]) -> None:
    allocation = container.allocation
    function = container.function
    out.append(
        RecordAttempt(
            input.id,
            input.attempt,
            function.spec.id,
            function.app.id,
            container.id,
            allocation.gpu_type,
            len(allocation.gpu_uuids),
            run_s,
            run_s * container.usd_per_s,
            outcome,
        )
    )


def retry_or_finish(
    state: State, input: Input, at: float, out: list[Command], error: str = "", message: str = ""
) -> None:
    """After an exception (no ``error``) or a timeout: another attempt if the policy has one left."""
    delay_s = retry_delay_s(input)
    if delay_s is None:
        finish(state, input, "error" if error else "failure", out, error, message)
        return
    input.retries += 1
    input.ending = ""
    move_input(input, DELAYED)
    input.function.delayed += 1
    input.due_at = at + delay_s
    state.wake(input, input.due_at)


def fail_waiting(state: State, function: Function, error: str, message: str, out: list[Command]) -> None:
    """Every input of a function that no container holds gets this verdict."""
    waiting = [entry[1] for entry in sorted(function.returned, key=lambda entry: entry[0])]
    waiting += function.fresh
    function.returned.clear()
    function.fresh.clear()
    for input in waiting:
        finish(state, input, "error", out, error, message)


def timed_out(
    state: State, input: Input, container: Container, run_s: float, at: float, out: list[Command]
) -> None:
    record(input, container, run_s, "timeout", out)
    retry_or_finish(state, input, at, out, "FunctionTimeoutError", timeout_message(input))


def cancelled(state: State, input: Input, out: list[Command]) -> None:
    message = f"input {input.id} of function {input.function.spec.name} was cancelled"
    finish(state, input, "error", out, "InputCancellation", message)


def interrupted(state: State, input: Input, why: str, out: list[Command]) -> bool:
    """Its container was taken away: it runs again elsewhere and nothing is charged, unless its caller has
    already seen items of it. Returns whether it goes on."""
    if input.ending == "cancelled":
        cancelled(state, input, out)
    elif input.yielded and not input.function.spec.restart_generator:
        finish(state, input, "error", out, "RemoteError", interrupted_generator_message(input, why))
    else:
        requeue(input)
        return True
    return False


def drop_queued(function: Function, input: Input) -> None:
    """Out of its queue or its retry wait."""
    if input.status == DELAYED:
        function.delayed -= 1
    elif function.returned and any(entry[1] is input for entry in function.returned):
        function.returned = [entry for entry in function.returned if entry[1] is not input]
        heapify(function.returned)
    else:
        function.fresh.remove(input)
