"""This machine's fleet without a server: the same inventory a server would start with, and plans on it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from glowplug.backends.local.inventory import GpuLocks, Inventory
from glowplug.client.config import declare_types, read_config
from glowplug.client.settings import Settings
from glowplug.core import events as e
from glowplug.core.machine import handle
from glowplug.core.plan import plan
from glowplug.core.state import State
from glowplug.model.function import FunctionSpec


def make_inventory(settings: Settings, locks: GpuLocks) -> Inventory:
    """What ``GLOWPLUG_GPUS`` and the operator's file declare, else this machine's cards."""
    config = read_config()
    declare_types()
    return Inventory.from_settings(
        settings.config.get("GLOWPLUG_GPUS"), node_labels=config.labels, prices=config.prices, locks=locks
    )


@contextmanager
def looked_at(settings: Settings) -> Iterator[Inventory]:
    """The inventory for one look; it is closed afterwards and no card was locked."""
    locks = GpuLocks(settings.home)
    inventory = make_inventory(settings, locks)
    try:
        yield inventory
    finally:
        inventory.close()
        locks.close()


def plan_here(settings: Settings, functions: Sequence[FunctionSpec]) -> dict[str, Any]:
    """What a server started now would answer to POST /v1/plan."""
    at = time.time()
    with looked_at(settings) as inventory:
        nodes = inventory.nodes()
        state = State()
        handle(state, e.ServerStarted(at, "plan"))
        for node in nodes:
            handle(state, e.NodeJoined(at, node))
        specs = [dataclasses.replace(spec, id=f"planned-{number}") for number, spec in enumerate(functions)]
        planned = plan(state, specs, at)
        return {
            "banner": inventory.banner(),
            "virtual": any(node.virtual for node in nodes),
            "functions": msgspec.to_builtins(planned),
        }
