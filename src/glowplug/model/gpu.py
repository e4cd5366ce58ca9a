"""GPU requests: the grammar of ``gpu=`` of every era, turned into one ordered tuple of requests."""

from __future__ import annotations

from dataclasses import dataclass

ANY = "ANY"


@dataclass(frozen=True)
class GpuRequest:
    """One entry of a ``gpu=`` value.

    ``type`` is canonical and without memory ("A100", "RTX-4090", "ANY"); ``memory_gb`` is set when the
    value named a memory size ("A100-80GB", ``gpu.A100(memory=20)``).
    """

    type: str
    count: int = 1
    memory_gb: int | None = None
    exact: bool = False
    """``H100!``: never mapped to another type."""
    or_successor: bool = False
    """``B200+``: this type or the one after it."""
