"""Transition tables: which moves a thing may make. An illegal one raises and changes nothing."""

from glowplug.core.lifecycles.container import DRAINING, READY, STARTING, STOPPED, move_container
from glowplug.core.lifecycles.errors import IllegalMove
from glowplug.core.lifecycles.input import DELAYED, FINISHED, LEASED, QUEUED, RUNNING, move_input

__all__ = [
    "DELAYED",
    "DRAINING",
    "FINISHED",
    "LEASED",
    "QUEUED",
    "READY",
    "RUNNING",
    "STARTING",
    "STOPPED",
    "IllegalMove",
    "move_container",
    "move_input",
]
