"""What goes to a server and comes back, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from glowplug.wire.payload import Payload


@dataclass
class AppSpec:
    """What the server must know to run an app's functions."""

    name: str
    functions: list[dict[str, Any]]
    """``FunctionSpec.to_wire()`` of each, ``id`` and ``app_id`` empty."""
    environment: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    gpu_map: dict[str, str] = field(default_factory=dict)
    detach: bool = False


@dataclass(frozen=True)
class LogLine:
    """One line a container wrote. ``stream`` is "stdout" or "stderr"; ``at`` seconds since the epoch."""

    function: str
    input_id: str
    container_id: str
    stream: str
    text: str
    at: float


@dataclass(frozen=True)
class BuildEvent:
    """How far an image is.

    ``kind``: "upload" (``number`` of ``count`` bytes of local files are sent), "step" (begins, or was built
    before: ``cached``), "line" (a line of the build), "built", "failed".
    """

    image: str
    kind: str
    number: int = 0
    count: int = 0
    text: str = ""
    cached: bool = False
    seconds: float = 0.0


class LogSink(Protocol):
    """Where a run's lines go. Called from whichever thread reads; must not block."""

    def on_log(self, line: LogLine) -> None: ...

    def on_notice(self, level: str, text: str) -> None: ...

    def on_waiting(self, function: str, text: str | None) -> None: ...

    def on_build(self, event: BuildEvent) -> None: ...


class Output:
    """What came back for one input.

    ``status``: "success" (payload: the result; a generator's end), "failure" (payload: the packed exception),
    "error" (``error`` names a class of ``model.errors``, ``message`` is its text), "item" (a generator's
    yield).
    """

    __slots__ = ("error", "index", "input_id", "message", "payload", "status")

    def __init__(
        self,
        index: int,
        input_id: str,
        status: str,
        payload: Payload | None,
        error: str = "",
        message: str = "",
    ) -> None:
        self.index = index
        self.input_id = input_id
        self.status = status
        self.payload = payload
        self.error = error
        self.message = message


@dataclass(frozen=True)
class RunSummary:
    """What a run used: finished calls' inputs, GPU seconds by type, cost by the price list."""

    inputs: int = 0
    gpu_seconds: dict[str, float] = field(default_factory=dict)
    cost_usd: float = 0.0
    retried: int = 0
    rerun: int = 0
