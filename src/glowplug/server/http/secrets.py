"""Secrets: stored, listed by name, changed and deleted. Their values are taken in and never given out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from glowplug.ports.secrets import StoredSecret
from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server

T = TypeVar("T")


class NewSecret(msgspec.Struct):
    name: str
    variables: dict[str, str]
    force: bool = False
    """Replace one of this name."""


class SecretChange(msgspec.Struct):
    variables: dict[str, str | None]
    """Set; null removes one."""


class StoredSecrets(msgspec.Struct):
    secrets: list[StoredSecret]


class DeletedSecret(msgspec.Struct):
    name: str


async def create_secret(server: Server, request: Request, body: NewSecret) -> StoredSecret:
    return await _aside(lambda: server.secrets.create(body.name, body.variables, body.force))


async def list_secrets(server: Server, request: Request, body: None) -> StoredSecrets:
    return StoredSecrets(list(await _aside(server.secrets.list)))


async def show_secret(server: Server, request: Request, body: None) -> StoredSecret:
    name = request.path_params["secret"]
    return await _aside(lambda: server.secrets.show(name))


async def update_secret(server: Server, request: Request, body: SecretChange) -> StoredSecret:
    name = request.path_params["secret"]
    return await _aside(lambda: server.secrets.update(name, body.variables))


async def delete_secret(server: Server, request: Request, body: None) -> DeletedSecret:
    name = request.path_params["secret"]
    await _aside(lambda: server.secrets.delete(name))
    return DeletedSecret(name)


async def _aside(work: Callable[[], T]) -> T:
    """On another thread: it reads and writes files and, the first time, imports what encrypts them."""
    found: Any = await asyncio.get_running_loop().run_in_executor(None, work)
    return found


ROUTES = (
    Route("GET", "/v1/secrets", "Stored secrets: names, never values", list_secrets, StoredSecrets),
    Route("POST", "/v1/secrets", "Store a secret", create_secret, StoredSecret, NewSecret),
    Route("GET", "/v1/secrets/{secret}", "One secret: its variables' names", show_secret, StoredSecret),
    Route(
        "POST",
        "/v1/secrets/{secret}/update",
        "Set some of its variables; containers that start later get them",
        update_secret,
        StoredSecret,
        SecretChange,
    ),
    Route("DELETE", "/v1/secrets/{secret}", "Delete a secret", delete_secret, DeletedSecret),
)
