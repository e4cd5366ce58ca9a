"""What makes an environment of an image's definition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from glowplug.model.files import FileTree
from glowplug.model.image_spec import ImageSpec


@dataclass(frozen=True)
class BuiltImage:
    """An environment that is ready on this node. Every path is the node's."""

    image_id: str
    """"im-" and the first 16 characters of the definition's digest."""
    executable: str
    """The interpreter, as it is called inside a container."""
    python_version: str
    """"3.11": its minor version."""
    prefix: str = ""
    base_prefix: str = ""
    sys_path: tuple[str, ...] = ()
    """As the interpreter has it, without Glowplug."""
    root: str = ""
    """The root file system; empty: the node's own directories are shown, and the environment's."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Of the image, for every container."""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Files that were copied into an image without a root of its own: (directory of the node, path inside),
    to be seen beside what else is at that path; of two with the same name the later one counts."""

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> BuiltImage:
        fields = dict(wire)
        for name in ("sys_path", "entrypoint"):
            fields[name] = tuple(wire.get(name, ()))
        fields["files"] = tuple((source, path) for source, path in wire.get("files", ()))
        return cls(**fields)


class ReadyImages(Protocol):
    """What this node has of images and files. Answers at once, from any thread."""

    def built(self, image_id: str) -> BuiltImage | None: ...

    def tree(self, digest: str) -> Path | None:
        """The directory that holds the files of a tree."""
        ...

    def suspect(self, image_id: str) -> None:
        """Something in it could not be imported: look at all of it, beside everything else, and forget what
        is damaged, so that the next request builds it anew."""
        ...


class DriverFiles(Protocol):
    """What a build step with a card is shown of the node's driver."""

    @property
    def binds(self) -> tuple[tuple[str, str], ...]:
        """(source on the node, path inside, below /.glowplug)."""
        ...

    def variables(self, given: Mapping[str, str]) -> dict[str, str]:
        """What finds them, after what ``given``, the image's own variables, say."""
        ...


class BuildLog(Protocol):
    """Where a build tells how far it is. Called on any thread."""

    def step(self, number: int, count: int, text: str, cached: bool) -> None: ...

    def line(self, text: str) -> None: ...


class ImageBuilder(Protocol):
    """One way to make an environment (a uv venv, an OCI root). Runs on a thread of its own, for one image at
    a time; the images it is asked for at once are different ones."""

    name: str

    def find(self, spec: ImageSpec) -> BuiltImage | None:
        """The environment, when it is built and whole. Quick; touches nothing."""
        ...

    def build(
        self,
        spec: ImageSpec,
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
    ) -> BuiltImage:
        """Make it, going on after the last good layer. ``trees`` gives the directory that holds the files of
        a tree, ``secrets`` the variables of a stored secret. Ends soon after ``stopped()`` is true.

        Raises ``ImageBuildError`` naming the step, the command and the last lines; leaves no half image.
        """
        ...

    def remove(self, image_id: str) -> int:
        """Forget an environment; returns how many bytes that freed."""
        ...


@runtime_checkable
class LayeredBuilder(Protocol):
    """What a builder that makes layers can say of them and do with them, beside ``ImageBuilder``."""

    def layers_of(self, spec: ImageSpec) -> list[tuple[str, str]]:
        """(key, text of the step), from the base up."""
        ...

    def size(self, spec: ImageSpec) -> int:
        """Bytes of a built image's files, those it shares with others too."""
        ...

    def examine(self, spec: ImageSpec) -> dict[str, list[str]]:
        """Read everything; files that are not what was built, by package."""
        ...

    def remove_layers(self, keep: Collection[str], spare: Collection[str]) -> int:
        """Forget layers whose key is not among ``keep``, except in the directories ``spare``; the bytes
        freed."""
        ...

    def sweep(self) -> int:
        """Remove what a killed build has left; the bytes freed."""
        ...


@runtime_checkable
class MendingBuilder(Protocol):
    """A builder that needs what is damaged in order to mend it; of others a damaged image is removed."""

    def condemn(self, spec: ImageSpec) -> None:
        """What is damaged of it is no longer found, and made anew by the next build."""
        ...


class KnownImage(msgspec.Struct):
    """An image that was built here."""

    image_id: str
    name: str
    builder: str
    steps: list[str]
    size_bytes: int
    built_at: float
    used_at: float
    seconds: float
    in_use: bool = False


class ImageLayer(msgspec.Struct):
    text: str
    key: str
    reused: bool
    """When the image was built, the layer was there already."""


class NearImage(msgspec.Struct):
    """The known image with the longest common beginning, and the first step that differs."""

    image_id: str
    name: str
    common_steps: int
    theirs: str
    ours: str


class ImageStory(msgspec.Struct):
    """How an image came to be, and whether it is still what was built."""

    image: KnownImage
    layers: list[ImageLayer]
    damaged: dict[str, list[str]]
    """Files that are not what was built, by package; empty when all are."""
    nearest: NearImage | None


class Following(Protocol):
    """A build that somebody waits for."""

    def leave(self) -> None:
        """No more; a build that nobody waits for is stopped."""
        ...


class Images(ReadyImages, Protocol):
    """Every image of this node. Methods may block, except those of ``ReadyImages``."""

    @property
    def building(self) -> bool: ...

    def request(self, spec: ImageSpec, name: str, tell: Callable[[dict[str, Any]], None]) -> Following:
        """Have an image built, once however many ask. ``tell`` is called on any thread, with what was said
        so far first: {"event": "step" | "line" | "built" | "failed", …}; the last two end it."""
        ...

    def make_trees(self, trees: dict[str, FileTree]) -> None:
        """Have the files of these trees at hand. Raises ``InvalidError`` when a tree cannot be."""
        ...

    def known(self, in_use: Collection[str]) -> list[KnownImage]: ...

    def story(self, name: str, in_use: Collection[str]) -> ImageStory:
        """By id, its beginning, or name. Raises ``NotFoundError``."""
        ...

    def remove(self, name: str, in_use: Collection[str]) -> int:
        """Bytes freed. Raises ``NotFoundError``, ``ConflictError`` for one in use."""
        ...

    def prune(
        self, unused_s: float, in_use: Collection[str], trees_in_use: Collection[str]
    ) -> tuple[int, int]:
        """Forget images and files that nobody has used for so long; (images, bytes)."""
        ...


class IncomingContent(Protocol):
    """One content on its way. ``finish`` or ``abandon`` ends it. They block."""

    def write(self, part: bytes) -> None: ...

    def finish(self) -> None:
        """Keep it. Raises ``InvalidError`` when it is not what its digest says."""
        ...

    def abandon(self) -> None: ...


class Contents(Protocol):
    """Files by SHA-256 of what is in them."""

    def missing(self, digests: Iterable[str]) -> list[str]: ...

    def begin(self, digest: str) -> IncomingContent: ...
