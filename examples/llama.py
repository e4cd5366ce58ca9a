"""Four sizes of a language model, and the sum to do before asking for a card: parameters × bytes.

    glowplug run llama.py                              all four, each on the cards it needs
    glowplug run llama.py::llama_7b --billions 34      refused: 68 GB of weights in 40 GB

`glowplug gpus --fits 34B` does the sum for every card there is. What runs here is small enough for a CPU: the
sums, the splitting and the checks are those of the large ones.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy

import glowplug
from devices import Peers, arrays, device_count, device_memory_gb, on_each_device

app = glowplug.App("llama")

BYTES = {"bf16": 2, "fp8": 1}
TEXT = """
the card holds the weights and the weights hold the words and the words hold the thought that held the card to
be worth its price per hour which the thought alone would not have paid
"""


def check_memory(billions: float, dtype: str) -> str:
    """The sum. Raises ``MemoryError`` where the cards of this container cannot hold the weights."""
    need = billions * BYTES[dtype]
    have = device_count() * device_memory_gb()
    working = f"{billions:g}B × {BYTES[dtype]} bytes ({dtype}) = {need:g} GB"
    if need > have:
        raise MemoryError(f"{working} of weights do not fit {device_count()} × {device_memory_gb()} GB")
    return f"{working} of {have} GB"


# one card


@app.function(gpu="A100")
def llama_7b(prompt: str = "the card", billions: float = 7) -> str:
    return f"{check_memory(billions, 'bf16')}: {continue_text(prompt)}"


@app.function(gpu="A100-80GB")
def llama_34b(prompt: str = "the words", billions: float = 34) -> str:
    return f"{check_memory(billions, 'bf16')}: {continue_text(prompt)}"


def continue_text(prompt: str, words: int = 8, seed: int = 1) -> str:
    """The smallest language model there is: which words followed the last one."""
    known = TEXT.split()
    draws = random.Random(seed)
    said = prompt.split()
    for _ in range(words):
        after = [second for first, second in itertools.pairwise(known) if first == said[-1]]
        said.append(draws.choice(after or known))
    return " ".join(said)


# four cards: fine-tuning by low-rank updates


@app.function(gpu="A100-80GB:4")
def finetune_llama_70b(layers: int = 80, rank: int = 4) -> dict[str, Any]:
    """Every card keeps its layers frozen and fits the low-rank update of each (LoRA)."""
    fits = check_memory(70, "bf16")
    errors = [error for part in on_each_device(fit_layers, layers, rank) for error in part]
    return {
        "memory": fits,
        "layers": len(errors),
        "before": max(before for before, _ in errors),
        "after": max(after for _, after in errors),
    }


WIDTH = 32


def fit_layers(peers: Peers, layers: int, rank: int) -> list[tuple[float, float]]:
    """Relative error of each of this card's layers before and after."""
    np = arrays()
    found = []
    for layer in range(peers.rank, layers, peers.count):
        draws = np.random.default_rng(layer)
        frozen = draws.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5
        # What the layer should do differs from what it does by something simple, as fine-tuning supposes.
        wanted = frozen + draws.standard_normal((WIDTH, 2)) @ draws.standard_normal((2, WIDTH)) / WIDTH
        inputs = draws.standard_normal((256, WIDTH))
        targets = inputs @ wanted
        down, up = draws.standard_normal((WIDTH, rank)) / WIDTH**0.5, np.zeros((rank, WIDTH))
        scale = float((targets**2).sum()) ** 0.5
        before = float(((inputs @ frozen - targets) ** 2).sum()) ** 0.5 / scale
        base = inputs @ frozen - targets
        for _ in range(150):
            hidden = inputs @ down
            error = base + hidden @ up
            up, down = (
                up - 0.4 * hidden.T @ error / len(inputs),
                down - 0.4 * inputs.T @ (error @ up.T) / len(inputs),
            )
        after = float((error**2).sum()) ** 0.5 / scale
        found.append((before, after))
    return found


# eight cards: one model in 8-bit floating point


@app.function(gpu="H100:8")
def run_llama_405b_fp8(layers: int = 126) -> dict[str, Any]:
    """Which card holds which layers, and a layer computed in slices, one a card, in 8 bits."""
    fits = check_memory(405, "fp8")
    count = device_count()
    first = [round(layers * rank / count) for rank in range(count + 1)]
    plan = [f"{start}–{end - 1}" for start, end in itertools.pairwise(first)]
    inputs, weights = a_layer()
    whole, sliced = inputs @ weights, numpy.concatenate(on_each_device(multiply_slice), axis=1)
    error = float(numpy.linalg.norm(sliced - whole) / numpy.linalg.norm(whole))
    return {"memory": fits, "layers": plan, "error": error}


def multiply_slice(peers: Peers) -> Any:
    """This card's columns of a matrix product; the weights in 8 bits."""
    np = arrays()
    inputs, weights = a_layer()
    mine = numpy.array_split(weights, peers.count, axis=1)[peers.rank]
    product = np.asarray(inputs) @ to_fp8(np, np.asarray(mine))
    return product.get() if hasattr(product, "get") else product


def a_layer() -> tuple[Any, Any]:
    """Inputs and weights, the same wherever it is called."""
    draws = numpy.random.default_rng(405)
    return draws.standard_normal((16, 128)), draws.standard_normal((128, 256))


def to_fp8(np: Any, numbers: Any) -> Any:
    """The nearest numbers that E4M3 has: three bits after the first, exponents from -6, at most 448."""
    exponent = np.maximum(np.floor(np.log2(np.maximum(np.abs(numbers), 2.0**-9))), -6)
    step = 2.0 ** (exponent - 3)
    return np.clip(np.round(numbers / step) * step, -448, 448)


@app.local_entrypoint()
def main():
    print("llama_7b            " + llama_7b.remote())
    print("llama_34b           " + llama_34b.remote())
    tuned = finetune_llama_70b.remote()
    print(f"finetune_llama_70b  {tuned['memory']}: {tuned['layers']} layers, ", end="")
    print(f"largest error {tuned['before']:.1%} -> {tuned['after']:.1%}")
    ran = run_llama_405b_fp8.remote()
    print(f"run_llama_405b_fp8  {ran['memory']}: layers {', '.join(ran['layers'])}; error {ran['error']:.1%}")
