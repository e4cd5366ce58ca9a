"""What the kernel keeps beside the core: payloads, who waits for them, what a run has used.

The core knows ids only; everything with bytes, sockets or money's sums is here.
"""

from __future__ import annotations

import asyncio
import collections
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glowplug.client.session import LogLine
from glowplug.model.function import FunctionSpec
from glowplug.wire.payload import Payload

if TYPE_CHECKING:
    from glowplug.server.log_reader import LogReader
    from glowplug.server.session import ClientSession

LOG_LINES_KEPT = 20_000
"""Of each app, in memory, for `glowplug logs`."""


@dataclass(slots=True)
class Usage:
    """What a run's attempts have used so far."""

    inputs: int = 0
    attempts: int = 0
    retried: int = 0
    rerun: int = 0
    """Attempts repeated after a crash, a drain or a lost node; no retry of the user's was spent."""
    gpu_seconds: dict[str, float] = field(default_factory=dict)
    cost_usd: float = 0.0

    def add(self, other: Usage) -> None:
        self.inputs += other.inputs
        self.attempts += other.attempts
        self.retried += other.retried
        self.rerun += other.rerun
        self.cost_usd += other.cost_usd
        for gpu_type, used_s in other.gpu_seconds.items():
            self.gpu_seconds[gpu_type] = self.gpu_seconds.get(gpu_type, 0.0) + used_s

    @classmethod
    def from_wire(cls, raw: dict[str, Any]) -> Usage:
        return cls(**{**raw, "gpu_seconds": dict(raw.get("gpu_seconds", {}))})

    def to_wire(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "attempts": self.attempts,
            "retried": self.retried,
            "rerun": self.rerun,
            "gpu_seconds": dict(self.gpu_seconds),
            "cost_usd": self.cost_usd,
        }


@dataclass(slots=True)
class RunRecord:
    """An app that runs: its functions, where its lines go, who asked for its end."""

    app_id: str
    name: str
    functions: dict[str, FunctionSpec]
    environment: dict[str, Any]
    source: dict[str, Any]
    detach: bool
    started_at: float
    session: ClientSession | None
    usage: Usage = field(default_factory=Usage)
    logs: collections.deque[LogLine] = field(default_factory=lambda: collections.deque(maxlen=LOG_LINES_KEPT))
    waiting_told: dict[str, str] = field(default_factory=dict)
    notices: list[tuple[str, str]] = field(default_factory=list)
    stopping: str = ""
    stop_waiters: list[tuple[ClientSession, int]] = field(default_factory=list)
    log_readers: list[LogReader] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nothing of it is left."""

    @property
    def function_ids(self) -> dict[str, str]:
        return {function.name: function_id for function_id, function in self.functions.items()}


@dataclass(slots=True)
class CallRecord:
    """One invocation: where its outputs go. ``kept`` ones (spawned) can be asked for by id later."""

    id: str
    function_id: str
    app_id: str
    session: ClientSession | None
    kept: bool = False
    inputs: int = 0
    open_inputs: int = 0
    outputs: dict[str, FinishedOutput | None] = field(default_factory=dict)
    """Of a kept call, for a caller who lost its connection; None: it is written, the journal has it."""
    unwritten: dict[str, FinishedOutput] = field(default_factory=dict)
    """Those of them that the journal could not take. They are in memory only."""
    watchers: list[ClientSession] = field(default_factory=list)


@dataclass(slots=True)
class InputRecord:
    payload: Payload
    call: CallRecord


@dataclass(slots=True)
class FinishedOutput:
    """As it goes to a client: "success", "failure" (both with payload) or "error" (class and text)."""

    input_id: str
    status: str
    payload: Payload | None
    error: str
    message: str
