"""What a chain means to a server: the methods of every era, in the few operations of ``model.image_spec``.

Two chains that mean the same become the same operations. Local files are read here, and only here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from glowplug.client.files import LocalTree
from glowplug.model.errors import InvalidError
from glowplug.model.image import ImageDefinition, ImageStep
from glowplug.model.image_spec import BuildStep, ImageSpec
from glowplug.model.volume import VolumeDefinition
from glowplug.sdk.image_bases import AUTODOCKERIGNORE
from glowplug.sdk.image_chain import is_mounting
from glowplug.sdk.image_meaning import BASES, METHODS
from glowplug.sdk.image_places import LOCAL_FILES
from glowplug.sdk.local_files import LocalFiles

VolumeNames = Callable[[VolumeDefinition, str], str]
"""The name of a volume mounted at a path."""


@dataclass
class Translated:
    """A definition for the server, and where the contents of its files are."""

    spec: ImageSpec
    mounted: list[tuple[str, LocalTree]] = field(default_factory=list[tuple[str, LocalTree]])
    """(absolute directory, files): what is laid over it."""
    places: dict[str, str] = field(default_factory=dict[str, str])
    """Path by digest, of the files that are built in."""
    skipped: list[str] = field(default_factory=list[str])


def translate(
    image: ImageDefinition, files: LocalFiles, volume_names: VolumeNames | None = None
) -> Translated:
    """The operations of a chain. One without a base is Debian's with the Python that runs here.

    Raises ``InvalidError``, ``NotFoundError`` for local files that are not there.
    """
    translation = Translation(files, volume_names or _only_named)
    if not image.steps or image.steps[0].method not in BASES:
        translation.add(ImageStep("debian_slim"))
    for step in image.steps:
        translation.add(step)
    trees = {tree.tree.digest: tree.tree for tree in translation.trees}
    places = {digest: path for tree in translation.trees for digest, path in tree.places.items()}
    skipped = [path for tree in translation.trees for path in tree.skipped]
    spec = ImageSpec(tuple(translation.steps), (), trees)
    return Translated(spec, translation.mounted, places, skipped)


class Translation:
    def __init__(self, files: LocalFiles, volume_names: VolumeNames) -> None:
        self.files = files
        self.steps: list[BuildStep] = []
        self.mounted: list[tuple[str, LocalTree]] = []
        self.trees: list[LocalTree] = []
        self._volume_names = volume_names

    def add(self, step: ImageStep) -> None:
        if is_mounting(step):
            self.mounted += LOCAL_FILES[step.method](self, step)
        elif step.method in LOCAL_FILES:
            for directory, tree in LOCAL_FILES[step.method](self, step):
                self.operation("copy", step, tree=self.tree(tree), path=directory)
        else:
            METHODS[step.method](self, step)

    def operation(
        self, operation: str, step: ImageStep, /, *, about: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        options = step.options
        named = [secret.name for secret in options.get("secrets", ()) if secret.name is not None]
        given: dict[str, str] = {}
        for secret in options.get("secrets", ()):
            given.update(secret.variables if secret.name is None else {})
        self.steps.append(
            BuildStep(
                operation,
                {
                    key: _plain(value)
                    for key, value in fields.items()
                    if value not in (None, "", (), [], {}, False)
                },
                text=shown_step(step),
                variables=dict(options.get("env", {})),
                secrets=tuple(named),
                secret_variables=given,
                gpu=options.get("gpu", ""),
                force=bool(options.get("force_build")),
                source=about or {},
            )
        )

    def tree(self, tree: LocalTree) -> str:
        """Take a tree along; its digest."""
        self.trees.append(tree)
        return tree.tree.digest

    def volumes(self, mounted: dict[str, VolumeDefinition]) -> list[dict[str, Any]]:
        return [
            {"name": self._volume_names(volume, path), "mount_path": path, "read_only": volume.is_read_only}
            for path, volume in mounted.items()
        ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _only_named(volume: VolumeDefinition, path: str) -> str:
    if volume.name is None:
        raise InvalidError(
            f"Image: the volume at {path} has no name, so it belongs to an app. Name it by "
            'Volume.from_name("..."), or give the app: image.build(app).'
        )
    return volume.name


MAX_SHOWN = 200


def shown_step(step: ImageStep) -> str:
    """A step as it was written, for progress and errors, without the options that every step has."""
    parts = [_shown_value(argument) for argument in step.arguments]
    parts += [
        f"{name}={_shown_value(value)}"
        for name, value in step.options.items()
        if name not in ("env", "secrets", "gpu", "force_build") and value is not AUTODOCKERIGNORE
    ]
    text = f"{step.method}({', '.join(parts)})".replace("\n", " ")
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 2] + "…)"


def _shown_value(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, str) and '"' not in value and "\\" not in repr(value):
        return f'"{value}"'
    return repr(value)
