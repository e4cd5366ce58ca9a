"""The HTTP API: every noun's routes in one Starlette app, errors as the same text everywhere."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from glowplug.model import errors
from glowplug.server.http import (
    apps,
    blobs,
    containers,
    explain,
    functions,
    images,
    metrics,
    nodes,
    openapi,
    plan,
    secrets,
    status,
    volumes,
)
from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from glowplug.server.server import Server

ROUTES: tuple[Route, ...] = (
    *status.ROUTES,
    *nodes.ROUTES,
    *apps.ROUTES,
    *functions.ROUTES,
    *containers.ROUTES,
    *blobs.ROUTES,
    *images.ROUTES,
    *explain.ROUTES,
    *plan.ROUTES,
    *secrets.ROUTES,
    *volumes.ROUTES,
    *metrics.ROUTES,
)
MAX_BODY_BYTES = 16 << 20
STATUS_CODES: tuple[tuple[type[errors.Error], int], ...] = (
    (errors.ConflictError, 409),
    (errors.AlreadyExistsError, 409),
    (errors.RequestSizeError, 413),
    (errors.InvalidError, 400),
    (errors.NotFoundError, 404),
    (errors.OutputExpiredError, 410),
    (errors.AuthError, 403),
    (errors.PermissionDeniedError, 403),
    (errors.ResourceExhaustedError, 429),
)
"""The first that fits; any other error of ours is 500."""


class Failure(msgspec.Struct):
    """``error`` names a class of ``glowplug.model.errors``."""

    error: str
    message: str


def make_api(server: Server) -> Starlette:
    description = msgspec.json.encode(openapi.describe(ROUTES, Failure))

    async def describe(request: Request) -> Response:
        return Response(description, media_type="application/json")

    routes = [StarletteRoute(each.path, _endpoint(server, each), methods=[each.method]) for each in ROUTES]
    return Starlette(
        routes=[*routes, StarletteRoute("/openapi.json", describe)],
        exception_handlers={HTTPException: _on_http_error},
    )


def _endpoint(server: Server, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        server.touch()
        try:
            _check_asker(server, route, request)
            body = None if route.body is None else await _read_body(request, route.body)
            found = await route.handler(server, request, body)
        except errors.Error as error:
            return _failure(error)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)  # stderr is the server's log
            return _failure(
                errors.InternalError(
                    f"{route.method} {request.url.path} failed in the server: {type(error).__name__}: "
                    f"{error}; `glowplug server logs` shows where"
                )
            )
        finally:
            server.outbox.flush()
        return found if isinstance(found, Response) else _json(found)

    return answer


def _check_asker(server: Server, route: Route, request: Request) -> None:
    """A container may ask what concerns itself and the volumes that its function mounts."""
    container = request.scope.get("state", {}).get("container", "")
    if not container:
        return
    asked = request.path_params
    if not route.inside or asked.get("container", container) != container:
        raise errors.PermissionDeniedError(
            f"{route.method} {request.url.path} cannot be asked inside a container"
        )
    kind = request.query_params.get("kind", "volume")
    if (kind, asked["volume"]) not in server.backend.mounted_volumes(container):
        raise errors.PermissionDeniedError(
            f"{asked['volume']!r} is not mounted in this container: name it in volumes= (or "
            "network_file_systems=) of the function that uses it"
        )


async def _read_body(request: Request, kind: Any) -> Any:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BODY_BYTES:
            raise errors.RequestSizeError(
                f"the body of {request.method} {request.url.path} is over {MAX_BODY_BYTES >> 20} MiB"
            )
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise errors.InvalidError(
            f"the body of {request.method} {request.url.path} does not fit: {error}; /openapi.json describes "
            "it"
        ) from None


def _failure(error: errors.Error) -> Response:
    code = next((code for kind, code in STATUS_CODES if isinstance(error, kind)), 500)
    return _json(Failure(type(error).__name__, str(error)), code)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = "NotFoundError" if error.status_code == 404 else "InvalidError"
    text = f"{request.method} {request.url.path}: {error.detail.lower()}; /openapi.json lists what there is"
    return _json(Failure(name, text), error.status_code)


def _json(value: Any, code: int = 200) -> Response:
    return Response(msgspec.json.encode(value), code, media_type="application/json")
