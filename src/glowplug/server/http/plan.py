"""Where functions would run if they were called now. Nothing is started."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from glowplug.core.plan import PlannedFunction, plan
from glowplug.model.function import FunctionSpec
from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server


class PlanRequest(msgspec.Struct):
    """Functions as an app would declare them; ids and definitions may be empty."""

    functions: list[FunctionSpec]


class PlanAnswer(msgspec.Struct):
    banner: str
    virtual: bool
    functions: list[PlannedFunction]


async def plan_functions(server: Server, request: Request, body: PlanRequest) -> PlanAnswer:
    state = server.kernel.state
    # Ids only tell the functions apart; those of running apps are left out of it.
    specs = [dataclasses.replace(spec, id=f"planned-{number}") for number, spec in enumerate(body.functions)]
    planned = plan(state, specs, server.kernel.now())
    virtual = any(each.node.virtual for each in state.nodes.values())
    return PlanAnswer(server.backend.banner, virtual, planned)


ROUTES = (
    Route(
        "POST",
        "/v1/plan",
        "Where functions would run now, what they would wait for and cost",
        plan_functions,
        PlanAnswer,
        PlanRequest,
    ),
)
