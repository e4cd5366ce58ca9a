"""The cards: does the driver answer, are its device nodes there, is every card fit, can cards be cut?"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any

from glowplug.backends.local.doctor.check import Check, Patient
from glowplug.backends.local.inventory.nvml import Cards, NvmlReader
from glowplug.model.catalog import lookup, nominal_memory_gb, type_from_driver_name, variant_name
from glowplug.model.node import Gpu

NVIDIA_PCI_VENDOR = "0x10de"
DISPLAY_PCI_CLASSES = ("0x0300", "0x0302")
WSL_LIBRARY = "usr/lib/wsl/lib/libnvidia-ml.so.1"

SHARED_NODES = {
    "dev/nvidiactl": "sudo nvidia-modprobe",
    "dev/nvidia-uvm": "sudo nvidia-modprobe -u -c=0  (or: sudo modprobe nvidia-uvm)",
}
"""What every CUDA process opens beside its cards, and what makes each."""

HALF_CARD_COMPUTE = {"A30": "2g", "RTX-PRO-6000": "2g"}
"""The compute part of the profile that halves a card; "3g" for the cards with seven slices."""


def examine(patient: Patient) -> list[Check]:
    reader = NvmlReader(patient.nvml, patient.root)
    try:
        cards = reader.read(environ=patient.environ)
        if reader.nvml is None:
            return [_no_driver(patient, cards.problem)]
        found = [_driver(reader.nvml, cards)]
        if cards.gpus:
            found += [
                *_device_nodes(patient, cards),
                *(_health(gpu) for gpu in cards.gpus if not gpu.healthy),
            ]
        found += [*_notes(cards), *_fabric(reader.nvml), *_mig(reader.nvml)]
        return found
    finally:
        reader.close()


def _driver(nvml: Any, cards: Cards) -> Check:
    try:
        version = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        version = "of unknown version"
    if cards.problem:
        what, _, fix = cards.problem.partition("; ")
        return Check("driver", "warn", f"driver {version}: {what}", fix)
    return Check(
        "driver", "ok", f"driver {version}, {len(cards.gpus)} GPU{'s' if len(cards.gpus) > 1 else ''}"
    )


def _no_driver(patient: Patient, problem: str) -> Check:
    what, _, fix = problem.partition("; ")
    if patient.in_wsl:
        return _wsl(patient, what)
    if not _has_nvidia_hardware(patient) and "not installed" not in what:
        return Check(
            "driver",
            "warn",
            f"no NVIDIA card: {what}",
            'try everything on a virtual fleet: GLOWPLUG_GPUS="2xH100" glowplug gpus',
        )
    if not fix and patient.in_container:
        fix = "start the container with its GPUs: docker run --gpus all … (needs nvidia-container-toolkit)"
    if "was updated" in what:
        fix = (
            "sudo reboot  (or end what uses the cards, then: "
            "sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo nvidia-smi)"
        )
    return Check("driver", "fail", what, fix or _install_command(patient))


def _has_nvidia_hardware(patient: Patient) -> bool:
    if patient.exists("proc/driver/nvidia"):
        return True
    return any(
        patient.read(f"sys/bus/pci/devices/{device}/vendor") == NVIDIA_PCI_VENDOR
        and patient.read(f"sys/bus/pci/devices/{device}/class").startswith(DISPLAY_PCI_CLASSES)
        for device in _listing(patient, "sys/bus/pci/devices")
    )


def _install_command(patient: Patient) -> str:
    release = patient.read("etc/os-release")
    if re.search(r"^ID=ubuntu", release, re.MULTILINE):
        return "sudo ubuntu-drivers install && sudo reboot"
    if re.search(r"^ID=debian", release, re.MULTILINE):
        return "sudo apt install nvidia-driver && sudo reboot  (section non-free)"
    if re.search(r"^ID=arch", release, re.MULTILINE):
        return "sudo pacman -S nvidia-open && sudo reboot"
    return "install the NVIDIA driver of your distribution, then reboot"


def _wsl(patient: Patient, what: str) -> Check:
    """Under WSL2 the driver is the one of Windows; a Linux driver inside only hides it."""
    if not patient.exists("dev/dxg"):
        return Check("driver", "fail", f"WSL2 without GPU access: {what}", "wsl --update  (in Windows)")
    if not patient.exists(WSL_LIBRARY):
        return Check(
            "driver",
            "fail",
            f"WSL2: {what}",
            "install the NVIDIA driver in Windows, none inside WSL, then: wsl --shutdown  (in Windows)",
        )
    return Check(
        "driver",
        "fail",
        f"WSL2: /{WSL_LIBRARY} is there, but the loader does not find it or finds another ({what})",
        "echo /usr/lib/wsl/lib | sudo tee /etc/ld.so.conf.d/ld.wsl.conf && sudo ldconfig",
    )


def _device_nodes(patient: Patient, cards: Cards) -> list[Check]:
    if patient.exists("dev/dxg"):
        return [Check("device nodes", "ok", "/dev/dxg (WSL2)")]
    found = []
    for path, fix in SHARED_NODES.items():
        if not patient.exists(path):
            fix = (
                "start the container with its GPUs: docker run --gpus all …" if patient.in_container else fix
            )
            found.append(Check("device nodes", "fail", f"/{path} is missing: CUDA cannot start", fix))
    nodes = sorted({node for gpu in cards.gpus for node in cards.device_nodes.get(gpu.uuid, ())})
    nodes += [f"/{path}" for path in SHARED_NODES if patient.exists(path)]
    closed = [node for node in nodes if not os.access(patient.root / node[1:], os.R_OK | os.W_OK)]
    if closed:
        group = "sudo usermod -aG video $USER  (then log in again)"
        found.append(Check("device nodes", "fail", f"this user may not open {', '.join(closed)}", group))
    hidden = [str(gpu.index) for gpu in cards.gpus if gpu.healthy and not cards.device_nodes.get(gpu.uuid)]
    if hidden:
        found.append(
            Check(
                "device nodes",
                "fail",
                f"GPU {', '.join(hidden)} has no node in /dev",
                "sudo nvidia-modprobe -c=0",
            )
        )
    return found or [Check("device nodes", "ok", ", ".join(nodes))]


def _health(gpu: Gpu) -> Check:
    what, _, fix = gpu.unhealthy_reason.partition("; ")
    return Check("health", "warn", f"GPU {gpu.index} ({gpu.variant}) gets no work: {what}", fix)


def _notes(cards: Cards) -> list[Check]:
    found = []
    for gpu in cards.gpus:
        if gpu.note:
            found.append(
                Check(
                    "health",
                    "warn",
                    f"GPU {gpu.index} ({gpu.variant}) runs slower than it could: {gpu.note}",
                    f"nvidia-smi -i {gpu.index} -q -d PERFORMANCE,TEMPERATURE,POWER",
                )
            )
        for use in gpu.foreign:
            who = (
                f"pid {use.pid} ({use.user}, {use.command})" if use.pid else "a process not visible from here"
            )
            found.append(
                Check(
                    "foreign use",
                    "warn",
                    f"GPU {gpu.index} ({gpu.variant}) gets no work: {who} uses {use.memory_mib:,} MiB of it",
                    f"nvidia-smi -i {gpu.index}  (and end that process, or wait for it)",
                )
            )
    return found


def _fabric(nvml: Any) -> list[Check]:
    """Cards behind NVSwitch refuse CUDA (error 802) until the fabric manager has set up the switch."""
    waiting = (nvml.NVML_GPU_FABRIC_STATE_NOT_STARTED, nvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS)
    for handle in _handles(nvml):
        fabric = nvml.c_nvmlGpuFabricInfoV_t()
        try:
            nvml.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(fabric))
        except nvml.NVMLError:
            continue
        if fabric.state in waiting:
            return [
                Check(
                    "nvswitch",
                    "warn",
                    "the NVSwitch fabric is not ready: CUDA may fail with error 802",
                    "sudo systemctl enable --now nvidia-fabricmanager",
                )
            ]
    return []


def _mig(nvml: Any) -> list[Check]:
    """How to cut the cards that can be cut: operators make slices, Glowplug only uses them."""
    found = []
    for index, handle in enumerate(_handles(nvml)):
        try:
            mode, _ = nvml.nvmlDeviceGetMigMode(handle)
            name = nvml.nvmlDeviceGetName(handle)
            memory_mib = nvml.nvmlDeviceGetMemoryInfo(handle).total // 2**20
        except nvml.NVMLError:
            continue
        type = type_from_driver_name(name)
        memory_gb = nominal_memory_gb(memory_mib, type)
        profile = half_card_profile(type, memory_gb)
        make = f"sudo nvidia-smi mig -i {index} -cgi {profile},{profile} -C" if profile else ""
        card = f"GPU {index} ({variant_name(type, memory_gb)})"
        if mode != nvml.NVML_DEVICE_MIG_ENABLE:
            if make:
                enable = f"sudo nvidia-smi -i {index} -mig 1 && {make}"
                found.append(Check("mig", "ok", f"{card} is whole; to cut it into two slices:", enable))
        elif not _has_slices(nvml, handle):
            listing = f"sudo nvidia-smi mig -i {index} -lgip"
            found.append(Check("mig", "warn", f"{card} is in MIG mode without slices", make or listing))
    return found


def half_card_profile(type: str, memory_gb: int) -> str:
    """The MIG profile of half such a card ("3g.20gb"); empty for one that cannot be cut."""
    gpu_type = lookup(type)
    for variant in gpu_type.variants if gpu_type else ():
        if variant.memory_gb == memory_gb and variant.slices_gb:
            return f"{HALF_CARD_COMPUTE.get(type, '3g')}.{variant.slices_gb[0]}gb"
    return ""


def _has_slices(nvml: Any, handle: Any) -> bool:
    for position in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, position)
        except nvml.NVMLError:
            continue
        return True
    return False


def _handles(nvml: Any) -> list[Any]:
    handles = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handles.append(nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError:
            continue
    return handles


def _listing(patient: Patient, path: str) -> list[str]:
    try:
        return sorted(entry.name for entry in (patient.root / path).iterdir())
    except OSError:
        return []
