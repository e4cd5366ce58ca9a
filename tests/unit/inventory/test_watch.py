"""Failed cards are told at once, and to nobody after the watch was stopped."""

from __future__ import annotations

import queue

import pynvml
import pytest

from fakes.fake_nvml import FakeCard, FakeNvml, FakeSlice
from glowplug.backends.local.inventory import watch
from glowplug.backends.local.inventory.fleet import RealInventory

TOLD_WITHIN_S = 10.0
"""How long a test waits for something that does come."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(watch, "WAIT_MS", 5)


@pytest.fixture
def told():
    return queue.Queue()


@pytest.fixture
def watching(told):
    """Start watching cards: (inventory, watch)."""
    started = []

    def start(nvml):
        inventory = RealInventory({}, {}, None, {}, nvml)
        started.append((inventory, inventory.watch(lambda uuid, reason: told.put((uuid, reason)))))
        return started[-1]

    yield start
    for inventory, running in started:
        running.stop()
        inventory.close()


def test_a_fatal_xid(watching, told):
    nvml = FakeNvml(FakeCard("GPU-0"), FakeCard("GPU-1"))
    inventory, _ = watching(nvml)
    nvml.emit(nvml.cards[1], 79)
    assert told.get(timeout=TOLD_WITHIN_S) == ("GPU-1", "Xid 79: the GPU has fallen off the bus")
    first, second = inventory.refresh()[0].gpus
    assert first.healthy
    assert not second.healthy
    assert second.unhealthy_reason.startswith("Xid 79")


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 94, 9999])
def test_a_programs_own_mistake_is_not_the_cards(watching, told, xid):
    nvml = FakeNvml(FakeCard("GPU-0"), FakeCard("GPU-1"))
    inventory, _ = watching(nvml)
    nvml.emit(nvml.cards[0], xid)
    nvml.emit(nvml.cards[1], 48)  # what is told first shows that the other was passed over
    assert told.get(timeout=TOLD_WITHIN_S)[0] == "GPU-1"
    assert inventory.refresh()[0].gpus[0].healthy


def test_after_any_event_the_cards_health_decides(watching, told):
    nvml = FakeNvml(FakeCard("GPU-0"))
    watching(nvml)
    nvml.cards[0].recovery_action = pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET
    nvml.emit(nvml.cards[0], 154)
    assert told.get(timeout=TOLD_WITHIN_S) == ("GPU-0", "its driver asks for a reset after an error")


def test_an_ecc_event_is_no_xid(watching, told):
    nvml = FakeNvml(FakeCard("GPU-0"))
    watching(nvml)
    nvml.cards[0].ecc_errors = 1
    nvml.emit(nvml.cards[0], 79, pynvml.nvmlEventTypeDoubleBitEccError)
    assert "uncorrectable ECC errors" in told.get(timeout=TOLD_WITHIN_S)[1]


def test_a_card_is_told_once(watching, told):
    nvml = FakeNvml(FakeCard("GPU-0"), FakeCard("GPU-1"))
    watching(nvml)
    for card in (0, 0, 0, 1):
        nvml.emit(nvml.cards[card], 79)
    assert [told.get(timeout=TOLD_WITHIN_S)[0] for _ in range(2)] == ["GPU-0", "GPU-1"]


def test_slices_fail_with_their_card(watching, told):
    slices = [FakeSlice("MIG-1", "3g.20gb", 19968), FakeSlice("MIG-2", "3g.20gb", 19968)]
    nvml = FakeNvml(FakeCard("GPU-0", "NVIDIA A100-SXM4-40GB", 40960, mig=slices))
    watching(nvml)
    assert nvml.registered == ["GPU-0"]
    nvml.emit(nvml.cards[0], 95)
    assert {told.get(timeout=TOLD_WITHIN_S)[0] for _ in range(2)} == {"MIG-1", "MIG-2"}


def test_a_lost_card_that_makes_waiting_fail(watching, told):
    nvml = FakeNvml(FakeCard("GPU-0"), FakeCard("GPU-1"))
    watching(nvml)
    nvml.cards[0].error = pynvml.NVML_ERROR_GPU_IS_LOST
    nvml.fail_wait(pynvml.NVML_ERROR_GPU_IS_LOST)
    uuid, reason = told.get(timeout=TOLD_WITHIN_S)
    assert uuid == "GPU-0"
    assert "GPU is lost" in reason
    nvml.emit(nvml.cards[1], 79)  # and the watch goes on
    assert told.get(timeout=TOLD_WITHIN_S)[0] == "GPU-1"


def test_stop_ends_the_thread_and_frees_what_it_held(watching, told):
    nvml = FakeNvml(FakeCard("GPU-0"))
    _, running = watching(nvml)
    running.stop()
    assert not running._thread.is_alive()
    assert nvml.event_sets == 0
    nvml.emit(nvml.cards[0], 79)
    assert told.empty()
    running.stop()


def test_cards_without_events_are_no_error(watching):
    nvml = FakeNvml(FakeCard("GPU-0", unsupported=frozenset({"nvmlDeviceGetSupportedEventTypes"})))
    _, running = watching(nvml)
    assert running.watched == frozenset()


def test_without_a_driver_nothing_is_watched(told):
    inventory = RealInventory({}, {}, None, {}, FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    inventory.watch(lambda uuid, reason: told.put(uuid)).stop()
    assert told.empty()


def test_a_machine_without_events_is_not_watched(watching, monkeypatch):
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    nvml = FakeNvml(FakeCard("GPU-0"))
    monkeypatch.setattr(nvml, "nvmlEventSetCreate", refuse)
    inventory, running = watching(nvml)
    assert type(running) is watch.Watch
    assert inventory.refresh()[0].gpus[0].healthy
