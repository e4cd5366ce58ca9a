"""What a container uses, read from outside: memory of its processes, and what it wrote."""

from __future__ import annotations

import os
from pathlib import Path

BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system's own."""


def descendants(pids: set[int]) -> set[int]:
    """These processes and all that came of them."""
    found = set(pids)
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        try:
            threads = os.listdir(f"/proc/{pid}/task")
            children = [
                int(c) for t in threads for c in Path(f"/proc/{pid}/task/{t}/children").read_text().split()
            ]
        except OSError:
            continue
        waiting += [child for child in children if child not in found]
        found.update(children)
    return found


def memory_mib(first_pid: int, limit_mib: int) -> int:
    """Memory held by a container's processes and by the files it has in memory.

    What a fork shares with the process it came of counts for both in the cheap count; only where that is
    above ``limit_mib`` are the pages counted by their share, which takes milliseconds a process.
    """
    pids = descendants({first_pid})
    files = in_memory_mib(first_pid)
    cheap = sum(_status_kib(pid) for pid in pids) >> 10
    if cheap + files <= limit_mib:
        return cheap + files
    return (sum(_share_kib(pid) for pid in pids) >> 10) + files


def in_memory_mib(first_pid: int) -> int:
    """What a container has written to its own root and its /dev/shm, where these are in memory."""
    total = 0
    for path in (f"/proc/{first_pid}/root/", f"/proc/{first_pid}/root/dev/shm"):
        try:
            status = os.statvfs(path)
            if _is_in_memory(path):
                total += (status.f_blocks - status.f_bfree) * status.f_frsize
        except OSError:
            continue
    return total >> 20


def written_mib(directory: Path) -> int:
    """What the files below ``directory`` take on disk."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * BLOCK_BYTES
            except OSError:
                continue
    return total >> 20


def _is_in_memory(path: str) -> bool:
    """Virtual file systems have no device: its major number is 0."""
    return os.major(os.stat(path).st_dev) == 0


def _status_kib(pid: int) -> int:
    wanted = ("RssAnon:", "RssShmem:")
    return sum(int(line.split()[1]) for line in _lines(f"/proc/{pid}/status") if line.startswith(wanted))


def _share_kib(pid: int) -> int:
    lines = _lines(f"/proc/{pid}/smaps_rollup")
    if not lines:
        return _status_kib(pid)
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.readlines()
    except OSError:
        return []
