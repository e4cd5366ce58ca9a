"""A script of 2023, unchanged: `Stub`, `SharedVolume`, `gpu.A100(...)`, `.call()`.

    glowplug run shared_volume_2023.py

An A100 fits a line to noisy points and keeps its checkpoint in a shared volume; a function without a GPU,
beside it in the same cloud, reads the checkpoint. Run it again and the training goes on where it stopped.
"""

import json
import os
import random

import modal

stub = modal.Stub("shared-volume-2023")
volume = modal.SharedVolume().persist("checkpoints-2023")

CHECKPOINT = "/checkpoints/line.json"


@stub.function(gpu=modal.gpu.A100(memory=20), shared_volumes={"/checkpoints": volume})
def train(steps: int):
    slope, offset, done = load()
    draws = random.Random(done)
    for _ in range(steps):
        x = draws.uniform(-1, 1)
        error = slope * x + offset - (2 * x + 1 + draws.gauss(0, 0.1))
        slope -= 0.05 * error * x
        offset -= 0.05 * error
    with open(CHECKPOINT, "w") as file:
        json.dump([slope, offset, done + steps], file)
    return done + steps


@stub.function(cloud="gcp", shared_volumes={"/checkpoints": volume})
def evaluate():
    slope, offset, done = load()
    return {"slope": slope, "offset": offset, "steps": done, "gpus": int(os.environ["GLOWPLUG_GPU_COUNT"])}


def load():
    if not os.path.exists(CHECKPOINT):
        return 0.0, 0.0, 0
    with open(CHECKPOINT) as file:
        return json.load(file)


@stub.local_entrypoint()
def main(steps: int = 500):
    print("trained for", train.call(steps), "steps in all")
    line = evaluate.call()
    print(f"y = {line['slope']:.2f} x + {line['offset']:.2f}, evaluated with {line['gpus']} GPUs")
