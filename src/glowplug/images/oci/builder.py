"""Builds images that need a root file system of their own: a layer a step, each kept under the digest of the
definition so far.

What is there already is not built again, whoever built it; a step that fails leaves the layers before it.
The finished image is shown to containers as a plain directory of hard links to its layers.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from glowplug.images.disk import full_text, is_full, read_json, write_json
from glowplug.images.oci import debian
from glowplug.images.oci.bases import Bases
from glowplug.images.oci.interpreter import ask
from glowplug.images.oci.room import Room, require_room
from glowplug.images.oci.seen import SeenLayers
from glowplug.images.oci.step import StepBuild
from glowplug.images.oci.storage import REPOSITORY, Storage, find_buildah
from glowplug.images.whole import Manifest, changed, take_manifest
from glowplug.model import errors
from glowplug.model.image_spec import ImageSpec
from glowplug.ports.images import BuildLog, BuiltImage, DriverFiles
from glowplug.ports.volumes import VolumeViews

NOT_VARIABLES = frozenset({"HOSTNAME", "HOME", "TERM"})
"""Of an image's configuration; a container has its own."""


@dataclass(frozen=True)
class OciSettings:
    """What the operator decides."""

    base: str = "auto"
    """Where debian_slim comes from: "auto", "registry" or "debian"."""
    debian_mirror: str = debian.MIRROR


class OciBuilder:
    """The ports ``ImageBuilder`` and ``LayeredBuilder``.

    ``volatile``: a directory of this user that a restart of the machine empties; ``volumes``: for the steps
    that have some; ``driver``: of the node's cards, for the steps with ``gpu=``.
    """

    name = "oci"

    def __init__(
        self,
        home: Path,
        volatile: Path,
        *,
        settings: OciSettings | None = None,
        environ: Mapping[str, str] | None = None,
        volumes: VolumeViews | None = None,
        driver: Callable[[], DriverFiles | None] = lambda: None,
    ) -> None:
        self.directory = home / "images" / "oci"
        self._environ = dict(os.environ) if environ is None else dict(environ)
        self.storage = Storage(self.directory, volatile / "oci", self._environ)
        self._seen = SeenLayers(self.storage, self._in_room)
        self._settings = settings or OciSettings()
        self._volumes = volumes
        self._driver = driver

    # the port

    def find(self, spec: ImageSpec) -> BuiltImage | None:
        record = self._read_record(image_id_of(spec))
        if record is None or record["definition"] != spec.digest:
            return None
        image = BuiltImage.from_wire(record["image"])
        whole = not changed(Path(image.root), Manifest.from_wire(record["manifest"]))
        return image if whole and os.path.lexists(image.root + image.executable) else None

    def build(
        self,
        spec: ImageSpec,
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
    ) -> BuiltImage:
        if not spec.steps or spec.steps[0].operation != "base":
            raise errors.ImageBuildError("an image's definition begins with what it starts from")
        found = None if spec.forced else self.find(spec)
        if found is not None:
            for number, step in enumerate(spec.steps):
                log.step(number + 1, len(spec.steps), step.text or step.operation, True)
            return found
        find_buildah(self._environ)
        require_room()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with self.storage.building():
                for image_id in self._seen.drop_damaged(_tags(spec), log):
                    self._set_aside(self._root_of(image_id))
                self._build_steps(spec, trees, secrets, log, stopped)
                return self._export(spec)
        except OSError as error:
            if not is_full(error):
                raise
            raise errors.ImageBuildError(full_text(self.directory)) from error

    def remove(self, image_id: str) -> int:
        """Its name; what it is made of goes when no image needs it (``remove_layers``)."""
        self._record_path(image_id).unlink(missing_ok=True)
        return 0

    # what the catalogue asks

    def layers_of(self, spec: ImageSpec) -> list[tuple[str, str]]:
        return [(tag, step.text or step.operation) for tag, step in zip(_tags(spec), spec.steps, strict=True)]

    def size(self, spec: ImageSpec) -> int:
        record = self._read_record(image_id_of(spec))
        return record["summary"]["bytes"] if record is not None else 0

    def examine(self, spec: ImageSpec) -> dict[str, list[str]]:
        """Every name, kind and size of the root against what was built."""
        record = self._read_record(image_id_of(spec))
        if record is None:
            return {"the root file system": ["it is gone"]}
        found = self._check(record["image"]["root"])
        if found == record["summary"]:
            return {}
        built, there = record["summary"]["entries"], found["entries"]
        return {"the root file system": [f"{there} entries where {built} were built, or changed ones"]}

    def remove_layers(self, keep: Collection[str], spare: Collection[str]) -> int:
        if not self.storage.graph.is_dir():
            return 0
        before = shutil.disk_usage(self.directory).free
        self._remove_roots(spare)
        tags = [tag for tag in self.storage.images() if tag not in keep]
        if keep:  # the next image of that kind starts from it
            tags = [tag for tag in tags if not tag.startswith(debian.TAG_PREFIX)]
        if tags:
            self.storage.answer("rmi", "--force", *(f"{REPOSITORY}:{tag}" for tag in tags))
            self.storage.answer("rmi", "--prune")
        return max(0, shutil.disk_usage(self.directory).free - before)

    def sweep(self) -> int:
        if not self.storage.graph.is_dir():
            return 0
        before = shutil.disk_usage(self.directory).free
        with self.storage.building() as alone:
            if alone:
                partial = [*self.directory.glob("roots/.*-*"), *self.directory.glob(f"{debian.TAG_PREFIX}*")]
                if partial:
                    self._in_room("--remove", *map(str, partial))
        return max(0, shutil.disk_usage(self.directory).free - before)

    # the steps

    def _build_steps(
        self,
        spec: ImageSpec,
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
    ) -> None:
        tags = _tags(spec)
        forced = next((number for number, step in enumerate(spec.steps) if step.force), len(tags))
        here = self.storage.images()
        # What stands on a layer is of no use without it, so the last one there is counts.
        ready = max((number + 1 for number in range(forced) if tags[number] in here), default=0)
        bases = Bases(self.storage, self._environ, self._settings.base, self._settings.debian_mirror)
        for number, step in enumerate(spec.steps):
            cached = number < ready
            log.step(number + 1, len(tags), step.text or step.operation, cached)
            if cached:
                continue
            build = StepBuild(
                self.storage, bases, step, number + 1, len(tags), tags[number],
                tags[number - 1] if number else "",
                self._environ, self._volumes, self._driver() if step.gpu else None,
            )  # fmt: skip
            with self.storage.lock(tags[number], stopped):
                if number < forced and tags[number] in self.storage.images():
                    continue  # another process was quicker
                build.run(trees, secrets, log, stopped, fresh=number >= forced)

    # the finished image

    def _export(self, spec: ImageSpec) -> BuiltImage:
        image_id = image_id_of(spec)
        tag = spec.digest
        stored = self.storage.images()[tag]
        root = self._root_of(stored)
        with self.storage.lock(f"root-{stored[:24]}"):
            facts = self._image_facts(tag)
            interpreter = ask(self.storage, f"{REPOSITORY}:{tag}", stored[:24])
            beside = root.with_name(f"{root.name}.json")
            summary = read_json(beside)
            if not root.is_dir() or self._check(str(root)) != summary:
                root.parent.mkdir(mode=0o711, exist_ok=True)
                self._set_aside(root)
                partial = root.with_name(f".{root.name}-{os.getpid()}")
                partials = [str(old) for old in root.parent.glob(f".{root.name}-*")]
                if partials:
                    self._in_room("--remove", *partials)
                layers = self.storage.layer_directories(stored)
                self._seen.note(layers)
                summary = self._in_room(str(partial), *map(str, layers))
                write_json(beside, summary)
                partial.rename(root)
            image = BuiltImage(
                image_id=image_id,
                executable=interpreter.executable,
                python_version=".".join(map(str, interpreter.version[:2])),
                prefix=interpreter.prefix,
                base_prefix=interpreter.base_prefix,
                sys_path=interpreter.sys_path,
                root=str(root),
                variables=facts["variables"],
                workdir=facts["workdir"] if facts["workdir"] != "/" else "",
                entrypoint=tuple(facts["entrypoint"]),
            )
            record = {
                "definition": spec.digest,
                "image": image.to_wire(),
                "summary": summary,
                "manifest": take_manifest(root).to_wire(),
            }
            path = self._record_path(image_id)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_json(path, record)
        return image

    def _image_facts(self, tag: str) -> dict:
        answer = self.storage.answer("inspect", "--type", "image", f"{REPOSITORY}:{tag}")
        config = json.loads(answer)["Docker"]["config"]
        pairs = (text.partition("=") for text in config.get("Env") or ())
        return {
            "variables": {name: value for name, _, value in pairs if name not in NOT_VARIABLES},
            "workdir": config.get("WorkingDir") or "",
            "entrypoint": list(config.get("Entrypoint") or ()),
        }

    def _check(self, root: str) -> dict:
        return self._in_room("--check", root)[root]

    def _root_of(self, stored: str) -> Path:
        return self.directory / "roots" / stored[:24]

    def _set_aside(self, root: Path) -> None:
        """Damaged. Containers that have it keep it under any name."""
        if root.is_dir():
            root.rename(root.with_name(f"{root.name}-damaged-{time.time_ns()}"))

    def _in_room(self, *arguments: str) -> dict:
        """Run the export's program where files may belong to anybody."""
        lines: list[str] = []
        program = [sys.executable, "-I", str(Path(__file__).with_name("export.py"))]
        ended = Room(environ={"PATH": os.defpath}).run(lambda _: [*program, *arguments], lines.append)
        if ended.code != 0:
            raise errors.ImageBuildError(
                f"the root of an image could not be written below {self.directory}: {' '.join(lines[-1:])}"
            )
        return json.loads(lines[-1]) if lines else {}

    # what is kept of it

    def _record_path(self, image_id: str) -> Path:
        return self.directory / "images" / f"{image_id}.json"

    def _read_record(self, image_id: str) -> dict | None:
        try:
            record = json.loads(self._record_path(image_id).read_text())
            return record if os.path.isdir(record["image"]["root"]) else None
        except (OSError, ValueError, KeyError):
            return None

    def _records(self) -> dict[str, dict]:
        names = [path.stem for path in (self.directory / "images").glob("im-*.json")]
        found = {name: self._read_record(name) for name in names}
        return {name: record for name, record in found.items() if record is not None}

    def _remove_roots(self, spare: Collection[str]) -> None:
        roots = self.directory / "roots"
        used = {*spare, *(record["image"]["root"] for record in self._records().values())}
        used |= {f"{path}.json" for path in used}
        unused = [str(path) for path in roots.iterdir() if str(path) not in used] if roots.is_dir() else []
        if unused:
            self._in_room("--remove", *unused)


def _tags(spec: ImageSpec) -> list[str]:
    return [spec.digest_after(number + 1) for number in range(len(spec.steps))]


def image_id_of(spec: ImageSpec) -> str:
    return f"im-{spec.digest[:16]}"
