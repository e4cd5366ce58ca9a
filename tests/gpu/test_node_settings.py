"""The node's settings of NCCL, NVSHMEM and symmetric memory are in everything that a container starts."""

from __future__ import annotations

import pytest

from cards import settings_of_the_node
from commands import Finished

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(100)]


def test_every_process_has_them_as_the_node_has_them(settings_kept: Finished, record_property):
    containers = settings_kept.value
    assert set(containers) == {"forked", "fresh"}
    for places in containers.values():
        assert {"container", "forked child", "spawned child", "subprocess"} < set(places)
        assert "torchrun's child 1" in places
    said = ", ".join(f"{name}={value}" for name, value in sorted(settings_of_the_node().items()))
    record_property("settings", said or "none on this node")
    record_property("looked at in", f"{sum(map(len, containers.values()))} processes")
