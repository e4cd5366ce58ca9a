"""The control groups of containers: which hierarchies of this machine are ours to use, one group a container
in each, its limits, how it is entered, and what becomes of it.

A container's first process enters by itself: the server opens the groups' process lists and passes the
descriptors, so that nothing of the container ever runs outside. Both versions are known: v2 where a part of
the tree is ours, v1 where its hierarchies are writable.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glowplug.backends.local.limits import DEFAULT_CORES, Limits

CONTROLLERS = ("memory", "pids", "cpu")
PERIOD_US = 100_000
SHARES_A_CORE = 1024
MIN_QUOTA_US = 1000
FOUND_BY = "cgroups"
"""A file in the server's home: every directory it ever made, so that a later server can clear up."""
ENDINGS = 100
"""Rounds of killing what is in a group; one is enough where forking is forbidden first."""
END_WAIT_MS = 1000


@dataclass(frozen=True)
class Hierarchy:
    """A mounted tree of groups and the directory in it below which ours are made."""

    base: Path
    version: int
    controllers: tuple[str, ...]


class ControlGroups:
    """The groups of one server: ``<base>/glowplug-<name>/<container>`` in each hierarchy."""

    def __init__(self, hierarchies: Sequence[Hierarchy], home: Path, cores: float, memory_mib: int) -> None:
        self._ours = [(each, each.base / name_of(home)) for each in hierarchies]
        self.controllers = frozenset(c for each in hierarchies for c in each.controllers)
        _remove_leftovers(home, [directory for _, directory in self._ours])
        for hierarchy, directory in self._ours:
            directory.mkdir(exist_ok=True)
            if hierarchy.version == 2:
                _enable(directory, hierarchy.controllers)
            for file, text in _shared_limits(hierarchy, cores, memory_mib):
                _write(directory / file, text)

    def make(self, container_id: str, limits: Limits) -> ContainerGroup:
        """A group for a container, its limits set and nobody in it. Raises ``OSError``."""
        group = ContainerGroup(limits)
        try:
            for hierarchy, directory in self._ours:
                settings = _settings(hierarchy, limits)
                if not settings and "memory" not in hierarchy.controllers:
                    continue  # one group less to make and to enter
                path = directory / container_id
                path.mkdir(exist_ok=True)
                group.add(hierarchy, path)
                for file, text, needed in settings:
                    try:
                        _write(path / file, text)
                    except OSError:
                        if needed:
                            raise
        except OSError:
            group.remove()
            raise
        return group

    def close(self) -> None:
        """Remove all of them, what is left in them included."""
        for _, directory in self._ours:
            _remove_all(directory)


class ContainerGroup:
    """Where one container is counted and bounded."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._paths: list[Path] = []
        self._memory: tuple[int, Path] | None = None
        self._pids: Path | None = None

    def add(self, hierarchy: Hierarchy, path: Path) -> None:
        self._paths.append(path)
        if "memory" in hierarchy.controllers:
            self._memory = (hierarchy.version, path)
        if "pids" in hierarchy.controllers:
            self._pids = path

    def entrances(self) -> list[int]:
        """Descriptors; a process that writes "0" to each is in the group, and so are its children."""
        return [os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for path in self._paths]

    def out_of_memory_event(self) -> int:
        """A descriptor that becomes readable when memory ran out; -1 where the kernel ends all by itself."""
        if self._memory is None or self._memory[0] == 2:
            return -1
        path = self._memory[1]
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(path / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _write(path / "cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except OSError:
            os.close(event)
            return -1
        return event

    def was_out_of_memory(self) -> bool:
        """Whether the kernel has killed anything in it for want of memory."""
        if self._memory is None:
            return False
        version, path = self._memory
        text = _read(path / ("memory.events" if version == 2 else "memory.oom_control"))
        counts = dict(line.split(maxsplit=1) for line in text.splitlines())
        return int(counts.get("oom_kill", 0)) > 0

    def memory_mib(self) -> int | None:
        """What it holds now."""
        if self._memory is None:
            return None
        version, path = self._memory
        text = _read(path / ("memory.current" if version == 2 else "memory.usage_in_bytes")).strip()
        return int(text) >> 20 if text else None

    def processes(self) -> int | None:
        text = _read(self._pids / "pids.current").strip() if self._pids else ""
        return int(text) if text else None

    def remove(self) -> None:
        """Give the group back; what still lives in it is ended first."""
        for path in self._paths:
            _remove(path)
        self._paths = []


def name_of(home: Path) -> str:
    """The group of the server with this home."""
    return "glowplug-" + hashlib.sha256(os.fsencode(home)).hexdigest()[:12]


def find(
    own: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/proc/self/mountinfo")
) -> tuple[list[Hierarchy], str]:
    """Hierarchies that bound memory and processes, and cores where they can; without them, why there are
    none."""
    places = _own_places(own)
    found: list[Hierarchy] = []
    refusals: list[str] = []
    for mount, root, names, version in _mounts(mounts):
        wanted = CONTROLLERS if version == 2 else tuple(each for each in CONTROLLERS if each in names)
        taken = {controller for each in found for controller in each.controllers}
        wanted = tuple(each for each in wanted if each not in taken)
        place = places.get("" if version == 2 else (wanted[0] if wanted else "-"))
        if not wanted or place is None:
            continue
        here = mount / os.path.relpath(place, root) if place.startswith(root) else mount
        try:
            found.append(_usable_v2(mount, here) if version == 2 else _usable_v1(here, wanted))
        except OSError as error:
            refusals.append(error.strerror or str(error))
    has = {controller for each in found for controller in each.controllers}
    if {"memory", "pids"} <= has:
        # Where forking can be forbidden comes first: what ends there is gone from the others.
        return sorted(found, key=lambda each: "pids" not in each.controllers), ""
    return [], "; ".join(dict.fromkeys(refusals)) or "no control groups for memory and processes are mounted"


def _own_places(own: Path) -> dict[str, str]:
    """This process's group by controller; that of v2 by the empty name."""
    places: dict[str, str] = {}
    for line in _read(own).splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            places[name] = path
    return places


def _mounts(mounts: Path) -> list[tuple[Path, str, tuple[str, ...], int]]:
    """(mount point, its root, controllers, version) of each hierarchy."""
    found = []
    for line in _read(mounts).splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), right.split()[:3]
        root, point = (each.replace("\\040", " ") for each in fields[3:5])
        if kind == "cgroup":
            found.append((Path(point), root, tuple(options.split(",")), 1))
        elif kind == "cgroup2":
            found.append((Path(point), root, (), 2))
    return found


def _usable_v1(here: Path, controllers: tuple[str, ...]) -> Hierarchy:
    _try_to_make(here)
    return Hierarchy(here, 1, controllers)


def _usable_v2(mount: Path, here: Path) -> Hierarchy:
    """The highest group from ``here`` up that is ours: processes move freely below it."""
    ours = None
    refusal = OSError(errno.EACCES, "no part of the tree is ours", str(here))
    for place in (here, *here.parents):
        if not all(
            os.access(place / file, os.W_OK) for file in ("", "cgroup.procs", "cgroup.subtree_control")
        ):
            break
        try:
            _enable(place, CONTROLLERS)
            ours = place
        except OSError as error:
            refusal = error
        if place == mount:
            break
    if ours is None:
        raise refusal
    _try_to_make(ours)
    enabled = _read(ours / "cgroup.subtree_control").split()
    return Hierarchy(ours, 2, tuple(each for each in CONTROLLERS if each in enabled))


def _try_to_make(place: Path) -> None:
    probe = place / f"glowplug-probe-{os.getpid()}"
    probe.mkdir()
    probe.rmdir()


def _enable(place: Path, controllers: Sequence[str]) -> None:
    """Let children of ``place`` be bounded. Raises ``OSError`` when memory or processes cannot be."""
    enabled = _read(place / "cgroup.subtree_control").split()
    for name in controllers:
        if name not in enabled:
            try:
                _write(place / "cgroup.subtree_control", f"+{name}")
            except OSError:
                if name != "cpu":
                    raise


def _shared_limits(hierarchy: Hierarchy, cores: float, memory_mib: int) -> list[tuple[str, str]]:
    """Of all containers together: the machine keeps some memory, and cores are shared as among equals."""
    shared = []
    if "memory" in hierarchy.controllers:
        file = "memory.max" if hierarchy.version == 2 else "memory.limit_in_bytes"
        shared.append((file, str(memory_mib << 20)))
    if "cpu" in hierarchy.controllers:
        shares = max(SHARES_A_CORE, int(cores * SHARES_A_CORE))
        shared.append(
            ("cpu.weight", _weight(shares)) if hierarchy.version == 2 else ("cpu.shares", str(shares))
        )
    return shared


def _settings(hierarchy: Hierarchy, limits: Limits) -> list[tuple[str, str, bool]]:
    """(file, text, whether it must succeed) for a container in this hierarchy; none: it need not be in it.
    In v1 memory is always counted, because only there the kernel says that it ran out."""
    settings: list[tuple[str, str, bool]] = []
    second = hierarchy.version == 2
    if "memory" in hierarchy.controllers:
        if limits.memory_limit_mib is not None:
            bytes_ = str(limits.memory_limit_mib << 20)
            settings.append(("memory.max" if second else "memory.limit_in_bytes", bytes_, True))
            # Not counted everywhere; without it a container would go on in the machine's swap.
            settings.append(
                ("memory.swap.max", "0", False) if second else ("memory.memsw.limit_in_bytes", bytes_, False)
            )
        if second:
            settings.append(("memory.oom.group", "1", False))
    if "pids" in hierarchy.controllers:
        settings.append(("pids.max", str(limits.processes), True))
    asked = limits.cpu_limit is not None or limits.cpu_request != DEFAULT_CORES
    if "cpu" in hierarchy.controllers and (second or asked):
        shares = max(2, int(limits.cpu_request * SHARES_A_CORE))
        settings.append(
            ("cpu.weight", _weight(shares), False) if second else ("cpu.shares", str(shares), False)
        )
        if limits.cpu_limit is not None:
            quota_us = max(MIN_QUOTA_US, int(limits.cpu_limit * PERIOD_US))
            bounded = (
                ("cpu.max", f"{quota_us} {PERIOD_US}") if second else ("cpu.cfs_quota_us", str(quota_us))
            )
            settings.append((bounded[0], bounded[1], True))
    return settings


def _weight(shares: int) -> str:
    """v2 counts from 1 to 10000 what v1 counted from 2 to 262144."""
    return str(1 + (min(shares, 262_144) - 2) * 9999 // 262_142)


def _remove_leftovers(home: Path, directories: Sequence[Path]) -> None:
    """What a server of this home left that was killed: its containers are ended, its groups removed."""
    record = home / FOUND_BY
    known = _read(record).splitlines()
    for directory in dict.fromkeys([*known, *map(str, directories)]):
        _remove_all(Path(directory))
    record.write_text("".join(f"{each}\n" for each in directories))


def _remove_all(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for child in [each for each in directory.iterdir() if each.is_dir()]:
            _remove(child)
        directory.rmdir()


def _remove(path: Path) -> None:
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        _end_all(path)
        with contextlib.suppress(OSError):
            path.rmdir()


def _end_all(path: Path) -> None:
    """Kill what is in one group, so that nothing in it can fork on meanwhile."""
    with contextlib.suppress(OSError):
        _write(path / "pids.max", "0")
    with contextlib.suppress(OSError):
        _write(path / "cgroup.kill", "1")
    for _ in range(ENDINGS):
        living = [int(pid) for pid in _read(path / "cgroup.procs").split() if _lives(pid)]
        if not living:
            return
        for pid in living:
            _kill_and_wait(pid)


def _lives(pid: str) -> bool:
    """0 is a process of another PID namespace than ours, which cannot be reached from here."""
    state = _read(Path("/proc") / pid / "stat").rpartition(")")[2].split()[:1]
    return pid != "0" and state not in ([], ["Z"])


def _kill_and_wait(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        ended = select.poll()
        ended.register(fd, select.POLLIN)
        ended.poll(END_WAIT_MS)
    except OSError:
        pass
    finally:
        os.close(fd)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
