"""Before an app starts: the images of its functions are made ready, and the files laid over them.

Functions with the same image share one request; different images are built at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Optional

from glowplug.client.files import HashCache, LocalTree
from glowplug.client.images import BuildSink, ImageRequest, build_images
from glowplug.client.settings import read_settings
from glowplug.model.errors import NotCarriedOutWarning
from glowplug.model.image_spec import FileMount, ImageSpec
from glowplug.model.volume import VolumeDefinition
from glowplug.sdk.image_meaning import check_by_value
from glowplug.sdk.image_places import lay_over
from glowplug.sdk.image_translation import Translated, translate
from glowplug.sdk.local_files import LocalFiles
from glowplug.sdk.notices import warn
from glowplug.sdk.spec import goes_by_value

if TYPE_CHECKING:
    from glowplug.sdk.app import App
    from glowplug.sdk.image import Image

Build = Callable[[Sequence[ImageRequest], BuildSink], "list[str]"]
Definition = Optional["dict[str, Any]"]
MAX_NAMED = 2
"""Functions that the name of an image lists."""


def prepare_images(app: App, sink: BuildSink, build: Build = build_images) -> dict[str, Definition]:
    """What each function's definition says of its image, by the function's name; built when it returns.

    Raises ``ImageBuildError``; ``NotFoundError`` and ``InvalidError`` for local files.
    """
    planned = _Planned()
    definitions: dict[str, Definition] = {}
    waiting: dict[str, tuple[str, list[FileMount]]] = {}
    files = LocalFiles(hash_cache())
    for name, function in app.registered_functions.items():
        image = function.options.image or function.app.image
        mounts = (*function.app.mounts, *function.options.mounts)
        if image is None and not mounts:
            definitions[name] = None
            continue
        translated = planned.translated(image, files, function.app)
        if goes_by_value(function):
            check_by_value(name, translated.spec.steps)
        mounted = [place for mount in mounts for place in files.mount(mount)]
        waiting[name] = planned.add(name, translated, mounted)
    requests = planned.requests()
    built = dict(zip(planned.keys(), build(requests, sink))) if requests else {}
    for name, (key, mounts) in waiting.items():
        definitions[name] = {
            "image_id": built[key] if planned.is_image(key) else "",
            "mounts": [mount.to_wire() for mount in mounts],
        }
    return definitions


def build_one(image: Image, app: App | None = None) -> str:
    """Build one image now; returns its id."""
    from glowplug.client.launch import dial_server
    from glowplug.sdk.running import sink_of_process

    translated = translate(image, LocalFiles(hash_cache()), None if app is None else names_of(app))
    sock, _ = dial_server()
    sock.close()
    planned = _Planned()
    planned.add("image.build()", translated, [])
    return build_images(planned.requests(), sink_of_process())[0]


def hash_cache() -> HashCache:
    return HashCache(read_settings().home / "cache" / "files")


class _Planned:
    """The distinct images of an app, each with all files of all functions that use it."""

    def __init__(self) -> None:
        self._translated: dict[tuple[int, int], tuple[Any, Translated]] = {}
        self._specs: dict[str, ImageSpec] = {}
        self._names: dict[str, list[str]] = {}
        self._places: dict[str, dict[str, str]] = {}

    def translated(self, image: Any, files: LocalFiles, app: App) -> Translated:
        """Each image once an app, however many functions have it."""
        if image is None:
            return Translated(ImageSpec())
        known = self._translated.get((id(image), id(app)))
        if known is None:
            known = image, translate(image, files, names_of(app))
            self._translated[id(image), id(app)] = known
            _say_skipped(known[1].skipped)
        return known[1]

    def add(
        self, name: str, translated: Translated, mounted: list[tuple[str, LocalTree]]
    ) -> tuple[str, list[FileMount]]:
        mounts, laid, trees = lay_over([*translated.mounted, *mounted])
        _say_skipped(list(laid.skipped))
        spec = translated.spec
        key = f"{spec.digest} {spec.forced}"
        known = self._specs.get(key, spec)
        places = self._places.setdefault(key, {})
        places.update(translated.places)
        places.update(laid.places)
        every = dict.fromkeys([*known.mounts, *mounts])
        self._specs[key] = ImageSpec(known.steps, tuple(every), {**known.trees, **spec.trees, **trees})
        self._names.setdefault(key, []).append(name)
        return key, mounts

    def keys(self) -> list[str]:
        return list(self._specs)

    def is_image(self, key: str) -> bool:
        return bool(self._specs[key].steps)

    def requests(self) -> list[ImageRequest]:
        return [
            ImageRequest(spec, _label(self._names[key]), self._places[key])
            for key, spec in self._specs.items()
        ]


def _label(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _say_skipped(paths: list[str]) -> None:
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        warn(f"{paths[0]}{more}: sockets, pipes and devices are left out", NotCarriedOutWarning)


def names_of(app: App) -> Callable[[VolumeDefinition, str], str]:
    """A volume without a name belongs to its app."""
    return lambda volume, path: volume.name or app.name_for_volume(volume, path)
