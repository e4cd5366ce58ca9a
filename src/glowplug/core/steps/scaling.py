"""Settling after an event: leases, then as many containers as are wanted, placed in order of priority."""

from __future__ import annotations

from glowplug.core.commands import Command, Notify
from glowplug.core.decisions.autoscaling import wanted_containers
from glowplug.core.decisions.fitting import check_satisfiable, choices
from glowplug.core.decisions.placing import BUSY, FREE, Offer, find_offer, node_for_cpu
from glowplug.core.state import Choices, Function, State
from glowplug.core.steps.containers import forget_app_if_over, retire, start, stop
from glowplug.core.steps.inputs import dispatch


def settle(state: State, at: float, out: list[Command]) -> None:
    """Until nothing changes: a placement may stop containers of others, whose functions then want new ones."""
    look = state.capacity_changed
    while state.dirty or state.capacity_changed:
        state.capacity_changed = False
        dirty, state.dirty = state.dirty, {}
        for function in dirty.values():
            if function.spec.id not in state.functions:
                continue
            if function.app.stopping:
                forget_app_if_over(state, function)
                continue
            dispatch(state, function, at, out)
            look = scale(state, function, at, out) or look
        if look and state.waiting:
            place_waiting(state, at, out)
        look = state.capacity_changed


def current_choices(state: State, function: Function, out: list[Command]) -> Choices:
    found = function.choices
    if found is None or found.fleet_version != state.fleet_version:
        found = function.choices = choices(state, function.spec)
        if found.entries:
            for reason in found.skipped:
                notify(function, f"skipped a fallback of {function.spec.name}: {reason}", out)
    return found


def notify(function: Function, text: str, out: list[Command]) -> None:
    """Tell it once in the app's life."""
    if text not in function.app.noticed:
        function.app.noticed[text] = None
        out.append(Notify(function.app.id, function.spec.id, "info", text))


def lacking(state: State, function: Function, found: Choices) -> int:
    """How many containers it should have and does not."""
    wanted = wanted_containers(function, state.limits)
    # The fleet's size is a bound, but one container is wanted even of a fleet that cannot hold it yet.
    return min(wanted, max(1, found.most_containers)) - function.live


def scale(state: State, function: Function, at: float, out: list[Command]) -> bool:
    """Start what can start without taking from others; returns whether it now waits for GPUs."""
    if function.start_not_before > at:
        state.wake(function, function.start_not_before)
        return False
    found = current_choices(state, function, out)
    missing = lacking(state, function, found)
    if missing <= 0:
        stop_waiting(state, function)
        return False
    if not function.spec.gpu:
        while missing > 0:
            node = node_for_cpu(state, function, found)
            if node is None:
                break
            start(state, function, node, None, at, reason_to_start(function), out)
            missing -= 1
        if function.live or not function.queued:
            stop_waiting(state, function)
            return False
    newly = function.spec.id not in state.waiting
    if newly:
        state.waiting[function.spec.id] = function
        function.waiting_since = at
        hold_s = function.spec.gpu_fallback_after_s
        if hold_s:
            function.held_back_until = at + hold_s
            state.wake(function, function.held_back_until)
        state.wake(function, at + state.limits.ageing_s)
    if not found.most_containers and function.refuse_at is None:
        function.refuse_at = at + state.limits.unsatisfiable_grace_s
        state.wake(function, function.refuse_at)
    return newly


def stop_waiting(state: State, function: Function) -> None:
    state.waiting.pop(function.spec.id, None)
    function.waiting_since = function.held_back_until = function.refuse_at = None
    function.reserved_node = ""


def reason_to_start(function: Function) -> str:
    if function.queued:
        return f"{function.queued} inputs wait" if function.queued > 1 else "an input waits"
    return "min_containers" if function.live < function.spec.min_containers else "buffer_containers"


def place_waiting(state: State, at: float, out: list[Command]) -> None:
    """One look at everything that waits, by priority: who holds nothing first, then who waits longest."""
    claimed: dict[str, Function] = {}
    in_order = sorted(
        state.waiting.values(),
        key=lambda function: (function.live > 0, function.waiting_since, function.number),
    )
    for function in in_order:
        if not function.spec.gpu:
            state.dirty[function.spec.id] = function
            continue
        place(state, function, claimed, at, out)


def place(
    state: State, function: Function, claimed: dict[str, Function], at: float, out: list[Command]
) -> None:
    found = current_choices(state, function, out)
    missing = lacking(state, function, found)
    function.reserved_node = ""
    while missing > 0:
        urgent = function.queued > 0
        offer = find_offer(state, function, found, claimed, at, urgent)
        if offer is None:
            return
        missing -= 1
        if offer.level == FREE:
            if offer.entry.notice:
                notify(function, offer.entry.notice, out)
            start(state, function, offer.node, offer, at, reason_to_start(function), out)
            function.waiting_since = at
            continue
        for gpu in offer.gpus:
            claimed[gpu.uuid] = function
        make_room(state, function, offer, at, out)
    if lacking(state, function, found) <= 0:
        stop_waiting(state, function)


def make_room(state: State, function: Function, offer: Offer, at: float, out: list[Command]) -> None:
    """Stop what stands in the way: idle containers once nothing else is missing, busy ones only for a
    function that holds nothing and has waited long, and then between two of their inputs."""
    reason = f"its GPUs are needed by function {function.spec.name}"
    if offer.level < BUSY:
        for container in offer.evict:
            stop(state, container, state.limits.stop_grace_s, reason, out)
        return
    function.reserved_node = offer.node.node.id
    waited_s = at - (function.waiting_since if function.waiting_since is not None else at)
    if not function.live and waited_s >= state.limits.ageing_s:
        for container in (*offer.evict, *offer.busy):
            retire(state, container, reason, out)


def refusal(state: State, function: Function) -> str:
    """What the inputs of a function are told that nothing in the fleet could ever run."""
    problems = check_satisfiable(state, function.spec)
    if problems:
        return problems[0].message
    return f"function {function.spec.name} cannot run: no machine is here"
