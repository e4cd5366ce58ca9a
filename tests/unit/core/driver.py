"""Drives the real core in tests: events in a line each, time that fires what is due, invariants after
everything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from glowplug.core import commands as c
from glowplug.core import events as e
from glowplug.core.invariants import check
from glowplug.core.machine import handle
from glowplug.core.state import Container, Limits, State
from glowplug.model.function import FunctionSpec
from glowplug.model.gpu import GpuRequest, parse_gpu
from glowplug.model.node import Gpu, Node

Kind = TypeVar("Kind", bound=c.Command)


def cards(type: str, count: int = 1, memory_gb: int = 80, prefix: str = "", **more: Any) -> tuple[Gpu, ...]:
    """``count`` GPUs of a type, with UUIDs like "H100-0"."""
    name = prefix or f"{type}-{memory_gb}"
    return tuple(Gpu(f"{name}-{index}", type, memory_gb, index=index, **more) for index in range(count))


def machine(id: str, *groups: Iterable[Gpu], cpus: float = 4, **labels: str) -> Node:
    gpus = [gpu for group in groups for gpu in group]
    numbered = tuple(
        Gpu(**{**_fields(gpu), "uuid": f"{id}/{gpu.uuid}", "index": index}) for index, gpu in enumerate(gpus)
    )
    return Node(id, numbered, labels, cpus=cpus)


def _fields(gpu: Gpu) -> dict[str, Any]:
    return {name: getattr(gpu, name) for name in Gpu.__dataclass_fields__}


def function(id: str, gpu: Any = None, **options: Any) -> FunctionSpec:
    requests = gpu if isinstance(gpu, tuple) and gpu and isinstance(gpu[0], GpuRequest) else parse_gpu(gpu)
    return FunctionSpec(id=id, app_id=options.pop("app_id", "ap-1"), name=id, gpu=requests, **options)


class Core:
    """``out`` holds the commands of the last step, ``said`` all of them."""

    def __init__(self, *nodes: Node, limits: Limits | None = None) -> None:
        self.state = State(limits or Limits())
        self.now = 1000.0
        self.out: list[c.Command] = []
        self.said: list[c.Command] = []
        self.counted = 0
        self.do(e.ServerStarted(self.now, "e"))
        for node in nodes:
            self.do(e.NodeJoined(self.now, node))

    def do(self, event: e.Event) -> list[c.Command]:
        self.out = handle(self.state, event)
        self.said += self.out
        assert check(self.state) == []
        return self.out

    def sleep(self, seconds: float) -> list[c.Command]:
        """Let time pass as the kernel does, one deadline after the other; returns what was said meanwhile."""
        end = self.now + seconds
        said: list[c.Command] = []
        while self.state.next_deadline is not None and self.state.next_deadline <= end:
            self.now = max(self.now, self.state.next_deadline)
            said += self.do(e.TimePassed(self.now))
        self.now = end
        self.out = said
        return said

    # events

    def app(self, *specs: FunctionSpec, app_id: str = "ap-1") -> list[c.Command]:
        return self.do(e.AppStarted(self.now, app_id, app_id, specs))

    def accept(self, function_id: str, count: int = 1, call_id: str | None = None) -> list[str]:
        ids = [f"in-{self.counted + n}" for n in range(count)]
        self.counted += count
        self.do(e.InputsAccepted(self.now, function_id, call_id or f"fc-{ids[0]}", tuple(ids)))
        return ids

    def ready(self, *container_ids: str) -> list[c.Command]:
        said: list[c.Command] = []
        for container_id in container_ids or self.starting():
            said += self.do(e.ContainerReady(self.now, container_id))
        self.out = said
        return said

    def answer(
        self, container_id: str, *input_ids: str, status: e.OutputStatus = "success", run_s: float = 0.1
    ) -> list[c.Command]:
        facts = tuple(
            e.OutputFact(input_id, self.state.inputs[input_id].attempt, status, run_s)
            for input_id in input_ids
        )
        return self.do(e.OutputsArrived(self.now, container_id, facts))

    def exit(self, container_id: str, **how: Any) -> list[c.Command]:
        return self.do(e.ContainerExited(self.now, container_id, **(how or {"exit_code": 0})))

    # what there is

    def container(self, container_id: str) -> Container:
        return self.state.containers[container_id]

    def starting(self) -> list[str]:
        return [one.id for one in self.state.containers.values() if one.status == "starting"]

    def running(self, container_id: str) -> list[str]:
        return list(self.container(container_id).running)

    def ahead(self, container_id: str) -> list[str]:
        return [input.id for input in self.container(container_id).ahead]

    def queued(self, function_id: str) -> list[str]:
        function = self.state.functions[function_id]
        return [input.id for _, input in sorted(function.returned)] + [input.id for input in function.fresh]

    def gpus_of(self, container_id: str) -> tuple[str, ...]:
        return self.container(container_id).allocation.gpu_uuids

    # what was said

    def got(self, kind: type[Kind]) -> list[Kind]:
        """Commands of a kind in the last step."""
        return [command for command in self.out if isinstance(command, kind)]

    def the(self, kind: type[Kind]) -> Kind:
        """The only command of a kind in the last step."""
        (command,) = self.got(kind)
        return command

    def leases(self) -> dict[str, list[str]]:
        """Container to the inputs it was leased in the last step."""
        return {
            command.container_id: [lease.input_id for lease in command.leases]
            for command in self.got(c.LeaseInputs)
        }

    def outcomes(self) -> dict[str, str]:
        """Input to status or error name, of everything that ended so far."""
        return {
            command.input_id: command.error or command.status
            for command in self.said
            if isinstance(command, c.FinishInput)
        }
