"""A function whose module imports torch: what a zygote has done before it is forked."""

from __future__ import annotations

import torch


def torch_sum() -> float:
    return float(torch.ones(3).sum())
