"""The journal keeps decided facts for later lives of the server: runs, containers, spawned calls and their
outputs.

Writing never waits: a call here queues a row and returns. ``committed`` is the future of everything written
before it. Inputs of ``remote`` and ``map`` are no rows: their client keeps them until they are answered and
sends them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from glowplug.wire.payload import Payload

RESULT_RETENTION_S = 7 * 86400.0
"""Outputs of spawned calls can be asked for this long."""
TAKEN_OVER_CALLS = 10_000
HISTORY_RETENTION_S = 90 * 86400.0
"""That there was such a run or call is remembered this long."""


@dataclass(frozen=True)
class JournaledRun:
    """An app that ran or runs. ``spec`` is what a later server needs to run it again."""

    app_id: str
    name: str
    started_at: float
    server_pid: int
    detach: bool = False
    spec: dict[str, Any] = field(default_factory=dict[str, Any])
    usage: dict[str, Any] = field(default_factory=dict[str, Any])
    ended_at: float | None = None
    reason: str = ""
    """Why it ended."""


@dataclass(frozen=True)
class JournaledContainer:
    container_id: str
    app_id: str
    function_id: str
    node_id: str
    gpu_type: str
    gpu_uuids: tuple[str, ...]
    started_at: float


@dataclass(frozen=True)
class JournaledOutput:
    """One input's output; ``status``, ``error`` and ``message`` as they go to a client."""

    input_id: str
    status: str
    payload: Payload | None
    error: str
    message: str
    at: float


@dataclass(frozen=True)
class CallFact:
    """That a call was accepted."""

    call_id: str
    app_id: str
    function_id: str
    function_name: str
    accepted_at: float


@dataclass(frozen=True)
class JournaledCall:
    """A spawned call as it can be read back."""

    fact: CallFact
    inputs: int
    """How many it had; more than ``outputs`` while some are open or when their run ended first."""
    outputs: tuple[JournaledOutput, ...]
    expired: bool
    """Outputs were there and are gone after ``RESULT_RETENTION_S``."""
    open_inputs: tuple[tuple[str, Payload], ...] = ()
    """Those without an output, in their order."""


@dataclass(frozen=True)
class Predecessor:
    """What a server that did not end in order left behind."""

    runs: tuple[JournaledRun, ...] = ()
    containers: tuple[JournaledContainer, ...] = ()
    calls: tuple[JournaledCall, ...] = ()
    """Spawned calls of these runs, at most ``TAKEN_OVER_CALLS`` of each, unfinished ones first. Their outputs
    have no payloads here."""


class Journal(Protocol):
    """Rows are written in the order of these calls. Writing the same fact again changes nothing, except that
    a run which is started again is no longer ended."""

    def take_over(self, at: float) -> Predecessor:
        """Begin a life: what was not ended yet is ended now, and told. Blocks; comes before anything else."""
        ...

    def run_started(self, run: JournaledRun) -> None: ...

    def run_used(self, app_id: str, usage: dict[str, Any]) -> None: ...

    def run_ended(self, app_id: str, at: float, reason: str, usage: dict[str, Any]) -> None: ...

    def container_started(self, container: JournaledContainer) -> None: ...

    def container_ended(self, container_id: str, at: float, reason: str) -> None: ...

    def inputs_accepted(self, call: CallFact, inputs: Sequence[tuple[str, Payload]]) -> None:
        """Inputs of a spawned call; the call's own row comes with the first."""
        ...

    def output_recorded(self, call_id: str, output: JournaledOutput) -> None:
        """The one output of an input: a second one for the same input is ignored."""
        ...

    def committed(self) -> Future[bool]:
        """Done when what was written until now is on disk; False when it could not be written."""
        ...

    def read_runs(self, limit: int) -> Future[list[JournaledRun]]:
        """The latest runs first, without their specs."""
        ...

    def read_call(self, call_id: str) -> Future[JournaledCall | None]: ...

    def read_run(self, app_id: str) -> Future[JournaledRun | None]: ...

    def forget_old(self, at: float) -> None:
        """Remove what has passed its retention."""
        ...

    def close(self) -> None:
        """Write what is queued and end. Blocks."""
        ...
