"""Who else uses a card: what counts as somebody else's process, and what somebody else's memory.

A compute process that no container of ours started makes a card busy. So does memory beyond a limit that
belongs to others: a desktop's few hundred MiB are no reason to leave a workstation's card idle, a game is.
Of a card this server holds, memory that no visible process explains is taken for ours: inside a container
NVML often names no processes at all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from glowplug.backends.local.inventory.locks import user_name
from glowplug.model.node import ForeignUse

FOREIGN_MEMORY_LIMIT_MIB = 1024
"""What displays, desktops and monitoring of others may hold on a card that still counts as free."""

ANCESTORS_MAX = 64
"""How far up the process tree a process is followed."""


@dataclass(frozen=True)
class GpuProcess:
    """A process as NVML lists it. ``computes`` and ``draws``: in which of the two lists it stands."""

    pid: int
    memory_mib: int
    computes: bool
    draws: bool
    command: str = ""


def foreign_uses(
    processes: Sequence[GpuProcess],
    used_mib: int,
    own_pids: Collection[int],
    *,
    held: bool,
    proc: Path = Path("/proc"),
) -> tuple[ForeignUse, ...]:
    """The uses that make a card busy, in pid order; memory of unknown owner comes last as pid 0."""
    foreign = [
        process
        for process in sorted(processes, key=lambda process: process.pid)
        if not _is_own(process.pid, own_pids, proc, unseen=held)
    ]
    busy = [process for process in foreign if process.computes and not _is_desktop(process)]
    idle = [process for process in foreign if process not in busy]
    unexplained_mib = 0 if held else max(0, used_mib - sum(process.memory_mib for process in processes))
    if unexplained_mib + sum(process.memory_mib for process in idle) > FOREIGN_MEMORY_LIMIT_MIB:
        busy = foreign
    elif not busy:
        return ()
    uses = [_describe(process, proc) for process in busy]
    if unexplained_mib > FOREIGN_MEMORY_LIMIT_MIB:
        uses.append(ForeignUse(0, "unknown", unexplained_mib))
    return tuple(uses)


def _is_desktop(process: GpuProcess) -> bool:
    """A program that draws and computes a little: browsers and compositors do."""
    return process.draws and process.memory_mib <= FOREIGN_MEMORY_LIMIT_MIB


def _is_own(pid: int, own_pids: Collection[int], proc: Path, *, unseen: bool) -> bool:
    """Whether a container of ours started it. ``unseen``: the answer for a process /proc does not show."""
    roots = {os.getpid(), *own_pids}
    if pid in roots:
        return True
    if not (proc / str(pid)).exists():
        return unseen
    for _ in range(ANCESTORS_MAX):
        parent = _parent(pid, proc)
        if parent is None or parent <= 1:
            return parent == 1 and 1 in roots
        if parent in roots:
            return True
        pid = parent
    return False


def _parent(pid: int, proc: Path) -> int | None:
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command in parentheses may itself hold spaces and parentheses.
    return int(stat.rpartition(")")[2].split()[1])


def _describe(process: GpuProcess, proc: Path) -> ForeignUse:
    directory = proc / str(process.pid)
    try:
        user = user_name(directory.stat().st_uid)
    except OSError:
        user = "unknown"
    try:
        command = (directory / "comm").read_text(errors="replace").strip()
    except OSError:
        command = os.path.basename(process.command)
    printable = "".join(character for character in command if character.isprintable())
    return ForeignUse(process.pid, user, process.memory_mib, printable)
