"""Images as scripts of every era declare them: a chain of steps, built when an app starts.

The methods are in ``image_bases``, ``image_packages``, ``image_commands`` and ``image_files``; what they mean
to a server is decided in ``image_meaning`` and ``image_places``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from glowplug.model.errors import InvalidError
from glowplug.sdk.dual import dual
from glowplug.sdk.image_bases import Bases
from glowplug.sdk.image_commands import Commands
from glowplug.sdk.image_files import Files
from glowplug.sdk.image_packages import Packages
from glowplug.sdk.notyet import not_yet

if TYPE_CHECKING:
    from glowplug.sdk.app import App

_NAMED = "an image is known by its definition; keep the chain in a module that several scripts import"


class Image(Bases, Packages, Commands, Files):
    """The environment a function runs in. Each method returns a new image; none is changed.

    It is built when an app that uses it starts, once for all functions and programs with the same chain, and
    kept: the next start finds it. Local files are read then, relative to the working directory.

    >>> image = Image.debian_slim().apt_install("ffmpeg").pip_install("torch", "transformers")
    >>> @app.function(image=image)
    ... def transcribe(url): ...
    """

    @property
    def force_build(self) -> bool:
        """Whether any of its steps asks to be built anew."""
        return any(step.options.get("force_build") for step in self.steps)

    def pipe(self, func: Callable[..., Image], *args: Any, **kwargs: Any) -> Image:
        """``func(image, *args, **kwargs)``, so that own steps read like methods of the chain."""
        if not callable(func):
            raise InvalidError(f"Image.pipe({func!r}): give a function of an image.")
        image = func(self, *args, **kwargs)
        if not isinstance(image, Image):
            raise InvalidError(f"Image.pipe: {func!r} returned {image!r}, not an Image.")
        return image

    @contextmanager
    def imports(self) -> Iterator[None]:
        """A block of imports that only the container needs to have.

        An ``ImportError`` in it is kept, here as in the container; a function that uses this image raises
        it when its container loads it.

        >>> with image.imports():
        ...     import torch
        """
        try:
            yield
        except ImportError as error:
            self.inside_exceptions.append(error)

    def run_inside(self) -> Any:
        """Older name of ``imports``."""
        return self.imports()

    def _build(self, app: App | None = None) -> Image:
        """Build it now, before any app needs it; returns this image when it is built.

        Raises ``ImageBuildError``, and what the start of an app raises for local files that are not there.
        ``app``: names the volumes that have no name of their own.

        >>> Image.debian_slim().pip_install("numpy").build()
        """
        from glowplug.sdk.image_building import build_one

        build_one(self, app)
        return self

    async def _build_async(self, app: App | None = None) -> Image:
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, self._build, app)

    build = dual(_build, _build_async)

    publish: Any = not_yet(_NAMED)
    from_id: Any = not_yet(_NAMED)
    from_name: Any = not_yet(_NAMED)
    lookup: Any = not_yet(_NAMED)
    persist: Any = not_yet(_NAMED)
    logs: Any = not_yet("`glowplug image why` shows what a build did")
