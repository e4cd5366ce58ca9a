"""A module that only asks, as it is imported, whether there is a card, as very many do."""

import glob
import json
import os

import modal
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

app = modal.App("device-at-import")


NVIDIA_MAJOR = 195


def answer() -> tuple[str, float, list[int]]:
    """What was decided at import, a result from there, and the cards of others that this process has open."""
    total = float(torch.arange(10, device=DEVICE).sum())
    own = {os.stat(path).st_rdev for path in glob.glob("/dev/nvidia*")}
    opened = {_device(int(fd)) for fd in os.listdir("/proc/self/fd")}
    return DEVICE, total, [os.minor(each) for each in opened - own if os.major(each) == NVIDIA_MAJOR]


def _device(fd: int) -> int:
    try:
        return os.fstat(fd).st_rdev
    except OSError:  # the one that listed them
        return 0


@app.function(gpu=os.environ.get("GPU_TYPE", "any"))
def with_card():
    return answer()


@app.function()
def without_card():
    return answer()


@app.local_entrypoint()
def main() -> str:
    return json.dumps({"with a card": with_card.remote(), "without": without_card.remote()})
