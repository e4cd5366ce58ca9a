"""What a definition means for a virtual environment: which steps make a layer, under which names, and what
comes along beside them.

A layer is named by everything that went into it and nothing else: chains that differ in variables set later,
in files or in a working directory share it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass, field

from glowplug.model import errors
from glowplug.model.image_spec import BuildStep, ImageSpec

LAYERS = frozenset({"base", "python_packages", "private_repos", "uv_sync", "poetry"})
WITHOUT_EFFECT = frozenset({"cmd", "shell"})
"""Only what runs commands of its own asks for them."""
HOME = "/root"


@dataclass(frozen=True)
class Layer:
    key: str
    number: int
    """Of its step, from 1."""
    step: BuildStep
    variables: dict[str, str]
    """Set by the steps before."""
    sources: tuple[tuple[str, str], ...]
    """(tree, path inside) of files copied before, which may be what is installed."""
    forced: bool

    @property
    def text(self) -> str:
        return text_of(self.step)


@dataclass(frozen=True)
class VenvPlan:
    layers: tuple[Layer, ...]
    variables: dict[str, str]
    workdir: str
    files: tuple[tuple[str, str], ...]
    """(tree, path inside), in order."""


@dataclass
class _Progress:
    key: str = ""
    layers: list[Layer] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    files: list[tuple[str, str]] = field(default_factory=list)


def plan_venv(spec: ImageSpec) -> VenvPlan:
    """Raises ``InvalidError`` for a step that a virtual environment cannot carry out."""
    at = _Progress()
    forced = False
    steps = spec.steps
    if not steps or steps[0].operation != "base":
        steps = (BuildStep("base", {"kind": "debian_slim"}, "debian_slim()"), *steps)
    for number, step in enumerate(steps, 1):
        forced = forced or step.force
        if step.operation in LAYERS:
            _add_layer(at, number, step, forced)
        elif step.operation == "env":
            at.variables.update(step.fields.get("variables", {}))
        elif step.operation == "workdir":
            at.workdir = _inside(step.fields["path"], at.workdir)
        elif step.operation == "copy":
            at.files.append((step.fields["tree"], _inside(step.fields["path"], at.workdir)))
        elif step.operation not in WITHOUT_EFFECT:
            raise errors.InvalidError(
                f"step {number} of the image, {text_of(step)}, needs a root file system of its own"
            )
    return VenvPlan(tuple(at.layers), dict(at.variables), at.workdir, tuple(at.files))


def text_of(step: BuildStep) -> str:
    """A step as progress and errors name it."""
    return step.text or step.operation


def python_version(step: BuildStep) -> str:
    """Of a base; the server's own where none is said."""
    return step.fields.get("python_version") or f"{sys.version_info.major}.{sys.version_info.minor}"


def copied_source(name: str, sources: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    """(tree, path below it) when ``name`` is a path among the copied files, the last copy first."""
    path = os.path.normpath(name)
    for tree, place in reversed(sources):
        if path == place or path.startswith(place.rstrip("/") + "/"):
            return tree, os.path.relpath(path, place)
    return None


def _add_layer(at: _Progress, number: int, step: BuildStep, forced: bool) -> None:
    if step.operation == "base":
        said: object = ["base", python_version(step)]
    else:
        names = [name for name in step.fields.get("packages", ()) if name.startswith("/")]
        used = [copied_source(name, tuple(at.files)) for name in names]
        said = [ImageSpec((step,)).digest, sorted(at.variables.items()), used]
    text = json.dumps(["glowplug venv 1", at.key, said], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    at.layers.append(Layer(key, number, step, dict(at.variables), tuple(at.files), forced))
    at.key = key


def _inside(path: str, workdir: str) -> str:
    return os.path.normpath(os.path.join(workdir or HOME, path))
