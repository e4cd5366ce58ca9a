"""The backend of this machine: containers as sandboxed forks of warm zygotes, on the cards its inventory
lists."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glowplug.backends.local import bubblewrap, limits, sandbox, usage
from glowplug.backends.local.bounds import Bounds
from glowplug.backends.local.containers import LocalContainer
from glowplug.backends.local.driver import driver_files
from glowplug.backends.local.environments import Environment, Environments, runtime_directory, with_driver
from glowplug.backends.local.hidden import HiddenPaths
from glowplug.backends.local.inventory import GpuLocks, Inventory, Watch
from glowplug.backends.local.sandbox import NodeEnvironment, RootPlan
from glowplug.backends.local.volumes import LocalVolumes, uses_of
from glowplug.backends.local.zygotes import Zygote, ZygotePool
from glowplug.model import errors
from glowplug.model.function import FunctionSpec
from glowplug.model.node import Gpu, Node
from glowplug.ports.backend import ContainerListener, ContainerStart, ContainerUsage, LeasedInput
from glowplug.ports.images import ReadyImages
from glowplug.ports.volumes import VOLUME, View, VolumeViews
from glowplug.wire import messages
from glowplug.wire.agreed import BEFORE_ENTRYPOINT
from glowplug.wire.stream import Descriptor, Outbox

SANDBOX_MODES = ("auto", "required", "off")
NODE_REFRESH_S = 5.0
"""How often foreign users and health of the cards are looked at again."""


class LocalBackend:
    """``inventory`` lists nodes and watches cards; ``preload`` and ``alias_directory`` come from the sdk,
    which this layer does not import; ``variables`` are given to every container; ``images`` has the
    environments of functions that do not run in their client's; ``private`` directories of the server are
    shown to no container, which has at most ``processes``, by default as many as fit its node. Without
    ``shared_imports`` each container imports its module itself, after it has given up every right."""

    def __init__(
        self,
        inventory: Inventory,
        locks: GpuLocks,
        home: Path,
        outbox: Outbox,
        *,
        preload: str,
        alias_directory: str,
        variables: Mapping[str, str],
        sandbox_mode: str = "auto",
        private: Sequence[Path] = (),
        processes: int | None = None,
        shared_imports: bool = True,
        environ: dict[str, str] | None = None,
        images: ReadyImages | None = None,
        volumes: VolumeViews | None = None,
    ) -> None:
        if sandbox_mode not in SANDBOX_MODES:
            raise errors.InvalidError(
                f"GLOWPLUG_SANDBOX={sandbox_mode!r} is not known; use one of {', '.join(SANDBOX_MODES)}"
            )
        self._inventory = inventory
        self._locks = locks
        self._watch: Watch | None = None
        self._home = home
        self._hidden = HiddenPaths([str(home), *map(str, private)])
        self._outbox = outbox
        self._preload = preload
        self._node_environment = NodeEnvironment.read(
            dict(os.environ) if environ is None else environ, variables
        )
        self._containers: dict[str, LocalContainer] = {}
        self._bounds = Bounds(home, self._containers.values, processes)
        self._shared_imports = shared_imports
        self._told: set[str] = set()
        self._listener: ContainerListener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refresh: asyncio.TimerHandle | None = None
        self._closing: asyncio.Event | None = None
        self.bubblewrap = None if sandbox_mode == "off" else _working_bubblewrap()
        if self.bubblewrap is None:
            user = os.environ.get("USER") or str(os.getuid())
            self._node_environment = dataclasses.replace(
                self._node_environment, home=os.path.expanduser("~"), user=user
            )
        self._links: set[Path] = set()
        """Where volumes appear on the machine itself, without a sandbox."""
        self.sandbox_refusal = "" if self.bubblewrap else _refusal(sandbox_mode)
        if sandbox_mode == "required" and self.bubblewrap is None:
            raise errors.InvalidError(
                f"a sandbox is required and cannot be made here: {self.sandbox_refusal}. "
                "`glowplug doctor` says how to mend it; GLOWPLUG_SANDBOX=auto runs plain processes instead."
            )
        self._environments = Environments(
            runtime_directory(), alias_directory, home, images, self.bubblewrap is not None
        )
        given = dict(os.environ) if environ is None else environ
        self.volumes = LocalVolumes(volumes, home, self.bubblewrap, given) if volumes is not None else None
        self.banner: str = inventory.banner()
        self.warning = "" if self.bubblewrap else _plain_warning(self.sandbox_refusal)

    # the port

    def start(self, listener: ContainerListener) -> Sequence[Node]:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._zygotes = ZygotePool(self._loop, self._outbox)
        nodes = list(self._inventory.nodes())
        self._nodes = nodes
        self._bounds.start(self._loop, nodes)
        self._watch = self._inventory.watch(self._on_gpu_failed)
        self._schedule_refresh()
        return nodes

    def prepare(
        self, functions: Sequence[FunctionSpec], environment: dict[str, Any], source: dict[str, Any]
    ) -> None:
        limits.check_nodes(functions, self._nodes)
        self._hidden.refresh()
        for function in functions:
            if function.definition.get("block_network") and self.bubblewrap is None:
                raise errors.InvalidError(
                    f"function {function.name} asks for block_network=True, which needs a sandbox, and "
                    f"there is none here: {self.sandbox_refusal}. `glowplug doctor` says how to get one."
                )
            self._zygote_for(function, self.environment_of(function, environment), source)

    def environment_of(self, function: FunctionSpec, app_environment: dict[str, Any]) -> Environment:
        """What containers of this function run in. Raises ``NotFoundError`` when its image is gone."""
        found = self._environments.of(function.definition, app_environment)
        return with_driver(found, driver_files()) if function.gpu and not self._inventory.virtual else found

    def start_container(self, start: ContainerStart) -> None:
        if start.container_id in self._containers:
            return
        assert self._loop is not None
        assert self._listener is not None
        group, refusal = self._bounds.group(start.container_id, start.function)
        container = LocalContainer(
            self._loop, self._outbox, start, self._listener, self._forget, self.bubblewrap is not None, group
        )
        self._containers[container.id] = container
        problem = refusal or self._lock_gpus(start)
        if problem:
            self._loop.call_soon(container.fail, problem)
            return
        try:
            environment = self.environment_of(start.function, start.environment)
            fork = self._zygote_for(start.function, environment, start.source)
        except errors.Error as error:
            self._loop.call_soon(container.fail, str(error))
            return
        container.send_start(self._start_fields(start, environment))
        if start.function.definition.get("restrict_modal_access"):
            container.client_socket.close()
        else:
            self._listener.client_connected(container.id, container.client_socket)
        if self.volumes is None:
            self._fork_when_ready(container, *fork, [])
            return
        self._tell_of_shared_volumes(start)
        self.volumes.open(
            container, lambda views: self._fork_when_ready(container, *fork, views), container.fail
        )

    def stop_container(self, container_id: str, grace_s: float, reason: str) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            container.stop(grace_s, reason)

    def lease(self, container_id: str, inputs: Sequence[LeasedInput]) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            container.lease(inputs)

    def recall(self, container_id: str, input_ids: Sequence[str]) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            container.control.send([messages.RECALL, list(input_ids)])

    def cancel_input(self, container_id: str, input_id: str, attempt: int) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            container.control.send([messages.CANCEL_INPUT, input_id, attempt])

    def grant_credit(self, container_id: str, input_id: str, items: int) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            container.control.send([messages.CREDIT, input_id, items])

    def open_exec(self, container_id: str, channel: Descriptor) -> None:
        container = self._containers.get(container_id)
        if container is None or not container.ready:
            raise errors.ConflictError(f"container {container_id} is not running any more")
        container.control.send([messages.OPEN_EXEC], [channel])

    def flush(self) -> None:
        self._outbox.flush()

    async def close(self) -> None:
        if self._refresh is not None:
            self._refresh.cancel()
        self._closing = asyncio.Event()
        for container in list(self._containers.values()):
            container.stop(0, "the server ends")
        if self._containers:
            await self._closing.wait()
        self._zygotes.close()
        if self.volumes is not None:
            self.volumes.close()
        self._bounds.close()
        self._environments.close()
        for link in self._links:
            with contextlib.suppress(OSError):
                link.unlink()
        if self._watch is not None:
            self._watch.stop()
        self._inventory.close()
        self._locks.close()

    # zygotes

    def _fork_when_ready(
        self,
        container: LocalContainer,
        plain: Zygote,
        importing: Zygote | None,
        plan: RootPlan,
        views: Sequence[View],
    ) -> None:
        start = container.start

        def wait_for(zygote: Zygote) -> None:
            container.abandon = lambda: zygote.forget(decided)
            zygote.when_decided(decided)

        def decided(zygote: Zygote) -> None:
            container.abandon = None
            secrets = self._secrets_for_import(start)
            if zygote.made_by is not None and zygote.state != "dead" and zygote.reads(secrets):
                wait_for(zygote.made_by(secrets))
            elif zygote.state == "ready":
                self._show_import_output(container, zygote)
                self._fork(container, zygote, plan, views)
            elif zygote.state == "unforkable":
                self._tell_once(start.function, zygote)
                wait_for(plain)
            else:
                container.fail(zygote.reason or "the process containers are forked from is gone")
            self._outbox.flush()

        wait_for(importing or plain)

    def _fork(self, container: LocalContainer, zygote: Zygote, plan: RootPlan, views: Sequence[View]) -> None:
        root = None
        if self.bubblewrap is not None:
            definition = container.start.function.definition
            root = plan.for_container(
                _devices(_gpus_of(container.start)), bool(definition.get("block_network")), views
            )
        else:
            try:
                for view in views:
                    self._links.add(_link_volume(Path(view.source), Path(view.mount_path)))
            except errors.Error as error:
                container.fail(str(error))
                return

        def forked(pidfd: int, reason: str) -> None:
            container.close_their_fds()
            if pidfd < 0:
                container.fail(container.said() or reason or "the container's process could not be started")
            else:
                container.forked(pidfd)
                if self.volumes is not None and not container.gone:
                    self.volumes.started(container, zygote, plan)

        bounds = self._bounds.request(container, plan.scratch)
        zygote.fork(container.id, root, bounds, container.their_fds(), container.entrances(), forked)
        self._bounds.watch()

    def _secrets_for_import(self, start: ContainerStart) -> dict[str, str]:
        """Without those that the container's own variables hide."""
        hidden = {"CUDA_VISIBLE_DEVICES", *_container_names(), *self._node_environment.container_env}
        return {name: value for name, value in start.secrets.items() if name not in hidden}

    def _zygote_for(
        self, function: FunctionSpec, environment: Environment, source: dict[str, Any]
    ) -> tuple[Zygote, Zygote | None, RootPlan]:
        volumes = self.volumes.mounts(function) if self.volumes is not None else []
        devices = [] if self._inventory.virtual else sandbox.gpu_device_paths()
        scratch = self._bounds.scratch_of(function, source) if self.bubblewrap else ""
        plan = sandbox.make_root_plan(environment, source, volumes, devices, self._hidden, scratch)
        base = self._node_environment.base(environment)
        digest = _digest([environment.executable, environment.search_path, base, environment.entrypoint])
        given = {**base, BEFORE_ENTRYPOINT: json.dumps(base)} if environment.entrypoint else base
        plain = self._zygotes.plain(("plain", digest, plan.digest), self._command(environment, plan), given)
        plain.started_through = " ".join(environment.entrypoint)
        definition = function.definition
        if definition.get("serialized") or not self._shared_imports:
            return plain, None, plan
        variables = {
            **base,
            **definition.get("env", {}),
            **_container_names(),
            # A question at import time ("cuda" if torch.cuda.is_available() else "cpu") is answered as in the
            # container.
            **({} if function.gpu and not self._inventory.virtual else {"CUDA_VISIBLE_DEVICES": ""}),
            **self._node_environment.container_env,
        }
        key = (definition["module"], digest, plan.digest, source.get("digest", ""), _digest(variables))
        return plain, self._zygotes.importing(key, plain, definition["module"], source, variables), plan

    def _command(self, environment: Environment, plan: RootPlan) -> Callable[[int], list[str]]:
        def command(fd: int) -> list[str]:
            python = sandbox.zygote_command(
                environment.executable,
                fd,
                self.bubblewrap is not None,
                environment.search_path,
                self._preload,
                not self._shared_imports,
            )
            python = [*environment.entrypoint, *python]
            return python if self.bubblewrap is None else plan.bubblewrap_arguments(self.bubblewrap) + python

        return command

    # what a container is told

    def _start_fields(self, start: ContainerStart, environment: Environment) -> dict[str, Any]:
        definition = start.function.definition
        env = {
            **self._node_environment.base(environment),
            **definition.get("env", {}),
            **start.secrets,
            **_container_names(),
            **self._gpu_variables(start),
            **_node_variables(start),
            **self._node_environment.container_env,
        }
        return {
            "env": {name: value for name, value in env.items() if value is not None},
            "directory": environment.workdir or start.source.get("directory") or "/",
            "definition": {name: value for name, value in definition.items() if name != "secrets"},
            "source": start.source,
            "name": start.function.name,
            "app_id": start.function.app_id,
            "app_functions": start.app_functions,
        }

    def _gpu_variables(self, start: ContainerStart) -> dict[str, str]:
        gpus = _gpus_of(start)
        uuids = ",".join(gpu.uuid for gpu in gpus)
        # Inside the sandbox only its own cards exist, and CUDA counts them from 0. A slice has no number, a
        # virtual card must match no real one, and a plain process sees every card: those go by UUID.
        by_number = (
            self.bubblewrap is not None and not start.node.virtual and not any(g.is_slice for g in gpus)
        )
        return {
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(len(gpus)))) if by_number else uuids,
            "NVIDIA_VISIBLE_DEVICES": uuids or "void",
            "GLOWPLUG_GPU_TYPE": start.allocation.gpu_type,
            "GLOWPLUG_GPU_COUNT": str(len(gpus)),
            "GLOWPLUG_GPU_UUIDS": uuids,
        }

    # cards

    def _lock_gpus(self, start: ContainerStart) -> str:
        """Take the machine-wide lock of each card; the problem when another server was quicker."""
        if start.node.virtual:
            return ""
        taken: list[str] = []
        for uuid in start.allocation.gpu_uuids:
            if self._locks.try_lock(uuid):
                taken.append(uuid)
                continue
            for each in taken:
                self._locks.release(each)
            holder = self._locks.holder(uuid) or "another server"
            self._refresh_nodes()
            return f"GPU {uuid} was taken meanwhile by {holder}"
        return ""

    def _forget(self, container: LocalContainer) -> None:
        self._containers.pop(container.id, None)
        self._bounds.ended(container)
        if container.failed_to_load:
            self._environments.suspect(container.start.function.definition)
        if not container.start.node.virtual:
            for uuid in container.start.allocation.gpu_uuids:
                self._locks.release(uuid)
        if self._closing is not None and not self._containers:
            self._closing.set()

    def host_pids(self, container_id: str) -> tuple[int, ...]:
        container = self._containers.get(container_id)
        return container.host_pids if container is not None else ()

    def usage(self, container_id: str) -> ContainerUsage:
        container = self._containers.get(container_id)
        if container is None or container.group is None:
            return ContainerUsage()
        group = container.group
        return ContainerUsage(group.memory_mib(), group.limits.memory_limit_mib, group.processes())

    def mounted_volumes(self, container_id: str) -> frozenset[tuple[str, str]]:
        container = self._containers.get(container_id)
        uses = uses_of(container.start.function) if container is not None else ()
        return frozenset((use.kind, use.name) for use in uses)

    async def commit_volume(self, container_id: str, name: str) -> dict[str, Any]:
        assert self.volumes is not None
        return await self.volumes.commit(container_id, name)

    async def reload_volume(self, container_id: str, name: str) -> dict[str, Any]:
        assert self.volumes is not None
        return await self.volumes.reload(container_id, name)

    def own_pids(self) -> set[int]:
        """Host pids of containers and what they started, so that they are not taken for strangers."""
        return usage.descendants({pid for each in self._containers.values() for pid in each.host_pids})

    def _schedule_refresh(self) -> None:
        assert self._loop is not None
        if not self._inventory.virtual:
            self._refresh = self._loop.call_later(NODE_REFRESH_S, self._refresh_nodes)

    def _refresh_nodes(self) -> None:
        if self._refresh is not None:
            self._refresh.cancel()
        nodes = list(self._inventory.refresh(self.own_pids()))
        if nodes != self._nodes:
            self._nodes = nodes
            assert self._listener is not None
            self._listener.nodes_changed(nodes)
        self._schedule_refresh()

    def _on_gpu_failed(self, uuid: str, reason: str) -> None:
        """Called from the watching thread."""
        assert self._loop is not None
        assert self._listener is not None
        for node in self._nodes:
            if any(gpu.uuid == uuid for gpu in node.gpus):
                self._loop.call_soon_threadsafe(self._listener.gpu_failed, node.id, uuid, reason)

    # notices

    def _show_import_output(self, container: LocalContainer, zygote: Zygote) -> None:
        text, zygote.import_output = zygote.import_output, ""
        if text:
            assert self._listener is not None
            self._listener.log_written(container.id, "", "stdout", text.splitlines())

    def _tell_of_shared_volumes(self, start: ContainerStart) -> None:
        """Once an app."""
        function = start.function
        told = f"{function.app_id} volumes"
        uses = uses_of(function)
        if self.volumes is None or told in self._told or not any(use.kind == VOLUME for use in uses):
            return
        if self.volumes.refusal:
            self._told.add(told)
            assert self._listener is not None
            self._listener.notice(
                function.app_id,
                function.id,
                "info",
                f"containers share one directory of each volume here ({self.volumes.refusal}): what one "
                "writes the others see at once, and commit() records it",
            )

    def _tell_once(self, function: FunctionSpec, zygote: Zygote) -> None:
        if zygote.name in self._told or zygote.reason.startswith("its import failed"):
            return  # a failed import is told by the container that tries it in earnest
        self._told.add(zygote.name)
        assert self._listener is not None
        self._listener.notice(
            function.app_id,
            function.id,
            "warning",
            f"module {function.definition['module']!r} cannot be kept warm, each container imports it anew: "
            f"{zygote.reason}",
        )


def _working_bubblewrap() -> bubblewrap.Bubblewrap | None:
    probe = bubblewrap.probe()
    return probe.bubblewrap if probe.works else None


def _refusal(mode: str) -> str:
    return "GLOWPLUG_SANDBOX=off" if mode == "off" else bubblewrap.probe().reason


def _plain_warning(refusal: str) -> str:
    return (
        f"containers are plain processes here ({refusal}): they see this machine's files and each other. "
        "`glowplug doctor` says how to get a sandbox; GLOWPLUG_SANDBOX=required refuses to run without one."
    )


def _gpus_of(start: ContainerStart) -> list[Gpu]:
    by_uuid = {gpu.uuid: gpu for gpu in start.node.gpus}
    return [by_uuid[uuid] for uuid in start.allocation.gpu_uuids]


def _devices(gpus: Sequence[Gpu]) -> list[str]:
    minors = sorted({gpu.minor for gpu in gpus if gpu.minor >= 0 and gpu.driver_name})
    return sandbox.devices_of_container(minors, any(gpu.is_slice for gpu in gpus))


def _container_names() -> dict[str, str]:
    return {"MODAL_IS_REMOTE": "1", "MODAL_ENVIRONMENT": "main", "GLOWPLUG_IS_REMOTE": "1"}


def _node_variables(start: ContainerStart) -> dict[str, str]:
    labels = start.node.labels
    cloud, region = labels.get("cloud", ""), labels.get("region", "")
    return {
        "GLOWPLUG_NODE": start.node.id,
        "GLOWPLUG_CLOUD": cloud,
        "GLOWPLUG_REGION": region,
        "GLOWPLUG_CONTAINER_ID": start.container_id,
        "MODAL_TASK_ID": start.container_id,
        "MODAL_CLOUD_PROVIDER": cloud,
        "MODAL_REGION": region,
    }


def _link_volume(directory: Path, path: Path) -> Path:
    """Without a mount namespace a volume is a link at the path the function names, while the server runs."""
    if path.is_symlink() and path.resolve() == directory.resolve():
        return path
    if path.is_symlink() and not path.exists() and path.readlink().parent.name == directory.parent.name:
        with contextlib.suppress(OSError):
            path.unlink()  # left by a server that was killed, of a home that is gone
    if path.exists() or path.is_symlink():
        raise errors.InvalidError(
            f"the volume {directory.name!r} cannot be placed at {path}: something is there, "
            "and without a sandbox containers share this machine's root. "
            "`glowplug doctor` says how to get one."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(directory)
        return path
    except OSError as error:
        raise errors.InvalidError(
            f"the volume {directory.name!r} cannot be placed at {path} without a sandbox: {error}. "
            "`glowplug doctor` says how to get one."
        ) from error


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
