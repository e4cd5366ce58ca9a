"""Things by the names people give."""

from __future__ import annotations

from glowplug.core.state import Container, State
from glowplug.model import errors
from glowplug.server.http.route import similar


def find_container(state: State, container_id: str) -> Container:
    """A container that runs. Raises ``NotFoundError`` naming the nearest."""
    found = state.containers.get(container_id)
    if found is None:
        raise errors.NotFoundError(
            f"no container {container_id!r} runs here{similar(container_id, list(state.containers))}. "
            "`glowplug container list` shows those that do."
        )
    return found
