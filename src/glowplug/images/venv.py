"""Virtual environments made by uv: a layer a step that installs something, each a directory of its own.

A layer begins as a copy of the one below whose files are the same ones (hard links), so that a failed step
costs nothing of what was good and chains with a common beginning share it. Environments are relocatable: the
programs of a layer find the interpreter beside them. A layer is made under its final name, which is new each
time; it counts only once its record, written last, names it. What no record names is swept.
"""

from __future__ import annotations

import json
import secrets as randomness
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glowplug.images.bytecode import MARK as COMPILED_MARK
from glowplug.images.bytecode import BytecodeCompiler
from glowplug.images.commands import run_command
from glowplug.images.disk import full_text, is_full, link_tree, read_json, remove_tree, write_json
from glowplug.images.locks import locked, locked_if_free
from glowplug.images.pythons import Pythons
from glowplug.images.uv import uv_path
from glowplug.images.venv_layer import LayerBuild
from glowplug.images.venv_plan import Layer, VenvPlan, plan_venv, text_of
from glowplug.images.venv_steps import Command
from glowplug.images.whole import Manifest, changed, damaged, take_manifest
from glowplug.model import errors
from glowplug.model.image_spec import ImageSpec
from glowplug.ports.images import BuildLog, BuiltImage

_PROBE = (
    "import json,sys;print(json.dumps([sys.prefix,sys.base_prefix,sys.path,'%d.%d'%sys.version_info[:2]]))"
)


@dataclass(frozen=True)
class BuiltLayer:
    """A layer's record."""

    directory: Path
    python: str
    prefix: str
    base_prefix: str
    sys_path: tuple[str, ...]
    manifest: Manifest
    text: str
    seconds: float
    built_at: float
    damaged: bool = False


class VenvBuilder:
    """``directory`` holds the layers; ``trees_directory`` the files of trees, by digest."""

    name = "venv"

    def __init__(
        self, directory: Path, trees_directory: Path, environ: Mapping[str, str], compiler: BytecodeCompiler
    ) -> None:
        self._directory = directory
        self._trees = trees_directory
        self._environ = environ
        self._compiler = compiler
        self._pythons = Pythons(directory / "pythons.json", environ)

    # the port

    def find(self, spec: ImageSpec) -> BuiltImage | None:
        plan = plan_venv(spec)
        layer = self._whole(plan.layers[-1].key)
        if layer is None or not all((self._trees / tree).is_dir() for tree, _ in plan.files):
            return None
        return self._image(spec, plan, layer)

    def build(
        self,
        spec: ImageSpec,
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
    ) -> BuiltImage:
        plan = plan_venv(spec)
        layers = {layer.number: layer for layer in plan.layers}
        first = 1 if len(spec.steps) and spec.steps[0].operation == "base" else 2
        count = len(spec.steps) + first - 1
        below: BuiltLayer | None = None
        for number in range(1, count + 1):
            layer = layers.get(number)
            if layer is None:
                log.step(number, count, text_of(spec.steps[number - first]), True)
                continue
            try:
                below = self._make_layer(layer, count, below, trees, secrets, log, stopped)
            except OSError as error:
                if not is_full(error):
                    raise
                raise errors.ImageBuildError(
                    f"step {number} of {count}, {layer.text}, failed: {full_text(self._directory)}"
                ) from error
        assert below is not None
        for tree, _ in plan.files:
            trees(tree)
        return self._image(spec, plan, below)

    def remove(self, image_id: str) -> int:
        """Nothing is kept by image: layers go when no image needs them (``remove_layers``)."""
        return 0

    # what the catalogue asks

    def layers_of(self, spec: ImageSpec) -> list[tuple[str, str]]:
        """(key, text of the step), from the base up."""
        return [(layer.key, layer.text) for layer in plan_venv(spec).layers]

    def size(self, spec: ImageSpec) -> int:
        """Bytes of the files, the shared ones too."""
        layer = self._record(plan_venv(spec).layers[-1].key)
        return layer.manifest.total_bytes if layer is not None else 0

    def examine(self, spec: ImageSpec) -> dict[str, list[str]]:
        """Every file against the digest that its package came with; what differs, by package."""
        layer = self._record(plan_venv(spec).layers[-1].key)
        if layer is None:
            return {"the environment": ["it is gone"]}
        found: dict[str, list[str]] = {}
        for site_packages in _site_packages(layer.directory):
            found |= damaged(site_packages)
        path = changed(layer.directory, layer.manifest)
        if path and not any(path.endswith(each) for paths in found.values() for each in paths):
            found.setdefault("the environment", []).append(path)
        return found

    def condemn(self, spec: ImageSpec) -> None:
        """The top layer is no longer whole; its record stays, to tell what is to be fetched anew."""
        key = plan_venv(spec).layers[-1].key
        with locked(self._lock(key), lambda: False):
            record = read_json(self._record_path(key))
            if isinstance(record, dict):
                write_json(self._record_path(key), {**record, "damaged": True})

    def remove_layers(self, keep: Collection[str], spare: Collection[str]) -> int:
        """Forget every layer whose key is not among ``keep``; returns the bytes that are free now.
        ``spare``: directories that containers may be using."""
        for record in self._directory.glob("layers/*.json"):
            if record.stem not in keep:
                with locked_if_free(self._lock(record.stem)) as ours:
                    if ours:
                        record.unlink(missing_ok=True)
        return self.sweep(spare)

    def sweep(self, spare: Collection[str] = ()) -> int:
        """Remove directories that no record names, nobody is making and no container uses: ``spare``."""
        freed = 0
        for path in self._directory.glob("layers/*-*"):
            key = path.name.split("-")[0]
            with locked_if_free(self._lock(key)) as ours:
                record = read_json(self._record_path(key))
                named = isinstance(record, dict) and record.get("directory") == path.name
                if ours and not named and str(path) not in spare:
                    freed += remove_tree(path)
        return freed

    # layers

    def _make_layer(
        self,
        layer: Layer,
        count: int,
        below: BuiltLayer | None,
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
    ) -> BuiltLayer:
        with locked(self._lock(layer.key), stopped):
            found = None if layer.forced else self._whole(layer.key)
            log.step(layer.number, count, layer.text, found is not None)
            if found is not None:
                return found
            started = time.monotonic()
            directory = self._directory / "layers" / f"{layer.key}-{randomness.token_hex(4)}"
            directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            making = LayerBuild(
                layer, count, directory, self._pythons, self._environ, trees, secrets, log, stopped
            )
            try:
                if below is None:
                    making.make_base()
                else:
                    self._refetch_damaged(layer, making)
                    link_tree(below.directory, directory)
                    (directory / COMPILED_MARK).unlink(missing_ok=True)
                    making.install()
                return self._keep(layer, directory, time.monotonic() - started)
            except BaseException:
                remove_tree(directory)
                raise

    def _refetch_damaged(self, layer: Layer, making: LayerBuild) -> None:
        """Files of an environment are also those of uv's cache: what was damaged here is so there."""
        record = self._record(layer.key)
        if record is None:
            return
        names: set[str] = set()
        for site_packages in _site_packages(record.directory):
            names |= damaged(site_packages).keys()
        if names:
            making.say(f"damaged since it was built, fetched anew: {', '.join(sorted(names))}")
            command = Command([uv_path(), "cache", "clean", *sorted(names)], "uv cache clean")
            making.run(command, making.variables())

    def _keep(self, layer: Layer, directory: Path, seconds: float) -> BuiltLayer:
        lines = run_command([str(directory / "bin/python"), "-I", "-c", _PROBE], {}, _ignore, lambda: False)
        prefix, base_prefix, sys_path, version = json.loads(lines[-1])
        built = BuiltLayer(
            directory, version, prefix, base_prefix, tuple(sys_path), take_manifest(directory),
            layer.text, seconds, time.time(),
        )  # fmt: skip
        write_json(self._record_path(layer.key), _layer_to_wire(built))
        return built

    def _whole(self, key: str) -> BuiltLayer | None:
        """The layer, unless it is absent or not as it was made."""
        layer = self._record(key)
        if layer is None or layer.damaged or not (layer.directory / "bin/python").exists():
            return None
        return None if changed(layer.directory, layer.manifest) else layer

    def _record(self, key: str) -> BuiltLayer | None:
        record = read_json(self._record_path(key))
        try:
            return _layer_from_wire(record, self._directory / "layers") if record else None
        except (KeyError, TypeError, ValueError):
            return None  # damaged itself: as if it were not there

    def _record_path(self, key: str) -> Path:
        return self._directory / "layers" / f"{key}.json"

    def _lock(self, key: str) -> Path:
        return self._directory / "locks" / key

    def _image(self, spec: ImageSpec, plan: VenvPlan, layer: BuiltLayer) -> BuiltImage:
        self._compiler.compile(layer.directory)
        return BuiltImage(
            image_id="im-" + spec.digest[:16],
            executable=str(layer.directory / "bin/python"),
            python_version=layer.python,
            prefix=layer.prefix,
            base_prefix=layer.base_prefix,
            sys_path=layer.sys_path,
            variables=plan.variables,
            workdir=plan.workdir,
            files=tuple((str(self._trees / tree), path) for tree, path in plan.files),
        )


def _site_packages(venv: Path) -> Iterator[Path]:
    yield from venv.glob("lib/python3*/site-packages")


def _layer_to_wire(layer: BuiltLayer) -> dict[str, Any]:
    return {
        "directory": layer.directory.name,
        "python": layer.python,
        "prefix": layer.prefix,
        "base_prefix": layer.base_prefix,
        "sys_path": list(layer.sys_path),
        "manifest": layer.manifest.to_wire(),
        "text": layer.text,
        "seconds": layer.seconds,
        "built_at": layer.built_at,
    }


def _layer_from_wire(wire: dict[str, Any], directory: Path) -> BuiltLayer:
    return BuiltLayer(
        directory / wire["directory"],
        wire["python"],
        wire["prefix"],
        wire["base_prefix"],
        tuple(wire["sys_path"]),
        Manifest.from_wire(wire["manifest"]),
        wire["text"],
        wire["seconds"],
        wire["built_at"],
        wire.get("damaged", False),
    )


def _ignore(text: str) -> None:
    pass
