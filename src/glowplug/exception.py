"""``glowplug.exception``: every error class, drawn as a tree in ``model/errors.py``."""

from __future__ import annotations

from glowplug.model.errors import *  # noqa: F403
from glowplug.sdk.preemption import simulate_preemption as simulate_preemption
