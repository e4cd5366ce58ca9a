"""How many containers a function should have."""

from __future__ import annotations

from glowplug.core.lifecycles import READY
from glowplug.core.limits import Limits
from glowplug.core.state import Choices, Container, Function
from glowplug.model.function import FunctionSpec
from glowplug.model.node import Node


def wanted_containers(function: Function, limits: Limits) -> int:
    """Enough to run everything at once, within the function's own bounds.

    Of a function known to be fast a further container must have a worthwhile amount of queued work: a
    thousand no-ops do not start a thousand containers. What the nodes hold is a bound of its own, see
    ``missing_containers``.
    """
    spec = function.spec
    busy = begun = room = 0
    for container in function.containers.values():
        if container.status == READY and container.running:
            begun += len(container.running)
            if not container.retiring:
                busy += 1
                room += free_slots(container)
    # What a draining container holds comes back to the queue, so it waits already.
    waiting = function.queued + function.leased - begun
    wanted = busy
    if waiting > room:
        wanted += -(-(waiting - room) // inputs_per_container(function, limits))
    in_advance = spec.min_containers
    if spec.buffer_containers and (busy or waiting):
        in_advance = max(in_advance, wanted + spec.buffer_containers)
    if function.broken:
        # Nothing is started in advance that cannot start; what runs is kept.
        in_advance = min(in_advance, function.live)
    wanted = max(wanted, in_advance)
    if spec.max_containers is not None:
        wanted = min(wanted, spec.max_containers)
    return wanted


def missing_containers(function: Function, found: Choices, limits: Limits) -> int:
    """How many it should have and does not.

    Of a fleet that cannot hold any, one is still wanted, so that it waits (and is refused in the end).
    ``max_containers`` counts those that are still stopping too: two copies of a singleton never overlap.
    """
    missing = min(wanted_containers(function, limits), max(1, found.most_containers)) - function.live
    if function.spec.max_containers is not None:
        missing = min(missing, function.spec.max_containers - len(function.containers))
    return missing


def free_slots(container: Container) -> int:
    """How many more inputs it could run at once, now."""
    spec = container.function.spec
    free = spec.max_concurrent_inputs - len(container.running)
    if spec.max_inputs is not None:
        free = min(free, spec.max_inputs - container.taken + len(container.ahead))
    return max(0, free)


def inputs_per_container(function: Function, limits: Limits) -> int:
    """How many queued inputs make one more container worth it."""
    spec = function.spec
    at_once = spec.max_concurrent_inputs
    if spec.max_inputs is not None:
        at_once = min(at_once, spec.max_inputs)
    if function.run_time_s is None:
        return at_once
    return max(at_once, int(limits.work_per_container_s / max(function.run_time_s, 1e-9)))


def cpu_containers(spec: FunctionSpec, node: Node, nodes: int, limits: Limits) -> int:
    """How many containers of a function without GPUs a node takes: by its CPUs, and its share of what
    min_containers promises in any case."""
    by_cpus = max(limits.containers_per_node_least, int(node.cpus * limits.containers_per_cpu))
    return max(by_cpus, -(-spec.min_containers // nodes))
