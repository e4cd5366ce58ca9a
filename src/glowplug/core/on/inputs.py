"""Events of calls and their inputs: the warm path."""

from __future__ import annotations

from glowplug.core.commands import Command, FinishInput
from glowplug.core.decisions.queueing import recall_due, remove_queued
from glowplug.core.decisions.turns import is_short
from glowplug.core.events import (
    CallCancelled,
    FirstItemYielded,
    InputsAccepted,
    InputsReturned,
    OutputFact,
    OutputsArrived,
)
from glowplug.core.lifecycles import DELAYED, DRAINING, LEASED, QUEUED, READY, RUNNING
from glowplug.core.state import Call, Container, Input, State
from glowplug.core.steps.containers import became_idle, recall, stop
from glowplug.core.steps.inputs import (
    begin,
    begin_next,
    cancelled,
    dispatch,
    drop_queued,
    finish,
    interrupt,
    interrupted,
    record,
    refill,
    retry_or_finish,
    take_from_container,
    timed_out,
)


def inputs_accepted(state: State, event: InputsAccepted, out: list[Command]) -> None:
    function = state.functions.get(event.function_id)
    known = state.inputs
    if function is None or function.app.stopping:
        for input_id in event.input_ids:
            if input_id not in known and not state.is_finished(input_id):
                state.remember_finished(input_id)
                out.append(refused(event, input_id, function is None))
        return
    call = state.calls.get(event.call_id)
    if call is None:
        call = Call(event.call_id, function)
    at = event.at
    order = function.orders
    fresh = function.fresh
    for input_id in event.input_ids:
        if input_id in known or state.is_finished(input_id):
            continue
        order += 1
        input = Input(input_id, event.call_id, function, order, at)
        known[input_id] = call.inputs[input_id] = input
        fresh.append(input)
    function.orders = order
    function.broken = False
    if not call.inputs:
        return
    state.calls[event.call_id] = call
    dispatch(state, function, at, out)
    if fresh or function.spec.buffer_containers or function.leased > len(function.ready):
        state.dirty[function.spec.id] = function


def refused(event: InputsAccepted, input_id: str, unknown: bool) -> FinishInput:
    if unknown:
        message = f"function {event.function_id} does not exist on this server; start its app first"
        return FinishInput(input_id, event.call_id, event.function_id, 0, "error", "NotFoundError", message)
    message = f"the app of function {event.function_id} is being stopped and takes no further inputs"
    return FinishInput(input_id, event.call_id, event.function_id, 0, "error", "InputCancellation", message)


def outputs_arrived(state: State, event: OutputsArrived, out: list[Command]) -> None:
    container = state.containers.get(event.container_id)
    at = event.at
    if container is None:
        for fact in event.outputs:
            late_output(state, fact, out)
        return
    function = container.function
    weight = state.limits.run_time_weight
    for fact in event.outputs:
        input = container.running.get(fact.input_id)
        if input is None or input.attempt != fact.attempt:
            input = unbegun(state, container, fact, at, out)
            if input is None:
                late_output(state, fact, out)
                continue
        container.running.pop(input.id)
        function.leased -= 1
        input.container = None
        if container.ahead:
            begin_next(state, container, at, out)
        run_s = fact.run_s
        if fact.status == "success":
            before = function.run_time_s
            function.run_time_s = run_s if before is None else before + weight * (run_s - before)
            if state.waiting and is_short(function.run_time_s, state.limits) != is_short(
                before, state.limits
            ):
                state.capacity_changed = True
            function.crashes_in_a_row = 0
            record(input, container, run_s, "success", out)
            finish(state, input, "success", out)
        else:
            unsuccessful(state, container, input, fact, at, out)
    if container.status != READY:
        state.dirty[function.spec.id] = function
        return
    if not container.retiring and (function.fresh or function.returned):
        refill(state, container, at, out)
        state.dirty[function.spec.id] = function
    if not container.running and not container.ahead:
        became_idle(state, container, at, out)
    if function.spec.buffer_containers and container.status == READY:
        state.dirty[function.spec.id] = function


def unbegun(
    state: State, container: Container, fact: OutputFact, at: float, out: list[Command]
) -> Input | None:
    """An output of an input leased ahead says that it had begun: messages may overtake each other."""
    for input in container.ahead:
        if input.id == fact.input_id and input.attempt == fact.attempt:
            container.ahead.remove(input)
            begin(state, container, input, at, out)
            return input
    return None


def unsuccessful(
    state: State, container: Container, input: Input, fact: OutputFact, at: float, out: list[Command]
) -> None:
    """An exception, or an attempt that was broken off: by us, by its caller, or by the user's own code."""
    container.function.crashes_in_a_row = 0
    if input.ending == "cancelled":
        record(input, container, fact.run_s, "cancelled", out)
        cancelled(state, input, out)
    elif input.ending == "timeout":
        timed_out(state, input, container, fact.run_s, at, out)
    elif fact.status == "cancelled" and container.status == DRAINING:
        record(input, container, fact.run_s, "interrupted", out)
        interrupted(state, input, container.stop_reason, out)
        state.dirty[container.function.spec.id] = container.function
    else:
        record(input, container, fact.run_s, "failure", out)
        retry_or_finish(state, input, at, out)


def late_output(state: State, fact: OutputFact, out: list[Command]) -> None:
    """An output of an attempt that was given up. If its input still waits to run again, it need not."""
    input = state.inputs.get(fact.input_id)
    if input is None or fact.status != "success" or input.attempt != fact.attempt:
        return
    if input.status in (QUEUED, DELAYED):
        drop_queued(input.function, input)
        finish(state, input, "success", out)


def first_item_yielded(state: State, event: FirstItemYielded, out: list[Command]) -> None:
    input = state.inputs.get(event.input_id)
    if input is not None and input.container is not None and input.attempt == event.attempt:
        input.yielded = input.container.id == event.container_id


def inputs_returned(state: State, event: InputsReturned, out: list[Command]) -> None:
    container = state.containers.get(event.container_id)
    if container is None:
        return
    container.recalling = False
    container.returned_at = event.at
    function = container.function
    for input_id in event.input_ids:
        input = state.inputs.get(input_id)
        if input is None or input.container is not container or not input.recalled:
            continue
        take_from_container(input)
        container.taken -= 1
        interrupted(state, input, "recalled", out)
    begin_next(state, container, event.at, out)
    for input in container.ahead:
        input.recalled = False
    if container.ahead and container.running:
        state.wake(container, recall_due(container, state.limits))
    state.dirty[function.spec.id] = function
    if container.status == READY and not container.running and not container.ahead:
        became_idle(state, container, event.at, out)


def call_cancelled(state: State, event: CallCancelled, out: list[Command]) -> None:
    call = state.calls.get(event.call_id)
    if call is None:
        return
    waiting = {input.id: input for input in call.inputs.values() if input.status in (QUEUED, DELAYED)}
    queued = {id: input for id, input in waiting.items() if input.status == QUEUED}
    if queued:
        remove_queued(call.function, queued)
    call.function.delayed -= len(waiting) - len(queued)
    state.dirty[call.function.spec.id] = call.function
    touched: dict[str, Container] = {}
    for input in list(call.inputs.values()):
        container = input.container
        if container is None:
            cancelled(state, input, out)
            continue
        touched[container.id] = container
        if event.terminate_containers:
            begun = input.status == RUNNING
            take_from_container(input)
            if begun:
                record(input, container, event.at - input.started_at, "cancelled", out)
            cancelled(state, input, out)
        elif input.status == RUNNING:
            if input.ending != "cancelled":
                interrupt(state, input, "cancelled", event.at, out)
        elif input.status == LEASED:
            input.ending = "cancelled"
    for container in touched.values():
        if event.terminate_containers:
            stop(state, container, 0.0, f"call {call.id} was cancelled with its containers", out)
        else:
            recall(container, out)
