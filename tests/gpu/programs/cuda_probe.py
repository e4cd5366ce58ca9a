"""What CUDA itself sees, through libcuda alone: prints the UUIDs as JSON, then holds memory until stdin ends.

    python cuda_probe.py [--hold-mib 2048] [--orphan]

``--orphan`` moves to a process that is no descendant of whoever started this one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import uuid


class Uuid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 16)]


def check(code: int, call: str) -> None:
    if code != 0:
        raise RuntimeError(f"{call} returned {code}")


def visible_uuids(cuda: ctypes.CDLL) -> list[str]:
    """UUIDs in CUDA's order, spelled as NVML spells them; a slice's begins with MIG."""
    count = ctypes.c_int()
    check(cuda.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    found = []
    for ordinal in range(count.value):
        device, raw, name = ctypes.c_int(), Uuid(), ctypes.create_string_buffer(256)
        check(cuda.cuDeviceGet(ctypes.byref(device), ordinal), "cuDeviceGet")
        check(cuda.cuDeviceGetUuid_v2(ctypes.byref(raw), device), "cuDeviceGetUuid_v2")
        check(cuda.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
        prefix = "MIG" if b" MIG " in name.value else "GPU"
        found.append(f"{prefix}-{uuid.UUID(bytes=bytes(raw.bytes))}")
    return found


def hold(cuda: ctypes.CDLL, mib: int) -> None:
    context, memory, device = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_int()
    check(cuda.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")
    check(cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(mib << 20)), "cuMemAlloc")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hold-mib", type=int, default=0)
    parser.add_argument("--orphan", action="store_true")
    options = parser.parse_args()
    if options.orphan and os.fork():
        os._exit(0)
    cuda = ctypes.CDLL("libcuda.so.1")
    code = cuda.cuInit(0)
    no_device = 100
    if code != no_device:
        check(code, "cuInit")
    uuids = [] if code == no_device else visible_uuids(cuda)
    if options.hold_mib:
        hold(cuda, options.hold_mib)
    print(json.dumps({"pid": os.getpid(), "uuids": uuids}), flush=True)
    if options.hold_mib:
        sys.stdin.read()


if __name__ == "__main__":
    main()
