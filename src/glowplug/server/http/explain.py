"""Why one thing waits or did what it did: an input, call, function, container, app, node or GPU."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from glowplug.core.state import Container, Function, Input
from glowplug.core.story import story, why_waiting
from glowplug.model import errors
from glowplug.ports.journal import JournaledCall, JournaledRun
from glowplug.server.http.functions import WaitingReason
from glowplug.server.http.route import Route, similar

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.kernel import Kernel
    from glowplug.server.server import Server

KINDS = {"in": "input", "fc": "call", "fu": "function", "ct": "container", "ap": "app"}


class Explanation(msgspec.Struct):
    subject: str
    kind: str
    now: str
    """Where it stands, in one line."""
    waiting: WaitingReason | None
    story: list[str]
    """What is still remembered of it, the oldest first."""


async def explain(server: Server, request: Request, body: None) -> Explanation:
    kernel = server.kernel
    subject = request.path_params["subject"]
    function = _find_function(kernel, subject)
    if function is not None:
        return _of_function(kernel, function)
    state = kernel.state
    told = story(state, subject)
    prefix, _, rest = subject.partition("-")
    kind = KINDS.get(prefix, "node" if subject in state.nodes else "GPU")
    input = state.inputs.get(subject)
    if input is not None:
        return Explanation(subject, kind, _input_now(input), _waiting(kernel, input.function, input), told)
    if subject in state.calls:
        call = state.calls[subject]
        first = next(iter(call.inputs.values()))
        now = f"{_count(len(call.inputs), 'input')} of {call.function.spec.name} without an output"
        return Explanation(subject, kind, now, _waiting(kernel, call.function, first), told)
    if subject in state.containers:
        return Explanation(subject, kind, _container_now(state.containers[subject]), None, told)
    call_id = subject if prefix == "fc" else f"fc-{rest.rpartition('-')[0]}"
    kept = await asyncio.wrap_future(kernel.journal.read_call(call_id)) if prefix in ("fc", "in") else None
    if kept is not None:
        run = await asyncio.wrap_future(kernel.journal.read_run(kept.fact.app_id))
        return Explanation(subject, kind, _kept_now(kept, run), None, told)
    run = await asyncio.wrap_future(kernel.journal.read_run(subject)) if prefix == "ap" else None
    if told or subject in state.nodes or run is not None:
        now = _run_now(run) if run is not None else f"this {kind} is known; it is in no container now"
        if subject in state.nodes:
            now = f"{_count(len(state.nodes[subject].containers), 'container')} on it"
        elif kind in ("input", "call", "container"):
            now = "over"
        return Explanation(subject, kind, now, None, told)
    names = list(dict.fromkeys(each.spec.name for each in state.functions.values()))
    raise errors.NotFoundError(
        f"nothing is known of {subject!r}{similar(subject, names)}. It takes the id of an input (in-…), call "
        "(fc-…), container (ct-…), function (fu-…), app (ap-…), node or GPU, or the name of a function of a "
        "running app. What happened long ago or under an earlier server is forgotten."
    )


def _find_function(kernel: Kernel, subject: str) -> Function | None:
    """By id, by name, or as APP.FUNCTION. Raises ``ConflictError`` when several apps have one."""
    functions = kernel.state.functions
    if subject in functions:
        return functions[subject]
    found = [
        each
        for each in functions.values()
        if not each.app.stopping and subject in (each.spec.name, f"{each.app.name}.{each.spec.name}")
    ]
    if len(found) > 1:
        listed = ", ".join(f"{each.spec.id} of {each.app.name} ({each.app.id})" for each in found)
        raise errors.ConflictError(f"several functions are called {subject!r}: {listed}. Name one by its id.")
    return found[0] if found else None


def _of_function(kernel: Kernel, function: Function) -> Explanation:
    spec = function.spec
    running = sum(len(each.running) for each in function.containers.values())
    waiting = function.queued + function.delayed + function.leased - running
    now = (
        f"{spec.name} of {function.app.name}: {_count(running, 'input')} running, {waiting} waiting, "
        f"{_count(len(function.containers), 'container')}"
    )
    told = story(kernel.state, spec.id)
    return Explanation(spec.id, "function", now, _waiting(kernel, function, None), told)


def _waiting(kernel: Kernel, function: Function, input: Input | None) -> WaitingReason | None:
    if input is not None and input.container is not None:
        return None
    reason = why_waiting(kernel.state, function.spec.id, kernel.now())
    return None if reason is None else WaitingReason(reason.text, reason.code, reason.unblocks)


def _input_now(input: Input) -> str:
    name = input.function.spec.name
    if input.container is None:
        return f"{input.status}: an input of {name}, not in a container"
    if input.id in input.container.running:
        return f"running {name} in {input.container.id}, attempt {input.attempt}"
    return f"next in {input.container.id}, which runs {name}"


def _container_now(container: Container) -> str:
    allocation = container.allocation
    gpus = f" with {len(allocation.gpu_uuids)} × {allocation.gpu_type}" if allocation.gpu_uuids else ""
    doing = f"runs {_count(len(container.running), 'input')}" if container.running else "runs nothing"
    return f"{container.status} on {allocation.node_id}{gpus}; it {doing} of {container.function.spec.name}"


def _kept_now(kept: JournaledCall, run: JournaledRun | None) -> str:
    name = f"{kept.fact.function_name} of {run.name if run is not None else kept.fact.app_id}"
    if kept.expired:
        return f"a spawned call of {name}, over; its outputs have expired"
    done = f"{len(kept.outputs)} of {_count(kept.inputs, 'output')} kept"
    return f"a spawned call of {name}: {done}{'; its run ended' if run is not None and run.ended_at else ''}"


def _run_now(run: JournaledRun) -> str:
    return f"the run of {run.name} " + (f"ended: {run.reason}" if run.ended_at is not None else "goes on")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


ROUTES = (
    Route(
        "GET",
        "/v1/explain/{subject}",
        "Why something waits, and what happened to it",
        explain,
        Explanation,
    ),
)
