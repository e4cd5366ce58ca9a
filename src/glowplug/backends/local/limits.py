"""What a container may use: cores, memory, processes; what of it this machine can give at all; and the words
for a container that used more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.model.node import Node
from glowplug.ports.backend import ContainerExit

SIGKILL = 9
DEFAULT_CORES = 0.125
"""The weight of a container that asked for no ``cpu=``, when cores are short."""
IN_MEMORY_MIB = 512
"""As much of ``ephemeral_disk=`` is held in memory; more is a directory on disk."""
MIN_PROCESSES = 1024
PROCESSES_A_CORE = 256
MAX_PROCESSES = 32768
KEPT_SHARE = 0.05
"""Of the machine's memory that all containers together leave to everything else, within these bounds."""
KEPT_MIN_MIB, KEPT_MAX_MIB = 256, 8192


@dataclass(frozen=True)
class Limits:
    """Of one container. A request is a weight among containers; only limits are enforced."""

    cpu_request: float = DEFAULT_CORES
    cpu_limit: float | None = None
    memory_request_mib: int = 0
    memory_limit_mib: int | None = None
    processes: int = MAX_PROCESSES
    ephemeral_disk_mib: int | None = None

    @property
    def is_on_disk(self) -> bool:
        """Whether what it writes is too much to be held in memory."""
        return self.ephemeral_disk_mib is not None and self.ephemeral_disk_mib > IN_MEMORY_MIB

    @classmethod
    def of(cls, definition: dict[str, Any], processes: int) -> Limits:
        """Those in a function's definition: ``cpu`` and ``memory`` are [request, limit or None] or None."""
        cpu_request, cpu_limit = definition.get("cpu") or (DEFAULT_CORES, None)
        request, limit = definition.get("memory") or (0, None)
        return cls(
            cpu_request=cpu_request,
            cpu_limit=cpu_limit,
            memory_request_mib=int(request),
            memory_limit_mib=None if limit is None else int(limit),
            processes=processes,
            ephemeral_disk_mib=definition.get("ephemeral_disk"),
        )

    def memory_exceeded(self, used_mib: int | None = None) -> ContainerExit:
        """How a container ended that was killed for the memory it used."""
        if self.memory_limit_mib is not None:
            used = "more" if used_mib is None else f"{used_mib} MiB, more"
            why = (
                f"it used {used} than its limit of {self.memory_limit_mib} MiB "
                f"(memory=({self.memory_request_mib}, {self.memory_limit_mib})); raise the limit in memory="
            )
        else:
            why = (
                "the containers of this machine together used all the memory that is theirs; give it less to "
                "hold, or bound each function with memory=(request, limit)"
            )
        return ContainerExit(signal=SIGKILL, out_of_memory=True, message=why)

    def disk_exceeded(self, written_mib: int) -> ContainerExit:
        """How a container ended that was killed for what it wrote."""
        return ContainerExit(
            signal=SIGKILL,
            message=f"it wrote {written_mib} MiB, more than its ephemeral_disk={self.ephemeral_disk_mib}; "
            "raise it or write to a volume",
        )


def processes_of_a_container(cores: float, pid_max: int) -> int:
    """Processes and threads a container may have, so that a fork bomb leaves room for others."""
    wanted = max(MIN_PROCESSES, int(cores) * PROCESSES_A_CORE)
    return min(wanted, MAX_PROCESSES, pid_max // 2)


def memory_of_all_mib(machine_mib: int) -> int:
    """What all containers of a server may hold together."""
    kept = min(max(machine_mib * KEPT_SHARE, KEPT_MIN_MIB), KEPT_MAX_MIB)
    return max(int(machine_mib - kept), machine_mib // 2)


def check_nodes(functions: Sequence[FunctionSpec], nodes: Sequence[Node]) -> None:
    """Raise ``InvalidError`` for a function that asks for more than any node has."""
    for function in functions:
        for name, unit, has in (("cpu", "cores", "cpus"), ("memory", "MiB", "memory_mib")):
            request, _ = function.definition.get(name) or (0, None)
            most = max((getattr(node, has) for node in nodes), default=0)
            if most and request > most:
                raise errors.InvalidError(
                    f"function {function.name} asks for {name}={request:.10g} {unit}, and no machine here "
                    f"has more than {most:.10g}; ask for less."
                )


def pid_max() -> int:
    try:
        with open("/proc/sys/kernel/pid_max") as file:
            return int(file.read())
    except (OSError, ValueError):
        return MAX_PROCESSES


def processes_of_user(uid: int) -> int:
    """Processes and threads that a user has now."""
    total = 0
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid:
                total += len(os.listdir(f"/proc/{pid}/task"))
        except OSError:
            continue
    return total


def total_memory_mib() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
