"""Every way to ask for a card lands on cards that the container alone can open."""

from __future__ import annotations

from typing import Any

import pytest

from cards import PROGRAMS, Fleet
from commands import Finished, Home

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(100)]


@pytest.fixture(scope="module")
def run(home: Home) -> Finished:
    return home.run(PROGRAMS / "placing.py", name="main", timeout_s=90)


def assert_sees_its_own(seen: dict[str, Any], count: int, fleet: Fleet) -> None:
    allocated = seen["allocated"]
    assert len(set(allocated)) == count == seen["count"]
    assert set(allocated) <= {card["uuid"] for card in fleet.cards}
    assert seen["type"] == fleet.type
    assert sorted(seen["cuda"]) == sorted(allocated)
    assert sorted(seen["nvml"]) == sorted(allocated)
    minors = {card["uuid"]: card["minor"] for card in fleet.cards}
    assert seen["cards"] == sorted(f"/dev/nvidia{minors[uuid]}" for uuid in allocated)


def test_any(run: Finished, fleet: Fleet, record_property):
    assert_sees_its_own(run.value["any"], 1, fleet)
    record_property("landed on", f"{run.value['any']['type']}, {run.value['any']['cards'][0]}")


def test_the_type(run: Finished, fleet: Fleet, record_property):
    assert_sees_its_own(run.value["type"], 1, fleet)
    record_property("landed on", f"{run.value['type']['type']}, {run.value['type']['cards'][0]}")


def test_two_of_the_type(run: Finished, two_cards: Fleet, record_property):
    assert_sees_its_own(run.value["count"], 2, two_cards)
    record_property(
        "landed on", f"2 × {run.value['count']['type']}, {', '.join(run.value['count']['cards'])}"
    )


def test_a_fallback_after_a_type_the_fleet_lacks(run: Finished, fleet: Fleet, record_property):
    assert_sees_its_own(run.value["fallback"], 1, fleet)
    notices = [line for line in run.stderr.splitlines() if fleet.lacking in line]
    assert len(notices) == 1, run.said
    record_property("asked for", f"{fleet.lacking}, else {fleet.type}")
    record_property("said", notices[0])


def test_a_function_without_a_card_sees_none(run: Finished, record_property):
    seen = run.value["none"]
    assert seen["allocated"] == seen["cuda"] == seen["nvml"] == seen["devices"] == []
    assert seen["torch"] == ["False", "0"]
    record_property("cuInit, NVML, torch.cuda and /dev/nvidia*", "no card")
