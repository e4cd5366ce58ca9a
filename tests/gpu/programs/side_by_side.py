"""Two containers of one card each, forks of one process that has imported torch, at the same time."""

import ctypes
import json
import os
import time
from pathlib import Path

import cuda_probe
import modal
import torch

MEETING_LIMIT_S = 60.0
MEETING = "/meeting"

app = modal.App("side-by-side")
volume = modal.NetworkFileSystem.from_name("side-by-side", create_if_missing=True)


def meet(name: str, round: str) -> None:
    """Returns when both have come here: neither can, unless both run at once."""
    place = Path(MEETING, round)
    place.mkdir(exist_ok=True)
    (place / name).touch()
    deadline = time.monotonic() + MEETING_LIMIT_S
    while len(list(place.iterdir())) < 2:
        assert time.monotonic() < deadline, f"{name} was alone for {MEETING_LIMIT_S:g} s"
        time.sleep(0.01)


@app.function(gpu=os.environ.get("GPU_TYPE", "any"), network_file_systems={MEETING: volume})
def beside(run: str, number: int) -> dict:
    initialized_before = torch.cuda.is_initialized()
    begun_at = time.monotonic()
    meet(f"{number}", f"{run}-begin")
    # Small integers: the product is exact in any order of summation.
    square = torch.randint(
        0, 8, (2048, 2048), device="cuda", generator=torch.Generator("cuda").manual_seed(number)
    ).float()
    product = square @ square.T
    right = bool(torch.equal(product.cpu(), square.cpu() @ square.cpu().T))
    meet(f"{number}", f"{run}-end")
    libcuda = ctypes.CDLL("libcuda.so.1")
    cuda_probe.check(libcuda.cuInit(0), "cuInit")
    return {
        "allocated": os.environ["GLOWPLUG_GPU_UUIDS"].split(","),
        "cuda": cuda_probe.visible_uuids(libcuda),
        "container": os.environ["MODAL_TASK_ID"],
        "initialized_before": initialized_before,
        "right": right,
        "begun_at": begun_at,
        "ended_at": time.monotonic(),
    }


@app.local_entrypoint()
def main(run: str) -> str:
    return json.dumps(list(beside.starmap([(run, 1), (run, 2)])))
