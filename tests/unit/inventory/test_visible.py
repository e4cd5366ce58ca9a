"""The server's own CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import pytest

from glowplug.backends.local.inventory.visible import visible_only
from glowplug.model.node import Gpu

CARDS = [
    Gpu("GPU-aa11", "H100", 80, 0),
    Gpu("GPU-aa22", "H100", 80, 1),
    Gpu("MIG-cc01", "A100", 20, 2, is_slice=True),
    Gpu("MIG-cc02", "A100", 20, 2, is_slice=True),
]
PARENTS = {"MIG-cc01": "GPU-bb33", "MIG-cc02": "GPU-bb33"}


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        (None, "GPU-aa11 GPU-aa22 MIG-cc01 MIG-cc02"),
        ("0", "GPU-aa11"),
        (" 1 , 0 ", "GPU-aa11 GPU-aa22"),
        ("2", "MIG-cc01 MIG-cc02"),
        ("GPU-aa22", "GPU-aa22"),
        ("GPU-b", "MIG-cc01 MIG-cc02"),
        ("GPU-bb33", "MIG-cc01 MIG-cc02"),
        ("MIG-cc02", "MIG-cc02"),
        ("0,MIG-cc02", "GPU-aa11 MIG-cc02"),
        ("GPU-aa", ""),
        ("", ""),
        ("-1", ""),
        ("NoDevFiles", ""),
        ("0,-1,1", "GPU-aa11"),
        ("0,7,1", "GPU-aa11"),
        ("0,0", "GPU-aa11"),
        ("GPU-ff", ""),
    ],
)
def test_visible(setting, left):
    assert [gpu.uuid for gpu in visible_only(CARDS, PARENTS, setting)] == left.split()
