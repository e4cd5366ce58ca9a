"""Moves of a container: started, stopped, gone."""

from __future__ import annotations

from glowplug.core.commands import Allocation, Command, Notify, RecallInputs, StartContainer, StopContainer
from glowplug.core.decisions.fitting import kind_name, kind_of, price_of
from glowplug.core.decisions.placing import Offer
from glowplug.core.lifecycles import DRAINING, READY, STARTING, STOPPED, move_container
from glowplug.core.state import App, Container, Function, Input, NodeState, State
from glowplug.core.steps.inputs import interrupted, record, take_from_container, timed_out


def start(
    state: State,
    function: Function,
    node: NodeState,
    offer: Offer | None,
    at: float,
    reason: str,
    out: list[Command],
) -> Container:
    gpus = offer.gpus if offer else ()
    state.counted_containers += 1
    allocation = Allocation(
        node_id=node.node.id,
        gpu_uuids=tuple(gpu.uuid for gpu in gpus),
        gpu_type=kind_name(kind_of(gpus[0])) if gpus else "",
        request=offer.entry.request if offer else None,
        fallback_index=offer.entry.index if offer else -1,
        epoch=state.counted_containers,
    )
    container = Container(
        id=f"ct-{state.epoch}-{state.counted_containers}",
        function=function,
        allocation=allocation,
        created_at=at,
        usd_per_s=sum(map(price_of, gpus)) / 3600,
    )
    state.containers[container.id] = container
    function.containers[container.id] = container
    function.starting += 1
    node.containers[container.id] = container
    for gpu in gpus:
        node.holders[gpu.uuid] = container
    state.wake(container, at + function.spec.startup_timeout_s)
    out.append(StartContainer(container.id, function.spec.id, allocation, reason))
    return container


def stop(state: State, container: Container, grace_s: float, reason: str, out: list[Command]) -> None:
    """Tell it to end; what it holds is dealt with when it is gone. A second time only to kill it."""
    if container.status == DRAINING:
        if grace_s > 0 or container.killed:
            return
    else:
        function = container.function
        if container.status == STARTING:
            function.starting -= 1
        drop_from_service(container)
        move_container(container, DRAINING)
        container.stop_reason = reason
        state.dirty[function.spec.id] = function
        if state.waiting and container.allocation.gpu_uuids:
            state.capacity_changed = True
    container.killed = grace_s == 0
    out.append(StopContainer(container.id, grace_s, reason))


def retire(state: State, container: Container, reason: str, out: list[Command]) -> None:
    """Let it finish what it runs, give it nothing more, then stop it."""
    if container.status != READY or container.retiring:
        return
    function = container.function
    container.retiring = reason
    drop_from_service(container)
    state.dirty[function.spec.id] = function
    if not container.running and not container.ahead:
        stop(state, container, state.limits.stop_grace_s, reason, out)
    else:
        recall(container, out)


def drop_from_service(container: Container) -> None:
    container.function.ready.pop(container.id, None)
    container.function.idle.pop(container.id, None)


def recall(container: Container, out: list[Command]) -> None:
    """Ask for what it has not begun."""
    if container.ahead and not container.recalling and container.status == READY:
        container.recalling = True
        for input in container.ahead:
            input.recalled = True
        out.append(RecallInputs(container.id, tuple(input.id for input in container.ahead)))


def became_idle(state: State, container: Container, at: float, out: list[Command]) -> None:
    """It holds no lease. Its GPUs are a cache from now on, for a while."""
    function = container.function
    if container.retiring:
        stop(state, container, state.limits.stop_grace_s, container.retiring, out)
        return
    container.idle_since = at
    function.idle[container.id] = container
    state.wake(container, at + function.spec.scaledown_window_s)
    if state.waiting and container.allocation.gpu_uuids:
        state.capacity_changed = True


def gone(state: State, container: Container) -> list[Input]:
    """Forget a container whose process is gone and free its GPUs. Returns what it held, in order."""
    function = container.function
    if container.status == STARTING:
        function.starting -= 1
    drop_from_service(container)
    function.containers.pop(container.id)
    state.containers.pop(container.id)
    node = state.nodes.get(container.allocation.node_id)
    if node is not None:
        node.containers.pop(container.id, None)
        for uuid in container.allocation.gpu_uuids:
            if node.holders.get(uuid) is container:
                node.holders.pop(uuid)
    move_container(container, STOPPED)
    state.dirty[function.spec.id] = function
    state.capacity_changed = True
    return [*container.running.values(), *container.ahead]


def give_back_all(
    state: State, container: Container, held: list[Input], why: str, at: float, out: list[Command]
) -> None:
    """Everything a container held goes back to the queue, uncharged."""
    moved = 0
    for input in held:
        begun = input.id in container.running
        take_from_container(input)
        run_s = at - input.started_at
        if begun and input.ending == "timeout":
            timed_out(state, input, container, run_s, at, out)
            continue
        if begun:
            outcome = "cancelled" if input.ending == "cancelled" else "interrupted"
            record(input, container, run_s, outcome, out)
        moved += interrupted(state, input, why, out) and begun
    if moved:
        function = container.function
        what = "1 input goes" if moved == 1 else f"{moved} inputs go"
        text = (
            f"container {container.id} of {function.spec.name} was interrupted ({why}); {what} on elsewhere"
        )
        out.append(Notify(function.app.id, function.spec.id, "info", text))


def forget_app_if_over(state: State, app: App) -> None:
    """The state of a stopped app goes with its last container."""
    if app.stopping and not any(other.containers for other in app.functions.values()):
        for function_id in app.functions:
            state.functions.pop(function_id, None)
            state.dirty.pop(function_id, None)
            state.waiting.pop(function_id, None)
        state.apps.pop(app.id, None)
