"""Containers over images: a virtual environment, and a root file system of its own that was carried here."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import pytest

from cards import PROGRAMS, Fleet
from commands import Finished, Home

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(150)]

WHEELS = os.environ.get("GLOWPLUG_TEST_WHEELS", "")
"""A directory with the wheel of ``packaging``, for a machine without a network."""
CARRIED = os.environ.get("GLOWPLUG_TEST_ROOT", "")
"""What ``tools/gpu-root.sh`` made."""
CARRIED_HOME = Path("/tmp/glowplug-carried")


def assert_apart(done: Finished, fleet: Fleet) -> list[dict]:
    first, second = done.value
    uuids = {card["uuid"] for card in fleet.cards}
    for seen in (first, second):
        assert len(seen["allocated"]) == 1
        assert seen["cuda"] == seen["allocated"]
        assert set(seen["allocated"]) <= uuids
        assert len(seen["cards"]) == 1
        wanted = {name: value for name, value in os.environ.items() if name.startswith("NCCL_")}
        assert seen["settings"] == wanted
    assert first["allocated"] != second["allocated"]
    assert first["cards"] != second["cards"]
    return [first, second]


def test_a_virtual_environment_with_torch(home: Home, two_cards: Fleet, record_property):
    environ = {"GPU_IMAGE": "venv", "GPU_WHEELS": WHEELS}
    done = home.run(PROGRAMS / "over_images.py", "--run", "venv", name="main", environ=environ)
    seen = assert_apart(done, two_cards)
    assert all(each["torch"] for each in seen)
    assert all("/images/venv/" in each["prefix"] and not each["own root"] for each in seen)
    assert {each["python"] for each in seen} == {"{}.{}".format(*sys.version_info[:2])}
    record_property("each saw", ", ".join(each["cards"][0] for each in seen))


@pytest.mark.skipif(not CARRIED, reason="no root file system was carried here (GLOWPLUG_TEST_ROOT)")
def test_a_root_file_system_of_its_own(two_cards: Fleet, record_property):
    home = Home({**two_cards.environ, "GLOWPLUG_HOME": str(CARRIED_HOME)})
    try:
        with tarfile.open(CARRIED) as archive:
            archive.extractall(CARRIED_HOME, filter="fully_trusted")
        done = home.run(
            PROGRAMS / "over_images.py", "--run", "root", name="main", environ={"GPU_IMAGE": "root"}
        )
    finally:
        home.close()
    seen = assert_apart(done, two_cards)
    assert all(each["own root"] for each in seen)
    assert {each["python"] for each in seen} == {"3.11"}
    record_property("each saw", ", ".join(each["cards"][0] for each in seen))
    record_property("Python of the root and of the machine", f"3.11, {sys.version.split()[0]}")
