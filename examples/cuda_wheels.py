"""CUDA from Python wheels: the machine gives the driver, PyTorch's wheels bring everything else.

python cuda_wheels.py
"""

from __future__ import annotations

import os

import glowplug as modal

app = modal.App("cuda-wheels")
image = modal.Image.debian_slim().pip_install("torch", "numpy")


@app.function(gpu="any", image=image)
def multiply(size: int) -> str:
    import torch

    square = torch.ones(size, size, device="cuda")
    total = float((square @ square).sum())
    return f"{torch.cuda.get_device_name()}: CUDA {torch.version.cuda} of the wheels, sum {total:.0f}"


if __name__ == "__main__":
    if os.path.exists("/dev/nvidiactl"):
        with modal.enable_output(), app.run():
            print(multiply.remote(1024))
    else:
        print("there is no NVIDIA card here, and this example is about one")
