"""examples/training on the CPU: two processes and gloo, on a virtual fleet of two cards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cards import PROGRAMS
from commands import ON_THE_CPU, Home

pytestmark = pytest.mark.torch

TRAINING = Path(__file__).parents[2] / "examples" / "training"
AGREED = re.compile(r"2 ranks on CPU \(gloo\) agree: loss \d+\.\d+ -> \d+\.\d+")


@pytest.mark.parametrize(
    ("script", "trainings"),
    [("in_subprocess.py", 1), ("with_torchrun.py", 2), ("with_spawn.py", 1), ("with_lightning.py", 3)],
)
def test_every_way_trains_on_two_devices(home: Home, script: str, trainings: int):
    done = home.run(TRAINING / script)
    assert len(AGREED.findall(done.stdout + done.stderr)) == trainings, done.said


def test_a_training_that_fails_fails_the_run(home: Home, tmp_path: Path):
    (tmp_path / "in_subprocess.py").write_text((TRAINING / "in_subprocess.py").read_text())
    (tmp_path / "train.py").write_text("raise SystemExit('the loss is not a number')\n")
    done = home.command("run", str(tmp_path / "in_subprocess.py"))
    assert done.status == 1, done.said
    assert "the loss is not a number" in done.stdout + done.stderr, done.said
    assert "CalledProcessError" in done.stderr, done.said


def test_every_process_of_a_training_has_the_settings_of_its_node():
    """tests/gpu asks the same on cards, before anything may call NCCL there."""
    wanted = {"NCCL_NVLS_ENABLE": "0", "NVSHMEM_DISABLE_NVLS": "1", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"}
    home = Home({**ON_THE_CPU, **wanted})
    try:
        done = home.run(PROGRAMS / "node_settings.py", name="main")
    finally:
        home.close()
    for container, places in done.value.items():
        assert len(places) == 6
        for place, found in places.items():
            assert wanted.items() <= found.items(), f"{place} of a {container} container has {found}"
