"""What a request is: its place, what it takes and answers. The API and its description are made of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glowplug.model import errors

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server

Handler = Callable[["Server", "Request", Any], Awaitable[Any]]
"""``handler(server, request, body)``; ``body`` is the decoded ``Route.body``, None without one."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    """With its variables: "/v1/apps/{app}"."""
    summary: str
    handler: Handler
    answer: Any
    """The type it answers with as JSON; a string is the media type of something else."""
    body: Any = None
    raw_body: str = ""
    """The media type of a body that the handler reads itself."""
    inside: bool = False
    """Whether a container may ask it, for the volumes that its function mounts."""
    query: dict[str, str] = field(default_factory=dict[str, str])
    """Query parameters and what they mean. All may be left out."""


def flag(request: Request, name: str) -> bool:
    """A query parameter that is on or off. Raises ``InvalidError``."""
    text = request.query_params.get(name, "0").lower()
    if text not in ("0", "1", "true", "false"):
        raise errors.InvalidError(f"{name}={text!r} is neither 0 nor 1")
    return text in ("1", "true")


def number(request: Request, name: str, default: int, at_most: int) -> int:
    """A query parameter that counts. Raises ``InvalidError``."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise errors.InvalidError(f"{name}={text!r} is not a whole number")
    return min(int(text), at_most)


def similar(name: str, known: list[str]) -> str:
    """What a message adds about a name that does not exist."""
    import difflib

    close = difflib.get_close_matches(name, known, 3, 0.5)
    if close:
        return f"; there is {', '.join(close)}"
    return f"; there is {', '.join(known[:5])}{' and others' if len(known) > 5 else ''}" if known else ""
