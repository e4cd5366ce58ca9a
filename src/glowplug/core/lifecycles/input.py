"""An input: where it is between being accepted and having its one output.

    queued ──▶ leased ──▶ running ──▶ finished
      ▲  ▲        │          │ │
      │  └────────┴──────────┘ ▼
      └──────────────────── delayed     (a retry that waits for its time)

``leased`` is held by a container and not begun; it counts as waiting. Anything may finish at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug.core.lifecycles.errors import IllegalMove

if TYPE_CHECKING:
    from glowplug.core.state import Input

QUEUED = "queued"
DELAYED = "delayed"
LEASED = "leased"
RUNNING = "running"
FINISHED = "finished"

MOVES: dict[str, frozenset[str]] = {
    QUEUED: frozenset({LEASED, FINISHED}),
    DELAYED: frozenset({QUEUED, FINISHED}),
    LEASED: frozenset({RUNNING, QUEUED, FINISHED}),
    RUNNING: frozenset({QUEUED, DELAYED, FINISHED}),
    FINISHED: frozenset(),
}


def move_input(input: Input, new: str) -> None:
    if new not in MOVES[input.status]:
        raise IllegalMove("input", input.id, input.status, new)
    input.status = new
