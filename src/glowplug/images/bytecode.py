"""Compiling the modules of finished environments, beside everything else.

An environment is used as soon as it is installed; compiling all of it takes several times as long as that
and makes only later imports quicker. What is imported in between is compiled by whoever imports it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from pathlib import Path

from glowplug.images.commands import BuildStopped, CommandFailed, run_command

MARK = ".compiled"
NICENESS = 10


class BytecodeCompiler:
    """One environment after the other, on a thread of its own, as an unimportant process."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._known: set[Path] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def compile(self, venv: Path) -> None:
        """Some time soon; at once known when it was done before."""
        with self._lock:
            if self._closed or venv in self._known:
                return
            self._known.add(venv)
            if (venv / MARK).exists():
                return
            self._queue.put(venv)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bytecode", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closed = True
        thread = self._thread
        if thread is not None:
            self._queue.put(Path())
            thread.join()

    def _run(self) -> None:
        while not self._closed:
            venv = self._queue.get()
            if venv != Path() and not self._closed:
                self._compile(venv)

    def _compile(self, venv: Path) -> None:
        variables = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
        command = [str(venv / "bin/python"), "-I", "-m", "compileall", "-qq", "-j", "0", str(venv / "lib")]
        try:
            run_command(["nice", "-n", str(NICENESS), *command], variables, _ignore, lambda: self._closed)
        except CommandFailed:
            pass  # templates and programs of other Pythons do not compile, and nobody imports them
        except (BuildStopped, OSError, subprocess.SubprocessError):
            return
        try:
            (venv / MARK).touch()
        except OSError:
            pass  # removed meanwhile, or a full disk: it is compiled again some time


def _ignore(text: str) -> None:
    pass
