"""Which interpreter serves a Python version: the server's own, uv's, pyenv's, the system's; else uv may
fetch it."""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glowplug.images.commands import CommandFailed, run_command
from glowplug.images.disk import read_json, write_json
from glowplug.images.uv import uv_path
from glowplug.model import errors

OLDEST = (3, 9)
"""What Glowplug itself runs on inside."""
PROBE_TIMEOUT_S = 20.0
_PROBE = (
    "import json,sys,sysconfig;"
    "print(json.dumps(['%d.%d.%d'%sys.version_info[:3],sys.implementation.name,sys.prefix,"
    "bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"
)


@dataclass(frozen=True)
class Python:
    path: str
    version: str
    """"3.11.7"."""


class Pythons:
    """Finds interpreters; remembers what each said, by its path and time, in ``memory``."""

    def __init__(self, memory: Path, environ: Mapping[str, str]) -> None:
        self._memory = memory
        self._environ = environ

    def find(self, wanted: str) -> Python | None:
        """The server's own if it is ``wanted`` ("3.12", "3.12.4"), else the newest that is."""
        own = Python(os.path.realpath(sys.executable), "{}.{}.{}".format(*sys.version_info[:3]))
        if fits(own.version, wanted) and sys.implementation.name == "cpython":
            return own
        found = [each for each in self.all(wanted) if fits(each.version, wanted)]
        return max(found, key=lambda each: _numbers(each.version), default=None)

    def require(
        self,
        wanted: str,
        variables: Mapping[str, str],
        on_line: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> Python:
        """As ``find``, asking uv for it when there is none. Raises ``ImageBuildError``."""
        check_version(wanted)
        found = self.find(wanted)
        if found is not None:
            return found
        on_line(f"there is no Python {wanted} on this machine; asking uv for one")
        try:
            run_command([uv_path(), "python", "install", wanted], variables, on_line, stopped)
        except CommandFailed:
            reason = "and uv could not fetch it"
        else:
            reason = "and what uv fetched does not run here"
            found = self.find(wanted)
        if found is not None:
            return found
        versions = sorted({each.version for each in self.all()}, key=_numbers)
        raise errors.ImageBuildError(
            f"there is no Python {wanted} on this machine, {reason}. It has {', '.join(versions) or 'none'}: "
            f"use one of these as python_version=, or install Python {wanted} ("
            f"`uv python install {wanted}`, `pyenv install {wanted}` or the system's packages)"
        )

    def all(self, wanted: str = "") -> list[Python]:
        """Every interpreter of this machine that can serve, each once; with ``wanted`` without those that
        are another one by their name."""
        memory = read_json(self._memory)
        remembered: dict[str, list[object]] = memory if isinstance(memory, dict) else {}
        now = dict(remembered)
        found: dict[str, Python] = {}
        seen: set[str] = set()
        for candidate in self._candidates():
            path = os.path.realpath(candidate)
            minor = re.fullmatch(r"python(3\.\d+)", os.path.basename(path))
            if path in seen or (wanted and minor and ".".join(wanted.split(".")[:2]) != minor[1]):
                continue
            seen.add(path)
            try:
                stat = os.stat(path)
            except OSError:
                continue
            known = remembered.get(path)
            stamp = [stat.st_size, stat.st_mtime_ns]
            said = known[1] if known and known[0] == stamp else _ask(path)
            now[path] = [stamp, said]
            if isinstance(said, str) and said and _numbers(said)[:2] >= OLDEST:
                found[path] = Python(path, said)
        if now != remembered:
            try:
                self._memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_json(self._memory, now)
            except OSError:
                pass  # it is asked again next time
        return list(found.values())

    def _candidates(self) -> Iterator[str]:
        home = self._environ.get("HOME", "/")
        base = sys.base_exec_prefix
        yield f"{base}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        yield sys.executable if sys.prefix == sys.base_prefix else f"{base}/bin/python3"
        pyenv = self._environ.get("PYENV_ROOT") or f"{home}/.pyenv"
        share = self._environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
        uvs = self._environ.get("UV_PYTHON_INSTALL_DIR") or f"{share}/uv/python"
        for directory in (f"{uvs}/*", f"{pyenv}/versions/*", "/opt/python/*"):
            for path in sorted(glob.glob(f"{directory}/bin/python3.*")):
                if re.fullmatch(r"python3\.\d+", os.path.basename(path)):
                    yield path
        shims = os.path.realpath(f"{pyenv}/shims")
        for directory in [
            *self._environ.get("PATH", os.defpath).split(os.pathsep),
            "/usr/local/bin",
            "/usr/bin",
        ]:
            if not directory or os.path.realpath(directory) == shims:
                continue  # those names run nothing but pyenv
            for path in sorted(glob.glob(f"{glob.escape(directory)}/python3*")):
                if re.fullmatch(r"python3(\.\d+)?", os.path.basename(path)):
                    yield path


def check_version(wanted: str) -> None:
    """Raises ``ImageBuildError`` for what is no version of Python 3 that Glowplug runs on."""
    if not re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", wanted):
        raise errors.ImageBuildError(
            f"python_version={wanted!r} is no version of Python: write '3.12', for example"
        )
    if _numbers(wanted)[:2] < OLDEST:
        raise errors.ImageBuildError(
            f"python_version={wanted!r} is too old: functions run on Python "
            f"{'.'.join(map(str, OLDEST))} or newer"
        )


def fits(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(wanted + ".")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _ask(path: str) -> str:
    """Its version; empty for what does not run, and for Pythons of another kind."""
    try:
        done = subprocess.run(
            [path, "-I", "-S", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            env={"PATH": os.defpath},
        )
        version, name, _, free_threaded = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return version if name == "cpython" and not free_threaded else ""
