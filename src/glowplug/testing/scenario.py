"""What a seed draws: a fleet, apps with their functions, how these behave, and which faults happen."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from glowplug.model.function import FunctionSpec, RetryPolicy
from glowplug.model.gpu import ANY, GpuRequest
from glowplug.model.node import Gpu, Node

FAULTS = (
    "crash",
    "hang",
    "start_failure",
    "slow_start",
    "node_loss",
    "drain",
    "gpu_failure",
    "foreign_use",
    "lost_message",
    "duplicate_message",
    "late_output",
    "cancel",
    "app_stop",
    "server_restart",
)

CARDS = (
    ("H100", 80),
    ("A100", 40),
    ("A100", 80),
    ("T4", 16),
    ("L4", 24),
    ("A10G", 24),
    ("RTX-4090", 24),
    ("B200", 180),
)


@dataclass(frozen=True)
class Behaviour:
    """How a function's containers behave. Probabilities are per input, or per start."""

    run_s: tuple[float, float] = (0.01, 1.0)
    start_s: tuple[float, float] = (0.05, 2.0)
    failure: float = 0.0
    crash: float = 0.0
    hang: float = 0.0
    """It runs on until its timeout."""
    start_failure: float = 0.0
    never_starts: bool = False
    """Every start fails for good."""
    ignores_cancel: bool = False
    exit_s: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class PlannedCall:
    at: float
    function_id: str
    call_id: str
    input_ids: tuple[str, ...]
    batch: int
    cancel_after_s: float | None = None
    terminate_containers: bool = False


@dataclass(frozen=True)
class PlannedFault:
    at: float
    kind: str
    target: int
    """Which node (or GPU of it), by a number taken modulo how many there are."""
    for_s: float


@dataclass
class Scenario:
    nodes: list[Node] = field(default_factory=list[Node])
    apps: dict[str, list[FunctionSpec]] = field(default_factory=dict[str, list[FunctionSpec]])
    behaviours: dict[str, Behaviour] = field(default_factory=dict[str, Behaviour])
    calls: list[PlannedCall] = field(default_factory=list[PlannedCall])
    faults: list[PlannedFault] = field(default_factory=list[PlannedFault])
    app_stops: dict[str, float] = field(default_factory=dict[str, float])
    kinds: frozenset[str] = frozenset()
    """Faults that happen in this world."""
    faults_end_at: float = 60.0


def draw_scenario(seed: int, kinds: frozenset[str] | None = None) -> Scenario:
    """The same seed draws the same world; with ``kinds`` only those faults happen in it."""
    rng = Random(f"{seed} scenario")
    drawn = frozenset(kind for kind in FAULTS if rng.random() < 0.4)
    scenario = Scenario(kinds=drawn if kinds is None else drawn & kinds)
    scenario.faults_end_at = rng.uniform(20, 90)
    draw_nodes(scenario, rng)
    for app_number in range(rng.choice((1, 1, 2, 3))):
        draw_app(scenario, rng, app_number)
    draw_calls(scenario, Random(f"{seed} calls"))
    draw_faults(scenario, Random(f"{seed} faults"))
    return scenario


def draw_nodes(scenario: Scenario, rng: Random) -> None:
    has_labels = rng.random() < 0.3
    for number in range(rng.choice((1, 1, 2, 3, 4))):
        gpus: list[Gpu] = []
        for _ in range(rng.choice((0, 1, 1, 2))):
            type, memory_gb = rng.choice(CARDS)
            for _ in range(rng.choice((1, 1, 2, 4, 8))):
                index = len(gpus)
                gpus.append(Gpu(f"GPU-{number}-{index}", type, memory_gb, index=index))
        if rng.random() < 0.1:
            gpus += [
                Gpu(f"MIG-{number}-{n}", "A100", 20, index=len(gpus) + n, is_slice=True) for n in range(2)
            ]
        labels = {"cloud": rng.choice(("gcp", "aws"))} if has_labels and rng.random() < 0.7 else {}
        node = Node(f"node-{number}", tuple(gpus), labels, cpus=rng.choice((0, 1, 2, 4, 8)))
        scenario.nodes.append(node)


def draw_app(scenario: Scenario, rng: Random, app_number: int) -> None:
    app_id = f"ap-{app_number}"
    specs: list[FunctionSpec] = []
    for number in range(rng.choice((1, 2, 2, 3, 5))):
        function_id = f"fu-{app_number}-{number}"
        behaviour = draw_behaviour(scenario, rng)
        specs.append(draw_function(scenario, rng, function_id, app_id, behaviour))
        scenario.behaviours[function_id] = behaviour
    scenario.apps[app_id] = specs


def draw_behaviour(scenario: Scenario, rng: Random) -> Behaviour:
    slow = "slow_start" in scenario.kinds
    has_crashes = "crash" in scenario.kinds and rng.random() < 0.6
    fails_to_start = "start_failure" in scenario.kinds and rng.random() < 0.4
    return Behaviour(
        run_s=rng.choice(((2e-5, 4e-4), (5e-6, 5e-3), (0.01, 0.5), (0.1, 3.0), (1.0, 20.0))),
        start_s=(0.05, rng.choice((0.2, 3.0, 30.0 if slow else 3.0))),
        failure=rng.choice((0.0, 0.0, 0.1, 0.5)),
        crash=rng.choice((0.02, 0.1, 0.5, 1.0)) if has_crashes else 0.0,
        hang=rng.choice((0.0, 0.05, 0.2)) if "hang" in scenario.kinds else 0.0,
        start_failure=rng.choice((0.1, 0.4, 1.0)) if fails_to_start else 0.0,
        never_starts=fails_to_start and rng.random() < 0.3,
        ignores_cancel=rng.random() < 0.15,
        exit_s=(0.0, rng.choice((0.1, 2.0, 40.0 if slow else 2.0))),
    )


def draw_function(
    scenario: Scenario, rng: Random, function_id: str, app_id: str, behaviour: Behaviour
) -> FunctionSpec:
    is_generator = rng.random() < 0.15
    gpu = draw_requests(scenario, rng)
    return FunctionSpec(
        id=function_id,
        app_id=app_id,
        name=f"f{function_id[3:]}",
        gpu=gpu,
        gpu_fallback_after_s=rng.choice((5.0, 20.0)) if len(gpu) > 1 and rng.random() < 0.5 else None,
        gpu_map={"A10G": "RTX-4090"} if rng.random() < 0.2 else {},
        cloud=rng.choice(("gcp", "aws")) if rng.random() < 0.1 else None,
        min_containers=rng.choice((0, 0, 0, 0, 1, 2)),
        max_containers=rng.choice((None, None, 1, 2, 4)),
        buffer_containers=rng.choice((0, 0, 0, 1)),
        scaledown_window_s=rng.choice((0.0, 2.0, 10.0, 60.0)),
        timeout_s=rng.choice((5.0, 60.0, 300.0)),
        startup_timeout_s=rng.choice((10.0, 60.0, 300.0)),
        retries=RetryPolicy() if is_generator else draw_retries(rng),
        max_concurrent_inputs=rng.choice((1, 1, 1, 2, 8)),
        max_inputs=rng.choice((None, None, None, 1, 3)),
        is_generator=is_generator,
        restart_generator=rng.random() < 0.5,
    )


def draw_retries(rng: Random) -> RetryPolicy:
    return RetryPolicy(rng.choice((0, 0, 1, 3)), rng.choice((1.0, 2.0)), rng.choice((1.0, 3.0)), 10.0)


def draw_requests(scenario: Scenario, rng: Random) -> tuple[GpuRequest, ...]:
    cards = [gpu for node in scenario.nodes for gpu in node.gpus]
    if not cards or rng.random() < 0.3:
        return ()
    requests: list[GpuRequest] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        card = rng.choice(cards)
        here = max(sum(gpu.type == card.type for gpu in node.gpus) for node in scenario.nodes)
        count = rng.randint(1, here) if rng.random() < 0.4 and not card.is_slice else 1
        if rng.random() < 0.15:
            requests.append(GpuRequest(ANY))
        elif rng.random() < 0.1:
            type, _ = rng.choice(CARDS)
            requests.append(GpuRequest(type, count=rng.choice((1, 8))))
        else:
            memory_gb = card.memory_gb if card.is_slice or rng.random() < 0.4 else None
            requests.append(GpuRequest(card.type, count, memory_gb, exact=rng.random() < 0.1))
    return tuple(requests)


def draw_calls(scenario: Scenario, rng: Random) -> None:
    functions = [spec.id for specs in scenario.apps.values() for spec in specs]
    for number in range(rng.choice((2, 5, 10, 16))):
        function_id = rng.choice(functions)
        is_fast = scenario.behaviours[function_id].run_s[1] < 0.01
        count = rng.choice((1, 1, 3, 10, 120 if is_fast else 20))
        does_cancel = "cancel" in scenario.kinds and rng.random() < 0.3
        scenario.calls.append(
            PlannedCall(
                at=rng.uniform(0, scenario.faults_end_at),
                function_id=function_id,
                call_id=f"fc-{number}",
                input_ids=tuple(f"in-{number}-{index}" for index in range(count)),
                batch=rng.choice((1, 7, 49)) if count < 50 else 49,
                cancel_after_s=rng.uniform(0, 10) if does_cancel else None,
                terminate_containers=rng.random() < 0.4,
            )
        )
    if "app_stop" in scenario.kinds:
        app_id = rng.choice(sorted(scenario.apps))
        scenario.app_stops[app_id] = rng.uniform(5, scenario.faults_end_at)


def draw_faults(scenario: Scenario, rng: Random) -> None:
    for kind in ("node_loss", "drain", "gpu_failure", "foreign_use", "server_restart"):
        count = rng.choice((1, 2, 4))
        for _ in range(count):
            fault = PlannedFault(
                rng.uniform(1, scenario.faults_end_at), kind, rng.randrange(1000), rng.uniform(0.1, 20)
            )
            if kind in scenario.kinds:
                scenario.faults.append(fault)
