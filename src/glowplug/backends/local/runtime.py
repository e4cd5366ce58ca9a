"""What images are shown of Glowplug: a copy in the server's home, with bytecode for each Python that images
have.

Inside a container it can be read only, so nothing that an import compiles there would be kept. The copy is as
the sources were when the server started; its bytecode is not compared with them again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from glowplug.model import errors
from glowplug.ports.images import BuiltImage

INSIDE = "/.glowplug/runtime"
PACKAGES = ("glowplug", "cloudpickle")
NEEDED = ("client", "container", "model", "sdk", "wire")
"""Of Glowplug's own packages; a container imports no other."""
NICENESS = 10


class Runtime:
    """``home`` is the server's; no other server uses it meanwhile."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._asked: set[str] = set()
        self._compiling: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    def binds(self, built: BuiltImage) -> list[tuple[str, str]]:
        """(source, path) of the packages, for a container over this image. Where they have no bytecode for
        its Python yet, that is made meanwhile."""
        directory = self._directory
        if directory is None:
            return [(source, f"{INSIDE}/{name}") for name, source in packages()]
        version = built.python_version
        # The interpreter inside a root is whatever somebody put there, and this copy is for all images.
        if not built.root and version not in self._asked and not _mark(directory, version).exists():
            self._asked.add(version)
            arguments = (directory, version, built.executable)
            thread = threading.Thread(target=self._compile, args=arguments, name="runtime-bytecode")
            self._threads.append(thread)
            thread.start()
        return [(str(directory / name), f"{INSIDE}/{name}") for name in PACKAGES]

    def close(self) -> None:
        """What compiles is ended; the next server compiles again."""
        self._closed = True
        for each in self._compiling:
            each.kill()
        self.wait()

    def wait(self) -> None:
        """Until all bytecode that was asked for is there, or cannot be made."""
        for each in self._threads:
            each.join()

    @functools.cached_property
    def _directory(self) -> Path | None:
        """None where no copy can be made."""
        above = self._home / "runtimes"
        directory = above / _digest()
        try:
            if not directory.is_dir():
                shutil.rmtree(above, ignore_errors=True)  # of another Glowplug
                making = above / f"{directory.name}.new"
                for name, source in packages():
                    shutil.copytree(source, making / name, ignore=_ignored)
                making.replace(directory)
        except OSError:
            return None
        return directory

    def _compile(self, directory: Path, version: str, executable: str) -> None:
        wanted = [str(directory / "cloudpickle"), *(str(directory / "glowplug" / each) for each in NEEDED)]
        wanted += map(str, (directory / "glowplug").glob("*.py"))
        arguments = ["-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *wanted]
        try:
            compiling = subprocess.Popen(
                ["nice", "-n", str(NICENESS), executable, *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError:
            return  # each container compiles what it imports
        self._compiling.append(compiling)
        if self._closed:
            compiling.kill()
        if compiling.wait() == 0:
            with contextlib.suppress(OSError):
                _mark(directory, version).touch()


def _mark(directory: Path, version: str) -> Path:
    return directory / f"compiled-{version}"


@functools.cache
def packages() -> list[tuple[str, str]]:
    """(name, directory) of what an image is shown."""
    found = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise errors.InternalError(f"the package {name} of this installation cannot be found")
        found.append((name, os.path.realpath(next(iter(spec.submodule_search_locations)))))
    return found


def _ignored(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


@functools.cache
def _digest() -> str:
    """Another one for every change of a file."""
    found = hashlib.sha256()
    for name, source in packages():
        for path, status in _files(source):
            found.update(f"{name}{path[len(source) :]} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]


def _files(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    for above, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name != "__pycache__")
        for name in sorted(names):
            path = os.path.join(above, name)
            yield path, os.stat(path)
