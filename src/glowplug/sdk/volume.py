"""Volumes: storage by name that outlives containers, and commits that make writes visible to others."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, TypeVar, Union

from glowplug.client.context import is_local
from glowplug.client.volumes import StoredVolume, list_volumes
from glowplug.model.errors import (
    ConflictError,
    DeprecationError,
    InvalidError,
    NotFoundError,
)
from glowplug.model.volume import FileEntry, VolumeDefinition
from glowplug.sdk.dual import dual
from glowplug.sdk.notices import warn
from glowplug.sdk.notyet import not_yet, warn_ignored
from glowplug.sdk.volume_upload import VolumeUpload

Storage = TypeVar("Storage", bound="NamedStorage")
PathText = Union[str, bytes, PurePosixPath]


class MissingFileError(NotFoundError, FileNotFoundError):
    """A path that a volume does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


class NamedStorage(VolumeDefinition):
    """What volumes of every era have in common. Without a name it is its app's."""

    @classmethod
    def from_name(
        cls: type[Storage],
        name: str,
        namespace: Any = None,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        version: Any = None,
        *,
        create_options: Any = None,
        client: Any = None,
    ) -> Storage:
        """The storage called ``name`` (letters, digits, dashes, underscores, periods; 64 at most).

        ``create_if_missing``: it is made when an app that uses it starts; otherwise that raises
        ``NotFoundError`` when there is none. Raises ``InvalidError`` for another name.

        >>> volume = Volume.from_name("models", create_if_missing=True)
        """
        warn_ignored(f"{cls.__name__}.from_name({name!r})", environment_name=environment_name)
        storage = cls(name)
        storage.create = create_if_missing
        return storage

    @classmethod
    def persisted(
        cls: type[Storage],
        label: str,
        namespace: Any = None,
        environment_name: str | None = None,
        cloud: str | None = None,
    ) -> Storage:
        """Older name of ``from_name(label, create_if_missing=True)``."""
        warn(
            f"{cls.__name__}.persisted({label!r}) is now "
            f"{cls.__name__}.from_name({label!r}, create_if_missing=True)",
            DeprecationError,
        )
        warn_ignored(f"{cls.__name__}.persisted({label!r})", environment_name=environment_name, cloud=cloud)
        return cls(label)

    @classmethod
    def new(cls: type[Storage], cloud: str | None = None) -> Storage:
        """Storage without a name of its own: it belongs to the app that mounts it, and stays with it."""
        return cls()

    @classmethod
    def lookup(
        cls: type[Storage],
        label: str,
        namespace: Any = None,
        client: Any = None,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        version: Any = None,
    ) -> Storage:
        """Like ``from_name``, and it exists when this returns. Raises ``NotFoundError``."""
        storage = cls.from_name(label, create_if_missing=create_if_missing)
        storage._exists()
        return storage

    @classmethod
    @contextmanager
    def ephemeral(cls: type[Storage], *_: Any, **__: Any) -> Iterator[Storage]:
        """Storage for the length of a block, deleted with it.

        >>> with Volume.ephemeral() as volume:
        ...     volume.listdir("/")
        []
        """
        storage = cls(f"ephemeral-{secrets.token_hex(8)}")
        storage._stored.create()
        try:
            yield storage
        finally:
            storage._stored.delete()

    @property
    def _stored(self) -> StoredVolume:
        if self.stored_name is None:
            raise InvalidError(
                f"this {type(self).__name__} has no name: mount it in a function, or use from_name()"
            )
        return StoredVolume(self.stored_name, self.kind)

    def _exists(self) -> StoredVolume:
        """It, made if that was asked for."""
        stored = self._stored
        if is_local():
            if self.create:
                stored.create(exist_ok=True)
            else:
                stored.show()
        return stored

    def _listdir(self, path: PathText = "/", *, recursive: bool = False) -> list[FileEntry]:
        """The entries of a directory, or the one of a file. ``recursive``: of all that is below.

        Raises ``NotFoundError``.
        """
        return self._exists().entries(_text(path), recursive)

    async def _listdir_async(self, path: PathText = "/", *, recursive: bool = False) -> list[FileEntry]:
        return await _aside(self._listdir, path, recursive=recursive)

    def _iterdir(self, path: PathText = "/", *, recursive: bool = True) -> Iterator[FileEntry]:
        """Like ``listdir``, one by one."""
        return iter(self._listdir(path, recursive=recursive))

    async def _iterdir_async(
        self, path: PathText = "/", *, recursive: bool = True
    ) -> AsyncIterator[FileEntry]:
        for each in await self._listdir_async(path, recursive=recursive):
            yield each

    def _read_file(self, path: PathText) -> Iterator[bytes]:
        """The bytes of a file, in pieces. Raises ``NotFoundError`` (a ``FileNotFoundError`` as well), and
        ``DataLossError`` when what was stored is damaged."""
        try:
            yield from self._exists().read(_text(path))
        except NotFoundError as error:
            raise MissingFileError(str(error)) from None

    async def _read_file_async(self, path: PathText) -> AsyncIterator[bytes]:
        parts = self._read_file(path)
        while True:
            part = await _aside(next, parts, b"")
            if not part:
                return
            yield part

    def _read_file_into_fileobj(
        self, path: PathText, fileobj: IO[bytes], progress_cb: Callable[..., Any] | None = None
    ) -> int:
        """Write a file's bytes to a file object; returns how many. Raises as ``read_file`` does."""
        size = 0
        for part in self._read_file(path):
            fileobj.write(part)
            size += len(part)
        return size

    async def _read_file_into_fileobj_async(
        self, path: PathText, fileobj: IO[bytes], progress_cb: Callable[..., Any] | None = None
    ) -> int:
        return await _aside(self._read_file_into_fileobj, path, fileobj)

    def _remove_file(self, path: PathText, recursive: bool = False) -> None:
        """Remove a file, or with ``recursive`` a directory. Raises ``NotFoundError``, ``InvalidError``."""
        try:
            self._exists().remove(_text(path), recursive)
        except NotFoundError as error:
            raise MissingFileError(str(error)) from None

    async def _remove_file_async(self, path: PathText, recursive: bool = False) -> None:
        await _aside(self._remove_file, path, recursive)

    listdir = dual(_listdir, _listdir_async)
    iterdir = dual(_iterdir, _iterdir_async)
    read_file = dual(_read_file, _read_file_async)
    read_file_into_fileobj = dual(_read_file_into_fileobj, _read_file_into_fileobj_async)
    remove_file = dual(_remove_file, _remove_file_async)

    @classmethod
    def delete(
        cls, name: str = "", *, label: str = "", client: Any = None, environment_name: str | None = None
    ) -> None:
        """Delete the storage called ``name`` with all that is in it. Raises ``NotFoundError``,
        ``ConflictError`` while a container has it."""
        cls(name or label)._stored.delete()


class VolumeObjects:
    """``Volume.objects``: the volumes of this user's server."""

    def create(self, name: str, *, version: Any = None, allow_existing: bool = False, **_: Any) -> None:
        """Make a volume. Raises ``AlreadyExistsError`` unless ``allow_existing``."""
        StoredVolume(name).create(exist_ok=allow_existing)

    def list(self, *, max_objects: int | None = None, **_: Any) -> list[Volume]:
        """Every volume, by name."""
        return [Volume(each["name"]) for each in list_volumes()[:max_objects]]

    def delete(self, name: str, *, allow_missing: bool = False, **_: Any) -> None:
        """Delete a volume with all that is in it. Raises ``NotFoundError`` unless ``allow_missing``."""
        try:
            StoredVolume(name).delete()
        except NotFoundError:
            if not allow_missing:
                raise


class Volume(NamedStorage):
    """Storage with commits, mounted into containers by ``volumes={"/path": volume}``.

    A container sees the volume as it was when it started, and its own writes. Others see these once they are
    committed: by ``commit()``, every few seconds while it runs, and when it ends. Of two that write one file
    the last commit counts.

    >>> volume = Volume.from_name("models", create_if_missing=True)
    >>> @app.function(volumes={"/models": volume})
    ... def train():
    ...     open("/models/weights.bin", "wb").close()
    ...     volume.commit()
    """

    objects = VolumeObjects()

    def __init__(self, name: str | None = None, *, read_only: bool = False) -> None:
        super().__init__(name, read_only=read_only)

    def with_mount_options(
        self, *, read_only: bool | None = None, sub_path: str | PurePosixPath | None = None
    ) -> Volume:
        """The same volume, mounted otherwise. ``read_only``: containers cannot write to it; ``sub_path``:
        only this directory of it is seen."""
        volume = Volume(self.name, read_only=self.is_read_only if read_only is None else read_only)
        volume.create = self.create
        volume.sub_path = self.sub_path if sub_path is None else str(sub_path).strip("/")
        if ".." in volume.sub_path.split("/"):
            raise InvalidError(f'sub_path={str(sub_path)!r}: must lie within the volume, without ".."')
        return volume

    def read_only(self) -> Volume:
        """The same volume, mounted so that containers cannot write to it."""
        return self.with_mount_options(read_only=True)

    def _commit(self) -> None:
        """In a container: make what it has written visible to others, for good, before this returns.

        Raises ``ResourceExhaustedError`` when the disk is full; what was committed before is whole then.
        """
        self._stored.commit()

    async def _commit_async(self) -> None:
        await _aside(self._commit)

    def _reload(self) -> None:
        """In a container: see what others have committed. What it has written is committed first.

        Raises ``RuntimeError`` while the container has a file of the volume open, or works in it.
        """
        try:
            self._stored.reload()
        except ConflictError as error:
            raise RuntimeError(str(error)) from None

    async def _reload_async(self) -> None:
        await _aside(self._reload)

    def _copy_files(self, src_paths: Sequence[PathText], dst_path: PathText, recursive: bool = False) -> None:
        """Copy files within the volume; several, or into a directory, keep their names. No bytes move.

        Raises ``NotFoundError``, ``InvalidError``.
        """
        self._exists().copy([_text(each) for each in src_paths], _text(dst_path), recursive)

    async def _copy_files_async(
        self, src_paths: Sequence[PathText], dst_path: PathText, recursive: bool = False
    ) -> None:
        await _aside(self._copy_files, src_paths, dst_path, recursive)

    def _batch_upload(self, force: bool = False) -> VolumeUpload:
        """Files of this machine into the volume, as one commit at the end of the block.

        >>> with volume.batch_upload() as batch:
        ...     batch.put_file("weights.bin", "/weights.bin")
        ...     batch.put_directory("data", "/data")

        ``force``: replace files that are there, instead of raising ``FileExistsError``.
        """
        return VolumeUpload(self._exists(), force)

    def _about(self) -> dict[str, Any]:
        """name, created_at (seconds since 1970), commit, files, size_bytes."""
        return self._exists().show()

    async def _about_async(self) -> dict[str, Any]:
        return await _aside(self._about)

    commit = dual(_commit, _commit_async)
    reload = dual(_reload, _reload_async)
    copy_files = dual(_copy_files, _copy_files_async)
    batch_upload = dual(_batch_upload, _batch_upload)
    info = dual(_about, _about_async)

    @classmethod
    def rename(
        cls, old_name: str, new_name: str, *, client: Any = None, environment_name: str | None = None
    ) -> None:
        """Give a volume another name. Raises ``NotFoundError``, ``AlreadyExistsError``, ``ConflictError``
        while a container has it."""
        cls(old_name)._stored.rename(new_name)

    from_id: Any = not_yet("volumes have names only; use from_name()")


async def _aside(act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, lambda: act(*args, **kwargs))


def _text(path: PathText) -> str:
    return os.fsdecode(path) if isinstance(path, bytes) else str(path)
