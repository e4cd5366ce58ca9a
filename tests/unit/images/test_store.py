"""Who shares a build, who is told what, when one is stopped, what is remembered and forgotten."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glowplug.images.commands import BuildStopped
from glowplug.images.files import ContentFiles
from glowplug.images.oci import OciBuilder
from glowplug.images.store import ImageStore
from glowplug.images.trees import Trees
from glowplug.images.venv import VenvBuilder
from glowplug.model.errors import ConflictError, ImageBuildError, NotFoundError
from glowplug.model.image_spec import BuildStep, ImageSpec
from glowplug.ports.images import BuildLog, BuiltImage, LayeredBuilder, MendingBuilder

WAIT_S = 20.0


class FakeBuilder:
    """Builds when it is let, or fails as it is told."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.begun: queue.Queue[str] = queue.Queue()
        self.go = threading.Event()
        self.error: Exception | None = None
        self.built: dict[str, BuiltImage] = {}
        self.builds = 0
        self.stopped: queue.Queue[str] = queue.Queue()
        self.removed: list[str] = []

    def find(self, spec: ImageSpec) -> BuiltImage | None:
        return self.built.get(spec.digest)

    def build(
        self,
        spec: ImageSpec,
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
    ) -> BuiltImage:
        self.builds += 1
        log.step(1, 1, spec.steps[0].text, False)
        log.line("begun")
        self.begun.put(spec.digest)
        while not self.go.wait(0.005):
            if stopped():
                self.stopped.put(spec.digest)
                raise BuildStopped
        if self.error is not None:
            raise self.error
        program = self.directory / spec.digest
        program.touch()
        image = BuiltImage("im-" + spec.digest[:16], str(program), "3.11", prefix=str(self.directory))
        self.built[spec.digest] = image
        return image

    def remove(self, image_id: str) -> int:
        self.removed.append(image_id)
        self.built = {digest: each for digest, each in self.built.items() if each.image_id != image_id}
        return 7


class Ear:
    """Somebody who follows a build."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.ended = threading.Event()

    def __call__(self, event: dict[str, Any]) -> None:
        self.heard.append(event)
        if event["event"] in ("built", "failed"):
            self.ended.set()

    def end(self) -> dict[str, Any]:
        assert self.ended.wait(WAIT_S)
        return self.heard[-1]


class Bench:
    def __init__(self, directory: Path) -> None:
        self.venv = FakeBuilder("venv", directory)
        self.root = FakeBuilder("oci", directory)
        self.directory = directory
        self.files = ContentFiles(directory / "files")
        self.trees = Trees(directory / "trees", self.files)
        self._stores: list[ImageStore] = []
        self.store = self.open()

    def open(self, with_root: bool = True) -> ImageStore:
        root = self.root if with_root else None
        self._stores.append(
            ImageStore(
                self.directory, self.files, self.trees, self.venv, root, "install buildah", lambda name: {}
            )
        )
        return self._stores[-1]

    def close(self) -> None:
        for each in self._stores:
            each.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def definition(text: str = "a", *more: str, force: bool = False, operation: str = "env") -> ImageSpec:
    return ImageSpec(
        tuple(BuildStep(operation, {"variables": {each: "1"}}, each, force=force) for each in (text, *more))
    )


def test_many_who_ask_for_one_image_share_its_build(bench):
    ears = [Ear() for _ in range(10)]
    for ear in ears:
        bench.store.request(definition(), "f", ear)
    bench.venv.go.set()
    ends = [ear.end() for ear in ears]
    assert bench.venv.builds == 1
    assert {end["image_id"] for end in ends} == {"im-" + definition().digest[:16]}
    assert all(ear.heard[:2] == ears[0].heard[:2] for ear in ears)


def test_who_comes_late_hears_it_from_the_beginning(bench):
    early, late = Ear(), Ear()
    bench.store.request(definition(), "f", early)
    bench.venv.begun.get(timeout=WAIT_S)
    bench.store.request(definition(), "f", late)
    assert [each["event"] for each in late.heard] == ["step", "line"]
    bench.venv.go.set()
    assert early.end() == late.end()


def test_different_images_are_built_side_by_side(bench):
    ears = [Ear(), Ear()]
    bench.store.request(definition("a"), "f", ears[0])
    bench.store.request(definition("b"), "g", ears[1])
    assert {bench.venv.begun.get(timeout=WAIT_S) for _ in ears} == {
        definition("a").digest,
        definition("b").digest,
    }
    bench.venv.go.set()
    assert {ear.end()["event"] for ear in ears} == {"built"}


def test_a_build_goes_on_while_one_waits_and_stops_with_the_last(bench):
    seats = [bench.store.request(definition(), "f", Ear()) for _ in range(2)]
    bench.venv.begun.get(timeout=WAIT_S)
    seats[0].leave()
    assert bench.store.building
    seats[1].leave()
    assert bench.venv.stopped.get(timeout=WAIT_S) == definition().digest
    assert not bench.store.building


def test_after_a_build_was_given_up_another_begins(bench):
    bench.store.request(definition(), "f", Ear()).leave()
    ear = Ear()
    bench.store.request(definition(), "f", ear)
    bench.venv.go.set()
    assert ear.end()["event"] == "built"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ImageBuildError("step 1 of 1 failed"), "ImageBuildError", "step 1 of 1 failed"),
        (OSError(28, "No space left on device"), "ImageBuildError", "is full"),
        (ZeroDivisionError("oh"), "InternalError", "ZeroDivisionError: oh"),
    ],
)
def test_a_failure_is_told_and_the_next_request_tries_again(bench, error, kind, said):
    ear, again = Ear(), Ear()
    bench.venv.error = error
    bench.venv.go.set()
    bench.store.request(definition(), "f", ear)
    assert ear.end()["error"] == kind
    assert said in ear.end()["message"]
    assert bench.store.known(()) == []
    bench.venv.error = None
    bench.store.request(definition(), "f", again)
    assert again.end()["event"] == "built"


def built(bench: Bench, spec: ImageSpec, name: str = "f") -> str:
    bench.venv.go.set()
    bench.root.go.set()
    ear = Ear()
    bench.store.request(spec, name, ear)
    return ear.end()["image_id"]


def test_what_is_built_is_known_at_once_and_to_the_next_server(bench):
    image_id = built(bench, definition())
    ear = Ear()
    bench.store.request(definition(), "f", ear)
    assert ear.heard[-1]["cached"] is True
    assert len(ear.heard) == 1
    assert bench.venv.builds == 1
    assert bench.open().built(image_id) == bench.venv.built[definition().digest]
    assert bench.open().built("im-0000000000000000") is None


def test_an_image_whose_interpreter_is_gone_is_not_there(bench):
    image_id = built(bench, definition())
    bench.venv.built.clear()
    os.unlink(bench.directory / definition().digest)
    assert bench.store.built(image_id) is None


def test_by_force_it_is_built_again(bench):
    built(bench, definition())
    built(bench, definition(force=True))
    assert bench.venv.builds == 2


def test_what_needs_a_root_goes_to_its_builder_or_is_refused_with_the_way_on(bench):
    spec = definition(operation="run")
    built(bench, spec)
    assert (bench.root.builds, bench.venv.builds) == (1, 0)
    ear = Ear()
    bench.open(with_root=False).request(spec, "f", ear)
    assert ear.end()["error"] == "ImageBuildError"
    assert (
        "a needs a root file system of its own, and this machine cannot make one: install buildah"
        in (ear.end()["message"])
    )


def test_secrets_of_a_definition_are_not_written_down(bench):
    step = BuildStep("env", {}, "a", secret_variables={"TOKEN": "hunter2-hunter2"})
    image_id = built(bench, ImageSpec((step,)))
    assert [each.image_id for each in bench.store.known(())] == [image_id]
    kept = [path.read_bytes() for path in bench.directory.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in each for each in kept)


# what is known and forgotten


def test_the_story_of_an_image_names_the_one_most_like_it(bench):
    first = built(bench, definition("a", "b"), "one")
    second = built(bench, definition("a", "c"), "two")
    near = bench.store.story(second[:9], ()).nearest
    assert near is not None
    assert (near.image_id, near.common_steps, near.theirs, near.ours) == (first, 1, "b", "c")
    assert bench.store.story("one", ()).image.image_id == first
    with pytest.raises(NotFoundError, match="there is no image 'three' here"):
        bench.store.story("three", ())


def test_images_in_use_stay(bench):
    used, idle = built(bench, definition("a")), built(bench, definition("b"))
    assert bench.store.prune(0, {used}, ()) == (1, 7)
    assert bench.venv.removed == [idle]
    assert [each.image_id for each in bench.store.known({used})] == [used]
    with pytest.raises(ConflictError, match=f"image {used} is in use"):
        bench.store.remove(used, {used})
    assert bench.store.remove(used, ()) == 7
    assert bench.store.known(()) == []


def test_only_what_was_not_used_for_long_is_forgotten(bench):
    old, young = built(bench, definition("a")), built(bench, definition("b"))
    os.utime(bench.directory / "known" / f"{old}.json", (1, 1))
    assert bench.store.prune(86400, (), ())[0] == 1
    assert [each.image_id for each in bench.store.known(())] == [young]


# builders


@pytest.mark.parametrize("kind", [VenvBuilder, OciBuilder])
def test_every_builder_of_ours_has_layers(kind):
    """The store asks, and does without sizes and pruning where it is told no."""
    made = kind.__new__(kind)
    assert isinstance(made, LayeredBuilder)
    assert isinstance(made, MendingBuilder) == (kind is VenvBuilder)
