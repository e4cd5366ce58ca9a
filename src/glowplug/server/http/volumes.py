"""Volumes and network file systems: made, listed, read, changed; and the commits of running containers.

Bytes travel as blocks by content, so that only those the server lacks are sent. The disk's part is done on
threads. A container may ask the same of the volumes that its function mounts, through its own connection.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import StreamingResponse

from glowplug.model import errors
from glowplug.ports.volumes import SHARED, VOLUME
from glowplug.server.http.route import Route, flag

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server

BODY_BYTES_MAX = 16 << 20
COMMIT_BYTES_MAX = 256 << 20
"""A commit lists its files; half a million are some 100 MB."""
PARTS_AHEAD = 8
BYTES = "application/octet-stream"
KIND = {"kind": "`shared`: a network file system"}
T = TypeVar("T")


class VolumeRow(msgspec.Struct):
    name: str
    id: str
    created_at: float
    commit: int
    """Counts the commits; 0 is the empty volume."""
    committed_at: float
    files: int
    """-1 where it is not known."""
    size_bytes: int
    mounted: int
    """Containers that have it."""
    problem: str = ""
    """Why it cannot be used, if so."""


class VolumeRows(msgspec.Struct):
    volumes: list[VolumeRow]


class NewVolume(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: str = VOLUME
    exist_ok: bool = False


class NewName(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class EntryRow(msgspec.Struct):
    path: str
    type: int
    """1 a file, 2 a directory, 3 a symbolic link."""
    mode: int
    size: int
    mtime: int
    link: str


class EntryRows(msgspec.Struct):
    entries: list[EntryRow]


class Removal(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    recursive: bool = False


class Copy(msgspec.Struct, forbid_unknown_fields=True):
    sources: list[str]
    target: str
    recursive: bool = False


class BlockDigests(msgspec.Struct, forbid_unknown_fields=True):
    digests: list[str]


class MissingBlocks(msgspec.Struct):
    missing: list[str]


class StoredBlocks(msgspec.Struct):
    digests: list[str]


class CommitRow(msgspec.Struct):
    number: int
    changed: int
    stored_bytes: int
    """What was new to the volume."""


class Freed(msgspec.Struct):
    bytes_freed: int


class Written(msgspec.Struct):
    size_bytes: int


class Done(msgspec.Struct):
    name: str


async def list_volumes(server: Server, request: Request, body: None) -> VolumeRows:
    rows = await _aside(lambda: server.volumes.list(_kind(request)))
    return VolumeRows([VolumeRow(**each) for each in rows])


async def create_volume(server: Server, request: Request, body: NewVolume) -> VolumeRow:
    if body.kind not in (VOLUME, SHARED):
        raise errors.InvalidError(f"kind={body.kind!r} is neither {VOLUME!r} nor {SHARED!r}")
    return VolumeRow(**await _aside(lambda: server.volumes.create(body.kind, body.name, body.exist_ok)))


async def show_volume(server: Server, request: Request, body: None) -> VolumeRow:
    return VolumeRow(**await _aside(lambda: server.volumes.show(_kind(request), _name(request))))


async def delete_volume(server: Server, request: Request, body: None) -> Done:
    await _aside(lambda: server.volumes.delete(_kind(request), _name(request)))
    return Done(_name(request))


async def rename_volume(server: Server, request: Request, body: NewName) -> VolumeRow:
    return VolumeRow(**await _aside(lambda: server.volumes.rename(_name(request), body.name)))


async def list_entries(server: Server, request: Request, body: None) -> EntryRows:
    path, recursive = request.query_params.get("path", ""), flag(request, "recursive")
    found = await _aside(lambda: server.volumes.entries(_kind(request), _name(request), path, recursive))
    return EntryRows([EntryRow(**each) for each in found])


async def read_content(server: Server, request: Request, body: None) -> StreamingResponse:
    path = request.query_params.get("path", "")
    start, end = _offset(request, "start") or 0, _offset(request, "end")
    size, parts = await _aside(lambda: server.volumes.read(_kind(request), _name(request), path, start, end))
    length = max(0, (size if end is None else min(end, size)) - start)
    return StreamingResponse(
        _streamed(parts),
        media_type=BYTES,
        headers={"content-length": str(length), "x-file-size": str(size)},
    )


async def write_content(server: Server, request: Request, body: None) -> Written:
    if _kind(request) != SHARED:
        raise errors.InvalidError("a volume's files are sent as blocks and committed")
    path = request.query_params.get("path", "")
    mode = _offset(request, "mode") or 0o644
    arrived: queue.Queue[bytes | None] = queue.Queue(PARTS_AHEAD)
    broken: list[bool] = []

    def next_part() -> bytes:
        part = arrived.get()
        if part is None and broken:
            raise errors.ServiceError(f"{path!r} was not sent to its end")
        return part or b""

    loop = asyncio.get_running_loop()
    writing = loop.run_in_executor(
        None, server.volumes.write_shared, _name(request), path, mode & 0o777, next_part
    )
    try:
        async for part in request.stream():
            while part and not writing.done():
                try:
                    arrived.put_nowait(part)
                    break
                except queue.Full:
                    await asyncio.wait([writing], timeout=0.005)
            server.touch()
    except BaseException:
        broken.append(True)
        raise
    finally:
        while not writing.done():
            try:
                arrived.put_nowait(None)
                break
            except queue.Full:
                await asyncio.wait([writing], timeout=0.005)
    return Written(await writing)


async def remove_entry(server: Server, request: Request, body: Removal) -> Done:
    await _aside(lambda: server.volumes.remove(_kind(request), _name(request), body.path, body.recursive))
    return Done(_name(request))


async def copy_entries(server: Server, request: Request, body: Copy) -> Done:
    await _aside(
        lambda: server.volumes.copy(_kind(request), _name(request), body.sources, body.target, body.recursive)
    )
    return Done(_name(request))


async def missing_blocks(server: Server, request: Request, body: BlockDigests) -> MissingBlocks:
    return MissingBlocks(await _aside(lambda: server.volumes.missing(_name(request), body.digests)))


async def put_blocks(server: Server, request: Request, body: None) -> StoredBlocks:
    raw = await _read(request, BODY_BYTES_MAX)
    return StoredBlocks(await _aside(lambda: server.volumes.put_blocks(_name(request), _cut(raw))))


def _cut(raw: bytes) -> list[memoryview]:
    """Blocks, each after its length in four bytes, big-endian."""
    blocks: list[memoryview] = []
    position = 0
    while position < len(raw):
        length = int.from_bytes(raw[position : position + 4], "big")
        block = memoryview(raw)[position + 4 : position + 4 + length]
        if len(block) != length or not length:
            raise errors.InvalidError("blocks are sent each after its length in four bytes, big-endian")
        blocks.append(block)
        position += 4 + length
    return blocks


async def commit_files(server: Server, request: Request, body: None) -> CommitRow:
    raw = await _read(request, COMMIT_BYTES_MAX)

    def commit() -> dict[str, Any]:
        try:
            told = msgspec.json.decode(raw)
            files, force = list(told["files"]), bool(told.get("force", False))
            return server.volumes.commit(_name(request), files, force)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise errors.InvalidError(
                f"the files to commit are not told as they should be: {error}"
            ) from None

    return CommitRow(**await _aside(commit))


async def collect_blocks(server: Server, request: Request, body: None) -> Freed:
    return Freed(await _aside(lambda: server.volumes.collect(_name(request))))


async def commit_mounted(server: Server, request: Request, body: None) -> CommitRow:
    return CommitRow(**await server.backend.commit_volume(request.path_params["container"], _name(request)))


async def reload_mounted(server: Server, request: Request, body: None) -> CommitRow:
    return CommitRow(**await server.backend.reload_volume(request.path_params["container"], _name(request)))


def _kind(request: Request) -> str:
    kind = request.query_params.get("kind", VOLUME)
    if kind not in (VOLUME, SHARED):
        raise errors.InvalidError(f"kind={kind!r} is neither {VOLUME!r} nor {SHARED!r}")
    return kind


def _name(request: Request) -> str:
    return request.path_params["volume"]


def _offset(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not text.isdecimal():
        raise errors.InvalidError(f"{name}={text!r} is not a whole number")
    return int(text)


async def _aside(act: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, act)


async def _streamed(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    try:
        while part := await loop.run_in_executor(None, next, parts, b""):
            yield part
    finally:
        await loop.run_in_executor(None, getattr(parts, "close", lambda: None))


async def _read(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise errors.RequestSizeError(
                f"the body of {request.method} {request.url.path} is over {limit >> 20} MiB"
            )
        parts.append(part)
    return b"".join(parts)


_PLACE = "/v1/volumes/{volume}"
_PART = {**KIND, "path": "a file or a directory; the root when left out"}
_MOUNTED = "/v1/containers/{container}/volumes/{volume}"

ROUTES = (
    Route("GET", "/v1/volumes", "Volumes, by name", list_volumes, VolumeRows, query=KIND),
    Route("POST", "/v1/volumes", "Make a volume", create_volume, VolumeRow, NewVolume),
    Route("GET", _PLACE, "One volume", show_volume, VolumeRow, query=KIND, inside=True),
    Route("DELETE", _PLACE, "Delete a volume with all that is in it", delete_volume, Done, query=KIND),
    Route("POST", f"{_PLACE}/rename", "Give a volume another name", rename_volume, VolumeRow, NewName),
    Route(
        "GET",
        f"{_PLACE}/entries",
        "What a directory of a volume holds",
        list_entries,
        EntryRows,
        query={**_PART, "recursive": "1: all that is below, too"},
        inside=True,
    ),
    Route(
        "GET",
        f"{_PLACE}/content",
        "The bytes of a file",
        read_content,
        BYTES,
        query={**_PART, "start": "the first byte", "end": "the byte behind the last"},
        inside=True,
    ),
    Route(
        "PUT",
        f"{_PLACE}/content",
        "Write a file of a network file system; answers with its size",
        write_content,
        Written,
        query={**_PART, "mode": "its permissions, a decimal number"},
        raw_body=BYTES,
        inside=True,
    ),
    Route(
        "POST",
        f"{_PLACE}/remove",
        "Remove a file or directory",
        remove_entry,
        Done,
        Removal,
        query=KIND,
        inside=True,
    ),
    Route(
        "POST",
        f"{_PLACE}/copy",
        "Copy files within a volume",
        copy_entries,
        Done,
        Copy,
        query=KIND,
        inside=True,
    ),
    Route(
        "POST",
        f"{_PLACE}/blocks/missing",
        "Which of these blocks were not sent yet",
        missing_blocks,
        MissingBlocks,
        BlockDigests,
        inside=True,
    ),
    Route(
        "POST",
        f"{_PLACE}/blocks",
        "Send blocks, each after its length in four bytes, big-endian; answers with their SHA-256",
        put_blocks,
        StoredBlocks,
        raw_body=BYTES,
        inside=True,
    ),
    Route(
        "POST",
        f"{_PLACE}/commit",
        "Files by their blocks, as one commit",
        commit_files,
        CommitRow,
        raw_body="application/json",
        inside=True,
    ),
    Route("POST", f"{_PLACE}/collect", "Remove blocks that nothing refers to", collect_blocks, Freed),
    Route(
        "POST",
        f"{_MOUNTED}/commit",
        "Commit what a container has written",
        commit_mounted,
        CommitRow,
        inside=True,
    ),
    Route(
        "POST",
        f"{_MOUNTED}/reload",
        "Show a container the latest commit",
        reload_mounted,
        CommitRow,
        inside=True,
    ),
)
