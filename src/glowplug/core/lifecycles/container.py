"""A container: one running copy of a function.

    starting ──▶ ready ──▶ draining ──▶ stopped
        └──────────┴────────────┴──────────▲

``draining`` was told to stop and takes no further input; its GPUs are free once it is stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug.core.lifecycles.errors import IllegalMove

if TYPE_CHECKING:
    from glowplug.core.state import Container

STARTING = "starting"
READY = "ready"
DRAINING = "draining"
STOPPED = "stopped"

MOVES: dict[str, frozenset[str]] = {
    STARTING: frozenset({READY, DRAINING, STOPPED}),
    READY: frozenset({DRAINING, STOPPED}),
    DRAINING: frozenset({STOPPED}),
    STOPPED: frozenset(),
}


def move_container(container: Container, new: str) -> None:
    if new not in MOVES[container.status]:
        raise IllegalMove("container", container.id, container.status, new)
    container.status = new
