"""Functions: what each has queued and running, and why its inputs wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from glowplug.core.state import Function
from glowplug.core.story import why_waiting
from glowplug.model.gpu import format_request
from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server


class WaitingReason(msgspec.Struct):
    text: str
    code: str
    unblocks: str


class FunctionRow(msgspec.Struct):
    function_id: str
    name: str
    app_id: str
    app: str
    gpu: list[str]
    """Its request, fallbacks in order; empty without a GPU."""
    queued: int
    delayed: int
    """Inputs that wait for their next try."""
    running: int
    containers: int
    starting: int
    timeout_s: float
    min_containers: int
    max_containers: int | None
    waiting: WaitingReason | None


class Functions(msgspec.Struct):
    functions: list[FunctionRow]


async def list_functions(server: Server, request: Request, body: None) -> Functions:
    kernel = server.kernel
    at = kernel.now()
    rows = [function_row(server, each, at) for each in kernel.state.functions.values()]
    app = request.query_params.get("app")
    return Functions([row for row in rows if app is None or app in (row.app_id, row.app)])


def function_row(server: Server, function: Function, at: float) -> FunctionRow:
    spec = function.spec
    reason = why_waiting(server.kernel.state, spec.id, at)
    running = sum(len(container.running) for container in function.containers.values())
    return FunctionRow(
        function_id=spec.id,
        name=spec.name,
        app_id=spec.app_id,
        app=function.app.name,
        gpu=[format_request(request) for request in spec.gpu],
        queued=function.queued + function.leased - running,
        delayed=function.delayed,
        running=running,
        containers=len(function.containers),
        starting=function.starting,
        timeout_s=spec.timeout_s,
        min_containers=spec.min_containers,
        max_containers=spec.max_containers,
        waiting=WaitingReason(reason.text, reason.code, reason.unblocks) if reason is not None else None,
    )


ROUTES = (
    Route(
        "GET",
        "/v1/functions",
        "Functions of running apps: queued, running, and why they wait",
        list_functions,
        Functions,
        query={"app": "only those of this app, by id or name"},
    ),
)
