"""The options of a function: every parameter ``@app.function`` took in any version, declared once.

The signature of the decorator, the reference in docs/ and the tests derive from this list. What a value may
be is in ``model/checks.py``, what the server gets of it in ``model/function.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glowplug.model import checks
from glowplug.model.declared import Declared, Notice, option
from glowplug.model.errors import DeprecationError, InvalidError, NotCarriedOutWarning
from glowplug.model.image import ImageDefinition
from glowplug.model.retries import retry_policy
from glowplug.model.schedule import Schedule
from glowplug.model.secret import SecretDefinition
from glowplug.model.volume import VolumeDefinition

if TYPE_CHECKING:
    from glowplug.model.gpu import GpuRequest
    from glowplug.model.retry_policy import RetryPolicy

_NO_PROVIDER = "there is no provider behind your machines"
_NO_NETWORK = "containers use the network of their machine"
_VOLUMES_ARE_HERE = "volumes are on the disk of your machine"
_COMMITS_ARE_MADE = "volumes are always committed while a function runs"


class FunctionOptions(Declared):
    """The options of one function, checked and normalised.

    >>> FunctionOptions(gpu="H100:2", timeout=600).gpu
    (GpuRequest(type='H100', count=2, memory_gb=None, exact=False, or_successor=False),)
    """

    # where it runs

    gpu: tuple[GpuRequest, ...] = option(
        default=None,
        converter=checks.gpu,
        doc='GPUs of one container: "H100", "A100-80GB:2", "any", or a list, the preferred first.',
    )
    gpu_fallback_after: float | None = option(
        default=None,
        converter=checks.gpu_fallback_after,
        doc="Seconds to hold out for an earlier entry of `gpu=[...]` before a later one is taken.",
    )
    cloud: str | None = option(
        default=None, converter=checks.cloud, doc='Run on nodes whose cloud label is this, such as "gcp".'
    )
    region: tuple[str, ...] = option(
        default=None, converter=checks.region, doc="Run on nodes whose region label is this, or one of these."
    )
    cpu: tuple[float, float | None] | None = option(
        default=None,
        converter=checks.cpu,
        doc="Cores asked for, a weight when they are short; or (request, limit).",
    )
    memory: tuple[float, float | None] | None = option(
        default=None,
        converter=checks.memory,
        doc="MiB of memory asked for; or (request, limit): a container that uses more is ended.",
    )
    ephemeral_disk: int | None = option(
        default=None,
        converter=checks.ephemeral_disk,
        doc="MiB that a container may write outside volumes.",
    )

    # what it runs in

    image: ImageDefinition | None = option(
        default=None,
        converter=checks.image,
        doc="The environment to run in; else the Python environment of the client.",
    )
    env: dict[str, str] = option(
        default=None,
        converter=checks.env,
        doc="Environment variables of the container; None values are dropped.",
    )
    secrets: tuple[SecretDefinition, ...] = option(
        default=None,
        converter=checks.secrets,
        doc="Secrets whose variables enter the container's environment.",
    )
    volumes: dict[str, VolumeDefinition] = option(
        default={}, converter=checks.volumes, doc="Volumes by the absolute path at which they appear."
    )
    network_file_systems: dict[str, VolumeDefinition] = option(
        default={}, converter=checks.volumes, doc="Like `volumes`, for NetworkFileSystem."
    )
    serialized: bool = option(
        default=False,
        converter=checks.flag,
        doc="Send the function by value: for functions defined inside others or in notebooks.",
    )
    include_source: bool | None = option(
        default=None,
        converter=checks.optional_flag,
        doc="Whether local source is in the container; the directory of the script always is.",
    )
    block_network: bool = option(default=False, converter=checks.flag, doc="No network in the container.")
    enable_memory_snapshot: bool = option(
        default=False,
        converter=checks.flag,
        doc="Start containers from a snapshot of a loaded one.",
        not_yet="containers are forks of a process that has imported the module",
    )

    # how it is run

    name: str | None = option(
        default=None,
        converter=checks.function_name,
        doc="The function's name in its app; else the Python name.",
    )
    timeout: float = option(
        default=checks.DEFAULT_TIMEOUT_S,
        converter=checks.timeout,
        doc="Seconds one attempt may run, 1 to 86400. Waiting in the queue and starting do not count.",
    )
    startup_timeout: float | None = option(
        default=None,
        converter=checks.startup_timeout,
        doc="Seconds a container may take to become ready; else the longer of `timeout` and 300.",
    )
    retries: RetryPolicy = option(
        default=None,
        converter=retry_policy,
        doc="Retries after an exception or a timeout: a count or `Retries`.",
    )
    is_generator: bool | None = option(
        default=None,
        converter=checks.optional_flag,
        doc="Whether it yields; else seen from the function itself.",
    )
    restart_generator: bool = option(
        default=False,
        converter=checks.flag,
        doc="A generator interrupted after its first item may be run again from its start.",
    )
    schedule: Schedule | None = option(
        default=None,
        converter=checks.schedule,
        doc="When a deployed app runs it by itself: Period or Cron.",
        not_yet="schedules belong to deployed apps",
    )

    # how many containers

    min_containers: int = option(
        default=None,
        converter=checks.min_containers,
        doc="Containers kept running while the app runs, idle or not.",
    )
    max_containers: int | None = option(
        default=None, converter=checks.max_containers, doc="Containers at most, 1 or more."
    )
    buffer_containers: int = option(
        default=None, converter=checks.buffer_containers, doc="Idle containers to have beside the busy ones."
    )
    scaledown_window: float = option(
        default=None,
        converter=checks.scaledown_window,
        doc=f"Seconds an idle container is kept; {checks.DEFAULT_SCALEDOWN_WINDOW_S} by default.",
    )
    max_inputs: int | None = option(
        default=None,
        converter=checks.max_inputs,
        doc="Inputs after which a container is replaced, 1 or more.",
    )
    single_use_containers: bool = option(
        default=False, converter=checks.flag, doc="A new container for every input; like `max_inputs=1`."
    )

    # of a provider's platform

    proxy: Any = option(
        default=None, converter=checks.anything, doc="A static outgoing address.", means_nothing=_NO_NETWORK
    )
    i6pn: bool | None = option(
        default=None, converter=checks.optional_flag, doc="A private IPv6 network.", means_nothing=_NO_NETWORK
    )
    routing_region: str | None = option(
        default=None, converter=checks.anything, doc="Where requests enter.", means_nothing=_NO_PROVIDER
    )
    nonpreemptible: bool = option(
        default=False,
        converter=checks.flag,
        doc="Never preempted by the provider.",
        means_nothing="only you drain your nodes, and inputs then run again elsewhere",
    )
    restrict_modal_access: bool = option(
        default=False,
        converter=checks.flag,
        doc="No connection to the server from inside: no calls of other functions.",
    )
    experimental_options: dict[str, Any] | None = option(
        default=None, converter=checks.anything, doc="A provider's experiments.", means_nothing=_NO_PROVIDER
    )

    # of older scripts

    secret: Any = option(default=None, converter=checks.one_secret, doc="One secret.", old_name_of="secrets")
    shared_volumes: Any = option(
        default={}, converter=checks.volumes, doc="Storage of 2023.", old_name_of="network_file_systems"
    )
    keep_warm: Any = option(
        default=None, converter=checks.keep_warm, doc="Containers kept running.", old_name_of="min_containers"
    )
    concurrency_limit: Any = option(
        default=None, converter=checks.anything, doc="Containers at most.", old_name_of="max_containers"
    )
    container_idle_timeout: Any = option(
        default=None,
        converter=checks.anything,
        doc="Seconds an idle container is kept.",
        old_name_of="scaledown_window",
    )
    checkpointing_enabled: Any = option(
        default=None, converter=checks.flag, doc="Memory snapshots.", old_name_of="enable_memory_snapshot"
    )
    allow_concurrent_inputs: int | None = option(
        default=None,
        converter=checks.concurrent_inputs,
        doc="Inputs a container runs at a time.",
        not_yet="a container runs one input at a time, and more containers are started",
    )
    mounts: Any = option(
        default=(),
        converter=checks.mounts,
        doc="Local files to show in the container, as `Mount.from_local_dir(...)`.",
    )
    interactive: bool = option(
        default=False, converter=checks.flag, doc="A terminal.", not_yet="the function has no terminal"
    )
    rate_limit: Any = option(
        default=None,
        converter=checks.anything,
        doc="Inputs a second.",
        not_yet="inputs start as soon as a container is free; max_containers= limits how many at a time",
    )
    allow_cross_region_volumes: bool = option(
        default=False,
        converter=checks.flag,
        doc="Volumes of another region.",
        means_nothing=_VOLUMES_ARE_HERE,
    )

    # experiments of a provider

    _allow_background_volume_commits: bool = option(
        default=False,
        converter=checks.flag,
        doc="Commits while running.",
        means_nothing=_COMMITS_ARE_MADE,
    )
    _experimental_boost: bool | None = option(
        default=False, converter=checks.optional_flag, doc="Faster starts.", means_nothing=_NO_PROVIDER
    )
    _experimental_scheduler: bool | None = option(
        default=False, converter=checks.optional_flag, doc="Another scheduler.", means_nothing=_NO_PROVIDER
    )
    _experimental_scheduler_placement: Any = option(
        default=None, converter=checks.anything, doc="Placement.", means_nothing="use region= and cloud="
    )
    _experimental_proxy_ip: Any = option(
        default=None, converter=checks.anything, doc="A static outgoing address.", means_nothing=_NO_NETWORK
    )
    _experimental_custom_scaling_factor: float | None = option(
        default=None, converter=checks.anything, doc="Scaling speed.", means_nothing=_NO_PROVIDER
    )
    _experimental_enable_gpu_snapshot: bool = option(
        default=False,
        converter=checks.flag,
        doc="Snapshots with GPU memory.",
        not_yet="containers are forks of a process that has imported the module",
    )
    _experimental_buffer_containers: Any = option(
        default=None,
        converter=checks.anything,
        doc="Idle containers beside the busy ones.",
        old_name_of="buffer_containers",
    )
    _experimental_restrict_output: bool = option(
        default=False,
        converter=checks.flag,
        doc="Plain results only.",
        not_yet="results are pickled and are as trusted as the code that runs on your machine",
    )

    def settle(self, given: Mapping[str, Any]) -> list[Notice]:
        if self.max_containers is not None and self.min_containers > self.max_containers:
            raise InvalidError(
                f"min_containers={self.min_containers} is more than max_containers={self.max_containers}."
            )
        if self.single_use_containers and self.max_inputs not in (None, 1):
            raise InvalidError(
                f"single_use_containers=True contradicts max_inputs={self.max_inputs}. Give one of them."
            )
        notices: list[Notice] = []
        if given.get("gpu") is True:
            notices.append(Notice("gpu", DeprecationError, 'gpu=True is now written gpu="any"'))
        if self.include_source is False:
            text = (
                "include_source=False means nothing here: containers see the directory of the script as it is"
            )
            notices.append(Notice("include_source", NotCarriedOutWarning, text))
        return notices

    def join(self, old_name: str, old_value: Any, new_name: str, new_value: Any) -> Any:
        """Collections of both names add up; two counts contradict each other."""
        if new_name == "secrets":
            return (*new_value, *old_value)
        if new_name == "network_file_systems":
            return {**dict(new_value), **old_value}
        return super().join(old_name, old_value, new_name, new_value)

    @property
    def mounted_volumes(self) -> dict[str, VolumeDefinition]:
        """Volumes of either kind by mount path."""
        return {**self.network_file_systems, **self.volumes}
