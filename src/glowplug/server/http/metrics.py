"""Numbers for a monitoring system, in the text form that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from glowplug.server.http.route import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from glowplug.core.state import Function, NodeState
    from glowplug.model.node import Gpu
    from glowplug.server.server import Server

TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def show_metrics(server: Server, request: Request, body: None) -> Response:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(server))
    return Response(generate_latest(registry), headers={"content-type": TEXT})


class _Numbers(Collector):
    """Read from the state when asked: nothing is counted twice, nothing costs a call anything."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        state = self._server.kernel.state
        gpus = GaugeMetricFamily("glowplug_gpus", "GPUs by type and state", labels=["node", "type", "state"])
        for node in state.nodes.values():
            counts = Counter((gpu.variant, _gpu_state(node, gpu)) for gpu in node.gpus.values())
            for (variant, gpu_state), count in sorted(counts.items()):
                gpus.add_metric([node.node.id, variant, gpu_state], count)
        yield gpus
        names = ["app", "function"]
        containers = GaugeMetricFamily("glowplug_containers", "Containers by state", labels=[*names, "state"])
        queued = GaugeMetricFamily("glowplug_inputs_queued", "Inputs that wait for a container", labels=names)
        running = GaugeMetricFamily("glowplug_inputs_running", "Inputs that are being run", labels=names)
        for (app, name), functions in _by_name(self._server).items():
            states = Counter(each.status for one in functions for each in one.containers.values())
            for container_state, count in sorted(states.items()):
                containers.add_metric([app, name, container_state], count)
            runs = sum(len(each.running) for one in functions for each in one.containers.values())
            queued.add_metric(
                [app, name], sum(one.queued + one.delayed + one.leased for one in functions) - runs
            )
            running.add_metric([app, name], runs)
        yield from (containers, queued, running)
        yield from self._totals()

    def _totals(self) -> Iterator[Metric]:
        kernel = self._server.kernel
        usage = kernel.runs.total_usage()
        yield CounterMetricFamily("glowplug_inputs", "Inputs that have their output", usage.inputs)
        yield CounterMetricFamily("glowplug_attempts", "Attempts, re-runs included", usage.attempts)
        yield CounterMetricFamily("glowplug_attempts_rerun", "Attempts that were interrupted", usage.rerun)
        yield CounterMetricFamily("glowplug_cost_usd", "What attempts cost by the price list", usage.cost_usd)
        seconds = CounterMetricFamily("glowplug_gpu_seconds", "GPU seconds by type", labels=["type"])
        for gpu_type, used_s in sorted(usage.gpu_seconds.items()):
            seconds.add_metric([gpu_type], used_s)
        yield seconds
        yield GaugeMetricFamily("glowplug_apps", "Running apps", len(kernel.runs.live))
        yield GaugeMetricFamily(
            "glowplug_started_at_seconds", "When the server started", self._server.started_at
        )


def _gpu_state(node: NodeState, gpu: Gpu) -> str:
    if gpu.uuid in node.holders:
        return "held"
    if not gpu.healthy or gpu.uuid in node.cordoned:
        return "unhealthy"
    return "free" if gpu.is_free else "used by others"


def _by_name(server: Server) -> dict[tuple[str, str], list[Function]]:
    """Two runs of one script are one series."""
    found: dict[tuple[str, str], list[Function]] = {}
    for function in server.kernel.state.functions.values():
        found.setdefault((function.app.name, function.spec.name), []).append(function)
    return found


ROUTES = (Route("GET", "/metrics", "Numbers for Prometheus", show_metrics, "text/plain"),)
