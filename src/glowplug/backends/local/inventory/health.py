"""Whether a card can be trusted, and what its driver's error numbers (Xid) say about it.

An Xid that a program's own mistake causes must not cordon the card: the retry would land on the next one and
take the whole fleet down. So only Xids known to mean a broken card or a card that needs a reset count; after
any other, what NVML reports of the card decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FATAL_XIDS = {
    46: "the GPU stopped processing",
    48: "double-bit ECC error",
    62: "internal micro-controller halt",
    64: "ECC row remapping failed",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    95: "uncontained memory error",
    110: "security fault",
    119: "GSP firmware does not answer",
    120: "GSP firmware error",
    136: "link training failed",
    140: "unrecovered ECC error",
    143: "GPU initialization error",
    155: "NVLink software error: reset required",
    156: "resource retirement event: reset required",
    158: "GPU fatal timeout",
}
"""By the vendor's catalog these call for a reset, a reboot or a repair, not for a restarted program."""

SLOWDOWNS = {
    "nvmlClocksEventReasonHwThermalSlowdown": "too hot (hardware slowdown)",
    "nvmlClocksEventReasonSwThermalSlowdown": "hot (driver slowdown)",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
}

RECOVERY_ACTIONS = {
    "NVML_GPU_RECOVERY_ACTION_GPU_RESET": "a reset",
    "NVML_GPU_RECOVERY_ACTION_NODE_REBOOT": "a reboot",
    "NVML_GPU_RECOVERY_ACTION_DRAIN_P2P": "its peers drained, then a reset",
    "NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET": "a drain and a reset",
    "NVML_GPU_RECOVERY_ACTION_BUS_RESET": "a bus reset",
    "NVML_GPU_RECOVERY_ACTION_SYSTEM_REBOOT": "a reboot",
}


@dataclass(frozen=True)
class Health:
    """``reason`` is empty for a healthy card; ``note`` says what slows it without making it unusable."""

    reason: str = ""
    note: str = ""


def xid_reason(xid: int) -> str:
    """Why this Xid cordons a card; empty when it does not."""
    meaning = FATAL_XIDS.get(xid)
    return f"Xid {xid}: {meaning}" if meaning else ""


def lost(index: int, error: object) -> str:
    return f"NVML cannot reach it ({error}); reboot, or: sudo nvidia-smi --gpu-reset -i {index}"


def read_health(nvml: Any, handle: Any, index: int) -> Health:
    """What NVML reports of a card now. Questions a card does not support count as healthy."""
    reset = f"sudo nvidia-smi --gpu-reset -i {index}"
    return Health(
        _recovery_reason(nvml, handle)
        or _memory_reason(nvml, handle, reset)
        or _mode_reason(nvml, handle, index),
        _slowdown(nvml, handle),
    )


def _memory_reason(nvml: Any, handle: Any, reset: str) -> str:
    try:
        _, _, pending, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    except nvml.NVMLError:
        pending = failed = 0
    if failed:
        return "a memory row could not be remapped: the card needs repair"
    try:
        errors = nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
    except nvml.NVMLError:
        errors = 0
    if errors:
        return f"uncorrectable ECC errors since its last reset: {errors}; {reset}"
    if pending:
        return f"a memory row waits to be remapped; {reset}"
    try:
        retiring = nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle)
    except nvml.NVMLError:
        retiring = 0
    return f"memory pages wait to be retired; {reset}" if retiring else ""


def _recovery_reason(nvml: Any, handle: Any) -> str:
    try:
        [answer] = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    except (nvml.NVMLError, AttributeError):  # an older library or binding has no such question
        return ""
    if answer.nvmlReturn != nvml.NVML_SUCCESS:
        return ""
    for name, wanted in RECOVERY_ACTIONS.items():
        if getattr(nvml, name, None) == answer.value.uiVal:
            return f"its driver asks for {wanted} after an error"
    return ""


def _mode_reason(nvml: Any, handle: Any, index: int) -> str:
    try:
        mode = nvml.nvmlDeviceGetComputeMode(handle)
    except nvml.NVMLError:
        return ""
    if mode == nvml.NVML_COMPUTEMODE_PROHIBITED:
        return f"its compute mode is Prohibited; sudo nvidia-smi -i {index} -c DEFAULT"
    return ""


def _slowdown(nvml: Any, handle: Any) -> str:
    try:
        reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except nvml.NVMLError:
        return ""
    for name, words in SLOWDOWNS.items():
        if reasons & getattr(nvml, name):
            return words
    return ""
