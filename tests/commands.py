"""`glowplug` as a user runs it, in a home of its own whose server ends with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ON_THE_CPU = {"GLOWPLUG_GPUS": "2xA100", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Finished:
    status: int
    stdout: str
    stderr: str
    result: str = ""
    """What the entrypoint returned, where it returned text."""

    @property
    def value(self) -> Any:
        return json.loads(self.result)

    @property
    def said(self) -> str:
        return f"exit status {self.status}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Home:
    """``environ`` adds to this process's own variables, of which those of another Glowplug are left out."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # Not below a test's own directory: a Unix socket there would have too long a name.
        self.directory = Path(tempfile.mkdtemp(prefix="gp-"))
        (self.directory / "run").mkdir(mode=0o700)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GLOWPLUG_")},
            "GLOWPLUG_HOME": str(self.directory / "home"),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
            "NO_COLOR": "1",
            "COLUMNS": "120",
            **environ,
        }

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "glowplug.cli.main", *arguments],
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(
        self, *arguments: str, timeout_s: float = 120, environ: Mapping[str, str] | None = None
    ) -> Finished:
        """Run it to its end; one that is late is killed with its children, which fails the test."""
        return finish(self.start(*arguments, environ=environ), timeout_s)

    def run(
        self,
        script: Path,
        *arguments: str,
        options: tuple[str, ...] = (),
        name: str = "",
        timeout_s: float = 120,
        environ: Mapping[str, str] | None = None,
    ) -> Finished:
        """``glowplug run SCRIPT[::NAME]``, which must succeed."""
        result = self.directory / "result"
        result.unlink(missing_ok=True)
        reference = f"{script}::{name}" if name else str(script)
        wanted = ("--write-result", str(result)) if name else ()
        done = self.command(
            "run", *options, *wanted, reference, *arguments, timeout_s=timeout_s, environ=environ
        )
        assert done.status == 0, done.said
        written = result.read_text() if result.exists() else ""
        return Finished(done.status, done.stdout, done.stderr, written)

    def close(self) -> None:
        self.command("server", "stop", timeout_s=30)
        shutil.rmtree(self.directory, ignore_errors=True)


def finish(process: subprocess.Popen[str], timeout_s: float) -> Finished:
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        late = Finished(-signal.SIGKILL, stdout, stderr)
        raise AssertionError(f"{process.args} did not end within {timeout_s:g} s\n{late.said}") from None
    return Finished(process.returncode, stdout, stderr)
