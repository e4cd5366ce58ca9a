"""Containers: where each is, which GPUs it holds, what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import StreamingResponse

from glowplug.core import events as e
from glowplug.core.state import Container
from glowplug.model import errors
from glowplug.server.found import find_container
from glowplug.server.http.apps import NDJSON, as_ndjson
from glowplug.server.http.route import Route, flag, number
from glowplug.server.log_reader import LogReader
from glowplug.server.records import LOG_LINES_KEPT

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
    memory_mib: int | None = None
    """What it holds now; nothing where there are no control groups."""
    memory_limit_mib: int | None = None
    processes: int | None = None


class ContainerStop(msgspec.Struct):
    """It has ``grace_s`` to end; its inputs go on elsewhere, no retry spent."""

    grace_s: float = 30.0
    reason: str = "stopped by its operator"


class Containers(msgspec.Struct):
    containers: list[ContainerRow]


async def list_containers(server: Server, request: Request, body: None) -> Containers:
    rows = [container_row(server, each) for each in server.kernel.state.containers.values()]
    app = request.query_params.get("app")
    return Containers([row for row in rows if app is None or app in (row.app_id, row.app)])


async def show_container(server: Server, request: Request, body: None) -> ContainerRow:
    return container_row(server, find_container(server.kernel.state, request.path_params["container"]))


async def stop_container(server: Server, request: Request, body: ContainerStop) -> ContainerRow:
    """Answers at once; the container is gone when it cannot be shown any more."""
    if not 0 <= body.grace_s < float("inf"):
        raise errors.InvalidError(f"grace_s={body.grace_s} is no number of seconds; 0 kills at once")
    kernel = server.kernel
    container = find_container(kernel.state, request.path_params["container"])
    kernel.post(e.ContainerStopRequested(kernel.now(), container.id, body.reason, body.grace_s))
    return container_row(server, container)


async def read_logs(server: Server, request: Request, body: None) -> StreamingResponse:
    """Of a container that runs, or of one whose app's lines are still kept."""
    container_id = request.path_params["container"]
    state, runs = server.kernel.state, server.kernel.runs
    known = state.containers.get(container_id)
    records = (
        [runs.live[known.function.app.id]]
        if known is not None
        else [*runs.live.values(), *runs.ended.values()]
    )
    for run in records:
        lines = [line for line in run.logs if line.container_id == container_id]
        if not lines and known is None:
            continue
        latest = min(number(request, "lines", LOG_LINES_KEPT, LOG_LINES_KEPT), len(lines))
        first = lines[len(lines) - latest :]
        reader = LogReader(
            run, first, container_id=container_id, is_over=lambda: container_id not in state.containers
        )
        return StreamingResponse(as_ndjson(reader, flag(request, "follow")), media_type=NDJSON)
    find_container(state, container_id)
    raise AssertionError("unreachable: it is known")


def container_row(server: Server, container: Container) -> ContainerRow:
    function, allocation = container.function, container.allocation
    used = server.backend.usage(container.id)
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
        memory_mib=used.memory_mib,
        memory_limit_mib=used.memory_limit_mib,
        processes=used.processes,
    )


ROUTES = (
    Route("GET", "/v1/containers/{container}", "One container", show_container, ContainerRow),
    Route(
        "GET",
        "/v1/containers/{container}/logs",
        "What it printed, one JSON object a line",
        read_logs,
        NDJSON,
        query={"follow": "1: go on until the container ends", "lines": "only the latest"},
    ),
    Route(
        "POST",
        "/v1/containers/{container}/stop",
        "End it; its inputs go on elsewhere",
        stop_container,
        ContainerRow,
        ContainerStop,
    ),
    Route(
        "GET",
        "/v1/containers",
        "Every container, its GPUs and what it runs",
        list_containers,
        Containers,
        query={"app": "only those of this app, by id or name"},
    ),
)
