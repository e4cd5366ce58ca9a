"""A backend carries the core's commands out on nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from glowplug.core.commands import Allocation
from glowplug.model.function import FunctionSpec
from glowplug.model.node import Node
from glowplug.wire.payload import Payload
from glowplug.wire.stream import Descriptor


@dataclass(frozen=True)
class ContainerStart:
    """Everything a backend needs to start one container."""

    container_id: str
    function: FunctionSpec
    app_functions: dict[str, str]
    """Names and ids of the app's functions, for calls made inside the container."""
    environment: dict[str, Any]
    source: dict[str, Any]
    allocation: Allocation
    node: Node
    secrets: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """The variables of its secrets, as they are now. For the container's memory, nowhere else."""
    bucket_secrets: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]], repr=False)
    """By mount path, the variables of the secrets of its buckets. The container never sees them."""


class LeasedInput(msgspec.Struct, frozen=True):
    input_id: str
    attempt: int
    payload: Payload


class ArrivedOutput(msgspec.Struct, frozen=True):
    """What a container answered; ``status`` as in ``core.events.OutputFact``."""

    input_id: str
    attempt: int
    status: str
    run_s: float
    payload: Payload | None


@dataclass(frozen=True)
class ContainerExit:
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    message: str = ""


@dataclass(frozen=True)
class ContainerUsage:
    memory_mib: int | None = None
    memory_limit_mib: int | None = None
    """Its own; None where only that of all containers together holds."""
    processes: int | None = None


class ContainerListener(Protocol):
    """What a backend reports; the kernel. Called on the server's event loop."""

    def container_ready(self, container_id: str) -> None: ...

    def container_start_failed(self, container_id: str, message: str, permanent: bool) -> None: ...

    def container_exited(self, container_id: str, exit: ContainerExit) -> None: ...

    def outputs_arrived(self, container_id: str, outputs: Sequence[ArrivedOutput]) -> None: ...

    def item_yielded(
        self, container_id: str, input_id: str, attempt: int, index: int, payload: Payload
    ) -> None: ...

    def inputs_returned(self, container_id: str, input_ids: Sequence[str]) -> None: ...

    def log_written(self, container_id: str, input_id: str, stream: str, lines: Sequence[str]) -> None: ...

    def client_connected(self, container_id: str, sock: Any) -> None: ...

    def notice(self, app_id: str, function_id: str, level: str, text: str) -> None: ...

    def nodes_changed(self, nodes: Sequence[Node]) -> None: ...

    def gpu_failed(self, node_id: str, gpu_uuid: str, reason: str) -> None: ...


class NodeBackend(Protocol):
    """Nodes and the containers on them. Every method returns at once; what happens is reported to the
    listener."""

    banner: str
    """One line: real cards, a virtual fleet, or none."""
    warning: str
    """What every run is told once; empty when there is nothing to warn of."""

    def start(self, listener: ContainerListener) -> Sequence[Node]:
        """Begin, and say which nodes there are."""
        ...

    def prepare(
        self, functions: Sequence[FunctionSpec], environment: dict[str, Any], source: dict[str, Any]
    ) -> None:
        """Containers of these functions are coming: warm what can be warmed."""
        ...

    def start_container(self, start: ContainerStart) -> None: ...

    def stop_container(self, container_id: str, grace_s: float, reason: str) -> None: ...

    def lease(self, container_id: str, inputs: Sequence[LeasedInput]) -> None: ...

    def recall(self, container_id: str, input_ids: Sequence[str]) -> None: ...

    def cancel_input(self, container_id: str, input_id: str, attempt: int) -> None: ...

    def grant_credit(self, container_id: str, input_id: str, items: int) -> None: ...

    def open_exec(self, container_id: str, channel: Descriptor) -> None:
        """Have a ready container run the command that comes through ``channel``
        (``container.exec_entry``)."""
        ...

    def host_pids(self, container_id: str) -> tuple[int, ...]:
        """The container's own process, then the first of its namespace, as its node numbers them; empty while
        it starts and where they cannot be known."""
        ...

    def usage(self, container_id: str) -> ContainerUsage:
        """What a container holds now; nothing of what is not counted."""
        ...

    def mounted_volumes(self, container_id: str) -> frozenset[tuple[str, str]]:
        """Kind and name of the volumes a container has."""
        ...

    async def commit_volume(self, container_id: str, name: str) -> dict[str, Any]:
        """Commit what a container has written to a volume: number, changed, stored_bytes.

        Raises ``NotFoundError``, ``ResourceExhaustedError``, ``DataLossError``."""
        ...

    async def reload_volume(self, container_id: str, name: str) -> dict[str, Any]:
        """Show a container the latest commit of a volume. Raises ``ConflictError`` while files are open."""
        ...

    def flush(self) -> None:
        """Send what was held back; called once after a batch of commands."""
        ...

    async def close(self) -> None:
        """End every container and wait until all are gone."""
        ...
