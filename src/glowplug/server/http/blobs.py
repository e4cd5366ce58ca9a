"""Files of clients by content: which are missing, and taking one in, part by part, onto the disk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from glowplug.model import errors
from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.ports.images import Contents
    from glowplug.server.server import Server

PART_BYTES = 1 << 20
"""Written at once: a thread of its own is not worth less."""
MAX_ASKED = 100_000
MAX_BUNDLE_BYTES = 16 << 20
"""Small files are sent together: a request for each would take longer than its content."""
DIGEST_BYTES = 32
BUNDLE_HEAD_BYTES = DIGEST_BYTES + 8
"""Of each file in a bundle: its SHA-256 and, big-endian, its size; its content follows."""


class Digests(msgspec.Struct, forbid_unknown_fields=True):
    digests: list[str]


class Missing(msgspec.Struct):
    missing: list[str]


class StoredMany(msgspec.Struct):
    count: int


class Stored(msgspec.Struct):
    digest: str
    size: int


async def missing_blobs(server: Server, request: Request, body: Digests) -> Missing:
    if len(body.digests) > MAX_ASKED:
        raise errors.InvalidError(f"{len(body.digests)} digests at once are over the limit of {MAX_ASKED}")
    contents = server.contents
    return Missing(await asyncio.get_running_loop().run_in_executor(None, contents.missing, body.digests))


async def put_blob(server: Server, request: Request, body: None) -> Stored:
    run = asyncio.get_running_loop().run_in_executor
    digest = request.path_params["digest"]
    incoming = await run(None, server.contents.begin, digest)
    size = 0
    kept = False
    try:
        held: list[bytes] = []
        held_bytes = 0
        async for part in request.stream():
            held.append(part)
            held_bytes += len(part)
            if held_bytes >= PART_BYTES:
                await run(None, incoming.write, b"".join(held))
                server.touch()
                size, held, held_bytes = size + held_bytes, [], 0
        await run(None, incoming.write, b"".join(held))
        await run(None, incoming.finish)
        kept = True
    finally:
        if not kept:
            incoming.abandon()
    return Stored(digest, size + held_bytes)


async def put_blobs(server: Server, request: Request, body: None) -> StoredMany:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BUNDLE_BYTES:
            raise errors.RequestSizeError(
                f"files sent together may have {MAX_BUNDLE_BYTES >> 20} MiB; send larger ones by themselves"
            )
    count = await asyncio.get_running_loop().run_in_executor(None, _keep, server.contents, content)
    return StoredMany(count)


def _keep(contents: Contents, bundle: bytearray) -> int:
    view, at, count = memoryview(bundle), 0, 0
    while at < len(view):
        head = view[at : at + BUNDLE_HEAD_BYTES]
        size = int.from_bytes(head[DIGEST_BYTES:], "big")
        at += BUNDLE_HEAD_BYTES
        if len(head) < BUNDLE_HEAD_BYTES or at + size > len(view):
            raise errors.InvalidError(f"the files sent together end in the midst of number {count + 1}")
        incoming = contents.begin(head[:DIGEST_BYTES].hex())
        incoming.write(bytes(view[at : at + size]))
        incoming.finish()
        at += size
        count += 1
    return count


ROUTES = (
    Route(
        "POST",
        "/v1/blobs/missing",
        "Which of these files were not sent yet",
        missing_blobs,
        Missing,
        body=Digests,
    ),
    Route(
        "POST",
        "/v1/blobs",
        "Send many small files: of each its SHA-256, its size in 8 bytes (big-endian), its content",
        put_blobs,
        StoredMany,
        raw_body="application/octet-stream",
    ),
    Route(
        "PUT",
        "/v1/blobs/{digest}",
        "Send a file; refused when its SHA-256 is another",
        put_blob,
        Stored,
        raw_body="application/octet-stream",
    ),
)
