"""The first attempt runs until its machine is taken away; the next one, elsewhere, returns."""

import os
import time

import modal

app = modal.App()
volume = modal.Volume.from_name("attempts")


@app.function(gpu="A100", volumes={"/attempts": volume}, retries=0)
def my_a100_function():
    node = os.environ["GLOWPLUG_NODE"]
    attempts = sorted(os.listdir("/attempts"))
    open(f"/attempts/{len(attempts)}-{node}", "x").close()
    print("attempt", len(attempts) + 1, "on", node, flush=True)
    while not attempts:
        time.sleep(0.02)
    return node


@app.local_entrypoint()
def main():
    print("finished on", my_a100_function.remote())
