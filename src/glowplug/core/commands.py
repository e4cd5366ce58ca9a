"""Effects the core asks for, in the imperative. Idempotent on (container id, attempt)."""

from __future__ import annotations

from typing import Literal

import msgspec

from glowplug.model.gpu import GpuRequest


class Command(msgspec.Struct, frozen=True, gc=False):
    pass


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """What a container holds: ``gpu_uuids`` on ``node_id``, for which entry of the fallback list.

    ``fallback_index`` is the position in ``FunctionSpec.gpu`` (-1: no GPU); ``gpu_type`` the variant
    granted ("A100-80GB", empty without a GPU).
    """

    node_id: str
    gpu_uuids: tuple[str, ...] = ()
    gpu_type: str = ""
    request: GpuRequest | None = None
    fallback_index: int = -1
    epoch: int = 0


class StartContainer(Command, frozen=True, gc=False):
    container_id: str
    function_id: str
    allocation: Allocation
    reason: str


class StopContainer(Command, frozen=True, gc=False):
    """SIGINT, exit handlers, after ``grace_s`` SIGKILL. ``grace_s=0``: kill at once.
    Answered by ``ContainerExited`` (or ``ContainerStartFailed`` while starting)."""

    container_id: str
    grace_s: float
    reason: str


class Lease(msgspec.Struct, frozen=True, gc=False):
    input_id: str
    attempt: int


class LeaseInputs(Command, frozen=True, gc=False):
    """Give inputs to a ready container, which runs them in this order."""

    container_id: str
    leases: tuple[Lease, ...]


class RecallInputs(Command, frozen=True, gc=False):
    """Ask unstarted leased inputs back; answered by ``InputsReturned``."""

    container_id: str
    input_ids: tuple[str, ...]


class CancelInput(Command, frozen=True, gc=False):
    """Interrupt one running attempt (SIGUSR1 or task cancel); its output still arrives."""

    container_id: str
    input_id: str
    attempt: int


FinishStatus = Literal["success", "failure", "error"]


class FinishInput(Command, frozen=True, gc=False):
    """The one recorded output of an input. ``success`` and ``failure`` deliver the payload that came
    with (input, attempt); ``error`` is the core's own verdict: ``error`` names an exception class of
    ``glowplug.model.errors``, ``message`` is its text."""

    input_id: str
    call_id: str
    function_id: str
    attempt: int
    status: FinishStatus
    error: str = ""
    message: str = ""


class RecordAttempt(Command, frozen=True, gc=False):
    """An attempt ended: what it used. ``outcome``: success, failure, timeout, cancelled, interrupted,
    crashed."""

    input_id: str
    attempt: int
    function_id: str
    app_id: str
    container_id: str
    gpu_type: str
    gpu_count: int
    run_s: float
    cost_usd: float
    outcome: str


class Notify(Command, frozen=True, gc=False):
    """One line for whoever watches the app (a substitution, a skipped fallback, a re-run)."""

    app_id: str
    function_id: str
    level: Literal["info", "warning"]
    text: str
