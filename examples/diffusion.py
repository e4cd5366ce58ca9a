"""A diffusion model that draws rings of points: trained on eight cards, fine-tuned and sampled on one.

    glowplug run diffusion.py

Small enough for a CPU, and whole: a noise schedule, a network that predicts the noise, Adam, two samplers.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import glowplug
from devices import Peers, arrays, device_count, on_each_device

app = glowplug.App("diffusion")
models = glowplug.Volume.from_name("diffusion-models", create_if_missing=True)

STEPS = 40
HIDDEN = 48
BATCH = 512
RING = (0.0, 1.0)
"""Where the middle of a ring is, on both axes, and its radius."""
FINETUNED_RING = (0.5, 0.6)


@app.function(gpu="H100:8", volumes={"/models": models})
def train_sdxl(updates: int = 400) -> str:
    """Train from nothing: every card has its share of each batch, and all agree on each step."""
    losses = on_each_device(train_share, new_weights(), RING, updates)
    save("base", losses[0][1])
    return f"{device_count()} devices: loss {losses[0][0][0]:.2f} -> {losses[0][0][-1]:.2f}"


@app.function(gpu=["H100", "A100-80GB"], volumes={"/models": models})
def finetune_sdxl(updates: int = 400) -> str:
    """Go on from the trained model with another ring, on one card."""
    losses, weights = train_share(None, load("base"), FINETUNED_RING, updates)
    save("finetuned", weights)
    return f"loss {losses[0]:.2f} -> {losses[-1]:.2f}"


@app.function(gpu="A10G", volumes={"/models": models})
def run_sdxl_turbo(seed: int = 0) -> list[list[float]]:
    """Few points in four large steps: for somebody who waits."""
    return sample(load("base"), count=16, steps=4, seed=seed)


@app.function(gpu="A100", volumes={"/models": models})
def run_sdxl_batch(model: str, count: int = 512, seed: int = 0) -> list[list[float]]:
    """Many points in many small steps: for throughput."""
    return sample(load(model), count, STEPS, seed)


def train_share(peers: Peers | None, start: dict, ring: tuple, updates: int) -> tuple[list[float], dict]:
    """One card's part of the training. Returns the losses, averaged over ten updates, and the weights."""
    np = arrays()
    rank, count = (peers.rank, peers.count) if peers else (0, 1)
    draws = np.random.default_rng(1000 + rank)
    weights = {name: np.asarray(value) for name, value in start.items()}
    means = {name: np.zeros_like(value) for name, value in weights.items()}
    squares = {name: np.zeros_like(value) for name, value in weights.items()}
    kept = np.asarray(schedule())
    losses = []
    for update in range(1, updates + 1):
        points = ring_points(np, draws, BATCH // count, ring)
        step = draws.integers(0, STEPS, BATCH // count)
        noise = draws.standard_normal(points.shape)
        noisy = kept[step, None] ** 0.5 * points + (1 - kept[step, None]) ** 0.5 * noise
        loss, gradient = loss_and_gradient(np, weights, noisy, step, noise)
        if peers:
            gradient = average(np, peers, gradient)
        for name, slope in gradient.items():
            means[name] += 0.1 * (slope - means[name])
            squares[name] += 0.01 * (slope**2 - squares[name])
            mean, square = means[name] / (1 - 0.9**update), squares[name] / (1 - 0.99**update)
            rate = 0.02 * (1 - (update - 1) / updates)
            weights[name] = weights[name] - rate * mean / (square**0.5 + 1e-8)
        losses.append(loss)
    tens = [sum(losses[at : at + 10]) / 10 for at in range(0, updates, 10)]
    return tens, {name: value.tolist() for name, value in weights.items()}


def average(np: Any, peers: Peers, gradient: dict) -> dict:
    """All gradients in one message to the other cards."""
    flat = np.concatenate([slope.ravel() for slope in gradient.values()])
    flat = np.asarray(peers.mean(flat.get() if hasattr(flat, "get") else flat))
    averaged, at = {}, 0
    for name, slope in gradient.items():
        averaged[name] = flat[at : at + slope.size].reshape(slope.shape)
        at += slope.size
    return averaged


# the network: point and time in, the noise in the point out


def new_weights() -> dict:
    import numpy

    draws = numpy.random.default_rng(7)
    shapes = {"in": (2 + 8, HIDDEN), "middle": (HIDDEN, HIDDEN), "out": (HIDDEN, 2)}
    weights = {name: draws.standard_normal(shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
    return {**weights, "in bias": numpy.zeros(HIDDEN), "middle bias": numpy.zeros(HIDDEN)}


def predict(np: Any, weights: dict, points: Any, step: Any) -> tuple[Any, tuple]:
    angles = (step[:, None] / STEPS) * math.pi * np.asarray([0.5, 1.0, 2.0, 4.0])
    inputs = np.concatenate([points, np.sin(angles), np.cos(angles)], axis=1)
    first = np.tanh(inputs @ weights["in"] + weights["in bias"])
    second = np.tanh(first @ weights["middle"] + weights["middle bias"])
    return second @ weights["out"], (inputs, first, second)


def loss_and_gradient(np: Any, weights: dict, points: Any, step: Any, noise: Any) -> tuple[float, dict]:
    predicted, (inputs, first, second) = predict(np, weights, points, step)
    error = predicted - noise
    slope = 2 * error / error.size
    at_second = (slope @ weights["out"].T) * (1 - second**2)
    at_first = (at_second @ weights["middle"].T) * (1 - first**2)
    gradient = {
        "out": second.T @ slope,
        "middle": first.T @ at_second,
        "middle bias": at_second.sum(axis=0),
        "in": inputs.T @ at_first,
        "in bias": at_first.sum(axis=0),
    }
    return float((error**2).mean()), gradient


# noise in, points out


def schedule() -> list[float]:
    """How much of the picture is left after each step of noising; a cosine, as is usual."""
    return [math.cos((step + 1) / (STEPS + 1) * math.pi / 2) ** 2 for step in range(STEPS)]


def sample(weights: dict, count: int, steps: int, seed: int) -> list[list[float]]:
    """Points from noise, by ``steps`` evenly spaced steps without new noise (DDIM)."""
    np = arrays()
    weights = {name: np.asarray(value) for name, value in weights.items()}
    points = np.random.default_rng(seed).standard_normal((count, 2))
    kept = schedule()
    times = [round(STEPS - 1 - step * (STEPS - 1) / max(1, steps - 1)) for step in range(steps)]
    for now, then in itertools.pairwise([*times, -1]):
        noise, _ = predict(np, weights, points, np.full(count, now))
        clean = (points - (1 - kept[now]) ** 0.5 * noise) / kept[now] ** 0.5
        left = kept[then] if then >= 0 else 1.0
        points = left**0.5 * np.clip(clean, -3, 3) + (1 - left) ** 0.5 * noise
    return points.tolist()


def ring_points(np: Any, draws: Any, count: int, ring: tuple) -> Any:
    middle, radius = ring
    angles = draws.random(count) * 2 * math.pi
    return middle + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def off_ring(points: list[list[float]], ring: tuple) -> float:
    """How far points are from a ring, on average."""
    middle, radius = ring
    return sum(abs(math.dist(point, (middle, middle)) - radius) for point in points) / len(points)


def save(name: str, weights: dict) -> None:
    with open(f"/models/{name}.json", "w") as file:
        json.dump(weights, file)
    models.commit()  # other containers see what was committed


def load(name: str) -> dict:
    models.reload()
    with open(f"/models/{name}.json") as file:
        return json.load(file)


@app.local_entrypoint()
def main(updates: int = 400):
    print("train_sdxl     ", train_sdxl.remote(updates))
    points = run_sdxl_turbo.remote()
    print(f"run_sdxl_turbo  4 steps, off the ring by {off_ring(points, RING):.2f}")
    points = run_sdxl_batch.remote("base")
    print(f"run_sdxl_batch  {STEPS} steps, off the ring by {off_ring(points, RING):.2f}")
    print("finetune_sdxl  ", finetune_sdxl.remote(updates))
    points = run_sdxl_batch.remote("finetuned")
    print(f"run_sdxl_batch  {STEPS} steps, off the new ring by {off_ring(points, FINETUNED_RING):.2f}")
