"""Tells the server at once when a card fails, instead of at the next look at the inventory.

One thread waits for the driver's error events. An Xid that means a broken card is reported as such; after any
other error event, and when NVML loses a card, what NVML says of the card's health decides.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glowplug.backends.local.inventory import health
from glowplug.model.node import Gpu

WAIT_MS = 500
"""How long a wait for events blocks, and so how long ``stop`` may take."""

OnGpuFailed = Callable[[str, str], None]
"""Called with the UUID of a GPU and the reason, from the watching thread."""


class Watch:
    """Watches nothing: what a virtual fleet, or a machine without events, gets."""

    def stop(self) -> None:
        """No callback runs after this returned."""


class XidWatch(Watch):
    def __init__(
        self, nvml: Any, gpus: Sequence[Gpu], parents: Mapping[str, str], on_gpu_failed: OnGpuFailed
    ) -> None:
        self._nvml = nvml
        self._on_gpu_failed = on_gpu_failed
        self._stopping = threading.Event()
        self._events = nvml.nvmlEventSetCreate()
        self._cards: dict[int, _Card] = {}
        """By the address behind the handle, which stays valid when the card no longer answers."""
        for gpu in gpus:
            self._register(gpu, parents.get(gpu.uuid, gpu.uuid))
        self._thread = threading.Thread(target=self._run, name="glowplug-gpu-health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def watched(self) -> frozenset[str]:
        return frozenset(uuid for card in self._cards.values() for uuid in card.uuids)

    def _register(self, gpu: Gpu, card_uuid: str) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(card_uuid)
            card = self._cards.get(_address(handle))
            if card is None:
                supported = nvml.nvmlDeviceGetSupportedEventTypes(handle)
                wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
                if supported & wanted:
                    nvml.nvmlDeviceRegisterEvents(handle, supported & wanted, self._events)
                card = self._cards[_address(handle)] = _Card(handle, gpu.index)
            card.uuids.append(gpu.uuid)
        except nvml.NVMLError:
            pass  # no events from this card; looking at the inventory still finds it unhealthy

    def _run(self) -> None:
        nvml = self._nvml
        try:
            while not self._stopping.is_set():
                try:
                    event = nvml.nvmlEventSetWait(self._events, WAIT_MS)
                except nvml.NVMLError_Timeout:
                    continue
                except nvml.NVMLError:
                    # A lost card makes every wait fail from now on: look at the cards ourselves, unhurried.
                    self._look_at_all()
                    self._stopping.wait(WAIT_MS / 1000)
                else:
                    self._on_event(event)
        finally:
            try:
                nvml.nvmlEventSetFree(self._events)
            except nvml.NVMLError:
                pass

    def _on_event(self, event: Any) -> None:
        card = self._cards.get(_address(event.device))
        if card is None:
            self._look_at_all()
            return
        is_xid = event.eventType == self._nvml.nvmlEventTypeXidCriticalError
        reason = health.xid_reason(event.eventData) if is_xid else ""
        self._report(card, reason or self._health(card))

    def _look_at_all(self) -> None:
        for card in self._cards.values():
            self._report(card, self._health(card))

    def _health(self, card: _Card) -> str:
        try:
            self._nvml.nvmlDeviceGetUUID(card.handle)
            self._nvml.nvmlDeviceGetMemoryInfo(card.handle)
        except self._nvml.NVMLError_NotSupported:
            pass
        except self._nvml.NVMLError as error:
            return health.lost(card.index, error)
        return health.read_health(self._nvml, card.handle, card.index).reason

    def _report(self, card: _Card, reason: str) -> None:
        if reason and not card.reported:
            card.reported = True
            for uuid in card.uuids:
                if not self._stopping.is_set():
                    self._on_gpu_failed(uuid, reason)


class _Card:
    def __init__(self, handle: Any, index: int) -> None:
        self.handle = handle
        self.index = index
        self.uuids: list[str] = []
        """The card itself, or its slices."""
        self.reported = False


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
