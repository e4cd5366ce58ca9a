"""Volumes: directories of this machine that outlive containers, by name. A write is there at once."""

from __future__ import annotations

from typing import Any, TypeVar

from glowplug.model.errors import DeprecationError
from glowplug.model.volume import VolumeDefinition
from glowplug.sdk.dual import dual
from glowplug.sdk.notices import warn
from glowplug.sdk.notyet import not_yet, warn_ignored

_FROM_OUTSIDE = "inside a function, use the path it is mounted at with open(), os.listdir() and shutil"

Storage = TypeVar("Storage", bound="NamedStorage")


class NamedStorage(VolumeDefinition):
    """What volumes of every era have in common. Made when first mounted; without a name it is its app's."""

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

        It is made when a container first mounts it, with ``create_if_missing`` or without.
        Raises ``InvalidError`` for another name.

        >>> volume = Volume.from_name("models", create_if_missing=True)
        """
        warn_ignored(f"{cls.__name__}.from_name({name!r})", environment_name=environment_name)
        return cls(name)

    @classmethod
    def persisted(
        cls: type[Storage],
        label: str,
        namespace: Any = None,
        environment_name: str | None = None,
        cloud: str | None = None,
    ) -> Storage:
        """Older name of ``from_name``."""
        warn(
            f"{cls.__name__}.persisted({label!r}) is now {cls.__name__}.from_name({label!r})",
            DeprecationError,
        )
        warn_ignored(f"{cls.__name__}.persisted({label!r})", environment_name=environment_name, cloud=cloud)
        return cls(label)

    @classmethod
    def new(cls: type[Storage], cloud: str | None = None) -> Storage:
        """Storage without a name of its own: it belongs to the app that mounts it, and stays with it."""
        return cls()

    lookup: Any = not_yet("use from_name(), and the path it is mounted at inside a function")
    ephemeral: Any = not_yet("use a directory under /tmp inside the function")
    delete: Any = not_yet("remove its directory under volumes/ in the home of Glowplug")
    iterdir: Any = not_yet(_FROM_OUTSIDE)
    listdir: Any = not_yet(_FROM_OUTSIDE)
    read_file: Any = not_yet(_FROM_OUTSIDE)
    remove_file: Any = not_yet(_FROM_OUTSIDE)


class Volume(NamedStorage):
    """A named directory on this machine, mounted into containers by ``volumes={"/path": volume}``.

    >>> volume = Volume.from_name("models")
    >>> @app.function(volumes={"/models": volume})
    ... def train():
    ...     open("/models/weights.bin", "wb").close()
    """

    def __init__(self, name: str | None = None, *, read_only: bool = False) -> None:
        super().__init__(name, read_only=read_only)

    def with_mount_options(self, *, read_only: bool | None = None, sub_path: Any = None) -> Volume:
        """The same volume, mounted otherwise. ``read_only``: containers cannot write to it."""
        warn_ignored("Volume.with_mount_options", sub_path=sub_path)
        return Volume(self.name, read_only=self.read_only if read_only is None else read_only)

    def _commit(self) -> None:
        """Nothing to do: what a function writes to its volume is there at once, for everybody."""

    async def _commit_async(self) -> None:
        self._commit()

    def _reload(self) -> None:
        """Nothing to do: what others wrote to the volume is there already."""

    async def _reload_async(self) -> None:
        self._reload()

    commit = dual(_commit, _commit_async)
    reload = dual(_reload, _reload_async)

    copy_files: Any = not_yet(_FROM_OUTSIDE)
    batch_upload: Any = not_yet("copy files in a function that mounts the volume")
    rename: Any = not_yet("volumes keep the name they were made with")
    from_id: Any = not_yet("volumes have names only; use from_name()")


class NetworkFileSystem(NamedStorage):
    """The shared storage of 2023 to 2025; the same as a ``Volume`` here.

    Mounted by ``network_file_systems={"/path": nfs}``.
    """

    def __init__(self, name: str | None = None, *, cloud: Any = None, cloud_provider: Any = None) -> None:
        super().__init__(name)
        warn_ignored(f"{type(self).__name__}()", cloud=cloud, cloud_provider=cloud_provider)

    def persist(self, label: str, *_: Any, **__: Any) -> Any:
        """The storage called ``label``, as written in 2023."""
        kind = type(self).__name__
        warn(f"{kind}().persist({label!r}) is now {kind}.from_name({label!r})", DeprecationError)
        return type(self).from_name(label)

    write_file: Any = not_yet(_FROM_OUTSIDE)
    add_local_file: Any = not_yet("copy files in a function that mounts it")
    add_local_dir: Any = not_yet("copy files in a function that mounts it")


class SharedVolume(NetworkFileSystem):
    """The first name of ``NetworkFileSystem``: ``SharedVolume().persist("data")``, ``shared_volumes=``."""
