"""Network file systems: directories that every container sees and writes at once. The storage of 2023."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import IO, Any

from glowplug.client.volumes import local_directory
from glowplug.model.errors import DeprecationError
from glowplug.sdk.dual import dual
from glowplug.sdk.notices import warn
from glowplug.sdk.notyet import warn_ignored
from glowplug.sdk.volume import NamedStorage, _aside


class NetworkFileSystem(NamedStorage):
    """Storage without commits, mounted by ``network_file_systems={"/path": nfs}``: what anybody writes the
    others see.

    >>> nfs = NetworkFileSystem.from_name("scratch", create_if_missing=True)
    """

    kind = "shared"

    def __init__(self, name: str | None = None, *, cloud: Any = None, cloud_provider: Any = None) -> None:
        super().__init__(name)
        warn_ignored(f"{type(self).__name__}()", cloud=cloud, cloud_provider=cloud_provider)

    def persist(self, label: str, *_: Any, **__: Any) -> Any:
        """The storage called ``label``, as written in 2023."""
        kind = type(self).__name__
        warn(
            f"{kind}().persist({label!r}) is now {kind}.from_name({label!r}, create_if_missing=True)",
            DeprecationError,
        )
        return type(self)(label)

    def _write_file(
        self, remote_path: str, fp: IO[bytes], progress_cb: Callable[..., Any] | None = None
    ) -> int:
        """Write what a binary file object gives; returns its size in bytes. The file is there once it is
        whole."""
        return self._exists().write_shared(remote_path, fp)

    async def _write_file_async(
        self, remote_path: str, fp: IO[bytes], progress_cb: Callable[..., Any] | None = None
    ) -> int:
        return await _aside(self._write_file, remote_path, fp)

    def _add_local_file(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | PurePosixPath | None = None,
        progress_cb: Callable[..., Any] | None = None,
    ) -> None:
        """A file of this machine, at ``remote_path`` or under its own name."""
        target = str(remote_path) if remote_path is not None else os.path.basename(os.fspath(local_path))
        with open(local_path, "rb") as file:
            self._exists().write_shared(target, file, os.fstat(file.fileno()).st_mode & 0o777)

    async def _add_local_file_async(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | PurePosixPath | None = None,
        progress_cb: Callable[..., Any] | None = None,
    ) -> None:
        await _aside(self._add_local_file, local_path, remote_path)

    def _add_local_dir(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | PurePosixPath | None = None,
        progress_cb: Callable[..., Any] | None = None,
    ) -> None:
        """Every file below a directory of this machine, at ``remote_path`` or under the directory's name."""
        name = os.path.basename(os.path.abspath(os.fspath(local_path)))
        target = str(remote_path).rstrip("/") if remote_path is not None else name
        for each in local_directory(local_path, target):
            self._add_local_file(each.source, each.path)

    async def _add_local_dir_async(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | PurePosixPath | None = None,
        progress_cb: Callable[..., Any] | None = None,
    ) -> None:
        await _aside(self._add_local_dir, local_path, remote_path)

    write_file = dual(_write_file, _write_file_async)
    add_local_file = dual(_add_local_file, _add_local_file_async)
    add_local_dir = dual(_add_local_dir, _add_local_dir_async)


class SharedVolume(NetworkFileSystem):
    """The first name of ``NetworkFileSystem``: ``SharedVolume().persist("data")``, ``shared_volumes=``."""
