"""What is read of real cards, against a fake NVML."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from fakes.fake_nvml import FakeCard, FakeNvml, FakeSlice
from glowplug.backends.local.inventory.nvml import NvmlReader

H100 = "NVIDIA H100 80GB HBM3"
FIRST, SECOND = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000"


@pytest.fixture
def root(tmp_path):
    """A machine's file system: device nodes of four cards, 64 GiB."""
    (tmp_path / "dev").mkdir()
    for minor in range(4):
        (tmp_path / f"dev/nvidia{minor}").touch()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 67108864 kB\n")
    return tmp_path


def read(root: Path, *cards: FakeCard, own_pids=(), held=(), environ=None, **fake):
    reader = NvmlReader(FakeNvml(*cards, **fake), root)
    try:
        return reader.read(own_pids, held, environ or {})
    finally:
        reader.close()


def process(root: Path, pid: int, parent: int = 1, command: str = "python") -> int:
    directory = root / "proc" / str(pid)
    directory.mkdir()
    (directory / "stat").write_text(f"{pid} (a ) b) S {parent} 1 1 0\n")
    (directory / "comm").write_text(command + "\n")
    return pid


def test_a_card(root):
    [gpu] = read(root, FakeCard(FIRST, H100, 81559, minor=2)).gpus
    assert (gpu.uuid, gpu.type, gpu.memory_gb, gpu.memory_mib) == (FIRST, "H100", 80, 81559)
    assert (gpu.index, gpu.minor, gpu.driver_name, gpu.variant) == (0, 2, H100, "H100")
    assert gpu.is_free
    assert gpu.price_usd_per_hour > 0


@pytest.mark.parametrize(
    ("name", "memory_mib", "variant"),
    [
        ("NVIDIA A100-SXM4-40GB", 40960, "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80GB"),
        ("NVIDIA H200", 143771, "H200"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX-4090"),
        ("NVIDIA A10G", 23028, "A10G"),
        ("Tesla T4", 15360, "T4"),
    ],
)
def test_names(root, name, memory_mib, variant):
    [gpu] = read(root, FakeCard(FIRST, name, memory_mib)).gpus
    assert gpu.variant == variant


def test_mig_slices_stand_for_their_card(root):
    capabilities = root / "proc/driver/nvidia/capabilities/gpu0/mig"
    for path, minor in (("gi1", 30), ("gi1/ci0", 31), ("gi5", 66), ("gi5/ci0", 67)):
        (capabilities / path).mkdir(parents=True)
        (capabilities / path / "access").write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\n")
    slices = [
        FakeSlice("MIG-1111", "3g.20gb", 19968, gpu_instance=1, used_mib=4000, compute={4242: 4000}),
        FakeSlice("MIG-2222", "2g.10gb", 9984, gpu_instance=5),
    ]
    process(root, 4242)
    card = FakeCard(FIRST, "NVIDIA A100-SXM4-40GB", 40960, mig=slices)
    cards = read(root, card, FakeCard(SECOND, "NVIDIA A100-SXM4-40GB", 40960, minor=1))
    assert [(gpu.uuid, gpu.variant, gpu.is_slice, gpu.index) for gpu in cards.gpus] == [
        ("MIG-1111", "A100-20GB", True, 0),
        ("MIG-2222", "A100-10GB", True, 0),
        (SECOND, "A100-40GB", False, 1),
    ]
    busy, free, _ = cards.gpus
    assert [use.pid for use in busy.foreign] == [4242]
    assert free.is_free
    assert cards.parents == {"MIG-1111": FIRST, "MIG-2222": FIRST}
    assert cards.device_nodes["MIG-2222"] == (
        "/dev/nvidia0",
        "/dev/nvidia-caps/nvidia-cap66",
        "/dev/nvidia-caps/nvidia-cap67",
    )
    assert cards.device_nodes[SECOND] == ("/dev/nvidia1",)
    assert 0 < free.price_usd_per_hour < busy.price_usd_per_hour < cards.gpus[2].price_usd_per_hour


def test_a_sick_card_makes_its_slices_sick(root):
    slices = [FakeSlice("MIG-1111", "3g.20gb", 19968)]
    [gpu] = read(root, FakeCard(FIRST, "NVIDIA A100-SXM4-40GB", 40960, mig=slices, ecc_errors=1)).gpus
    assert not gpu.healthy


def test_mig_mode_without_slices_is_said(root):
    [gpu] = read(root, FakeCard(FIRST, "NVIDIA A100-SXM4-40GB", 40960, mig=[])).gpus
    assert not gpu.healthy
    assert "no slices" in gpu.unhealthy_reason


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ecc_errors": 3}, "uncorrectable ECC errors since its last reset: 3"),
        ({"rows_failed": 1}, "could not be remapped"),
        ({"rows_pending": 1}, "waits to be remapped"),
        ({"pages_pending": 1}, "wait to be retired"),
        ({"recovery_action": pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT}, "asks for a reboot"),
        ({"compute_mode": pynvml.NVML_COMPUTEMODE_PROHIBITED}, "-i 0 -c DEFAULT"),
    ],
)
def test_unhealthy(root, state, words):
    [gpu] = read(root, FakeCard(FIRST, **state)).gpus
    assert not gpu.healthy
    assert words in gpu.unhealthy_reason


@pytest.mark.parametrize("action", [None, pynvml.NVML_GPU_RECOVERY_ACTION_NONE])
def test_a_card_that_answers_nothing_about_health_is_healthy(root, action):
    unsupported = frozenset(
        {
            "nvmlDeviceGetRemappedRows",
            "nvmlDeviceGetTotalEccErrors",
            "nvmlDeviceGetRetiredPagesPendingStatus",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetMigMode",
        }
    )
    [gpu] = read(root, FakeCard(FIRST, recovery_action=action, unsupported=unsupported)).gpus
    assert (gpu.healthy, gpu.note) == (True, "")


@pytest.mark.parametrize(
    ("bits", "note"),
    [
        (pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonGpuIdle, ""),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown | pynvml.nvmlClocksEventReasonHwSlowdown, "too hot"),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, "hot"),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, "power brake"),
    ],
)
def test_throttling_is_noted_and_no_reason_to_stop(root, bits, note):
    [gpu] = read(root, FakeCard(FIRST, slowdown=bits)).gpus
    assert gpu.healthy
    assert gpu.note.startswith(note)
    assert bool(gpu.note) == bool(note)


def test_a_lost_card_stays_in_the_list(root):
    gone = FakeCard(SECOND, error=pynvml.NVML_ERROR_GPU_IS_LOST)
    first, second = read(root, FakeCard(FIRST), gone).gpus
    assert first.is_free
    assert not second.healthy
    assert "GPU is lost" in second.unhealthy_reason
    assert second.index == 1


def test_nvlink(root):
    cards = [FakeCard(f"GPU-{n}", minor=n, linked_to=frozenset({n ^ 1})) for n in range(4)]
    assert [gpu.nvlink_peers for gpu in read(root, *cards).gpus] == [
        ("GPU-1",),
        ("GPU-0",),
        ("GPU-3",),
        ("GPU-2",),
    ]


def test_links_are_asked_for_once(root):
    nvml = FakeNvml(*[FakeCard(f"GPU-{n}", linked_to=frozenset({0, 1})) for n in range(2)])
    reader = NvmlReader(nvml, root)
    reader.read(environ={})
    asked = nvml.asked.count("nvmlDeviceGetP2PStatus")
    assert reader.read(environ={}).gpus[0].nvlink_peers == ("GPU-1",)
    assert nvml.asked.count("nvmlDeviceGetP2PStatus") == asked > 0


def test_no_device_node(root):
    [gpu] = read(root, FakeCard(FIRST, minor=7)).gpus
    assert gpu.minor == -1


def test_wsl_has_one_door(root):
    (root / "dev/dxg").touch()
    cards = read(root, FakeCard(FIRST, minor=7))
    assert cards.device_nodes[FIRST] == ("/dev/dxg",)


def test_a_chip_that_shares_the_machines_memory(root):
    card = FakeCard(FIRST, "NVIDIA GB10", unsupported=frozenset({"nvmlDeviceGetMemoryInfo"}))
    [gpu] = read(root, card).gpus
    assert (gpu.type, gpu.memory_mib, gpu.healthy) == ("GB10", 65536, True)


def test_old_drivers_know_an_older_question(root):
    process(root, 4242)
    unsupported = frozenset({"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetMemoryInfo_v2"})
    card = FakeCard(FIRST, used_mib=500, compute={4242: 500}, unsupported=unsupported)
    [gpu] = read(root, card).gpus
    assert [use.pid for use in gpu.foreign] == [4242]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver is installed"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "sudo modprobe nvidia"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "does not fit the loaded kernel module (535.1); reboot"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "may not open"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML does not work: Unknown Error"),
    ],
)
def test_nvml_that_does_not_start(root, error, words):
    (root / "sys/module/nvidia").mkdir(parents=True)
    (root / "sys/module/nvidia/version").write_text("535.1\n")
    cards = read(root, FakeCard(FIRST), init_error=error)
    assert cards.gpus == ()
    assert words in cards.problem


def test_a_driver_without_cards(root):
    assert "shows no GPU" in read(root).problem


def test_everything_hidden_is_said(root):
    cards = read(root, FakeCard(FIRST), environ={"CUDA_VISIBLE_DEVICES": ""})
    assert cards.gpus == ()
    assert "CUDA_VISIBLE_DEVICES=''" in cards.problem


def test_nvml_is_closed_as_often_as_opened(root):
    nvml = FakeNvml(FakeCard(FIRST))
    reader = NvmlReader(nvml, root)
    reader.read(environ={})
    reader.read(environ={})
    assert nvml.opened == 1
    reader.close()
    reader.close()
    assert nvml.opened == 0
