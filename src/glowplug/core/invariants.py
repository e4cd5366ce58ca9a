"""What holds between any two events. ``check`` reports what does not; a healthy core reports nothing,
ever."""

from __future__ import annotations

from collections.abc import Iterator

from glowplug.core.decisions.autoscaling import wanted_containers
from glowplug.core.decisions.fitting import kind_of
from glowplug.core.decisions.nearness import EVICTABLE, FREE, PINNED
from glowplug.core.decisions.placing import acceptable_entries, find_offer, look_before
from glowplug.core.decisions.queueing import recall_due
from glowplug.core.decisions.turns import turns
from glowplug.core.lifecycles import DELAYED, DRAINING, LEASED, QUEUED, READY, RUNNING, STARTING
from glowplug.core.state import Container, Function, Input, State


def check(state: State) -> list[str]:
    """Every broken invariant, in words."""
    return [
        *inputs_are_in_one_place(state),
        *queues_are_in_order(state),
        *calls_match(state),
        *counters_match(state),
        *gpus_have_one_holder(state),
        *bounds_hold(state),
        *nothing_is_forgotten(state),
        *work_is_conserved(state),
        *no_place_is_missed(state),
    ]


def inputs_are_in_one_place(state: State) -> Iterator[str]:
    held: list[tuple[Input, str]] = []
    for function in state.functions.values():
        held += [(input, QUEUED) for input in function.fresh]
        held += [(input, QUEUED) for _, input in function.returned]
    for container in state.containers.values():
        in_container = [(input, RUNNING) for input in container.running.values()]
        in_container += [(input, LEASED) for input in container.ahead]
        for input, place in in_container:
            if input.container is not container:
                yield f"{input.id} is {place} in {container.id} without knowing"
        held += in_container
    places: dict[str, str] = {}
    for input, place in held:
        if state.inputs.get(input.id) is not input:
            yield f"{input.id} is {place} and has ended"
        elif input.id in places:
            yield f"{input.id} is found twice, {places[input.id]} and {place}"
        elif input.status != place:
            yield f"{input.id} calls itself {input.status} and is {place}"
        places[input.id] = place
    for input_id, input in state.inputs.items():
        status = input.status
        if input_id not in places and status != DELAYED:
            yield f"{input_id} is {status} and found in no place"
        if (input.container is not None) != (status is LEASED or status is RUNNING):
            yield f"{input_id} is {status} with container {input.container and input.container.id}"
        if state.is_finished(input_id):
            yield f"{input_id} is live and remembered as finished"


def queues_are_in_order(state: State) -> Iterator[str]:
    for function in state.functions.values():
        fresh = [input.order for input in function.fresh]
        returned = [order for order, _ in function.returned]
        if fresh != sorted(fresh):
            yield f"{function.spec.id}: inputs never leased are out of order"
        if fresh and returned and max(returned) > fresh[0]:
            yield f"{function.spec.id}: an input came back behind one that was never leased"
        if any(order != input.order for order, input in function.returned):
            yield f"{function.spec.id}: an input came back under another number"


def calls_match(state: State) -> Iterator[str]:
    known = 0
    for call in state.calls.values():
        if not call.inputs:
            yield f"{call.id} has no inputs left and is still there"
        for input_id, input in call.inputs.items():
            known += 1
            if state.inputs.get(input_id) is not input or input.call_id != call.id:
                yield f"{call.id} has {input_id}, which has ended or is of another call"
    yield from differ("calls", "inputs", known, len(state.inputs))


def counters_match(state: State) -> Iterator[str]:
    delayed: dict[str, int] = {}
    for input in state.inputs.values():
        if input.status == DELAYED:
            delayed[input.function.spec.id] = delayed.get(input.function.spec.id, 0) + 1
    containers = 0
    for function_id, function in state.functions.items():
        starting = leased = serving = idle = 0
        for container in function.containers.values():
            held = len(container.running) + len(container.ahead)
            leased += held
            serves = container.status == READY and not container.retiring
            serving += serves
            idle += serves and not held
            starting += container.status == STARTING
            if serves != (container.id in function.ready):
                yield f"{container.id} is {container.status} and listed as taking inputs, or the reverse"
            if (serves and not held) != (container.id in function.idle):
                yield f"{container.id} holds {held} inputs and is listed as idle, or the reverse"
            if state.containers.get(container.id) is not container:
                yield f"{function_id} has {container.id}, which is gone"
        containers += len(function.containers)
        yield from differ(function_id, "delayed", function.delayed, delayed.get(function_id, 0))
        yield from differ(function_id, "leased", function.leased, leased)
        yield from differ(function_id, "starting", function.starting, starting)
        yield from differ(function_id, "ready", len(function.ready), serving)
        yield from differ(function_id, "idle", len(function.idle), idle)
        if function.app.functions.get(function_id) is not function or function.app.id not in state.apps:
            yield f"{function_id} is not known to its app"
    yield from differ("functions", "containers", containers, len(state.containers))


def differ(subject: str, what: str, found: object, expected: object) -> Iterator[str]:
    if found != expected:
        yield f"{subject}: {what} is {found}, counted {expected}"


def gpus_have_one_holder(state: State) -> Iterator[str]:
    taken: dict[str, str] = {}
    for container in state.containers.values():
        allocation = container.allocation
        node = state.nodes.get(allocation.node_id)
        if node is None or node.containers.get(container.id) is not container:
            yield f"{container.id} is on {allocation.node_id}, which does not know it"
            continue
        request = allocation.request
        if len(allocation.gpu_uuids) != (request.count if request else 0):
            yield f"{container.id} holds {len(allocation.gpu_uuids)} GPUs for {request}"
        kinds = {kind_of(node.gpus[uuid]) for uuid in allocation.gpu_uuids if uuid in node.gpus}
        if len(kinds) > 1:
            yield f"{container.id} holds GPUs of several kinds: {sorted(kinds)}"
        for uuid in allocation.gpu_uuids:
            if uuid in taken:
                yield f"GPU {uuid} is held by {taken[uuid]} and {container.id}"
            taken[uuid] = container.id
            if node.holders.get(uuid) is not container:
                yield f"GPU {uuid} of {container.id} is free by its node's account"
    for node in state.nodes.values():
        for uuid, container in node.holders.items():
            if state.containers.get(container.id) is not container:
                yield f"GPU {uuid} is held by {container.id}, which is gone"
        for container_id, container in node.containers.items():
            if state.containers.get(container_id) is not container:
                yield f"{node.node.id} has {container_id}, which is gone"


def bounds_hold(state: State) -> Iterator[str]:
    for function in state.functions.values():
        spec = function.spec
        if spec.max_containers is not None and len(function.containers) > spec.max_containers:
            yield f"{spec.id} has {len(function.containers)} containers, max_containers={spec.max_containers}"
        for container in function.containers.values():
            if len(container.running) > spec.max_concurrent_inputs:
                yield f"{container.id} runs {len(container.running)} inputs at once"
            if spec.max_inputs is not None and container.taken > spec.max_inputs:
                yield f"{container.id} was given {container.taken} inputs, max_inputs={spec.max_inputs}"
            if container.ahead and not container.running and container.status == READY:
                yield f"{container.id} holds inputs ahead and runs none"


def nothing_is_forgotten(state: State) -> Iterator[str]:
    """Everything that ends by time has a timer, at its time or earlier."""
    pending: dict[int, float] = {}
    for at, _, subject in state.timers:
        if subject.check_at == at:
            pending[id(subject)] = at
    for input in state.inputs.values():
        if input.status == DELAYED and pending.get(id(input), float("inf")) > input.due_at:
            yield f"{input.id} waits for a retry that nothing will start"
    for container in state.containers.values():
        due = next_due(container, state)
        if due is not None and pending.get(id(container), float("inf")) > due:
            yield f"{container.id} is due at {due} and nothing will look at it"
    for function in state.functions.values():
        if function.waiting_since is not None and id(function) not in pending:
            yield f"{function.spec.id} waits and nothing will look at it"
        if (function.waiting_since is not None) != (function.spec.id in state.waiting):
            yield f"{function.spec.id} waits by one account only"
        window_s = function.spec.scaledown_window_s
        kept = sum(
            pending.get(id(one), float("inf")) > one.idle_since + window_s for one in function.idle.values()
        )
        if kept > wanted_containers(function, state.limits) and not function.app.stopping:
            yield f"{function.spec.id} keeps {kept} idle containers for ever"
    for function_id in state.waiting:
        if function_id not in state.functions:
            yield f"{function_id} waits and is gone"


def next_due(container: Container, state: State) -> float | None:
    spec = container.function.spec
    dues = [input.kill_at for input in container.running.values() if input.ending]
    if container.status == READY:
        dues += [
            input.started_at + spec.timeout_s for input in container.running.values() if not input.ending
        ]
        if container.ahead and not container.recalling:
            dues.append(recall_due(container, state.limits))
    if container.status == STARTING:
        dues.append(container.created_at + spec.startup_timeout_s)
    return min(dues, default=None)


def work_is_conserved(state: State) -> Iterator[str]:
    """No input waits while a container of its function is idle, or while nothing is under way for it."""
    if state.dirty or state.capacity_changed:
        yield "something was left unsettled"
    for function in state.functions.values():
        if function.app.stopping:
            if function.queued or function.delayed:
                yield f"{function.spec.id} has inputs although its app stops"
            continue
        if function.queued and function.idle:
            yield f"{function.spec.id}: an input waits beside idle {sorted(function.idle)}"
        if function.queued and not is_provided_for(state, function):
            yield f"{function.spec.id}: an input waits and nothing is under way for it"
    for app in state.apps.values():
        if app.stopping and not any(function.containers for function in app.functions.values()):
            yield f"{app.id} is over and still there"
    for container in state.containers.values():
        if container.status == DRAINING and container.id in container.function.ready:
            yield f"{container.id} drains and still takes inputs"


def no_place_is_missed(state: State) -> Iterator[str]:
    """Nobody waits beside GPUs that are free, or idle ones an input may have, and that nobody before it in
    turn counts on."""
    for function in {function.number: function for function in turns(state, state.now)}.values():
        found = function.choices
        assert found is not None
        entries = acceptable_entries(function, found, state.now)
        look = look_before(state, function, state.now)
        offer = find_offer(look, function, found, entries, urgent=function.queued > 0)
        if offer is not None and offer.level in (FREE, EVICTABLE, PINNED):
            names = ", ".join(gpu.uuid for gpu in offer.gpus)
            yield f"{function.spec.id} waits and could have {names} of {offer.node.node.id}"


def is_provided_for(state: State, function: Function) -> bool:
    return bool(
        function.containers
        or function.spec.id in state.waiting
        or (function.start_not_before > state.now and function.check_at is not None)
    )
