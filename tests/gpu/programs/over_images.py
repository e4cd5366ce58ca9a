"""Two containers of one card each over one image, at the same time; each computes on its card and says which
cards it sees.

GPU_IMAGE=venv: Python packages, and the PyTorch of this machine by its path. GPU_IMAGE=root: a root file
system of its own, whose Python is another than this machine's.
"""

import ctypes
import glob
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import cuda_probe
import modal

MEETING_LIMIT_S = 60.0
MEETING = "/meeting"
PYTHON_OF_THE_ROOT = "3.11"
HOLD_MIB = 64

app = modal.App("over-images")
meeting = modal.NetworkFileSystem.from_name("over-images", create_if_missing=True)


def root_image() -> modal.Image:
    """Small enough to be carried to a machine without a network."""
    unneeded = "/usr/share/doc /usr/share/man /usr/share/locale /var/lib/apt/lists /var/cache/apt"
    image = modal.Image.debian_slim(python_version=PYTHON_OF_THE_ROOT)
    return image.run_commands(f"rm -rf {unneeded}", "echo a root of its own > /root-of-its-own")


def venv_image() -> modal.Image:
    torch = importlib.util.find_spec("torch")
    where = str(Path(torch.origin).parents[1]) if torch is not None and torch.origin else ""
    wheels = os.environ.get("GPU_WHEELS", "")
    from_here = {"find_links": wheels, "extra_options": "--no-index"} if wheels else {}
    return modal.Image.debian_slim().pip_install("packaging", **from_here).env({"PYTHONPATH": where})


image = root_image() if os.environ.get("GPU_IMAGE") == "root" else venv_image()


def meet(name: str, place: Path) -> None:
    """Returns when both have come here: neither can, unless both run at once."""
    place.mkdir(exist_ok=True)
    (place / name).touch()
    deadline = time.monotonic() + MEETING_LIMIT_S
    while len(list(place.iterdir())) < 2:
        assert time.monotonic() < deadline, f"{name} was alone for {MEETING_LIMIT_S:g} s"
        time.sleep(0.01)


def product_is_right(number: int) -> bool:
    import torch

    # Small integers: the product is exact in any order of summation.
    generator = torch.Generator("cuda").manual_seed(number)
    square = torch.randint(0, 8, (1024, 1024), device="cuda", generator=generator).float()
    return bool(torch.equal((square @ square.T).cpu(), square.cpu() @ square.cpu().T))


@app.function(gpu=os.environ.get("GPU_TYPE", "any"), image=image, network_file_systems={MEETING: meeting})
def over(run: str, number: int) -> dict:
    meet(f"{number}", Path(MEETING, f"{run}-begin"))
    has_torch = importlib.util.find_spec("torch") is not None
    libcuda = ctypes.CDLL("libcuda.so.1")
    cuda_probe.check(libcuda.cuInit(0), "cuInit")
    cuda_probe.hold(libcuda, HOLD_MIB)
    seen = {
        "allocated": os.environ["GLOWPLUG_GPU_UUIDS"].split(","),
        "cuda": cuda_probe.visible_uuids(libcuda),
        "cards": sorted(glob.glob("/dev/nvidia[0-9]*")),
        "python": "{}.{}".format(*sys.version_info[:2]),
        "prefix": sys.prefix,
        "own root": os.path.exists("/root-of-its-own"),
        "torch": product_is_right(number) if has_torch else None,
        "settings": {name: value for name, value in os.environ.items() if name.startswith("NCCL_")},
    }
    meet(f"{number}", Path(MEETING, f"{run}-end"))
    return seen


@app.local_entrypoint()
def main(run: str) -> str:
    return json.dumps(list(over.starmap([(run, 1), (run, 2)])))
