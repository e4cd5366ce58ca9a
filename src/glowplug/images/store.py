"""Every image of this node: built once however many ask for it, found again, remembered, forgotten.

Requests of this server for one definition share one build; those of several servers that share a home meet at
the locks of its layers. Different images are built side by side, as many as there are processors.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from glowplug.images.commands import BuildStopped
from glowplug.images.disk import full_text, is_full
from glowplug.images.files import ContentFiles
from glowplug.images.following import Build, NoSeat, Tell
from glowplug.images.records import Record, Records
from glowplug.images.stories import tell_story
from glowplug.images.trees import Trees
from glowplug.model import errors
from glowplug.model.files import FileTree
from glowplug.model.image_spec import ImageSpec
from glowplug.ports.images import (
    BuiltImage,
    Following,
    ImageBuilder,
    ImageStory,
    KnownImage,
    LayeredBuilder,
    MendingBuilder,
)

FILES_KEPT_S = 3600.0
"""What was sent and is in no tree yet stays at least so long: its tree may be about to come."""


class ImageStore:
    """``venv`` and ``root`` build; without ``root``, ``no_root`` says what to install. ``secrets`` gives the
    variables of a stored secret."""

    def __init__(
        self,
        directory: Path,
        files: ContentFiles,
        trees: Trees,
        venv: ImageBuilder,
        root: ImageBuilder | None,
        no_root: str,
        secrets: Callable[[str], dict[str, str]],
    ) -> None:
        self._directory = directory
        self._files = files
        self._trees = trees
        self._venv = venv
        self._root = root
        self._no_root = no_root
        self._secrets = secrets
        self._records = Records(directory / "known")
        self._lock = threading.Lock()
        self._builds: dict[str, Build] = {}
        self._built: dict[str, BuiltImage] = {}
        self._handed_out: set[str] = set()
        """Directories that containers of this server may be using."""
        self._closed = False
        self._started_at = time.time()
        self._threads = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "image")

    # what backends ask: at once

    def built(self, image_id: str) -> BuiltImage | None:
        found = self._built.get(image_id)
        if found is None or not os.path.lexists(found.root or found.executable):
            record = self._records.read(image_id)
            builder = self._by_name(record.builder) if record is not None else None
            found = builder.find(record.image_spec) if record is not None and builder is not None else None
            if found is None:
                self._built.pop(image_id, None)
                return None
            self._built[image_id] = found
        self._handed_out.update(filter(None, (found.prefix, found.root)))
        self._records.used(image_id)
        return found

    def tree(self, digest: str) -> Path | None:
        return self._trees.find(digest)

    def suspect(self, image_id: str) -> None:
        record = self._records.read(image_id)
        if record is not None and not self._closed:
            self._threads.submit(self._look_into, record)

    def _look_into(self, record: Record) -> None:
        builder = self._by_name(record.builder)
        spec = record.image_spec
        if isinstance(builder, LayeredBuilder) and builder.examine(spec):
            if isinstance(builder, MendingBuilder):
                builder.condemn(spec)
            else:
                builder.remove(record.image_id)
            self._built.pop(record.image_id, None)

    # building

    @property
    def building(self) -> bool:
        return bool(self._builds)

    def request(self, spec: ImageSpec, name: str, tell: Tell) -> Following:
        started = time.monotonic()
        try:
            self.make_trees(spec.trees)
            builder = self._builder_for(spec)
            image_id = image_id_of(spec)
            found = None if spec.forced else self._find(builder, spec)
        except errors.Error as error:
            tell(_failed(error))
            return NoSeat()
        if found is not None:
            self._remember(builder, spec, name, found)
            tell(_built(found, True, time.monotonic() - started))
            return NoSeat()
        with self._lock:
            build = self._builds.get(image_id)
            seat = build.follow(tell) if build is not None else None
            if seat is None:
                build = Build(spec, name, self._on_abandoned)
                seat = build.follow(tell)
                assert seat is not None
                self._builds[image_id] = build
                self._threads.submit(self._run, builder, build, image_id)
        return seat

    def make_trees(self, trees: dict[str, FileTree]) -> None:
        for digest, tree in trees.items():
            self._trees.make(digest, tree)

    def _run(self, builder: ImageBuilder, build: Build, image_id: str) -> None:
        started = time.monotonic()
        try:
            image = builder.build(build.spec, self._tree_of, self._secrets, build, build.stopped)
            seconds = time.monotonic() - started
            self._built[image_id] = image
            self._records.write(
                image_id, build.name, builder.name, build.spec, seconds, list(build.cached_steps)
            )
            end = _built(image, False, seconds)
        except BuildStopped:
            end = _failed(errors.ImageBuildError("the build was stopped"))
        except errors.Error as error:
            end = _failed(error)
        except Exception as error:
            if is_full(error):
                end = _failed(errors.ImageBuildError(full_text(self._directory)))
            else:
                text = f"the image could not be built: {type(error).__name__}: {error}"
                end = _failed(errors.InternalError(text))
        with self._lock:
            if self._builds.get(image_id) is build:
                del self._builds[image_id]
        build.end(end)

    def _on_abandoned(self, build: Build) -> None:
        with self._lock:
            image_id = image_id_of(build.spec)
            if self._builds.get(image_id) is build:
                del self._builds[image_id]

    def _find(self, builder: ImageBuilder, spec: ImageSpec) -> BuiltImage | None:
        image_id = image_id_of(spec)
        return builder.find(spec) if image_id not in self._builds else None

    def _remember(self, builder: ImageBuilder, spec: ImageSpec, name: str, image: BuiltImage) -> None:
        self._built[image.image_id] = image
        if self._records.read(image.image_id) is None:
            self._records.write(image.image_id, name, builder.name, spec, 0.0, [True] * len(spec.steps))
        self._records.used(image.image_id)

    def _builder_for(self, spec: ImageSpec) -> ImageBuilder:
        """The one place that chooses."""
        if not spec.needs_root:
            return self._venv
        if self._root is None:
            step = next(step for step in spec.steps if step.needs_root)
            raise errors.ImageBuildError(
                f"{step.text or step.operation} needs a root file system of its own, and this machine cannot "
                f"make one: {self._no_root}"
            )
        return self._root

    def _by_name(self, name: str) -> ImageBuilder | None:
        return next((each for each in self._builders() if each.name == name), None)

    def _builders(self) -> list[ImageBuilder]:
        return [each for each in (self._venv, self._root) if each is not None]

    def _tree_of(self, digest: str) -> Path:
        found = self._trees.find(digest)
        if found is None:
            raise errors.ImageBuildError(
                f"the files of the tree {digest[:16]} are not on this machine any more; run it again to have "
                "them sent"
            )
        return found

    # what is known

    def known(self, in_use: Collection[str]) -> list[KnownImage]:
        return [self._known(record, in_use) for record in self._records.all()]

    def story(self, name: str, in_use: Collection[str]) -> ImageStory:
        record = self._require(name)
        builder = self._by_name(record.builder)
        return tell_story(record, builder, self._known(record, in_use), self._records.all())

    def _known(self, record: Record, in_use: Collection[str]) -> KnownImage:
        spec = record.image_spec
        builder = self._by_name(record.builder)
        return KnownImage(
            image_id=record.image_id,
            name=record.name,
            builder=record.builder,
            steps=[step.text or step.operation for step in spec.steps],
            size_bytes=builder.size(spec) if isinstance(builder, LayeredBuilder) else 0,
            built_at=record.built_at,
            used_at=record.used_at,
            seconds=record.seconds,
            in_use=record.image_id in in_use,
        )

    def _require(self, name: str) -> Record:
        records = self._records.all()
        exact = [record for record in records if name in (record.image_id, record.name)]
        found = exact or [each for each in records if name and each.image_id.startswith(name)]
        if len(found) == 1 or exact:
            return found[0]
        if found:
            raise errors.InvalidError(f"{name!r} fits {', '.join(each.image_id for each in found[:5])}")
        raise errors.NotFoundError(
            f"there is no image {name!r} here; `glowplug image list` shows those that were built"
        )

    # forgetting

    def remove(self, name: str, in_use: Collection[str]) -> int:
        record = self._require(name)
        if record.image_id in in_use or record.image_id in self._builds:
            raise errors.ConflictError(
                f"image {record.image_id} is in use; `glowplug app list` shows what runs"
            )
        return self._forget([record])

    def prune(
        self, unused_s: float, in_use: Collection[str], trees_in_use: Collection[str]
    ) -> tuple[int, int]:
        oldest = time.time() - unused_s
        going = [
            record
            for record in self._records.all()
            if record.used_at <= oldest
            and record.image_id not in in_use
            and record.image_id not in self._builds
        ]
        freed = self._forget(going)
        needed = {*trees_in_use, *self._copied_trees(self._records.all())}
        freed += self._trees.remove_unused(oldest, needed)
        freed += self._files.remove_unused(min(oldest, time.time() - FILES_KEPT_S))
        return len(going), freed

    def _forget(self, going: Sequence[Record]) -> int:
        freed = 0
        for record in going:
            self._records.forget(record.image_id)
            self._built.pop(record.image_id, None)
            builder = self._by_name(record.builder)
            freed += builder.remove(record.image_id) if builder is not None else 0
        remaining = self._records.all()
        if self._builds:
            return freed  # layers of a build are not in a record yet; next time
        for builder in self._builders():
            if isinstance(builder, LayeredBuilder):
                specs = [record.image_spec for record in remaining if record.builder == builder.name]
                keep = {key for spec in specs for key, _ in builder.layers_of(spec)}
                freed += builder.remove_layers(keep, self._handed_out)
        return freed

    def _copied_trees(self, records: Iterable[Record]) -> set[str]:
        return {
            step.fields["tree"]
            for record in records
            for step in record.image_spec.steps
            if step.fields.get("tree")
        }

    # its own life

    def sweep(self) -> None:
        """Remove what a server before this one was making when it ended. Takes a while with much of it."""
        for builder in self._builders():
            if isinstance(builder, LayeredBuilder):
                builder.sweep()
        self._trees.sweep(self._started_at)
        self._files.sweep(self._started_at)

    def close(self) -> None:
        """End every build, and wait until its programs are gone."""
        with self._lock:
            builds = list(self._builds.values())
        for build in builds:
            build.abandon()
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)


def image_id_of(spec: ImageSpec) -> str:
    return "im-" + spec.digest[:16]


def _built(image: BuiltImage, cached: bool, seconds: float) -> dict[str, Any]:
    return {"event": "built", "image_id": image.image_id, "cached": cached, "seconds": round(seconds, 4)}


def _failed(error: errors.Error) -> dict[str, Any]:
    return {"event": "failed", "error": type(error).__name__, "message": str(error)}
