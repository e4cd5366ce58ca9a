"""One line of words for every event and command, and which ids it is about: for ``story`` and for traces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from glowplug.core import commands as c
from glowplug.core import events as e


def some(ids: Sequence[str]) -> str:
    """As in "in-1, in-2, in-3 and 7 more"."""
    shown = ", ".join(ids[:3])
    return f"{shown} and {len(ids) - 3} more" if len(ids) > 3 else shown


def exit_words(event: e.ContainerExited) -> str:
    parts = [
        "out of memory" if event.out_of_memory else "",
        f"signal {event.signal}" if event.signal is not None else "",
        f"exit code {event.exit_code}" if event.exit_code is not None else "",
        event.message,
    ]
    return ", ".join(part for part in parts if part) or "no reason given"


def allocation_words(allocation: c.Allocation) -> str:
    if not allocation.gpu_uuids:
        return f"on {allocation.node_id}"
    gpus = ", ".join(allocation.gpu_uuids)
    return f"on {allocation.node_id} with {len(allocation.gpu_uuids)}×{allocation.gpu_type} ({gpus})"


def outputs_words(event: e.OutputsArrived) -> str:
    shown = ", ".join(f"{fact.input_id} #{fact.attempt} {fact.status}" for fact in event.outputs[:3])
    more = f" and {len(event.outputs) - 3} more" if len(event.outputs) > 3 else ""
    return f"{event.container_id} sent {shown}{more}"


EVENT_WORDS: dict[type[e.Event], Callable[[Any], str]] = {
    e.ServerStarted: lambda event: f"server started, epoch {event.epoch}",
    e.NodeJoined: lambda event: f"node {event.node.id} joined with {len(event.node.gpus)} GPUs",
    e.NodeChanged: lambda event: f"node {event.node.id} changed",
    e.NodeLost: lambda event: f"node {event.node_id} lost: {event.reason}",
    e.NodeDrainRequested: lambda event: f"node {event.node_id} drains: {event.reason}",
    e.NodeDrainEnded: lambda event: f"node {event.node_id} drains no more",
    e.AppStarted: lambda event: f"app {event.name} started with {len(event.functions)} functions",
    e.AppStopped: lambda event: f"app {event.app_id} stopped: {event.reason}",
    e.InputsAccepted: lambda event: (
        f"accepted {some(event.input_ids)} of {event.call_id} for {event.function_id}"
    ),
    e.CallCancelled: lambda event: f"call {event.call_id} cancelled",
    e.ContainerReady: lambda event: f"{event.container_id} ready",
    e.ContainerStartFailed: lambda event: f"{event.container_id} did not start: {event.message}",
    e.ContainerExited: lambda event: f"{event.container_id} exited: {exit_words(event)}",
    e.ContainerStopRequested: lambda event: f"{event.container_id} is to stop: {event.reason}",
    e.OutputsArrived: outputs_words,
    e.FirstItemYielded: lambda event: f"{event.input_id} #{event.attempt} yielded its first item",
    e.InputsReturned: lambda event: f"{event.container_id} returned {some(event.input_ids) or 'nothing'}",
    e.GpuFailed: lambda event: f"GPU {event.gpu_uuid} of {event.node_id} failed: {event.reason}",
    e.TimePassed: lambda event: "time passed",
}

COMMAND_WORDS: dict[type[c.Command], Callable[[Any], str]] = {
    c.StartContainer: lambda command: (
        f"start {command.container_id} of {command.function_id} {allocation_words(command.allocation)}: "
        f"{command.reason}"
    ),
    c.StopContainer: lambda command: (
        f"stop {command.container_id} within {command.grace_s:g} s: {command.reason}"
    ),
    c.LeaseInputs: lambda command: (
        f"lease {some([f'{lease.input_id} #{lease.attempt}' for lease in command.leases])} "
        f"to {command.container_id}"
    ),
    c.RecallInputs: lambda command: f"recall {some(command.input_ids)} from {command.container_id}",
    c.CancelInput: lambda command: (
        f"interrupt {command.input_id} #{command.attempt} in {command.container_id}"
    ),
    c.FinishInput: lambda command: (
        f"finish {command.input_id} #{command.attempt}: {command.status}"
        + (f", {command.error}: {command.message}" if command.error else "")
    ),
    c.RecordAttempt: lambda command: (
        f"record {command.input_id} #{command.attempt} in {command.container_id}: {command.outcome}, "
        f"{command.run_s:.6g} s"
    ),
    c.Notify: lambda command: f"tell: {command.text}",
}


def describe_event(event: e.Event) -> str:
    return EVENT_WORDS[type(event)](event)


def describe_command(command: c.Command) -> str:
    return COMMAND_WORDS[type(command)](command)


SUBJECT_FIELDS = ("input_id", "call_id", "container_id", "function_id", "app_id", "node_id", "gpu_uuid")


def subjects(fact: e.Event | c.Command) -> Iterable[str]:
    """Every id an event or a command is about."""
    for name in SUBJECT_FIELDS:
        subject = getattr(fact, name, None)
        if subject is not None:
            yield subject
    yield from getattr(fact, "input_ids", ())
    for part in (*getattr(fact, "outputs", ()), *getattr(fact, "leases", ())):
        yield part.input_id
    for function in getattr(fact, "functions", ()):
        yield function.id
    node = getattr(fact, "node", None)
    if node is not None:
        yield node.id
    allocation = getattr(fact, "allocation", None)
    if allocation is not None:
        yield allocation.node_id
        yield from allocation.gpu_uuids
