"""Local files in an image: laid over it when a container starts, or copied while it is built."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from glowplug.model.errors import InvalidError
from glowplug.sdk import image_chain as check
from glowplug.sdk.file_pattern_matcher import NON_PYTHON_FILES
from glowplug.sdk.image_bases import check_ignore
from glowplug.sdk.image_chain import Chain, chained
from glowplug.sdk.mount import Mount

if TYPE_CHECKING:
    from typing_extensions import Self


class Files(Chain):
    """Methods that add local files. They are read when the app starts, paths relative to the working
    directory; a file that is not there raises ``NotFoundError`` then."""

    @chained
    def add_local_file(self, local_path: Any, remote_path: Any, *, copy: bool = False) -> Self:
        """A local file at the absolute path ``remote_path``; with a slash at its end that is the directory.

        It is there from the start of a container, and not part of the image; with ``copy=True`` it is, and
        later build steps may use it.

        >>> image = Image.debian_slim().add_local_file("settings.toml", "/root/settings.toml")
        """
        where = "add_local_file"
        return self._with(
            where,
            check.path(where, "local_path", local_path),
            _absolute(where, remote_path),
            copy=check.flag(where, "copy", copy),
        )

    @chained
    def add_local_dir(
        self, local_path: Any, remote_path: Any, *, copy: bool = False, ignore: Any = ()
    ) -> Self:
        """The files of a local directory, in the absolute directory ``remote_path``. ``ignore``: patterns as
        in a .dockerignore, or a callable that says True of a relative path. ``copy``: as of
        ``add_local_file``.

        >>> image = Image.debian_slim().add_local_dir("assets", "/assets", ignore=["*.tmp", "**/cache"])
        """
        where = "add_local_dir"
        return self._with(
            where,
            check.path(where, "local_path", local_path),
            _absolute(where, remote_path),
            copy=check.flag(where, "copy", copy),
            ignore=check_ignore(where, ignore),
        )

    @chained
    def add_local_python_source(
        self, *modules: str, copy: bool = False, ignore: Any = NON_PYTHON_FILES
    ) -> Self:
        """Local modules and packages by name, importable in containers. By default only their .py files.

        >>> image = Image.debian_slim().add_local_python_source("mypackage")
        """
        where = "add_local_python_source"
        for module in modules:
            if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
                raise InvalidError(f"Image.{where}: {module!r} is not the name of a module.")
        if not modules:
            return self
        own = None if ignore is NON_PYTHON_FILES else check_ignore(where, ignore)
        return self._with(where, *modules, copy=check.flag(where, "copy", copy), ignore=own)

    @chained
    def copy_mount(self, mount: Mount, remote_path: Any = ".") -> Self:
        """The files of a ``Mount``, copied into the image (until 2025)."""
        if not isinstance(mount, Mount):
            raise InvalidError(f"Image.copy_mount: {mount!r} is not a Mount.")
        return self._with("copy_mount", mount, check.path("copy_mount", "remote_path", remote_path))

    def copy(self, mount: Mount, remote_path: Any = ".") -> Self:
        """Older name of ``copy_mount``."""
        return self.copy_mount(mount, remote_path)

    @chained
    def copy_local_file(self, local_path: Any, remote_path: Any = "./") -> Self:
        """A local file, copied into the image (until 2025)."""
        where = "copy_local_file"
        return self._with(
            where,
            check.path(where, "local_path", local_path),
            check.path(where, "remote_path", remote_path),
        )

    @chained
    def copy_local_dir(self, local_path: Any, remote_path: Any = ".", ignore: Any = ()) -> Self:
        """The files of a local directory, copied into the image (until 2025)."""
        where = "copy_local_dir"
        return self._with(
            where,
            check.path(where, "local_path", local_path),
            check.path(where, "remote_path", remote_path),
            ignore=check_ignore(where, ignore),
        )


def _absolute(where: str, given: Any) -> str:
    found = check.path(where, "remote_path", given)
    if not found.startswith("/") or ".." in PurePosixPath(found).parts:
        raise InvalidError(
            f'Image.{where}: remote_path {found!r} must be absolute, without "..", such as "/root/{found}".'
        )
    return found
