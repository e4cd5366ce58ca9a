"""This machine's cards as NVML reports them: type, memory, slices, links, health, and who uses them.

A card in MIG mode is not offered itself: its slices are. A card that NVML lists but cannot reach stays in the
inventory as an unhealthy one, so that nobody wonders where it went.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glowplug.backends.local.inventory import foreign, health
from glowplug.backends.local.inventory.machine import this_machine
from glowplug.backends.local.inventory.visible import VARIABLE, visible_only
from glowplug.model.catalog import nominal_memory_gb, price_usd_per_hour, type_from_driver_name
from glowplug.model.node import Gpu

MIB = 2**20
UNREACHABLE_TYPE = "UNKNOWN"

_PROFILE_MEMORY = re.compile(r"\bMIG\s.*?(\d+)gb", re.IGNORECASE)


@dataclass(frozen=True)
class Cards:
    """One reading. ``problem`` says why there is no GPU when there is none."""

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    parents: Mapping[str, str] = field(default_factory=dict)
    """The card's UUID of each slice's."""
    device_nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a process needs from /dev, by UUID, beside /dev/nvidiactl and /dev/nvidia-uvm."""


class NvmlReader:
    """Holds NVML open, which keeps the driver awake between readings. ``nvml``: the module or its like."""

    def __init__(self, nvml: Any = None, root: Path = Path("/")) -> None:
        self._nvml = nvml
        self._root = root
        self._open = False
        self._links: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}

    @property
    def nvml(self) -> Any:
        """The open NVML module; None until ``open`` succeeded."""
        return self._nvml if self._open else None

    def open(self) -> str:
        """Start NVML; empty, or why that is impossible here."""
        if self._open:
            return ""
        if self._nvml is None:
            try:
                import pynvml
            except ImportError:
                return "the package nvidia-ml-py is not installed; pip install nvidia-ml-py"
            self._nvml = pynvml
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            return explain(self._nvml, error, self._root)
        self._open = True
        return ""

    def close(self) -> None:
        if self._open:
            self._open = False
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError:
                pass  # the driver is gone; so is what was open

    def read(
        self,
        own_pids: Collection[int] = (),
        held: Collection[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> Cards:
        """The cards now. ``own_pids``: our containers' processes; ``held``: UUIDs this server has locked."""
        problem = self.open()
        if problem:
            return Cards(problem=problem)
        nvml, reading = self._nvml, _Reading(self._nvml, own_pids, held, self._root)
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            return Cards(problem=explain(nvml, error, self._root))
        for index in range(count):
            reading.add_card(index)
        gpus = self._linked(reading)
        if not gpus:
            return Cards(problem="the NVIDIA driver works but shows no GPU to this process")
        visible = visible_only(gpus, reading.parents, environ.get(VARIABLE))
        if not visible:
            problem = f"{VARIABLE}={environ.get(VARIABLE)!r} hides every GPU of this machine; unset it"
        return Cards(visible, problem, reading.parents, reading.device_nodes)

    def _linked(self, reading: _Reading) -> list[Gpu]:
        # Links do not change while the cards are the same, and asking for 28 pairs takes a while.
        key = tuple(reading.handles)
        if key not in self._links:
            self._links = {key: _nvlink_peers(self._nvml, reading.handles)}
        return [replace(gpu, nvlink_peers=self._links[key].get(gpu.uuid, ())) for gpu in reading.gpus]


class _Reading:
    """The state of one pass over the cards."""

    def __init__(self, nvml: Any, own_pids: Collection[int], held: Collection[str], root: Path) -> None:
        self._nvml = nvml
        self._own_pids = own_pids
        self._held = held
        self._root = root
        self.gpus: list[Gpu] = []
        self.handles: dict[str, Any] = {}
        """Whole cards only: slices have no links."""
        self.parents: dict[str, str] = {}
        self.device_nodes: dict[str, tuple[str, ...]] = {}

    def add_card(self, index: int) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
        except nvml.NVMLError as error:
            self.gpus.append(_unreachable(f"GPU-unreachable-{index}", index, error))
            return
        try:
            card = self._card(handle, uuid, index)
            slices = self._slices(handle, card)
        except nvml.NVMLError as error:
            self.gpus.append(_unreachable(uuid, index, error))
            return
        if slices is None:
            self.gpus.append(self._with_users(card, handle))
            self.handles[uuid] = handle
        elif slices:
            self.gpus.extend(slices)
        else:
            reason = "MIG mode is on, but it has no slices; glowplug doctor says how to make some"
            self.gpus.append(replace(card, healthy=False, unhealthy_reason=reason))

    def _card(self, handle: Any, uuid: str, index: int) -> Gpu:
        nvml = self._nvml
        name = nvml.nvmlDeviceGetName(handle)
        memory_mib = self._memory_mib(handle)
        found = health.read_health(nvml, handle, index)
        type = type_from_driver_name(name)
        memory_gb = nominal_memory_gb(memory_mib, type)
        minor = self._minor(handle)
        self.device_nodes[uuid] = self._card_nodes(minor)
        return Gpu(
            uuid=uuid,
            type=type,
            memory_gb=memory_gb,
            index=index,
            memory_mib=memory_mib,
            healthy=not found.reason,
            unhealthy_reason=found.reason,
            note=found.note,
            price_usd_per_hour=price_usd_per_hour(type, memory_gb),
            driver_name=name,
            minor=minor,
        )

    def _memory_mib(self, handle: Any) -> int:
        try:
            return self._nvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
        except self._nvml.NVMLError_NotSupported:
            return this_machine(self._root).memory_mib  # the chip shares the machine's memory (GB10)

    def _card_nodes(self, minor: int) -> tuple[str, ...]:
        if minor >= 0:
            return (f"/dev/nvidia{minor}",)
        return ("/dev/dxg",) if (self._root / "dev/dxg").exists() else ()  # WSL2 has one door for all cards

    def _minor(self, handle: Any) -> int:
        try:
            minor = self._nvml.nvmlDeviceGetMinorNumber(handle)
        except self._nvml.NVMLError:
            return -1
        return minor if (self._root / f"dev/nvidia{minor}").exists() else -1

    def _slices(self, handle: Any, card: Gpu) -> list[Gpu] | None:
        """The MIG slices of a card; None for one that is not in MIG mode."""
        nvml = self._nvml
        try:
            mode, _pending = nvml.nvmlDeviceGetMigMode(handle)
            if mode != nvml.NVML_DEVICE_MIG_ENABLE:
                return None
            most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
        except nvml.NVMLError:
            return None
        found = []
        for position in range(most):
            try:
                slice_handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, position)
            except nvml.NVMLError:
                continue  # positions may have gaps
            found.append(self._slice(slice_handle, card))
        return found

    def _slice(self, handle: Any, card: Gpu) -> Gpu:
        nvml = self._nvml
        uuid = nvml.nvmlDeviceGetUUID(handle)
        name = nvml.nvmlDeviceGetName(handle)
        memory_mib = nvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
        profile = _PROFILE_MEMORY.search(name)
        memory_gb = int(profile[1]) if profile else nominal_memory_gb(memory_mib, card.type)
        self.parents[uuid] = card.uuid
        self.device_nodes[uuid] = self.device_nodes[card.uuid] + self._capability_nodes(handle, card.minor)
        return self._with_users(
            replace(
                card,
                uuid=uuid,
                memory_gb=memory_gb,
                memory_mib=memory_mib,
                is_slice=True,
                price_usd_per_hour=price_usd_per_hour(card.type, memory_gb, is_slice=True),
                driver_name=name,
            ),
            handle,
        )

    def _capability_nodes(self, handle: Any, minor: int) -> tuple[str, ...]:
        """The two nodes under /dev/nvidia-caps that open a slice: its GPU instance and compute instance."""
        nvml = self._nvml
        try:
            outer = f"gi{nvml.nvmlDeviceGetGpuInstanceId(handle)}"
            inner = f"ci{nvml.nvmlDeviceGetComputeInstanceId(handle)}"
        except nvml.NVMLError:
            return ()
        mig = self._root / f"proc/driver/nvidia/capabilities/gpu{minor}/mig"
        nodes = []
        for access in (mig / outer / "access", mig / outer / inner / "access"):
            try:
                found = re.search(r"DeviceFileMinor:\s*(\d+)", access.read_text())
            except OSError:
                return ()
            if found:
                nodes.append(f"/dev/nvidia-caps/nvidia-cap{found[1]}")
        return tuple(nodes)

    def _with_users(self, gpu: Gpu, handle: Any) -> Gpu:
        uses = foreign.foreign_uses(
            _processes(self._nvml, handle),
            _used_mib(self._nvml, handle),
            self._own_pids,
            held=gpu.uuid in self._held,
            proc=self._root / "proc",
        )
        return replace(gpu, foreign=uses)


def explain(nvml: Any, error: Exception, root: Path = Path("/")) -> str:
    """Why NVML does not work, and what to do: one line."""
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return "no NVIDIA driver is installed here (libnvidia-ml.so.1 is not found)"
    if code == nvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return "the NVIDIA driver is installed but not loaded; sudo modprobe nvidia"
    if code == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        loaded = loaded_driver_version(root)
        kernel = f"the loaded kernel module ({loaded})" if loaded else "the loaded kernel module"
        return f"the NVIDIA driver was updated while running: its library does not fit {kernel}; reboot"
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return f"user {os.getuid()} may not open the NVIDIA devices; look at: ls -l /dev/nvidia*"
    return f"NVML does not work: {error}"


def loaded_driver_version(root: Path = Path("/")) -> str:
    try:
        return (root / "sys/module/nvidia/version").read_text().strip()
    except OSError:
        return ""


def _unreachable(uuid: str, index: int, error: Exception) -> Gpu:
    reason = health.lost(index, error)
    return Gpu(uuid, UNREACHABLE_TYPE, 0, index, healthy=False, unhealthy_reason=reason, minor=-1)


def _nvlink_peers(nvml: Any, handles: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Which cards reach each other over NVLink, directly or through a switch."""

    def linked(first: str, second: str) -> bool:
        try:
            status = nvml.nvmlDeviceGetP2PStatus(
                handles[first], handles[second], nvml.NVML_P2P_CAPS_INDEX_NVLINK
            )
        except nvml.NVMLError:
            return False
        return status == nvml.NVML_P2P_STATUS_OK

    return {
        uuid: tuple(other for other in handles if other != uuid and linked(uuid, other)) for uuid in handles
    }


def _used_mib(nvml: Any, handle: Any) -> int:
    """Memory that processes hold. The older question counts the driver's own reserve as used."""
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2).used // MIB
    except nvml.NVMLError:
        try:
            return nvml.nvmlDeviceGetMemoryInfo(handle).used // MIB
        except nvml.NVMLError:
            return 0


def _processes(nvml: Any, handle: Any) -> list[foreign.GpuProcess]:
    computing = _listed(nvml, "nvmlDeviceGetComputeRunningProcesses", handle)
    drawing = _listed(nvml, "nvmlDeviceGetGraphicsRunningProcesses", handle)
    return [
        foreign.GpuProcess(
            pid,
            max(computing.get(pid, 0), drawing.get(pid, 0)),
            computes=pid in computing,
            draws=pid in drawing,
            command=_process_name(nvml, pid),
        )
        for pid in sorted(computing.keys() | drawing.keys())
    ]


def _listed(nvml: Any, question: str, handle: Any) -> dict[int, int]:
    """Memory in MiB by pid. Drivers before 510 know only the second form of the question."""
    for form in ("_v3", "_v2"):
        ask = getattr(nvml, question + form)
        try:
            return {each.pid: (each.usedGpuMemory or 0) // MIB for each in ask(handle)}
        except nvml.NVMLError_FunctionNotFound:
            continue
        except nvml.NVMLError:
            break
    return {}


def _process_name(nvml: Any, pid: int) -> str:
    try:
        return nvml.nvmlSystemGetProcessName(pid)
    except (nvml.NVMLError, UnicodeDecodeError):
        return ""
