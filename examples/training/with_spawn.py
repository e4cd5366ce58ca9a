"""torch.multiprocessing.spawn called in the function itself: `glowplug run with_spawn.py`."""

import os
import tempfile

import modal
import torch.multiprocessing as mp
from train import run_rank

app = modal.App("training-with-spawn")


def one_rank(rank: int, rendezvous: str, ranks: int) -> None:
    # What is spawned must stand at the top level of a module, which this script is.
    run_rank(rank, rendezvous, ranks)


@app.function(gpu="any:2")
def run():
    ranks = int(os.environ["GLOWPLUG_GPU_COUNT"])
    with tempfile.TemporaryDirectory() as directory:
        mp.spawn(one_rank, args=(f"file://{directory}/rendezvous", ranks), nprocs=ranks)
