"""Settling after an event: leases, then as many containers as are wanted, placed in order of priority."""

from __future__ import annotations

from glowplug.core.commands import Command, Notify
from glowplug.core.decisions.autoscaling import missing_containers
from glowplug.core.decisions.fitting import check_satisfiable, choices
from glowplug.core.decisions.nearness import FREE, RETIRING, Look
from glowplug.core.decisions.placing import Offer, acceptable_entries, claim, find_offer, node_for_cpu
from glowplug.core.decisions.turns import is_aged, turns
from glowplug.core.state import Choices, Function, State
from glowplug.core.steps.containers import forget_app_if_over, retire, start, stop
from glowplug.core.steps.inputs import dispatch, fail_waiting


def settle(state: State, at: float, out: list[Command]) -> None:
    """Until nothing changes: making room for one function may leave another short of containers."""
    while state.dirty or state.capacity_changed:
        look = state.capacity_changed
        state.capacity_changed = False
        dirty, state.dirty = state.dirty, {}
        for function in dirty.values():
            if function.app.stopping:
                forget_app_if_over(state, function.app)
            elif function.spec.id in state.functions:
                dispatch(state, function, at, out)
                look = scale(state, function, at, out) or look
        if look and state.waiting:
            place_waiting(state, at, out)


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


def scale(state: State, function: Function, at: float, out: list[Command]) -> bool:
    """Start what needs no GPU; returns whether places for those that do have to be looked for."""
    found = current_choices(state, function, out)
    missing = missing_containers(function, found, state.limits)
    if missing > 0 and function.start_not_before > at:
        state.wake(function, function.start_not_before)
        return False
    if missing > 0 and not function.spec.gpu:
        missing = start_on_cpus(state, function, found, missing, at, out)
    if missing <= 0:
        stop_waiting(state, function)
        if missing < 0:
            let_idle_go(state, function)
        # Those it has started and needs no more may make room now.
        return bool(function.starting and state.waiting and not function.queued)
    is_new = function.spec.id not in state.waiting
    if is_new:
        start_waiting(state, function, at)
    if found.most_containers or not state.nodes:
        function.refuse_at = None
    elif function.refuse_at is None:
        function.refuse_at = at + state.limits.unsatisfiable_grace_s
        state.wake(function, function.refuse_at)
    elif function.refuse_at <= at:
        problems = check_satisfiable(state, function.spec)
        fail_waiting(state, function, "InvalidError", problems[0].text, out)
        function.refuse_at = None
        stop_waiting(state, function)
        return False
    return is_new or function.looked != (function.queued > 0, missing)


def let_idle_go(state: State, function: Function) -> None:
    """It has more than it should: idle ones that were kept go when their window is over."""
    for container in function.idle.values():
        state.wake(container, container.idle_since + function.spec.scaledown_window_s)


def start_on_cpus(
    state: State, function: Function, found: Choices, missing: int, at: float, out: list[Command]
) -> int:
    """Start as many as the nodes take; returns how many it still lacks to be served at all."""
    while missing > 0:
        node = node_for_cpu(state, function, found)
        if node is None:
            return 0 if function.live else missing
        start(state, function, node, None, at, reason_to_start(function), out)
        missing -= 1
    return 0


def start_waiting(state: State, function: Function, at: float) -> None:
    state.waiting[function.spec.id] = function
    function.waiting_since = at
    hold_s = function.spec.gpu_fallback_after_s
    if hold_s:
        function.held_back_until = at + hold_s
        state.wake(function, function.held_back_until)
    state.wake(function, at + state.limits.ageing_s)


def stop_waiting(state: State, function: Function) -> None:
    """What it had a claim on is left to the others that wait."""
    if state.waiting.pop(function.spec.id, None) is not None and state.waiting:
        state.capacity_changed = True
    function.waiting_since = function.held_back_until = function.refuse_at = None
    function.reserved_node = ""


def reason_to_start(function: Function) -> str:
    if function.queued:
        return f"{function.queued} inputs wait" if function.queued > 1 else "an input waits"
    return "min_containers" if function.live < function.spec.min_containers else "buffer_containers"


def place_waiting(state: State, at: float, out: list[Command]) -> None:
    """One look at everything that waits for GPUs."""
    for function in state.waiting.values():
        found = current_choices(state, function, out)
        function.looked = (function.queued > 0, missing_containers(function, found, state.limits))
    look = Look(state)
    collecting_on: dict[str, str] = {}
    for function in turns(state, at, done=collecting_on):
        offer = place(state, look, function, at, out)
        if offer is not None and offer.level == FREE:
            # What it holds now changes whose turn comes when.
            state.capacity_changed = True
        if offer is None or offer.level >= RETIRING:
            # Nothing more is near, or it is being collected: for one container at a time.
            collecting_on[function.spec.id] = offer.node.node.id if offer else ""
    for function in list(state.waiting.values()):
        function.reserved_node = collecting_on.get(function.spec.id, "")
        found = current_choices(state, function, out)
        if function.spec.gpu and missing_containers(function, found, state.limits) <= 0:
            stop_waiting(state, function)


def place(state: State, look: Look, function: Function, at: float, out: list[Command]) -> Offer | None:
    """Start one container of it or claim what one needs."""
    found = current_choices(state, function, out)
    entries = acceptable_entries(function, found, at)
    offer = find_offer(look, function, found, entries, urgent=function.queued > 0)
    if offer is None:
        return None
    aged = is_aged(function, at, state.limits)
    claim(look, function, offer, aged)
    if offer.level == FREE:
        if offer.entry.notice:
            notify(function, offer.entry.notice, out)
        start(state, function, offer.node, offer, at, reason_to_start(function), out)
        function.waiting_since = at
        return offer
    make_room(state, function, offer, aged, out)
    return offer


def make_room(state: State, function: Function, offer: Offer, aged: bool, out: list[Command]) -> None:
    """Stop what stands in the way: idle containers once nothing else is missing, busy ones only for a
    function that holds nothing and has waited long, and then between two of their inputs."""
    reason = f"its GPUs are needed by function {function.spec.name}"
    if offer.level < RETIRING:
        for container in offer.holders:
            stop(state, container, state.limits.stop_grace_s, reason, out)
        return
    if aged:
        for container in offer.holders:
            retire(state, container, reason, out)
