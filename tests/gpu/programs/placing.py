"""One function for each way to ask for a card; each says which cards it got and which it can open."""

import ctypes
import glob
import json
import os
import subprocess
import sys

import cuda_probe
import modal

TYPE = os.environ.get("GPU_TYPE", "any")
LACKING = os.environ.get("GPU_LACKING", "any")
COUNT = os.environ.get("GPU_COUNT", "1")

app = modal.App("placing")

NO_DEVICE = 100


def seen() -> dict:
    libcuda = ctypes.CDLL("libcuda.so.1")
    code = libcuda.cuInit(0)
    assert code in (0, NO_DEVICE), f"cuInit returned {code}"
    return {
        "allocated": list(filter(None, os.environ["GLOWPLUG_GPU_UUIDS"].split(","))),
        "type": os.environ["GLOWPLUG_GPU_TYPE"],
        "count": int(os.environ["GLOWPLUG_GPU_COUNT"]),
        "cuda": [] if code == NO_DEVICE else cuda_probe.visible_uuids(libcuda),
        "cards": sorted(glob.glob("/dev/nvidia[0-9]*")),
        "devices": sorted(glob.glob("/dev/nvidia*")),
        "nvml": _nvml_uuids(),
    }


def _nvml_uuids() -> list[str]:
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    if nvml.nvmlInit_v2() != 0:
        return []
    count = ctypes.c_uint()
    assert nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
    found = []
    for index in range(count.value):
        handle, uuid = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            continue  # listed, but not to be opened from here
        if nvml.nvmlDeviceGetUUID(handle, uuid, 96) == 0:
            found.append(uuid.value.decode())
    return found


@app.function(gpu="any")
def any_card():
    return seen()


@app.function(gpu=TYPE)
def exact_type():
    return seen()


@app.function(gpu=f"{TYPE}:{COUNT}")
def whole_machine():
    return seen()


@app.function(gpu=[LACKING, TYPE])
def fallback():
    return seen()


@app.function()
def without_card():
    code = "import torch; print(torch.cuda.is_available(), torch.cuda.device_count())"
    torch_says = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {**seen(), "torch": torch_says.stdout.split()}


@app.local_entrypoint()
def main() -> str:
    return json.dumps(
        {
            "any": any_card.remote(),
            "type": exact_type.remote(),
            "count": whole_machine.remote(),
            "fallback": fallback.remote(),
            "none": without_card.remote(),
        }
    )


@app.local_entrypoint()
def one() -> str:
    return json.dumps(exact_type.remote())


@app.local_entrypoint()
def all_cards() -> str:
    return json.dumps(whole_machine.remote())
