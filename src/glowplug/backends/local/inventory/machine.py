"""What this machine offers beside GPUs: its name, the CPUs and memory this process may use, its labels."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LABEL_VARIABLES = {
    "cloud": "GLOWPLUG_CLOUD",
    "region": "GLOWPLUG_REGION",
    "zone": "GLOWPLUG_ZONE",
    "market": "GLOWPLUG_MARKET",
}


@dataclass(frozen=True)
class Machine:
    name: str
    cpus: float
    memory_mib: int


def this_machine(root: Path = Path("/")) -> Machine:
    """Counts what is allowed, not what is built in: affinity and cgroup limits are respected."""
    cpus = float(len(os.sched_getaffinity(0)))
    memory_mib = _installed_memory_mib(root)
    for cgroup in _cgroups(root):
        cpus = min(cpus, _cpu_limit(cgroup))
        memory_mib = min(memory_mib, _memory_limit_mib(cgroup, memory_mib))
    return Machine(socket.gethostname(), cpus, memory_mib)


def labels(configured: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Cloud, region, zone and market of this machine; the environment overrides the configuration."""
    found = {key: value for key, value in configured.items() if key in LABEL_VARIABLES and value}
    found |= {key: environ[name] for key, name in LABEL_VARIABLES.items() if environ.get(name)}
    return found


def _installed_memory_mib(root: Path) -> int:
    with contextlib.suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) // 1024
    return 0


def _cgroups(root: Path) -> Iterator[Path]:
    """The cgroup v2 directories that bound this process, innermost first."""
    mount = root / "sys/fs/cgroup"
    own = None
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                own = mount / line[3:].lstrip("/")
    while own is not None:
        yield own
        own = own.parent if own != mount and mount in own.parents else None


def _cpu_limit(cgroup: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max":
            return max(int(quota) / int(period), 0.01)
    return float("inf")


def _memory_limit_mib(cgroup: Path, otherwise: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((cgroup / "memory.max").read_text()) // 2**20
    return otherwise
