"""PyTorch Lightning, whose strategy decides how it may be called: `glowplug run with_lightning.py`."""

import os
import subprocess

import modal

app = modal.App("training-with-lightning")


# A container for each call: `ddp_notebook` forks, and cannot where an earlier call has used CUDA.
@app.function(gpu="any:2", single_use_containers=True)
def fit_in_function(strategy: str):
    from lightning_model import fit

    fit(strategy, int(os.environ["GLOWPLUG_GPU_COUNT"]))


@app.function(gpu="any:2")
def fit_in_subprocess():
    # `ddp` runs the program it is in again for every further rank: that must be a script of its own.
    subprocess.run(["python", "train_lightning.py"], check=True)


@app.local_entrypoint()
def main():
    fit_in_function.remote("ddp_spawn")
    fit_in_function.remote("ddp_notebook")
    fit_in_subprocess.remote()
