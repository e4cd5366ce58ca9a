"""The server itself: which one answers, how it was configured, what it is busy with."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from glowplug.model.version import __version__
from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server


class RunningApp(msgspec.Struct):
    app_id: str
    name: str


class Status(msgspec.Struct):
    pid: int
    version: str
    build_id: str
    started_at: float
    uptime_s: float
    banner: str
    config: dict[str, str]
    """The server settings it was started with."""
    config_digest: str
    home: str
    socket: str
    busy: bool
    apps: list[RunningApp]
    containers: int


async def show_status(server: Server, request: Request, body: None) -> Status:
    settings = server.settings
    return Status(
        pid=os.getpid(),
        version=__version__,
        build_id=server.build_id,
        started_at=server.started_at,
        uptime_s=time.time() - server.started_at,
        banner=server.backend.banner,
        config=settings.config,
        config_digest=settings.config_digest,
        home=str(settings.home),
        socket=str(settings.socket_path),
        busy=server.busy,
        apps=[RunningApp(run.app_id, run.name) for run in server.kernel.runs.live.values()],
        containers=len(server.kernel.state.containers),
    )


ROUTES = (Route("GET", "/v1/status", "Which server this is and what it is busy with", show_status, Status),)
