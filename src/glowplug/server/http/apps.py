"""Apps: what runs, what ran, its lines, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import StreamingResponse

from glowplug.model import errors
from glowplug.ports.journal import JournaledRun
from glowplug.ports.logs import Line
from glowplug.server.http.route import Route, flag, number, similar
from glowplug.server.log_reader import LogReader
from glowplug.server.records import LOG_LINES_KEPT, RunRecord

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server

ENDED_SHOWN = 50
"""Ended apps in a list, unless more are asked for."""
ENDED_SHOWN_MAX = 1000
LOG_LINES_MAX = 1_000_000
NDJSON = "application/x-ndjson"


class AppRow(msgspec.Struct):
    app_id: str
    name: str
    state: str
    """running, stopping or ended."""
    detached: bool
    connected: bool
    """Its client is there."""
    started_at: float
    ended_at: float | None
    reason: str
    """Why it ended or is ending."""
    functions: int
    containers: int
    queued: int
    running: int
    inputs: int
    """Those that have their output."""
    attempts: int
    rerun: int
    gpu_seconds: dict[str, float]
    cost_usd: float


class Apps(msgspec.Struct):
    apps: list[AppRow]


class StopRequest(msgspec.Struct):
    reason: str = "stopped by its operator"


async def list_apps(server: Server, request: Request, body: None) -> Apps:
    kernel = server.kernel
    rows = [_running(server, run) for run in kernel.runs.live.values()]
    if flag(request, "ended"):
        limit = number(request, "limit", ENDED_SHOWN, ENDED_SHOWN_MAX)
        known = await asyncio.wrap_future(kernel.journal.read_runs(limit + len(rows)))
        rows += [_ended(run) for run in known if run.app_id not in kernel.runs.live][:limit]
    return Apps(rows)


async def show_app(server: Server, request: Request, body: None) -> AppRow:
    run = _find(server, request)
    if run is not None and run.app_id in server.kernel.runs.live:
        return _running(server, run)
    app = request.path_params["app"]
    known = await asyncio.wrap_future(server.kernel.journal.read_run(run.app_id if run is not None else app))
    if known is None:
        raise _not_found(server, app)
    return _ended(known)


async def stop_app(server: Server, request: Request, body: StopRequest) -> AppRow:
    """Answers when nothing of it is left."""
    run = _find(server, request)
    if run is None or run.app_id not in server.kernel.runs.live:
        raise _not_found(server, request.path_params["app"])
    row = _running(server, run)
    server.kernel.runs.close(run.app_id, body.reason)
    server.outbox.flush()
    await run.gone.wait()
    row.state, row.reason, row.ended_at, row.containers = "ended", run.stopping, server.kernel.now(), 0
    return row


async def read_logs(server: Server, request: Request, body: None) -> StreamingResponse:
    run = _find(server, request)
    if run is None or (run.gone.is_set() and server.logs is not None):
        written = await _written_lines(server, request, run)
        return StreamingResponse(_once(written), media_type=NDJSON)
    function = request.query_params.get("function")
    if function is not None and function not in run.function_ids:
        raise errors.NotFoundError(
            f"app {run.name} has no function {function!r}{similar(function, list(run.function_ids))}"
        )
    lines = [line for line in run.logs if function is None or line.function == function]
    latest = number(request, "lines", LOG_LINES_KEPT, LOG_LINES_KEPT)
    reader = LogReader(run, lines[len(lines) - min(latest, len(lines)) :], function)
    return StreamingResponse(as_ndjson(reader, flag(request, "follow")), media_type=NDJSON)


async def _written_lines(server: Server, request: Request, run: RunRecord | None) -> Sequence[Line]:
    """Of an app that has ended, with this server or an earlier one."""
    app = request.path_params["app"]
    journal = server.kernel.journal
    app_id = run.app_id if run is not None else app
    if run is None and await asyncio.wrap_future(journal.read_run(app)) is None:
        known = await asyncio.wrap_future(journal.read_runs(ENDED_SHOWN_MAX))
        app_id = next((each.app_id for each in known if each.name == app), "")
    if not app_id or server.logs is None:
        raise _not_found(server, app)
    latest = number(request, "lines", LOG_LINES_KEPT, LOG_LINES_MAX)
    function = request.query_params.get("function")
    return await asyncio.wrap_future(server.logs.read(app_id, latest, function))


async def _once(lines: Sequence[Line]) -> AsyncIterator[bytes]:
    yield b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


async def as_ndjson(reader: LogReader, follow: bool) -> AsyncIterator[bytes]:
    try:
        async for lines in reader.read(follow):
            yield b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    finally:
        reader.close()


def _find(server: Server, request: Request) -> RunRecord | None:
    """By id or by name: a running app, else one whose end this server has seen."""
    app = request.path_params["app"]
    runs, ended = server.kernel.runs.live, server.kernel.runs.ended
    if app in runs or app in ended:
        return runs.get(app) or ended[app]
    named = [run for run in runs.values() if run.name == app]
    if len(named) > 1:
        listed = ", ".join(run.app_id for run in named)
        raise errors.ConflictError(f"several running apps are called {app!r}: {listed}. Name one by its id.")
    if named:
        return named[0]
    return next((run for run in reversed(ended.values()) if run.name == app), None)


def _not_found(server: Server, app: str) -> errors.NotFoundError:
    known = [name for run in server.kernel.runs.live.values() for name in (run.name, run.app_id)]
    return errors.NotFoundError(
        f"no app {app!r} runs here{similar(app, known)}. `glowplug app list --all` shows those that ended."
    )


def _running(server: Server, run: RunRecord) -> AppRow:
    app = server.kernel.state.apps.get(run.app_id)
    functions = list(app.functions.values()) if app is not None else []
    running = sum(len(each.running) for one in functions for each in one.containers.values())
    return AppRow(
        app_id=run.app_id,
        name=run.name,
        state="stopping" if run.stopping else "running",
        detached=run.detach,
        connected=run.session is not None,
        started_at=run.started_at,
        ended_at=None,
        reason=run.stopping,
        functions=len(run.functions),
        containers=sum(len(each.containers) for each in functions),
        queued=sum(each.queued + each.delayed + each.leased for each in functions) - running,
        running=running,
        **_used(run.usage.to_wire()),
    )


def _ended(run: JournaledRun) -> AppRow:
    return AppRow(
        app_id=run.app_id,
        name=run.name,
        state="ended",
        detached=run.detach,
        connected=False,
        started_at=run.started_at,
        ended_at=run.ended_at,
        reason=run.reason,
        functions=0,
        containers=0,
        queued=0,
        running=0,
        **_used(run.usage),
    )


def _used(usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "inputs": usage.get("inputs", 0),
        "attempts": usage.get("attempts", 0),
        "rerun": usage.get("rerun", 0),
        "gpu_seconds": usage.get("gpu_seconds", {}),
        "cost_usd": usage.get("cost_usd", 0.0),
    }


ROUTES = (
    Route(
        "GET",
        "/v1/apps",
        "Running apps, and those that ended",
        list_apps,
        Apps,
        query={"ended": "1: also ended ones", "limit": f"how many ended ones; {ENDED_SHOWN} unless told"},
    ),
    Route("GET", "/v1/apps/{app}", "One app, by id or name", show_app, AppRow),
    Route(
        "GET",
        "/v1/apps/{app}/logs",
        "What its functions printed, one JSON object a line",
        read_logs,
        NDJSON,
        query={
            "follow": "1: go on until the app ends",
            "function": "only lines of this function",
            "lines": "only the latest",
        },
    ),
    Route(
        "POST",
        "/v1/apps/{app}/stop",
        "End an app; answers once it is gone",
        stop_app,
        AppRow,
        StopRequest,
    ),
)
