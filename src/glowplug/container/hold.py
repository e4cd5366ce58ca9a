"""A function that does nothing: what a container runs that was started for somebody to work in."""

from __future__ import annotations

import signal


def hold() -> None:
    """Until it is interrupted."""
    while True:
        signal.pause()
