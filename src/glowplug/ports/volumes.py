"""What a backend asks of the storage that outlives containers: views, and commits of what they write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

VOLUME, SHARED, BUCKET = "volume", "shared", "bucket"
"""Kinds: with commits; a directory that everybody writes at once; a copy of objects that are elsewhere."""


@dataclass(frozen=True)
class BucketPlace:
    """Where objects are and how they are asked for. ``prefix`` is empty or ends with a slash."""

    bucket: str
    endpoint_url: str = ""
    prefix: str = ""
    requester_pays: bool = False
    force_path_style: bool = False

    def __str__(self) -> str:
        return f"the bucket s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True)
class VolumeUse:
    """One volume as a function's definition names it."""

    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""
    kind: str = VOLUME
    create: bool = True
    """Make it when there is none."""
    bucket: BucketPlace | None = None
    credentials: dict[str, str] | None = field(default=None, repr=False, compare=False)
    """For a bucket: the variables of its secret, put here when a container starts; None without one."""

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> VolumeUse:
        fields = dict(wire)
        place = fields.pop("bucket", None)
        return cls(**fields, bucket=BucketPlace(**place) if place else None)


@dataclass(frozen=True)
class View:
    """How a container sees a volume. Paths are the node's; ``upper`` and ``work`` are empty where it sees
    ``source`` itself instead of an overlay on it."""

    mount_path: str
    source: str
    upper: str = ""
    work: str = ""


class VolumeViews(Protocol):
    """All methods may wait for the disk: they are called on threads. Errors are those of ``model.errors``."""

    def place(self, use: VolumeUse, private: bool) -> str:
        """The directory under which every view of this volume lies. Makes the volume if ``use`` says so.

        Raises ``NotFoundError`` when it does not exist, ``InvalidError`` for a name it cannot have.
        """
        ...

    def open(self, container_id: str, uses: Sequence[VolumeUse], private: bool) -> list[View]:
        """The views of a container that starts. ``private``: with overlays, else one directory for all."""
        ...

    def commit(self, container_id: str, name: str = "", background: bool = False) -> dict[str, Any]:
        """Commit what the container has written to the volume ``name``, or to all. ``background``: leave
        files alone that are open for writing. Answers number, changed and stored_bytes."""
        ...

    def reload(self, container_id: str, name: str, show: Callable[[View], None]) -> dict[str, Any]:
        """Commit, then have the container see the latest commit: ``show`` puts the new view in place, or
        raises and the old one stays."""
        ...

    def close(self, container_id: str) -> list[str]:
        """The container has ended: its last writes are committed, its views go. Returns what went wrong."""
        ...


class StoredVolumes(Protocol):
    """Volumes and network file systems as clients use them; ``kind`` tells which. May wait for the disk."""

    def list(self, kind: str) -> list[dict[str, Any]]: ...

    def show(self, kind: str, name: str) -> dict[str, Any]: ...

    def create(self, kind: str, name: str, exist_ok: bool) -> dict[str, Any]: ...

    def delete(self, kind: str, name: str) -> None: ...

    def rename(self, name: str, new_name: str) -> dict[str, Any]: ...

    def entries(self, kind: str, name: str, path: str, recursive: bool) -> list[dict[str, Any]]: ...

    def read(
        self, kind: str, name: str, path: str, start: int, end: int | None
    ) -> tuple[int, Iterator[bytes]]:
        """The file's size, and its bytes from ``start`` to ``end``."""
        ...

    def remove(self, kind: str, name: str, path: str, recursive: bool) -> None: ...

    def copy(self, kind: str, name: str, sources: Sequence[str], target: str, recursive: bool) -> None: ...

    def missing(self, name: str, digests: Sequence[str]) -> list[str]: ...

    def put_blocks(self, name: str, blocks: Sequence[memoryview]) -> list[str]:
        """Returns their digests."""
        ...

    def commit(self, name: str, files: Sequence[dict[str, Any]], force: bool) -> dict[str, Any]:
        """Files by their blocks, which are there already, as one commit."""
        ...

    def write_shared(self, name: str, path: str, mode: int, parts: Callable[[], bytes]) -> int:
        """A file of a network file system: ``parts()`` until it gives nothing. Returns its size."""
        ...

    def collect(self, name: str) -> int:
        """Remove what nothing refers to; returns the bytes that freed."""
        ...
