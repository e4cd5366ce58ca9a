"""Nodes: the machines, their GPUs and who holds each; drained and taken back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from glowplug.core import events as e
from glowplug.core.state import Container, NodeState
from glowplug.model import errors
from glowplug.model.node import Gpu, Node
from glowplug.server.http.route import Route, similar

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.server.server import Server

DRAIN_GRACE_S = 30.0


class Holder(msgspec.Struct):
    """The container that holds a GPU. ``user`` is whose server this is."""

    app: str
    function: str
    container_id: str
    user: str


@dataclass(frozen=True)
class ShownGpu(Gpu):
    held_by: Holder | None = None


@dataclass(frozen=True)
class ShownNode(Node):
    gpus: tuple[ShownGpu, ...] = ()
    draining: str = ""
    """Why no container starts there; empty when they do."""
    containers: int = 0


class Nodes(msgspec.Struct):
    banner: str
    config_digest: str
    nodes: list[ShownNode]


class DrainRequest(msgspec.Struct):
    """Containers have ``grace_s`` to end; their inputs go on elsewhere, no retry spent."""

    grace_s: float = DRAIN_GRACE_S
    reason: str = "drained by its operator"


class NodeContainer(msgspec.Struct):
    container_id: str
    app: str
    function: str
    status: str


class NodeAnswer(msgspec.Struct):
    node_id: str
    draining: str
    containers: list[NodeContainer]
    """What still runs there."""


async def list_nodes(server: Server, request: Request, body: None) -> Nodes:
    shown = [_shown(each, server.user) for each in server.kernel.state.nodes.values()]
    return Nodes(server.backend.banner, server.settings.config_digest, shown)


async def show_node(server: Server, request: Request, body: None) -> NodeAnswer:
    return _answer(_find(server, request))


async def drain_node(server: Server, request: Request, body: DrainRequest) -> NodeAnswer:
    if not 0 <= body.grace_s < float("inf"):
        raise errors.InvalidError(f"grace_s={body.grace_s} is no number of seconds; 0 interrupts at once")
    node = _find(server, request)
    kernel = server.kernel
    kernel.post(e.NodeDrainRequested(kernel.now(), node.node.id, body.reason or "drained", body.grace_s))
    return _answer(node)


async def undrain_node(server: Server, request: Request, body: None) -> NodeAnswer:
    node = _find(server, request)
    kernel = server.kernel
    kernel.post(e.NodeDrainEnded(kernel.now(), node.node.id))
    return _answer(node)


def _find(server: Server, request: Request) -> NodeState:
    node_id = request.path_params["node"]
    nodes = server.kernel.state.nodes
    if node_id not in nodes:
        raise errors.NotFoundError(f"no node is called {node_id!r}{similar(node_id, list(nodes))}")
    return nodes[node_id]


def _answer(node: NodeState) -> NodeAnswer:
    return NodeAnswer(
        node.node.id,
        node.draining,
        [
            NodeContainer(each.id, each.function.app.name, each.function.spec.name, each.status)
            for each in node.containers.values()
        ],
    )


def _shown(node: NodeState, user: str) -> ShownNode:
    fields = {field.name: getattr(node.node, field.name) for field in dataclasses.fields(node.node)}
    fields["gpus"] = tuple(_shown_gpu(gpu, node.holders.get(gpu.uuid), user) for gpu in node.gpus.values())
    return ShownNode(**fields, draining=node.draining, containers=len(node.containers))


def _shown_gpu(gpu: Gpu, container: Container | None, user: str) -> ShownGpu:
    fields = {field.name: getattr(gpu, field.name) for field in dataclasses.fields(gpu)}
    if container is None:
        return ShownGpu(**fields)
    function = container.function
    return ShownGpu(**fields, held_by=Holder(function.app.name, function.spec.name, container.id, user))


ROUTES = (
    Route("GET", "/v1/nodes", "Every node, its GPUs and who holds them", list_nodes, Nodes),
    Route("GET", "/v1/nodes/{node}", "What runs on one node", show_node, NodeAnswer),
    Route(
        "POST",
        "/v1/nodes/{node}/drain",
        "Start nothing there any more and move what runs there elsewhere",
        drain_node,
        NodeAnswer,
        DrainRequest,
    ),
    Route("POST", "/v1/nodes/{node}/undrain", "Use the node again", undrain_node, NodeAnswer),
)
