"""CUDA from a base image: NVIDIA's, with the runtime and its libraries, and a Python put into it.

python cuda_toolkit_image.py
"""

from __future__ import annotations

import ctypes
import os

import glowplug as modal

app = modal.App("cuda-toolkit-image")
image = modal.Image.from_registry("nvidia/cuda:12.8.1-runtime-ubuntu24.04", add_python="3.12")


@app.function(gpu="any", image=image)
def look() -> str:
    cudart = ctypes.CDLL("libcudart.so.12")
    runtime, driver, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    cudart.cudaRuntimeGetVersion(ctypes.byref(runtime))
    cudart.cudaDriverGetVersion(ctypes.byref(driver))
    cudart.cudaGetDeviceCount(ctypes.byref(count))
    versions = [f"{each.value // 1000}.{each.value % 1000 // 10}" for each in (runtime, driver)]
    return f"{count.value} card, CUDA {versions[0]} of the image on a driver for up to {versions[1]}"


if __name__ == "__main__":
    if os.path.exists("/dev/nvidiactl"):
        with modal.enable_output(), app.run():
            print(look.remote())
    else:
        print("there is no NVIDIA card here, and this example is about one")
