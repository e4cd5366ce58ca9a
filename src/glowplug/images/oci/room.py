"""Runs one command of a build in a room of its own, and ends all of it when it must end.

The room has its own processes, mounts and devices (room.sh). As an ordinary user it is also a user namespace
with the subordinate ids of that user, as packages have files of several users. When this process is
killed, or wants to stop, the first process of the room dies, and with it everything inside.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glowplug.model import errors

POLL_S = 0.1
PROBE_TIMEOUT_S = 10.0
READ_BYTES = 64 << 10
SHOWN_INSIDE = "/.glowplug"
"""Where a build step sees what it is shown."""
_NAMESPACES = ("--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc")
_SUBORDINATE_IDS = ("--user", "--map-root-user", "--map-auto")


@dataclass(frozen=True)
class Shown:
    """A file or directory of this machine that a build sees under ``/.glowplug``."""

    name: str
    source: str
    writable: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended. ``stopped``: because it was told to."""

    code: int
    stopped: bool = False


@dataclass(frozen=True)
class Room:
    """What is around one command."""

    shown: Sequence[Shown] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """In memory only: ``shown/NAME`` for the build to see, ``own/NAME`` for the command."""
    environ: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[str] = ()
    """Further device nodes, as paths below /dev."""

    def run(
        self,
        command: Callable[[str], Sequence[str]],
        on_line: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> Ended:
        """Run ``command(stage)`` in it; ``stage`` is the directory with ``shown`` and ``own``. Each line of
        its output goes to ``on_line``. Raises ``ImageBuildError`` where no room can be made."""
        require_room()
        stage = _stage()
        names = [
            f"{each.name}{':' if each.writable else ''}={os.path.realpath(each.source)}"
            for each in self.shown
        ]
        arguments = [
            *_opening(), "sh", str(Path(__file__).with_name("room.sh")), stage, *names, "--",
            *command(stage),
        ]  # fmt: skip
        environ = {**self.environ, "GLOWPLUG_DEVICES": " ".join(self.devices)}
        return _run(arguments, environ, _archive(self.files), on_line, stopped)


def _stage() -> str:
    """An empty directory that every room of this user puts its own files over, where no other room sees
    them: one for all, so that a room whose server is killed leaves none. Raises ``ImageBuildError``."""
    place = os.path.join(tempfile.gettempdir(), f"glowplug-build-{os.getuid()}")
    try:
        os.mkdir(place, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(place)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise errors.ImageBuildError(
            f"{place} is needed for builds and is somebody else's: remove it, or name another directory by "
            "TMPDIR"
        )
    return place


def _archive(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644 if name.startswith("shown/") else 0o600
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def require_room() -> None:
    """Raises ``ImageBuildError`` when this user cannot have namespaces of its own here."""
    global _works
    problem = "" if _works else _problem()
    if problem:
        raise errors.ImageBuildError(problem)
    _works = True


_works = False
"""Found once, it is so for good; a refusal may be mended while the server runs."""


def _problem() -> str:
    missing = [name for name in ("unshare", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"images with a root of their own need {' and '.join(missing)}: install util-linux"
    try:
        done = subprocess.run(
            [*_opening(), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
        reason = "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if not reason:
        return ""
    if os.getuid() == 0:
        return (
            "images with a root file system of their own cannot be built here: new namespaces are refused "
            f"({reason}). In a container, give it the capability SYS_ADMIN or run the server outside."
        )
    if shutil.which("newuidmap") is None:
        remedy = "Install newuidmap (package uidmap)."
    elif not _has_subordinate_ids():
        remedy = (
            "This user has no subordinate ids: `sudo usermod --add-subuids 100000-165535 "
            "--add-subgids 100000-165535 $USER` gives it some."
        )
    else:
        remedy = "The kernel may forbid user namespaces: `sysctl kernel.unprivileged_userns_clone`."
    return (
        "images with a root file system of their own cannot be built by this user: a namespace of several "
        f"users is refused ({reason}). {remedy}"
    )


def _has_subordinate_ids() -> bool:
    import pwd

    try:
        own = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        own = {str(os.getuid())}
    for path in ("/etc/subuid", "/etc/subgid"):
        try:
            owners = {line.split(":")[0] for line in Path(path).read_text().splitlines()}
        except OSError:
            return False
        if not own & owners:
            return False
    return True


def _opening() -> list[str]:
    users = () if os.getuid() == 0 else _SUBORDINATE_IDS
    return ["setpriv", "--pdeathsig", "KILL", "--", "unshare", *users, *_NAMESPACES]


def _run(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    given: bytes,
    on_line: Callable[[str], None],
    stopped: Callable[[], bool],
) -> Ended:
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        try:
            process.stdin.write(given)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once; its output says why
        ended = _follow(process, on_line, stopped)
        return Ended(process.wait(), ended)
    finally:
        if process.poll() is None:
            _end(process)
        process.stdout.close()


def _follow(
    process: subprocess.Popen[bytes], on_line: Callable[[str], None], stopped: Callable[[], bool]
) -> bool:
    """Hand on its lines until it closes its output; True when it was stopped instead."""
    assert process.stdout is not None
    fd = process.stdout.fileno()
    rest = b""
    while True:
        if stopped():
            _end(process)
            return True
        if not select.select([fd], [], [], POLL_S)[0]:
            continue
        chunk = os.read(fd, READ_BYTES)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            on_line(_last_shown(line))
        if not chunk:
            if rest:
                on_line(_last_shown(rest))
            return False


def _last_shown(line: bytes) -> str:
    """A progress bar writes over itself; what it showed at the end counts."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    # Its child, the first process of the room, dies with it; the group is for what has not got that far.
    for end in (process.kill, lambda: os.killpg(process.pid, signal.SIGKILL)):
        try:
            end()
        except ProcessLookupError:
            pass
    process.wait()
