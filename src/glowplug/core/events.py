"""Facts the core is told, in the past tense. ``at`` is seconds of the server's clock, never decreasing."""

from __future__ import annotations

from typing import Literal

import msgspec

from glowplug.model.function import FunctionSpec
from glowplug.model.node import Node


class Event(msgspec.Struct, frozen=True, gc=False):
    at: float


class ServerStarted(Event, frozen=True, gc=False):
    """First event of every life of a server. ``epoch`` makes container ids of this life unique."""

    epoch: str


class NodeJoined(Event, frozen=True, gc=False):
    node: Node


class NodeChanged(Event, frozen=True, gc=False):
    """A fresh inventory of a known node: health, foreign users, locks, added or vanished GPUs."""

    node: Node


class NodeLost(Event, frozen=True, gc=False):
    """Every container on it is gone."""

    node_id: str
    reason: str


class NodeDrainRequested(Event, frozen=True, gc=False):
    """No new containers there; running ones are interrupted and their inputs go on elsewhere."""

    node_id: str
    reason: str
    grace_s: float = 30.0


class NodeDrainEnded(Event, frozen=True, gc=False):
    node_id: str


class AppStarted(Event, frozen=True, gc=False):
    app_id: str
    name: str
    functions: tuple[FunctionSpec, ...]


class AppStopped(Event, frozen=True, gc=False):
    """The run ended or its client died: its inputs are cancelled, its containers stopped."""

    app_id: str
    reason: str


class InputsAccepted(Event, frozen=True, gc=False):
    """Ids already known are ignored: clients resend after a reconnect."""

    function_id: str
    call_id: str
    input_ids: tuple[str, ...]


class CallCancelled(Event, frozen=True, gc=False):
    call_id: str
    terminate_containers: bool = False


class ContainerReady(Event, frozen=True, gc=False):
    container_id: str


class ContainerStartFailed(Event, frozen=True, gc=False):
    """It never became ready and is gone. ``permanent``: starting it again cannot help (the function is
    not importable, its declaration is wrong), so waiting inputs fail with ``message``."""

    container_id: str
    message: str
    permanent: bool


class ContainerExited(Event, frozen=True, gc=False):
    """The process is gone, asked for or not; nothing of it is alive and its GPUs are free."""

    container_id: str
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    message: str = ""


class ContainerStopRequested(Event, frozen=True, gc=False):
    """An operator ends one container: interrupted, its inputs go on elsewhere, no retry spent."""

    container_id: str
    reason: str
    grace_s: float = 30.0


OutputStatus = Literal["success", "failure", "cancelled"]


class OutputFact(msgspec.Struct, frozen=True, gc=False):
    """What a container said of one attempt. ``run_s``: seconds the user's code ran."""

    input_id: str
    attempt: int
    status: OutputStatus
    run_s: float


class OutputsArrived(Event, frozen=True, gc=False):
    container_id: str
    outputs: tuple[OutputFact, ...]


class FirstItemYielded(Event, frozen=True, gc=False):
    """A generator's first item went to its caller: this attempt cannot be repeated silently."""

    container_id: str
    input_id: str
    attempt: int


class InputsReturned(Event, frozen=True, gc=False):
    """The container's answer to ``RecallInputs``: these had not been started and will not be."""

    container_id: str
    input_ids: tuple[str, ...]


class GpuFailed(Event, frozen=True, gc=False):
    """A GPU went bad (Xid, ECC): cordoned; its container is ended and its inputs run elsewhere."""

    node_id: str
    gpu_uuid: str
    reason: str


class TimePassed(Event, frozen=True, gc=False):
    """Nothing but time: fire what is due. The kernel sends it at ``State.next_deadline``."""
