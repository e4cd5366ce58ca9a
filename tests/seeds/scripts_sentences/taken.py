"""A call for the only A100 waits while another one holds it. ``until`` is a file that ends the first."""

import os
import time
from pathlib import Path

import modal

app = modal.App()


@app.function(gpu="A100")
def hold():
    print("holding", flush=True)
    while True:
        time.sleep(0.02)


@app.function(gpu="A100:4")
def my_a100_function():
    return os.environ["GLOWPLUG_GPU_COUNT"]


@app.local_entrypoint()
def main(until: str):
    held = hold.spawn()
    waiting = None
    while not Path(until).exists():
        if waiting is None and Path(until).with_suffix(".held").exists():
            waiting = my_a100_function.spawn()
        time.sleep(0.02)
    held.cancel()
    print("ran on", waiting.get())
