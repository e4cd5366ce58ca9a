"""A training script under torchrun, by both of its names: `glowplug run with_torchrun.py`."""

import os
import subprocess

import modal

app = modal.App("training-with-torchrun")


@app.function(gpu="any:2")
def torchrun():
    count = os.environ["GLOWPLUG_GPU_COUNT"]
    subprocess.run(["torchrun", "--standalone", "--nproc-per-node", count, "train.py"], check=True)


@app.function(gpu="any:2")
def module():
    count = os.environ["GLOWPLUG_GPU_COUNT"]
    launcher = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
    subprocess.run([*launcher, "train.py"], check=True)


@app.local_entrypoint()
def main():
    torchrun.remote()
    module.remote()
