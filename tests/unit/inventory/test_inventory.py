"""The inventory a local server asks."""

from __future__ import annotations

import socket

import pynvml
import pytest

from fakes.fake_nvml import FakeCard, FakeNvml, FakeSlice
from glowplug.backends.local.inventory import GpuLocks, Inventory
from glowplug.backends.local.inventory.fleet import RealInventory
from glowplug.backends.local.inventory.machine import this_machine

RTX = ("NVIDIA GeForce RTX 4090", 24564)


def real(*cards, labels=None, prices=None, locks=None, environ=None, **fake):
    return RealInventory(labels or {}, prices or {}, locks, environ or {}, FakeNvml(*cards, **fake))


@pytest.mark.parametrize(
    ("cards", "line"),
    [
        ([FakeCard("GPU-0", *RTX), FakeCard("GPU-1", *RTX)], "REAL 2× RTX-4090"),
        ([FakeCard("GPU-0"), FakeCard("GPU-1", "Tesla T4", 15360)], "REAL 1× H100, 1× T4"),
        (
            [FakeCard("GPU-0", "NVIDIA A100-SXM4-40GB", 40960, mig=[FakeSlice("MIG-1", "3g.20gb", 19968)])],
            "REAL 1× A100-20GB slice",
        ),
        ([], "NO GPU: the NVIDIA driver works but shows no GPU to this process"),
    ],
)
def test_banner_of_real_cards(cards, line):
    assert real(*cards).banner() == line


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("8xH100,2xT4", "VIRTUAL 8× H100, 2× T4: functions run on the CPU"),
        ("2xH100;3xH100,A100-20GB", "VIRTUAL 5× H100, 1× A100-20GB slice: functions run on the CPU"),
        ("none", "VIRTUAL no GPU: functions run on the CPU"),
    ],
)
def test_banner_of_a_virtual_fleet(setting, line):
    inventory = Inventory.from_settings(setting, environ={})
    assert inventory.virtual
    assert inventory.banner() == line


def test_a_machine_without_a_driver():
    inventory = real(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    [node] = inventory.nodes()
    assert node.gpus == ()
    assert node.id == socket.gethostname()
    assert not node.virtual
    assert inventory.banner().startswith("NO GPU: no NVIDIA driver is installed")


@pytest.mark.parametrize("setting", [None, "", "auto", " REAL "])
def test_no_declaration_means_this_machine(setting):
    assert not Inventory.from_settings(setting, environ={}).virtual


def test_labels_and_their_order():
    environ = {"GLOWPLUG_CLOUD": "gcp", "GLOWPLUG_REGION": ""}
    [node] = real(FakeCard()).nodes()
    assert node.labels == {}
    [node] = Inventory.from_settings(
        "none", node_labels={"cloud": "aws", "region": "eu", "owner": "x"}, environ=environ
    ).nodes()
    assert node.labels == {"cloud": "gcp", "region": "eu"}


def test_an_operators_own_prices():
    prices = {"A100": 1.0, "A100-80GB": 1.5}
    [node] = Inventory.from_settings("A100,A100-80GB,T4", prices=prices, environ={}).nodes()
    assert [gpu.price_usd_per_hour for gpu in node.gpus[:2]] == [1.0, 1.5]
    assert node.gpus[2].price_usd_per_hour > 0
    [node] = real(FakeCard(), prices={"H100": 0.25}).nodes()
    assert node.gpus[0].price_usd_per_hour == 0.25


def test_locks_of_others_show_and_own_ones_do_not(tmp_path):
    ours, theirs = GpuLocks("/homes/ours", tmp_path), GpuLocks("/homes/theirs", tmp_path)
    inventory = real(FakeCard("GPU-0"), FakeCard("GPU-1"), locks=ours)
    assert ours.try_lock("GPU-0")
    assert theirs.try_lock("GPU-1")
    mine, other = inventory.refresh()[0].gpus
    assert mine.is_free
    assert "home /homes/theirs" in other.locked_by
    assert not other.is_free
    theirs.close()
    assert inventory.refresh()[0].gpus[1].is_free
    ours.close()


def test_unexplained_memory_of_a_held_card_is_ours(tmp_path):
    locks = GpuLocks("/homes/ours", tmp_path)
    inventory = real(FakeCard("GPU-0", used_mib=9000), FakeCard("GPU-1", used_mib=9000), locks=locks)
    locks.try_lock("GPU-0")
    held, other = inventory.refresh()[0].gpus
    assert held.foreign == ()
    assert other.foreign[0].memory_mib == 9000
    locks.close()


def test_memory_of_a_container_that_just_ended_is_not_foreign_yet(tmp_path):
    locks = GpuLocks("/homes/ours", tmp_path)
    inventory = real(FakeCard("GPU-0", used_mib=9000), locks=locks)
    locks.try_lock("GPU-0")
    inventory.refresh()
    locks.release("GPU-0")
    assert inventory.refresh()[0].gpus[0].is_free
    assert not inventory.refresh()[0].gpus[0].is_free


def test_a_reading_is_kept_until_the_next():
    inventory = real(FakeCard("GPU-0"))
    before = inventory.nodes()
    inventory._reader.nvml.cards[0].ecc_errors = 1
    assert inventory.nodes() == before
    assert not inventory.refresh()[0].gpus[0].healthy
    assert not inventory.nodes()[0].gpus[0].healthy


def test_hidden_cards_are_not_offered():
    inventory = real(FakeCard("GPU-0"), FakeCard("GPU-1"), environ={"CUDA_VISIBLE_DEVICES": "1"})
    assert [gpu.uuid for gpu in inventory.nodes()[0].gpus] == ["GPU-1"]


def test_cgroup_limits_bound_a_machine(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8388608 kB\nMemFree: 1 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("1:name=systemd:/x\n0::/slice/unit\n")
    unit = tmp_path / "sys/fs/cgroup/slice/unit"
    unit.mkdir(parents=True)
    (unit / "cpu.max").write_text("max 100000\n")
    (unit / "memory.max").write_text("max\n")
    (unit.parent / "cpu.max").write_text("50000 100000\n")
    (unit.parent / "memory.max").write_text(f"{3 * 2**30}\n")
    machine = this_machine(tmp_path)
    assert (machine.cpus, machine.memory_mib) == (0.5, 3072)


def test_a_machine_that_tells_nothing(tmp_path):
    assert this_machine(tmp_path).memory_mib == 0
    assert this_machine(tmp_path).cpus >= 1
