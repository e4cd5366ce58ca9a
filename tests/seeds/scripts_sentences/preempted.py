"""The first attempt runs until its machine is taken away; the next one, elsewhere, returns."""

import os
import time

import modal

app = modal.App()
shared = modal.NetworkFileSystem.from_name("attempts", create_if_missing=True)


@app.function(gpu="A100", network_file_systems={"/attempts": shared}, retries=0)
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
