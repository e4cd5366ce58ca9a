"""The GPUs a local server may use: this machine's, or a virtual fleet that is only declared."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from glowplug.backends.local.inventory.locks import GpuLocks
from glowplug.backends.local.inventory.machine import labels, this_machine
from glowplug.backends.local.inventory.nvml import Cards, NvmlReader
from glowplug.backends.local.inventory.virtual import parse_fleet
from glowplug.backends.local.inventory.watch import OnGpuFailed, Watch, XidWatch
from glowplug.model.node import Gpu, Node

REAL_SETTINGS = frozenset({"", "auto", "real"})
VIRTUAL_SUFFIX = "functions run on the CPU"


class Inventory:
    """What there is, and on ``refresh`` what became of it. This base is a virtual fleet: it never changes."""

    virtual = True
    problem = ""
    """Why there is no GPU, when there is none."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    @staticmethod
    def from_settings(
        gpus_setting: str | None,
        *,
        node_labels: Mapping[str, str] | None = None,
        prices: Mapping[str, float] | None = None,
        locks: GpuLocks | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Inventory:
        """``gpus_setting``: the text of ``GLOWPLUG_GPUS``; nothing, "auto" or "real" is this machine's cards.

        ``prices``: an operator's own, in dollars an hour by variant ("A100-80GB") or type ("A100").
        """
        own_labels = labels(node_labels or {}, environ)
        if gpus_setting is None or gpus_setting.strip().lower() in REAL_SETTINGS:
            return RealInventory(own_labels, prices or {}, locks, environ)
        machine = this_machine()
        nodes = parse_fleet(gpus_setting, machine.cpus, machine.memory_mib, own_labels)
        return Inventory([_with_prices(node, prices or {}) for node in nodes])

    def nodes(self) -> list[Node]:
        """The last reading."""
        return list(self._nodes)

    def refresh(self, own_pids: Collection[int] = ()) -> list[Node]:
        """A new reading. ``own_pids``: host pids of our containers, which are nobody foreign."""
        return self.nodes()

    def banner(self) -> str:
        """One line that says what runs functions here: "REAL 2× RTX-4090"."""
        return banner(self.nodes(), self.problem)

    def device_nodes(self, uuid: str) -> tuple[str, ...]:
        """The device nodes that open this GPU, beside those every GPU needs."""
        return ()

    def watch(self, on_gpu_failed: OnGpuFailed) -> Watch:
        """Call back, from another thread, when a GPU fails; until ``stop`` of what is returned."""
        return Watch()

    def close(self) -> None:
        """Let go of the driver."""


class RealInventory(Inventory):
    virtual = False

    def __init__(
        self,
        node_labels: Mapping[str, str],
        prices: Mapping[str, float],
        locks: GpuLocks | None,
        environ: Mapping[str, str],
        nvml: Any = None,
    ) -> None:
        super().__init__([])
        self._labels = dict(node_labels)
        self._prices = prices
        self._locks = locks
        self._environ = environ
        self._reader = NvmlReader(nvml)
        self._cards = Cards()
        self._held_before: frozenset[str] = frozenset()
        self._failed: dict[str, str] = {}
        """GPUs an error event condemned, until this server ends: NVML may call them healthy again."""
        self.refresh()

    def refresh(self, own_pids: Collection[int] = ()) -> list[Node]:
        held = self._locks.held() if self._locks else frozenset[str]()
        # The driver takes a moment to free what an ended container had: until the next reading, memory that
        # nobody visible holds on a card we just gave back is still ours.
        self._cards = self._reader.read(own_pids, held | self._held_before, self._environ)
        self._held_before = held
        self.problem = self._cards.problem
        machine = this_machine()
        node = Node(
            id=machine.name,
            gpus=tuple(self._judged(gpu) for gpu in self._cards.gpus),
            labels=self._labels,
            cpus=machine.cpus,
            memory_mib=machine.memory_mib,
        )
        self._nodes = [_with_prices(node, self._prices)]
        return self.nodes()

    def device_nodes(self, uuid: str) -> tuple[str, ...]:
        return self._cards.device_nodes.get(uuid, ())

    def watch(self, on_gpu_failed: OnGpuFailed) -> Watch:
        if self._reader.nvml is None:
            return Watch()

        def condemn(uuid: str, reason: str) -> None:
            self._failed[uuid] = reason
            on_gpu_failed(uuid, reason)

        try:
            return XidWatch(self._reader.nvml, self._cards.gpus, self._cards.parents, condemn)
        except self._reader.nvml.NVMLError:
            return Watch()  # no events here (WSL2, some sandboxes); looking at the inventory still finds it

    def close(self) -> None:
        self._reader.close()

    def _judged(self, gpu: Gpu) -> Gpu:
        holder = self._locks.holder(gpu.uuid) if self._locks else None
        failed = self._failed.get(gpu.uuid)
        if failed and gpu.healthy:
            gpu = replace(gpu, healthy=False, unhealthy_reason=failed)
        return replace(gpu, locked_by=holder or "")


def banner(nodes: list[Node], problem: str = "") -> str:
    counts = Counter(
        f"{gpu.variant} slice" if gpu.is_slice else gpu.variant for node in nodes for gpu in node.gpus
    )
    listed = ", ".join(f"{count}× {name}" for name, count in counts.items())
    if any(node.virtual for node in nodes):
        return f"VIRTUAL {listed or 'no GPU'}: {VIRTUAL_SUFFIX}"
    if listed:
        return f"REAL {listed}"
    return f"NO GPU: {problem}" if problem else "NO GPU"


def _with_prices(node: Node, prices: Mapping[str, float]) -> Node:
    if not prices:
        return node
    return replace(
        node,
        gpus=tuple(
            replace(
                gpu,
                price_usd_per_hour=prices.get(gpu.variant, prices.get(gpu.type, gpu.price_usd_per_hour)),
            )
            for gpu in node.gpus
        ),
    )
