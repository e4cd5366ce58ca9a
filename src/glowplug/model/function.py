"""What the server must know of a function: one immutable spec, sent once when an app starts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from glowplug.model.gpu import GpuRequest
from glowplug.model.retry_policy import RetryPolicy as RetryPolicy


@dataclass(frozen=True)
class FunctionSpec:
    """A declared function. The core reads everything but ``definition``, which is the container's."""

    id: str
    app_id: str
    name: str
    gpu: tuple[GpuRequest, ...] = ()
    """Ordered fallbacks; empty: no GPU."""
    gpu_fallback_after_s: float | None = None
    gpu_map: dict[str, str] = field(default_factory=dict)
    """Substitutions the user allowed for this run: {"A10G": "RTX-4090"}, types or variants."""
    cloud: str | None = None
    regions: tuple[str, ...] = ()
    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window_s: float = 60.0
    timeout_s: float = 300.0
    startup_timeout_s: float = 300.0
    retries: RetryPolicy = field(default=RetryPolicy())
    max_concurrent_inputs: int = 1
    max_inputs: int | None = None
    """Inputs after which a container is replaced; 1 is a container for every input."""
    is_generator: bool = False
    restart_generator: bool = False
    """A generator that has yielded may be run again from its start after an interruption."""
    definition: dict[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, raw: dict[str, Any]) -> FunctionSpec:
        fields: dict[str, Any] = {
            **raw,
            "gpu": tuple(GpuRequest(**request) for request in raw["gpu"]),
            "regions": tuple(raw["regions"]),
            "retries": RetryPolicy(**raw["retries"]),
        }
        return cls(**fields)
