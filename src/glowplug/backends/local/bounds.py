"""The bounds of this server's containers: by control groups where there are some, else by looking at them
every so often; what they write to disk is always looked at."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from glowplug.backends.local import cgroups, limits, usage
from glowplug.backends.local.cgroups import ContainerGroup, ControlGroups
from glowplug.backends.local.containers import LocalContainer
from glowplug.backends.local.limits import Limits
from glowplug.model.function import FunctionSpec
from glowplug.model.node import Node
from glowplug.ports.backend import ContainerExit

LOOK_S = 0.5
"""How often containers are looked at; less often when a look takes long."""
PAUSE_FACTOR = 10
SCRATCH = "scratch"


class Bounds:
    """``containers`` are those that run now; ``processes`` how many each may have, None for a default."""

    def __init__(
        self, home: Path, containers: Callable[[], Iterable[LocalContainer]], processes: int | None
    ) -> None:
        self._scratch = home / SCRATCH
        self._home = home
        self._containers = containers
        self._processes = processes
        self._groups: ControlGroups | None = None
        self._look: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.refusal = ""
        """Why there are no control groups."""

    def start(self, loop: asyncio.AbstractEventLoop, nodes: Sequence[Node]) -> None:
        self._loop = loop
        shutil.rmtree(self._scratch, ignore_errors=True)  # of a server that was killed
        cores = sum(node.cpus for node in nodes) or float(os.cpu_count() or 1)
        memory_mib = sum(node.memory_mib for node in nodes) or limits.total_memory_mib()
        self._all_mib = limits.memory_of_all_mib(memory_mib)
        self._processes = self._processes or limits.processes_of_a_container(cores, limits.pid_max())
        hierarchies, self.refusal = cgroups.find()
        if hierarchies:
            try:
                self._groups = ControlGroups(hierarchies, self._home, cores, self._all_mib)
            except OSError as error:
                self.refusal = str(error)
        self._own_processes = 0 if self._groups else limits.processes_of_user(os.getuid())

    def of(self, function: FunctionSpec) -> Limits:
        return Limits.of(function.definition, self._processes or limits.MAX_PROCESSES)

    def group(self, container_id: str, function: FunctionSpec) -> tuple[ContainerGroup | None, str]:
        """The control group of a container, or why there cannot be one."""
        if self._groups is None:
            return None, ""
        try:
            return self._groups.make(container_id, self.of(function)), ""
        except OSError as error:
            return None, f"its limits cannot be set: {error}"

    def scratch_of(self, function: FunctionSpec, source: dict[str, Any]) -> str:
        """The directory on disk that is shared by containers of one script; empty where memory is enough."""
        if not self.of(function).is_on_disk:
            return ""
        name = hashlib.sha256(os.fsencode(source.get("directory") or "")).hexdigest()[:12]
        directory = self._scratch / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(directory)

    def request(self, container: LocalContainer, scratch: str) -> dict[str, Any]:
        """What the container's first process is to bound itself."""
        own = self.of(container.start.function)
        if scratch:
            container.scratch = Path(scratch) / container.id
            container.scratch.mkdir(mode=0o700, exist_ok=True)
        return {
            # Of the user, not of the container: all that there is and as much as one may have.
            "processes": self._own_processes + own.processes if self._groups is None else 0,
            "memory_files_mib": 0 if own.is_on_disk else own.ephemeral_disk_mib or 0,
            "scratch": container.id if scratch else "",
        }

    def watch(self) -> None:
        """Look at the containers from now on, as long as one needs it."""
        if self._look is None and self._loop is not None and any(map(self._needs_looks, self._containers())):
            self._look = self._loop.call_later(LOOK_S, self._begin_look)

    def ended(self, container: LocalContainer) -> None:
        """Give back what it had."""
        assert self._loop is not None
        if container.group is not None:
            self._loop.run_in_executor(None, container.group.remove)
        if container.scratch is not None:
            self._loop.run_in_executor(None, shutil.rmtree, container.scratch, True)

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
        if self._groups is not None:
            self._groups.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    # looking

    def _needs_looks(self, container: LocalContainer) -> bool:
        return self._groups is None or container.scratch is not None

    def _begin_look(self) -> None:
        assert self._loop is not None
        looked_at = [
            (each, each.first_pid(), self.of(each.start.function), each.scratch)
            for each in self._containers()
            if self._needs_looks(each)
        ]
        self._loop.run_in_executor(None, self._look_at, looked_at)

    def _look_at(self, containers: list[tuple[LocalContainer, int, Limits, Path | None]]) -> None:
        """In a thread: reading /proc and walking directories takes its time."""
        assert self._loop is not None
        began = time.monotonic()
        verdicts: list[tuple[LocalContainer, ContainerExit]] = []
        held: list[tuple[int, LocalContainer]] = []
        for container, first_pid, own, scratch in containers:
            if scratch is not None and own.ephemeral_disk_mib is not None:
                written = usage.written_mib(scratch)
                if written > own.ephemeral_disk_mib:
                    verdicts.append((container, own.disk_exceeded(written)))
                    continue
            if self._groups is None and first_pid:
                limit_mib = own.memory_limit_mib or self._all_mib
                used = usage.memory_mib(first_pid, limit_mib)
                if used > limit_mib:
                    verdicts.append((container, own.memory_exceeded(used)))
                else:
                    held.append((used, container))
        if sum(used for used, _ in held) > self._all_mib and not verdicts:
            used, largest = max(held, key=lambda each: each[0])
            verdicts.append((largest, Limits().memory_exceeded(used)))
        took_s = time.monotonic() - began
        self._loop.call_soon_threadsafe(self._end_look, verdicts, took_s)

    def _end_look(self, verdicts: list[tuple[LocalContainer, ContainerExit]], took_s: float) -> None:
        assert self._loop is not None
        for container, verdict in verdicts:
            container.end_for(verdict)
        self._look = None
        if any(map(self._needs_looks, self._containers())):
            self._look = self._loop.call_later(max(LOOK_S, took_s * PAUSE_FACTOR), self._begin_look)
