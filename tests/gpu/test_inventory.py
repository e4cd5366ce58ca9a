"""The inventory against real cards: NVML's answers beside those of CUDA itself (libcuda, no torch)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glowplug.backends.local.doctor import checks
from glowplug.backends.local.inventory import GpuLocks, Inventory
from glowplug.model.catalog import lookup
from glowplug.model.node import Gpu

pytestmark = pytest.mark.gpu

PROBE = Path(__file__).parent / "programs" / "cuda_probe.py"
HELD_MIB = 2048
GONE_WITHIN_S = 20.0
"""How long a driver may take to forget an ended process; the test goes on as soon as it has."""


@pytest.fixture
def inventory() -> Iterator[Inventory]:
    inventory = Inventory.from_settings(None)
    if not inventory.nodes()[0].gpus:
        pytest.fail(f"no GPU: {inventory.problem}")
    yield inventory
    inventory.close()


class Holder:
    """A process that holds memory of one card and is no descendant of this one."""

    def __init__(self, gpu: Gpu) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROBE), "--hold-mib", str(HELD_MIB), "--orphan"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu.uuid},
        )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.pid: int = said["pid"]
        self.uuids: list[str] = said["uuids"]

    def end(self) -> None:
        """Its stdin ends and so does it: its stdout, which this waits for, is then closed."""
        self._process.communicate()


@pytest.fixture
def holder() -> Iterator[Callable[[Gpu], Holder]]:
    running: list[Holder] = []

    def start(gpu: Gpu) -> Holder:
        if gpu.foreign:
            pytest.skip(f"somebody else uses {gpu.uuid}: {gpu.foreign}")
        running.append(Holder(gpu))
        return running[-1]

    yield start
    for each in running:
        each.end()


def cuda_sees(visible: str | None = None) -> list[str]:
    environ = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if visible is not None:
        environ["CUDA_VISIBLE_DEVICES"] = visible
    done = subprocess.run(
        [sys.executable, str(PROBE)], env=environ, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)["uuids"]


def gpus(inventory: Inventory, own_pids: tuple[int, ...] = ()) -> tuple[Gpu, ...]:
    [node] = inventory.refresh(own_pids)
    return node.gpus


def eventually(condition: Callable[[], bool]) -> bool:
    """The driver lists and forgets processes with some delay."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_the_cards_are_those_cuda_sees(inventory):
    cards = gpus(inventory)
    whole = [gpu.uuid for gpu in cards if not gpu.is_slice]
    seen = cuda_sees()
    assert [uuid for uuid in seen if uuid.startswith("GPU-")] == whole
    # CUDA shows one slice to a process, the inventory all of them.
    assert {uuid for uuid in seen if uuid.startswith("MIG-")} <= {gpu.uuid for gpu in cards if gpu.is_slice}


def test_each_uuid_opens_exactly_its_card(inventory):
    for gpu in gpus(inventory):
        assert cuda_sees(gpu.uuid) == [gpu.uuid]


def test_types_and_memory(inventory):
    for gpu in gpus(inventory):
        assert lookup(gpu.type), f"{gpu.driver_name} became {gpu.type}, which the catalog does not list"
        assert abs(gpu.memory_mib / 1024 - gpu.memory_gb) <= 0.1 * gpu.memory_gb
        assert gpu.healthy, gpu.unhealthy_reason


def test_device_nodes_exist(inventory):
    for gpu in gpus(inventory):
        assert inventory.device_nodes(gpu.uuid)
        assert all(os.access(node, os.R_OK | os.W_OK) for node in inventory.device_nodes(gpu.uuid))


def test_links_go_both_ways(inventory):
    peers = {gpu.uuid: set(gpu.nvlink_peers) for gpu in gpus(inventory)}
    assert all(uuid in peers[other] for uuid, others in peers.items() for other in others)
    assert all(uuid not in others for uuid, others in peers.items())


def test_a_foreign_process_makes_its_card_busy_and_no_other(inventory, holder):
    first, *others = gpus(inventory)
    stranger = holder(first)
    assert stranger.uuids == [first.uuid]
    assert eventually(lambda: bool(gpus(inventory)[0].foreign))
    uses = gpus(inventory)[0].foreign
    # Where the driver names processes, it is this one; in some sandboxes it tells only the memory.
    assert stranger.pid in {use.pid for use in uses} or [use.pid for use in uses] == [0]
    assert sum(use.memory_mib for use in uses) >= HELD_MIB
    assert [gpu.foreign for gpu in gpus(inventory)[1:]] == [gpu.foreign for gpu in others]
    stranger.end()
    assert eventually(lambda: not gpus(inventory)[0].foreign)


def test_our_own_process_is_not_foreign(inventory, holder, tmp_path):
    locks = GpuLocks(tmp_path / "home", tmp_path)
    ours = Inventory.from_settings(None, locks=locks)
    first = gpus(inventory)[0]
    assert locks.try_lock(first.uuid)
    own = holder(first)
    assert eventually(lambda: bool(gpus(inventory)[0].foreign))  # to whoever does not know that it is ours
    assert gpus(ours, (own.pid,))[0].foreign == ()
    locks.close()
    ours.close()


def test_watching_starts_and_stops(inventory):
    failed: list[str] = []
    watch = inventory.watch(lambda uuid, reason: failed.append(f"{uuid}: {reason}"))
    watch.stop()
    assert failed == []


def test_the_doctor_finds_no_failure_in_the_cards(tmp_path):
    found = [check for check in checks(tmp_path) if check.name in ("driver", "device nodes")]
    assert [check for check in found if check.status == "fail"] == []
    assert {check.name for check in found} == {"driver", "device nodes"}
