"""The core in drawn worlds with faults: no invariant broken, no input lost, nothing left over."""

from __future__ import annotations

from pathlib import Path

import pytest

from glowplug.testing.simworld import SimFailure, SimWorld, shortest_failure

SEEDS = 520
BLOCK = 20
KEPT = [
    int(line)
    for line in Path(__file__).with_name("kept_seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def run(seed: int) -> SimWorld:
    try:
        return SimWorld(seed).run()
    except SimFailure:
        pytest.fail(str(shortest_failure(seed)), pytrace=False)


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_worlds(first: int) -> None:
    for seed in range(first, first + BLOCK):
        run(seed)


@pytest.mark.parametrize("seed", KEPT)
def test_worlds_that_once_failed(seed: int) -> None:
    run(seed)
