"""Trying out an interruption: what a drained node does to a running function."""

from __future__ import annotations

import random
import signal
from typing import Any

GRACE_S = 30


def simulate_preemption(wait_seconds: int, jitter_seconds: int = 0) -> None:
    """Interrupt this process as a drained node would: after ``wait_seconds`` and up to ``jitter_seconds``.

    A ``KeyboardInterrupt`` is raised in the main thread; 30 seconds later the process is ended. Both are
    whole seconds. Raises ``ValueError`` for a wait below 1.
    """
    if wait_seconds <= 0:
        raise ValueError(f"wait_seconds={wait_seconds!r}: must be at least 1")
    signal.signal(signal.SIGALRM, _interrupt)
    signal.alarm(wait_seconds + (random.randrange(jitter_seconds) if jitter_seconds else 0))


def _interrupt(*_: Any) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(GRACE_S)
    raise KeyboardInterrupt("simulated interruption of the container")
