"""Containers: where each is, which GPUs it holds, what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from glowplug.core.state import Container
from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server


class ContainerRow(msgspec.Struct):
    container_id: str
    function_id: str
    function: str
    app_id: str
    app: str
    status: str
    node_id: str
    gpu_type: str
    gpu_uuids: list[str]
    running: list[str]
    """Ids of the inputs it runs."""
    ahead: int
    """Inputs it was given and has not begun."""
    taken: int
    """Inputs it was given in its life."""
    created_at: float
    ready_at: float | None
    stop_reason: str
    usd_per_hour: float
    host_pids: list[int]
    """Its own process, then the first of its namespace, as the node numbers them; empty while it starts."""


class Containers(msgspec.Struct):
    containers: list[ContainerRow]


async def list_containers(server: Server, request: Request, body: None) -> Containers:
    rows = [container_row(server, each) for each in server.kernel.state.containers.values()]
    app = request.query_params.get("app")
    return Containers([row for row in rows if app is None or app in (row.app_id, row.app)])


def container_row(server: Server, container: Container) -> ContainerRow:
    function, allocation = container.function, container.allocation
    return ContainerRow(
        container_id=container.id,
        function_id=function.spec.id,
        function=function.spec.name,
        app_id=function.app.id,
        app=function.app.name,
        status=container.status,
        node_id=allocation.node_id,
        gpu_type=allocation.gpu_type,
        gpu_uuids=list(allocation.gpu_uuids),
        running=list(container.running),
        ahead=len(container.ahead),
        taken=container.taken,
        created_at=container.created_at,
        ready_at=container.ready_at or None,
        stop_reason=container.stop_reason or container.retiring,
        usd_per_hour=container.usd_per_s * 3600,
        host_pids=list(server.backend.host_pids(container.id)),
    )


ROUTES = (
    Route(
        "GET",
        "/v1/containers",
        "Every container, its GPUs and what it runs",
        list_containers,
        Containers,
        query={"app": "only those of this app, by id or name"},
    ),
)
