"""One model on one card of 80 GB or, where there is none, over two of 40: the program adapts to what it got.

GLOWPLUG_GPUS="1xH100" glowplug run run_on_80gb.py
GLOWPLUG_GPUS="2xA100-40GB" glowplug run run_on_80gb.py
"""

from __future__ import annotations

import os
from typing import Any

import glowplug
from devices import Peers, device_count, on_each_device

app = glowplug.App("run-on-80gb")

LAYERS = 32
WEIGHTS_GB = 60


@app.function(gpu=["h100", "a100-40gb:2"])
def run_on_80gb(tokens: list[int]) -> dict[str, Any]:
    """The model's answer, and how it was spread."""
    parts = on_each_device(run_layers, tokens)
    answer = [sum(numbers) for numbers in zip(*parts, strict=True)]
    return {
        "answer": answer,
        "where": f"{device_count()} × {os.environ['GLOWPLUG_GPU_TYPE']}",
        "GB a card": WEIGHTS_GB / device_count(),
    }


def run_layers(peers: Peers, tokens: list[int]) -> list[int]:
    """What this card's layers add. Whole numbers, so that every split gives exactly the same answer."""
    mine = range(peers.rank * LAYERS // peers.count, (peers.rank + 1) * LAYERS // peers.count)
    return [sum((token * (layer + 1)) ** 2 % 97 for layer in mine) for token in tokens]


@app.local_entrypoint()
def main():
    ran = run_on_80gb.remote([3, 1, 4, 1, 5])
    print(f"{ran['where']}, {ran['GB a card']:g} GB of weights a card: {ran['answer']}")
