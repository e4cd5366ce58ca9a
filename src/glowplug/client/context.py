"""What code needs to know about where it runs; the one thing sdk and container share."""

from __future__ import annotations

import contextvars
import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from glowplug.client.session import Run


class ContainerContext(Protocol):
    """Set once by the process that is a container."""

    container_id: str

    def run(self) -> Run:
        """The app run this container belongs to, connected on first use."""
        ...


_container: ContainerContext | None = None
_input_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("input_id", default=None)
_call_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("call_id", default=None)


def enter_container(container: ContainerContext) -> None:
    global _container
    _container = container


def container() -> ContainerContext | None:
    return _container


def set_current_input(input_id: str | None, call_id: str | None) -> None:
    _input_id.set(input_id)
    _call_id.set(call_id)


def is_local() -> bool:
    """True in the user's own process; False in a container, in what it starts and where it is prepared."""
    return _container is None and os.environ.get("GLOWPLUG_IS_REMOTE") != "1"


def current_input_id() -> str | None:
    """The id of the input being run, None outside a container."""
    return _input_id.get()


def current_function_call_id() -> str | None:
    """The id of the call the current input belongs to, None outside a container."""
    return _call_id.get()


def current_run() -> Run | None:
    """Inside a container the run of its app, else None."""
    return None if _container is None else _container.run()
