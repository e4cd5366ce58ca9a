"""How many containers a function should have."""

from __future__ import annotations

from glowplug.core.lifecycles import READY
from glowplug.core.limits import Limits
from glowplug.core.state import Function


def wanted_containers(function: Function, limits: Limits) -> int:
    """Enough to run everything at once, ``max_containers`` at most.

    Of a function known to be fast, a further container must have a worthwhile amount of queued work: a thousand
    no-ops do not start a thousand containers. Room on the nodes bounds the rest.
    """
    if function.app.stopping:
        return 0
    spec = function.spec
    busy = begun = 0
    for container in function.containers.values():
        if container.status == READY and container.running:
            begun += len(container.running)
            if not container.retiring:
                busy += 1
    # What a draining container holds comes back to the queue, so it waits already.
    waiting = function.queued + function.leased - begun
    wanted = busy
    if waiting > 0:
        each = spec.max_concurrent_inputs
        if spec.max_inputs is not None:
            each = min(each, spec.max_inputs)
        if function.run_time_s is not None:
            each = max(each, int(limits.work_per_container_s / max(function.run_time_s, 1e-9)))
        room = max(0, busy * spec.max_concurrent_inputs - begun)
        wanted += -(-max(0, waiting - room) // each)
    if spec.buffer_containers and (busy or waiting > 0):
        wanted += spec.buffer_containers
    wanted = max(wanted, spec.min_containers)
    if spec.max_containers is not None:
        wanted = min(wanted, spec.max_containers)
    return wanted


def containers_per_node(cpus: float, limits: Limits) -> int:
    """How many containers of one CPU function a node takes."""
    return max(limits.containers_per_node_least, int(cpus * limits.containers_per_cpu))
