"""The API's description for other programs (OpenAPI 3.1), made of the same routes and types that serve it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from glowplug.server.http.route import Route

API_VERSION = "1"
"""Raised when a field changes its meaning; new fields and routes do not raise it."""
_REFERENCE = "#/components/schemas/{name}"


def describe(routes: Sequence[Route], failure: type) -> dict[str, Any]:
    """The whole document. ``failure`` is what every request may answer instead."""
    types = [
        each
        for route in routes
        for each in (route.answer, route.body)
        if each is not None and not isinstance(each, str)
    ]
    schemas, components = msgspec.json.schema_components([*types, failure], ref_template=_REFERENCE)
    by_type = dict(zip([*types, failure], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type, by_type[failure])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Glowplug",
            "version": API_VERSION,
            "description": "A server's apps, functions, containers and nodes, on its Unix socket.",
        },
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items()))},
    }


def _operation(route: Route, by_type: dict[Any, Any], failure: Any) -> dict[str, Any]:
    if isinstance(route.answer, str):
        content: dict[str, Any] = {route.answer: {"schema": {"type": "string"}}}
    else:
        content = _json_content(by_type[route.answer])
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.handler.__name__,
        "responses": {
            "200": {"description": "Done.", "content": content},
            "default": {"description": "Refused, and why.", "content": _json_content(failure)},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in route.query.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"content": _json_content(by_type[route.body])}
    if route.raw_body:
        operation["requestBody"] = {"content": {route.raw_body: {"schema": {}}}}
    return operation


def _json_content(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
