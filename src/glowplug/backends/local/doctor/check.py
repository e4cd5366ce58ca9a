"""One finding, and what the findings share: where they look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """``fail``: something will not work. ``warn``: it works with less. ``fix``: a command, or what to do."""

    name: str
    status: Status
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Patient:
    """The machine looked at: its file system, this process's environment, and NVML."""

    home: Path
    environ: Mapping[str, str]
    root: Path = Path("/")
    nvml: Any = None

    def read(self, path: str) -> str:
        """A file's text without surrounding space; empty when there is none."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    @property
    def in_container(self) -> bool:
        """Whether this is a Docker, Podman or Kubernetes container, whose host decides what is allowed."""
        marks = any(self.exists(path) for path in (".dockerenv", "run/.containerenv"))
        return marks or bool(self.environ.get("KUBERNETES_SERVICE_HOST") or self.environ.get("container"))

    @property
    def in_wsl(self) -> bool:
        return "microsoft" in self.read("proc/version").lower()
