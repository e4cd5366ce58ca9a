"""Nodes and the GPUs they hold, as an inventory reports them. Sizes are MiB, prices US dollars an hour."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ForeignUse:
    """A process outside Glowplug that holds memory or compute on a GPU."""

    pid: int
    user: str
    memory_mib: int
    command: str = ""


@dataclass(frozen=True)
class Gpu:
    """One allocatable GPU: a whole card, or a MIG slice of one.

    ``type`` is the catalog's canonical name without memory ("A100"), ``memory_gb`` the nominal memory
    class (80 for a card whose driver reports 81,559 MiB).
    """

    uuid: str
    type: str
    memory_gb: int
    index: int = 0
    memory_mib: int = 0
    is_slice: bool = False
    healthy: bool = True
    unhealthy_reason: str = ""
    note: str = ""
    """What an operator should know of a card that works all the same ("too hot (hardware slowdown)")."""
    foreign: tuple[ForeignUse, ...] = ()
    locked_by: str = ""
    """Who holds the machine-wide lock on this UUID when that is not this server ("uid 1001, pid 77")."""
    nvlink_peers: tuple[str, ...] = ()
    price_usd_per_hour: float = 0.0
    driver_name: str = ""
    minor: int = 0
    """The number in /dev/nvidiaN; -1 when there is no device node."""

    @property
    def variant(self) -> str:
        """The type with its memory where the catalog knows several: ``A100-80GB``, ``H100``."""
        from glowplug.model.catalog import variant_name

        return variant_name(self.type, self.memory_gb)

    @property
    def is_free(self) -> bool:
        """Healthy and used by nobody outside this server."""
        return self.healthy and not self.foreign and not self.locked_by


@dataclass(frozen=True)
class Node:
    """A machine. ``labels`` holds cloud, region, zone, market where they are known."""

    id: str
    gpus: tuple[Gpu, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    cpus: float = 0.0
    memory_mib: int = 0
    virtual: bool = False

    def to_wire(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, raw: dict[str, Any]) -> Node:
        gpus = tuple(Gpu(**_gpu_fields(gpu)) for gpu in raw["gpus"])
        fields: dict[str, Any] = {**raw, "gpus": gpus}
        return cls(**fields)


def _gpu_fields(raw: dict[str, Any]) -> dict[str, Any]:
    return {
        **raw,
        "foreign": tuple(ForeignUse(**use) for use in raw["foreign"]),
        "nvlink_peers": tuple(raw["nvlink_peers"]),
    }
