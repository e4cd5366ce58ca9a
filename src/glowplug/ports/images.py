"""What makes an environment of an image's definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

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
