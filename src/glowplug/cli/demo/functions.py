"""What the demo runs in containers: a script as its user would write it."""

import ctypes
import json
import os
import time
import uuid

import modal  # pyright: ignore[reportMissingImports]

app = modal.App("demo")
marks = modal.NetworkFileSystem.from_name("demo", create_if_missing=True)

# `glowplug demo` asks for the cards it has found. A container imports this file again; there nobody asks.
GPU = json.loads(os.environ.get("DEMO_GPUS", '{"fallbacks": ["any"]}'))


def seen(real):
    """Where this is and what it sees: on real cards in CUDA's own words, else by what it was told."""
    told = os.environ["GLOWPLUG_GPU_UUIDS"].split(",")
    return {
        "container": os.environ["GLOWPLUG_CONTAINER_ID"],
        "node": os.environ["GLOWPLUG_NODE"],
        "type": os.environ["GLOWPLUG_GPU_TYPE"],
        "devices": len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")),
        "uuids": uuids_of_cuda() if real else told,
    }


def uuids_of_cuda():
    """The devices of the driver, which knows nothing of Glowplug."""
    cuda = ctypes.CDLL("libcuda.so.1")
    count, found = ctypes.c_int(), []
    check(cuda.cuInit(0))
    check(cuda.cuDeviceGetCount(ctypes.byref(count)))
    for number in range(count.value):
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        check(cuda.cuDeviceGet(ctypes.byref(device), number))
        check(cuda.cuDeviceGetUuid_v2(ctypes.byref(raw), device))
        found.append(f"GPU-{uuid.UUID(bytes=bytes(raw))}")
    return found


def check(code):
    if code:
        raise RuntimeError(f"libcuda answered {code}")


@app.function(gpu="any")
def land(real):
    return seen(real)


@app.function(gpu=GPU.get("preferred"))
def hold_preferred():
    wait_for_ever()


@app.function(gpu=GPU.get("preferred"))
def insist():
    pass


@app.function(gpu=GPU["fallbacks"])
def fall_back(real):
    return seen(real)


@app.function(gpu=GPU.get("one"))
def small():
    wait_for_ever()


@app.function(gpu=GPU.get("many"))
def large(real):
    return seen(real)


@app.function(gpu=GPU.get("mapped"), max_containers=2)
def square(number):
    time.sleep(0.002)
    return number * number, os.environ["GLOWPLUG_CONTAINER_ID"]


@app.function(gpu=GPU.get("moved"), retries=0, network_file_systems={"/demo": marks})
def move():
    """The first attempt never ends by itself."""
    attempt = len(os.listdir("/demo")) + 1
    open(f"/demo/{attempt}", "x").close()
    if attempt == 1:
        wait_for_ever()
    return os.environ["GLOWPLUG_NODE"], attempt


@app.function()
def warm(number):
    return number


def wait_for_ever():
    while True:
        time.sleep(0.01)
