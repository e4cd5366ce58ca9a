"""What a container may use, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from glowplug.backends.local import limits
from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.model.node import Node

NODE = Node("box", cpus=8.0, memory_mib=16_000)


def test_a_number_alone_asks_and_does_not_bound():
    assert limits.Limits.of({"memory": (512, None), "cpu": (2.0, None)}, 100) == limits.Limits(
        cpu_request=2.0, memory_request_mib=512, processes=100
    )
    assert limits.Limits.of({"memory": (512, 1024), "cpu": (2.0, 4.0)}, 100) == limits.Limits(
        cpu_request=2.0, cpu_limit=4.0, memory_request_mib=512, memory_limit_mib=1024, processes=100
    )


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (
            {"memory": (20_000, None)},
            "function f asks for memory=20000 MiB, and no machine here has more than 16000",
        ),
        ({"cpu": (8.5, 9)}, "function f asks for cpu=8.5 cores, and no machine here has more than 8"),
    ],
)
def test_more_than_any_machine_has_is_refused(definition, said):
    with pytest.raises(errors.InvalidError, match=said):
        limits.check_nodes([FunctionSpec("", "", "f", definition=definition)], [NODE])


def test_as_much_as_a_machine_has_is_not_refused():
    definition = {"memory": (16_000, 32_000), "cpu": (8.0, 64.0)}
    limits.check_nodes([FunctionSpec("", "", "f", definition=definition)], [NODE])
    unknown = Node("box", cpus=0.0, memory_mib=0)
    limits.check_nodes([FunctionSpec("", "", "f", definition=definition)], [unknown])


def test_defaults_grow_with_the_machine_within_bounds():
    assert limits.processes_of_a_container(2, 4_194_304) == 1024
    assert limits.processes_of_a_container(64, 4_194_304) == 16_384
    assert limits.processes_of_a_container(512, 4_194_304) == 32_768
    assert limits.processes_of_a_container(64, 1000) == 500
    assert limits.memory_of_all_mib(1000) == 744
    assert limits.memory_of_all_mib(100_000) == 95_000
    assert limits.memory_of_all_mib(1_000_000) == 1_000_000 - 8192


def test_what_is_said_of_a_container_that_used_too_much():
    exit = limits.Limits(memory_request_mib=256, memory_limit_mib=512).memory_exceeded(600)
    assert exit.out_of_memory
    assert "600 MiB, more than its limit of 512 MiB (memory=(256, 512))" in exit.message
    assert "together" in limits.Limits().memory_exceeded().message
