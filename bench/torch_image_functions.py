"""A function whose image has PyTorch, imported where only containers have it."""

from __future__ import annotations

import os

import glowplug

VARIABLE = "BENCH_TORCH"
image = glowplug.Image.debian_slim(python_version=os.environ.get("BENCH_PYTHON", "3.11")).pip_install(
    os.environ.get(VARIABLE, "torch")
)
app = glowplug.App("bench-torch-image")

with image.imports():
    import torch


@app.function(image=image, max_inputs=1, max_containers=2)
def torch_sum() -> float:
    """A container of one input: every call needs a further one."""
    return float(torch.ones(3).sum())
