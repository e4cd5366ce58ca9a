"""What of the paths that containers are shown they must not see: what the host keeps from "others", the
server's own places, keys beside a script, and the kernel's corners for root.

A server that runs as root has containers whose user is, outside, root without capabilities: as the owner it
could read what is root's alone. So the modes of files cannot protect them, and they are covered.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence

HOST_DIRECTORIES = ("/etc", "/opt")
"""Where a machine keeps what is not for everybody; below others nothing but programs is expected."""
DEPTH = 6
ENTRIES = 20_000
KERNEL = (
    "/sys/fs",  # control groups of other containers, BPF programs
    "/sys/firmware",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)
KEYS = (
    ".aws", ".azure", ".config/gcloud", ".docker", ".git-credentials", ".gnupg", ".kube", ".modal.toml",
    ".netrc", ".pypirc", ".ssh",
)  # fmt: skip
"""In a script's directory when that is somebody's home."""


class HiddenPaths:
    """``own``: the server's places. The machine's are looked up when it is made, and on ``refresh``."""

    def __init__(self, own: Sequence[str], directories: Sequence[str] = HOST_DIRECTORIES) -> None:
        self._own = tuple(os.path.realpath(path) for path in own)
        self._directories = tuple(directories)
        self._of_host: tuple[str, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        found = [path for directory in self._directories for path in not_for_others(directory)]
        self._of_host = (*found, *(path for path in KERNEL if os.path.isdir(path)))

    def within(self, shown: Mapping[str, str], script_directory: str | None) -> list[str]:
        """Those that would be seen through ``shown`` (source by path), as paths inside."""
        sources = [*self._of_host, *self._own]
        if script_directory is not None:
            sources += [f"{script_directory}/{name}" for name in KEYS]
        found = []
        for source in sources:
            if not os.path.lexists(source) or source in shown.values():
                continue
            for path, origin in shown.items():
                if source.startswith(origin.rstrip("/") + "/"):
                    found.append(path.rstrip("/") + source[len(origin.rstrip("/")) :])
        return sorted(set(found))


def not_for_others(directory: str) -> Iterable[str]:
    """Files and directories below that "others" may not read, the topmost of each branch."""
    left = ENTRIES
    waiting = [(directory, 0)]
    while waiting and left:
        path, depth = waiting.pop()
        try:
            entries = list(os.scandir(path))
        except OSError:
            continue
        for entry in entries[:left]:
            left -= 1
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except OSError:
                continue
            if stat.S_ISDIR(mode):
                if mode & 0o005 != 0o005:
                    yield entry.path
                elif depth < DEPTH:
                    waiting.append((entry.path, depth + 1))
            elif not stat.S_ISLNK(mode) and not mode & 0o004:
                yield entry.path
