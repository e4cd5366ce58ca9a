"""Images with a root of their own, for tests: one home for a whole session, because its Debian takes long."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from glowplug.images.oci import OciBuilder
from glowplug.images.oci.builder import OciSettings
from glowplug.images.oci.room import require_room
from glowplug.model.errors import ImageBuildError
from glowplug.model.image_spec import BuildStep, ImageSpec
from glowplug.ports.images import BuiltImage
from glowplug.store.buckets.buckets import Buckets
from glowplug.store.volumes.views import Views
from glowplug.store.volumes.volumes import Volumes

KEPT_HOME = "GLOWPLUG_TEST_OCI_HOME"
"""A directory whose Debians are used again by the next session."""
MIRROR = "deb.debian.org"


def why_not() -> str:
    """Why OCI images cannot be tested here; empty when they can."""
    missing = [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    try:
        require_room()
    except ImageBuildError as error:
        return str(error)
    try:
        socket.create_connection((MIRROR, 80), timeout=5).close()
    except OSError as error:
        return f"no Debian mirror: {error}"
    return ""


@dataclass
class Log:
    """What a build told."""

    steps: list[tuple[int, int, str, bool]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    on_line: Callable[[str], None] = lambda text: None

    def step(self, number: int, count: int, text: str, cached: bool) -> None:
        self.steps.append((number, count, text, cached))

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.on_line(text)

    @property
    def built(self) -> list[int]:
        return [number for number, _, _, cached in self.steps if not cached]


@dataclass
class OciPlace:
    """A home with its builder."""

    home: Path
    volatile: Path
    mirror: str = f"http://{MIRROR}/debian"

    def builder(self, **options: Any) -> OciBuilder:
        settings = OciSettings(base="debian", debian_mirror=self.mirror)
        views = Views(Volumes(self.home), Buckets(self.home))
        return OciBuilder(self.home, self.volatile, settings=settings, **{"volumes": views, **options})

    def build(
        self,
        *steps: BuildStep,
        python: str = "3.11",
        base: BuildStep | None = None,
        log: Log | None = None,
        secrets: dict[str, dict[str, str]] | None = None,
        trees: Callable[[str], Path] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> BuiltImage:
        return self.builder().build(
            spec_of(*steps, python=python, base=base),
            trees or (lambda digest: Path("/nowhere")),
            lambda name: (secrets or {})[name],
            log or Log(),
            stopped,
        )


def spec_of(*steps: BuildStep, python: str = "3.11", base: BuildStep | None = None) -> ImageSpec:
    first = base or step("base", kind="debian_slim", python_version=python)
    return ImageSpec((first, *steps))


def step(operation: str, own: dict[str, Any] | None = None, **fields: Any) -> BuildStep:
    """``own``: what a step has beside its fields."""
    return BuildStep(operation, fields, **{"text": f"{operation}(…)", **(own or {})})


def run(*commands: str, **options: Any) -> BuildStep:
    return step("run", options, commands=list(commands))


def make_place(tmp_path_factory: pytest.TempPathFactory) -> OciPlace:
    """Skips where there can be none."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    kept = os.environ.get(KEPT_HOME)
    home = Path(kept) if kept else tmp_path_factory.mktemp("oci-home")
    place = OciPlace(home, tmp_path_factory.mktemp("oci-volatile"))
    for record in home.glob("images/oci/images/*.json"):
        record.unlink()
    bases = {spec_of(python=each).digest for each in ("3.9", "3.11", "3.13")}
    place.builder().remove_layers(bases, ())
    place.build()
    return place
