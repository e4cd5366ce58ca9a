"""An NVML for machines without one: an object with the functions of the ``pynvml`` module.

Constants and error classes are the real binding's, so a name that does not exist there fails here too. A
function this fake does not play answers "not supported", as NVML does for a card that lacks a feature.
"""

from __future__ import annotations

import ctypes
import queue
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

MIB = 2**20


@dataclass
class FakeSlice:
    uuid: str
    profile: str
    total_mib: int
    gpu_instance: int = 1
    compute_instance: int = 0
    used_mib: int = 0
    compute: dict[int, int | None] = field(default_factory=dict)


@dataclass
class FakeCard:
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "NVIDIA H100 80GB HBM3"
    total_mib: int = 81559
    used_mib: int = 0
    reserved_mib: int = 0
    minor: int = 0
    mig: list[FakeSlice] | None = None
    """Slices of a card in MIG mode; None: MIG is off."""
    compute: dict[int, int | None] = field(default_factory=dict)
    """MiB by pid; None where the driver does not tell."""
    graphics: dict[int, int | None] = field(default_factory=dict)
    ecc_errors: int = 0
    rows_pending: int = 0
    rows_failed: int = 0
    pages_pending: int = 0
    recovery_action: int | None = None
    compute_mode: int = 0
    slowdown: int = 0
    linked_to: frozenset[int] = frozenset()
    error: int | None = None
    """Every question about this card fails with this error."""
    unsupported: frozenset[str] = frozenset()


class FakeNvml:
    def __init__(self, *cards: FakeCard, init_error: int | None = None, driver: str = "580.65.06") -> None:
        self.cards = list(cards)
        self.init_error = init_error
        self.driver = driver
        self.opened = 0
        self.asked: list[str] = []
        """Names of the functions called, in order."""
        self._events: queue.Queue[Any] = queue.Queue()
        self.registered: list[str] = []
        self.event_sets = 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("nvml") and callable(found):
            self.asked.append(name)
        return found

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)
        if not name.startswith("nvml") or not callable(real):
            return real

        def not_played(*_: Any, **__: Any) -> Any:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

        return not_played

    def emit(self, card: FakeCard, xid: int, event_type: int = pynvml.nvmlEventTypeXidCriticalError) -> None:
        """Have the driver report an error event of this card."""
        handle = self._handle(self.cards.index(card))
        self._events.put(SimpleNamespace(device=handle, eventType=event_type, eventData=xid))

    def fail_wait(self, error: int) -> None:
        """Have the next wait for events fail with this error."""
        self._events.put(pynvml.NVMLError(error))

    # What follows plays functions of the binding, by their names.

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlDeviceGetCount(self) -> int:
        if not self.opened:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        self._card(self._handle(index))
        return self._handle(index)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        for index, card in enumerate(self.cards):
            if card.uuid == uuid:
                return self.nvmlDeviceGetHandleByIndex(index)
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return self._device(handle).uuid

    def nvmlDeviceGetName(self, handle: Any) -> str:
        device = self._device(handle)
        if isinstance(device, FakeSlice):
            return f"{self._card(handle).name} MIG {device.profile}"
        return device.name

    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None) -> Any:
        card = self._card(handle, "nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo")
        device = self._device(handle)
        used_mib = device.used_mib + (0 if version else card.reserved_mib)
        return SimpleNamespace(total=device.total_mib * MIB, used=used_mib * MIB)

    def nvmlDeviceGetMinorNumber(self, handle: Any) -> int:
        return self._card(handle, "nvmlDeviceGetMinorNumber").minor

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:
        mode = int(self._card(handle, "nvmlDeviceGetMigMode").mig is not None)
        return [mode, mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:
        slices = self._card(handle).mig or []
        if index >= len(slices):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return ctypes.c_void_p(handle.value + index + 1)

    def nvmlDeviceGetGpuInstanceId(self, handle: Any) -> int:
        return self._device(handle).gpu_instance

    def nvmlDeviceGetComputeInstanceId(self, handle: Any) -> int:
        return self._device(handle).compute_instance

    def nvmlDeviceGetP2PStatus(self, first: Any, second: Any, _index: int) -> int:
        linked = self._index(second) in self._card(first).linked_to
        return pynvml.NVML_P2P_STATUS_OK if linked else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED

    def nvmlDeviceGetRemappedRows(self, handle: Any) -> tuple[int, int, int, int]:
        card = self._card(handle, "nvmlDeviceGetRemappedRows")
        return (0, 0, card.rows_pending, card.rows_failed)

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, error_type: int, counter: int) -> int:
        assert error_type == pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
        assert counter == pynvml.NVML_VOLATILE_ECC
        return self._card(handle, "nvmlDeviceGetTotalEccErrors").ecc_errors

    def nvmlDeviceGetRetiredPagesPendingStatus(self, handle: Any) -> int:
        return self._card(handle, "nvmlDeviceGetRetiredPagesPendingStatus").pages_pending

    def nvmlDeviceGetFieldValues(self, handle: Any, fields: list[int]) -> list[Any]:
        assert fields == [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
        action = self._card(handle).recovery_action
        code = pynvml.NVML_ERROR_NOT_SUPPORTED if action is None else pynvml.NVML_SUCCESS
        return [SimpleNamespace(nvmlReturn=code, value=SimpleNamespace(uiVal=action or 0))]

    def nvmlDeviceGetComputeMode(self, handle: Any) -> int:
        return self._card(handle).compute_mode

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int:
        return self._card(handle, "nvmlDeviceGetCurrentClocksEventReasons").slowdown

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any) -> list[Any]:
        self._card(handle, "nvmlDeviceGetComputeRunningProcesses_v3")
        return _listed(self._device(handle).compute)

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: Any) -> list[Any]:
        return _listed(self._device(handle).compute)

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: Any) -> list[Any]:
        device = self._device(handle)
        return _listed(device.graphics if isinstance(device, FakeCard) else {})

    def nvmlSystemGetProcessName(self, pid: int) -> str:
        return f"/usr/bin/program-{pid}"

    def nvmlEventSetCreate(self) -> Any:
        self.event_sets += 1
        return self._events

    def nvmlEventSetFree(self, _events: Any) -> None:
        self.event_sets -= 1

    def nvmlDeviceGetSupportedEventTypes(self, handle: Any) -> int:
        self._card(handle, "nvmlDeviceGetSupportedEventTypes")
        return pynvml.nvmlEventTypeAll

    def nvmlDeviceRegisterEvents(self, handle: Any, _types: int, _events: Any) -> None:
        self.registered.append(self._card(handle).uuid)

    def nvmlEventSetWait(self, events: Any, timeout_ms: int) -> Any:
        try:
            event = events.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
        if isinstance(event, Exception):
            raise event
        return event

    # A handle is a pointer, as NVML's are: the card's number, and the slice's in the low digits.

    def _handle(self, index: int) -> Any:
        return ctypes.c_void_p((index + 1) * 0x100)

    def _index(self, handle: Any) -> int:
        return handle.value // 0x100 - 1

    def _card(self, handle: Any, question: str = "") -> FakeCard:
        card = self.cards[self._index(handle)]
        if card.error is not None:
            raise pynvml.NVMLError(card.error)
        if question in card.unsupported:
            code = (
                pynvml.NVML_ERROR_FUNCTION_NOT_FOUND if "_v" in question else pynvml.NVML_ERROR_NOT_SUPPORTED
            )
            raise pynvml.NVMLError(code)
        return card

    def _device(self, handle: Any) -> FakeCard | FakeSlice:
        card = self._card(handle)
        position = handle.value % 0x100
        return (card.mig or [])[position - 1] if position else card


def _listed(processes: dict[int, int | None]) -> list[Any]:
    return [
        SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB)
        for pid, mib in processes.items()
    ]
