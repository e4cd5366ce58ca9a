"""Every number the core decides by, named. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    # Leases
    look_ahead_below_s: float = 0.001
    """Only functions whose measured run time is below this are leased inputs ahead."""
    look_ahead_work_s: float = 0.002
    """How much work a container may hold ahead of what it runs."""
    look_ahead_inputs: int = 32
    """And how many inputs, however short they are."""
    look_ahead_stall_s: float = 0.05
    """Inputs leased ahead are recalled when the one before them runs longer than this."""
    run_time_weight: float = 0.2
    """Weight of the newest run in the moving average of a function's run time."""

    # Containers
    containers_per_cpu: float = 1.0
    """Containers of one CPU function on a node, for each of its CPUs."""
    containers_per_node_least: int = 2
    """The same for nodes with fewer CPUs, or with an unknown number."""
    work_per_container_s: float = 0.02
    """A further container of a fast function is worth starting for this much queued work."""
    stop_grace_s: float = 30.0
    """For exit handlers when a container is scaled down, evicted or drained."""
    app_stop_grace_s: float = 10.0
    """For exit handlers when the run ends."""

    # Endings
    cancel_grace_s: float = 5.0
    """Between ``CancelInput`` and killing the container that does not answer."""
    crashes_per_input: int = 3
    """An input whose containers died this often fails."""
    crashes_in_a_row: int = 12
    """A function whose containers die this often without one output in between fails its inputs."""
    start_failures_in_a_row: int = 3
    """A function whose containers fail to start this often in a row fails its waiting inputs."""
    start_backoff_s: float = 0.5
    """Wait after the first failed start or crash in a row; doubles with each."""
    start_backoff_max_s: float = 15.0

    # Waiting
    ageing_s: float = 30.0
    """A function without any container that waited this long makes busy containers of others yield
    between two inputs."""
    backfill_run_s: float = 10.0
    """A function whose runs are known to be shorter may use GPUs that are being collected for a larger
    request."""
    unsatisfiable_grace_s: float = 60.0
    """Inputs that nothing in the fleet could ever run are refused after this (a lost node may come back)."""

    # Memory
    trace_facts: int = 20_000
    """Past events and commands kept for ``story()``."""
    finished_inputs: int = 50_000
    """Finished input ids remembered, so that a resent one does not run again (twice this at most)."""
