"""A card comes back with its memory however its user ends, and is not given away while a stranger has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from cards import PROGRAMS, Fleet
from commands import Home, finish

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(100)]

HELD_MIB = 2048
TOLERANCE_MIB = 64
WITHIN_S = 20.0
"""How long driver and server may take to notice; a test goes on as soon as they have."""


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def used_mib(fleet: Fleet) -> list[int]:
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByUUID(card["uuid"]) for card in fleet.cards]
        return [pynvml.nvmlDeviceGetMemoryInfo(handle).used >> 20 for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def is_back(fleet: Fleet, before: list[int]) -> bool:
    return all(now <= then + TOLERANCE_MIB for now, then in zip(used_mib(fleet), before, strict=True))


def cuda_processes() -> set[int]:
    """Processes of containers with CUDA initialised: they have opened its memory device."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"glowplug.container" in (process / "cmdline").read_bytes() and any(
                os.readlink(fd) == "/dev/nvidia-uvm" for fd in (process / "fd").iterdir()
            ):
                found.add(int(process.name))
        except OSError:
            continue  # it has ended, or is not ours to look at
    return found


def test_memory_is_released_with_the_run(home: Home, fleet: Fleet, record_property):
    before = used_mib(fleet)
    assert home.run(PROGRAMS / "holding.py", name="release").value == fleet.count
    after = used_mib(fleet)
    assert is_back(fleet, before), f"used before {before} MiB, after {after} MiB"
    record_property("used before and after a run that held 4096 MiB a card", f"{before} and {after} MiB")


def test_a_killed_container_frees_its_card_and_its_input_runs_again(
    home: Home, fleet: Fleet, record_property
):
    before = used_mib(fleet)
    result = home.directory / "killed"
    reference = f"{PROGRAMS / 'holding.py'}::killed"
    process = home.start("run", "--write-result", str(result), reference, "--run", uuid.uuid4().hex[:8])
    assert process.stdout is not None
    assert any("holding" in line for line in process.stdout), finish(process, 10).said
    holders = cuda_processes()
    assert len(holders) == 1, f"{len(holders)} processes of containers use CUDA, not one"
    os.kill(holders.pop(), signal.SIGKILL)
    done = finish(process, 60)
    assert done.status == 0, done.said
    assert "second in" in result.read_text()
    whole = home.run(PROGRAMS / "placing.py", name="all_cards").value
    assert len(whole["cuda"]) == fleet.count
    assert eventually(lambda: is_back(fleet, before)), f"used before {before} MiB, now {used_mib(fleet)} MiB"
    said = [line for line in done.stderr.splitlines() if "signal 9" in line]
    assert said, done.said
    record_property("said", said[0])


def shown(home: Home, uuid: str) -> dict[str, Any]:
    done = home.command("gpus", "--json")
    assert done.status == 0, done.said
    return next(g for n in json.loads(done.stdout)["nodes"] for g in n["gpus"] if g["uuid"] == uuid)


def test_a_card_that_a_stranger_uses_is_shown_and_left_alone(home: Home, fleet: Fleet, record_property):
    card = fleet.cards[0]["uuid"]
    home.run(PROGRAMS / "placing.py", name="one")  # the server runs now, and its answers are shown
    stranger = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "cuda_probe.py"), "--hold-mib", str(HELD_MIB), "--orphan"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": card},
    )
    try:
        assert stranger.stdout is not None
        pid = json.loads(stranger.stdout.readline())["pid"]
        uses = eventually(lambda: shown(home, card)["foreign"])
        # Where the driver names processes, it is this one; in some sandboxes it tells only the memory.
        assert pid in {use["pid"] for use in uses} or [use["pid"] for use in uses] == [0]
        assert sum(use["memory_mib"] for use in uses) >= HELD_MIB
        table = home.command("gpus").stdout
        [line] = [line for line in table.splitlines() if "used by" in line]
        record_property("shown", line.strip())
        if fleet.count > 1:
            seen = home.run(PROGRAMS / "placing.py", name="one").value
            assert card not in seen["cuda"]
            record_property("a function that asks for one then", "is placed on the other card")
    finally:
        stranger.communicate()
    assert eventually(lambda: not shown(home, card)["foreign"])
