"""all_reduce.py in a container of several cards."""

import os
import subprocess

import modal

app = modal.App("all-reduce")


@app.function(gpu=f"{os.environ.get('GPU_TYPE', 'any')}:{os.environ.get('GPU_COUNT', '2')}")
def run() -> None:
    count = os.environ["GLOWPLUG_GPU_COUNT"]
    subprocess.run(["torchrun", "--standalone", "--nproc-per-node", count, "all_reduce.py"], check=True)
