"""Images: having one built while its log streams, which there are, why one is as it is, forgetting them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from glowplug.model import errors
from glowplug.model.image_spec import OPERATIONS, ImageSpec
from glowplug.ports.images import ImageStory, KnownImage
from glowplug.server.http.route import Route, flag, number

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server

MAX_SPEC_BYTES = 256 << 20
"""A definition lists its files; half a million are some 100 MB."""
ENDS = frozenset({"built", "failed"})
DAY_S = 86400.0
UNUSED_DAYS = 30
MAX_DAYS = 10_000


class Images(msgspec.Struct):
    images: list[KnownImage]


class Removed(msgspec.Struct):
    images: int
    bytes_freed: int


async def build_image(server: Server, request: Request, body: None) -> Any:
    from starlette.responses import StreamingResponse

    loop = asyncio.get_running_loop()
    raw = await _read(request)
    spec, name = await loop.run_in_executor(None, _decode, raw)
    return StreamingResponse(_events(server, spec, name), media_type="application/x-ndjson")


async def _events(server: Server, spec: ImageSpec, name: str) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def tell(event: dict[str, Any]) -> None:
        try:
            loop.call_soon_threadsafe(told.put_nowait, event)
        except RuntimeError:
            pass  # the server has ended

    request = loop.run_in_executor(None, server.images.request, spec, name, tell)
    try:
        ended = False
        while not ended:
            event = await told.get()
            server.touch()
            ended = event["event"] in ENDS
            yield msgspec.json.encode(event) + b"\n"
    finally:
        # Whoever asked is gone, or has its answer.
        request.add_done_callback(lambda done: None if done.cancelled() else _leave(done))


def _leave(done: asyncio.Future[Any]) -> None:
    if done.exception() is None:
        done.result().leave()


async def _read(request: Request) -> bytes:
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_SPEC_BYTES:
            raise errors.RequestSizeError(
                f"the definition of an image is over {MAX_SPEC_BYTES >> 20} MiB: it lists too many files; "
                "leave some out with ignore="
            )
    return bytes(raw)


def _decode(raw: bytes) -> tuple[ImageSpec, str]:
    try:
        body = msgspec.json.decode(raw)
        spec = ImageSpec.from_wire(body["spec"])
        name = body.get("name", "")
        unknown = [step.operation for step in spec.steps if step.operation not in OPERATIONS]
        if not isinstance(name, str):
            raise TypeError("name is no text")
        spec.digest  # noqa: B018 - what cannot be named cannot be built
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.InvalidError(
            f"the definition of an image does not fit: {type(error).__name__}: {error}"
        ) from None
    if unknown:
        raise errors.InvalidError(
            f"an image has no operation {unknown[0]!r}; there are {', '.join(OPERATIONS)}"
        )
    return spec, name


async def list_images(server: Server, request: Request, body: None) -> Images:
    in_use = server.kernel.runs.images_in_use()
    found = await asyncio.get_running_loop().run_in_executor(None, server.images.known, in_use.images)
    return Images(found)


async def explain_image(server: Server, request: Request, body: None) -> ImageStory:
    in_use = server.kernel.runs.images_in_use()
    name = request.path_params["image"]
    return await asyncio.get_running_loop().run_in_executor(None, server.images.story, name, in_use.images)


async def remove_image(server: Server, request: Request, body: None) -> Removed:
    in_use = server.kernel.runs.images_in_use()
    name = request.path_params["image"]
    freed = await asyncio.get_running_loop().run_in_executor(None, server.images.remove, name, in_use.images)
    return Removed(1, freed)


async def prune_images(server: Server, request: Request, body: None) -> Removed:
    in_use = server.kernel.runs.images_in_use()
    days = 0 if flag(request, "all") else number(request, "days", UNUSED_DAYS, MAX_DAYS)
    images, freed = await asyncio.get_running_loop().run_in_executor(
        None, server.images.prune, days * DAY_S, in_use.images, in_use.trees
    )
    return Removed(images, freed)


ROUTES = (
    Route(
        "POST",
        "/v1/images",
        "Have an image built; its log as JSON lines until it is built or has failed",
        build_image,
        "application/x-ndjson",
        raw_body="application/json",
    ),
    Route("GET", "/v1/images", "Every image that was built here", list_images, Images),
    Route(
        "GET",
        "/v1/images/{image}",
        "Why an image is as it is; reads all of its files",
        explain_image,
        ImageStory,
    ),
    Route("DELETE", "/v1/images/{image}", "Forget an image that no app uses", remove_image, Removed),
    Route(
        "POST",
        "/v1/images/prune",
        "Forget images that were not used for some days",
        prune_images,
        Removed,
        query={
            "days": f"how many, {UNUSED_DAYS} if left out",
            "all": "1: all that no running app uses",
        },
    ),
)
