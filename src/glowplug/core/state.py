"""What the core knows. Mutable, owned by the core alone; the kernel may read it between two events.

Where an input is: ``Function.fresh`` or ``Function.returned`` (queued), the timers (delayed), or one
container's ``running`` or ``ahead``. Where a GPU is: free, or in ``NodeState.holders``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappush

from glowplug.core.commands import Allocation, Command
from glowplug.core.events import Event
from glowplug.core.lifecycles import DRAINING, QUEUED, STARTING
from glowplug.core.limits import Limits
from glowplug.model.function import FunctionSpec
from glowplug.model.gpu import GpuRequest
from glowplug.model.node import Gpu, Node

__all__ = [
    "App",
    "Call",
    "Choices",
    "Container",
    "Entry",
    "Function",
    "Input",
    "Kind",
    "Limits",
    "NodeState",
    "State",
]


Kind = tuple[str, int, bool]
"""What makes two GPUs interchangeable: type, memory in GB, whether it is a slice."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a fallback list, resolved against the fleet.

    ``tiers``: groups of kinds, the preferred group first; inside a group a free GPU of any kind is better
    than a preferred kind that is not free.
    """

    index: int
    request: GpuRequest
    tiers: tuple[tuple[Kind, ...], ...]
    notice: str = ""
    """What its caller is told when it is used (a substitution)."""


@dataclass(frozen=True, slots=True)
class Choices:
    fleet_version: int
    node_ids: tuple[str, ...]
    """Nodes whose labels suit it."""
    entries: tuple[Entry, ...]
    """Those this fleet could satisfy if it were empty."""
    skipped: tuple[str, ...]
    """Why the other entries cannot be satisfied."""
    most_containers: int
    """How many containers the fleet could hold at once."""


@dataclass(slots=True, eq=False)
class Input:
    id: str
    call_id: str
    function: Function
    order: int
    """Position among all inputs of its function; queues are kept in this order."""
    accepted_at: float
    status: str = QUEUED
    attempt: int = 0
    """Counts leases, so that (container, attempt) names one promise to run it."""
    container: Container | None = None
    started_at: float = 0.0
    yielded: bool = False
    """Its caller has an item of it."""
    ending: str = ""
    """Why its attempt is being interrupted: "", "timeout" or "cancelled"."""
    kill_at: float = 0.0
    """When a container that has not answered to ``CancelInput`` is killed."""
    recalled: bool = False
    retries: int = 0
    crashes: int = 0
    due_at: float = 0.0
    check_at: float | None = None


@dataclass(slots=True, eq=False)
class Call:
    id: str
    function: Function
    inputs: dict[str, Input] = field(default_factory=dict[str, Input])
    """Those without an output."""


@dataclass(slots=True, eq=False)
class Container:
    id: str
    function: Function
    allocation: Allocation
    created_at: float
    usd_per_s: float = 0.0
    status: str = STARTING
    running: dict[str, Input] = field(default_factory=dict[str, Input])
    ahead: deque[Input] = field(default_factory=deque[Input])
    """Leased and not begun, in the order the container will begin them."""
    taken: int = 0
    """Inputs leased in its life, for ``max_inputs``."""
    recalling: bool = False
    returned_at: float = 0.0
    """When it last answered a recall."""
    retiring: str = ""
    """Why it takes no further input and stops once it is idle."""
    stop_reason: str = ""
    start_overdue: bool = False
    """It was stopped because it did not become ready in time."""
    killed: bool = False
    ready_at: float = 0.0
    idle_since: float = 0.0
    check_at: float | None = None


@dataclass(slots=True, eq=False)
class Function:
    spec: FunctionSpec
    app: App
    number: int
    """Order of declaration: the last tie-breaker of every decision."""
    orders: int = 0
    fresh: deque[Input] = field(default_factory=deque[Input])
    """Queued and never leased."""
    returned: list[tuple[int, Input]] = field(default_factory=list[tuple[int, Input]])
    """Queued again; a heap by order. All of it comes before all of ``fresh``."""
    delayed: int = 0
    leased: int = 0
    """Inputs its containers hold, running or ahead."""
    containers: dict[str, Container] = field(default_factory=dict[str, Container])
    starting: int = 0
    ready: dict[str, Container] = field(default_factory=dict[str, Container])
    """Those that take inputs."""
    idle: dict[str, Container] = field(default_factory=dict[str, Container])
    """Ready ones without any lease, the longest idle first."""
    run_time_s: float | None = None
    """Moving average."""
    crashes_in_a_row: int = 0
    start_failures_in_a_row: int = 0
    start_not_before: float = 0.0
    last_failure: str = ""
    broken: bool = False
    """Starting it failed for good: nothing is started in advance until an input asks for it again."""
    waiting_since: float | None = None
    """Since when it lacks a container it could not be given."""
    looked: tuple[bool, int] = (False, 0)
    """Whether an input waited, and how many containers it lacked, when places were last looked for."""
    held_back_until: float | None = None
    """When the later entries of its fallback list become acceptable (``gpu_fallback_after_s``)."""
    refuse_at: float | None = None
    """When its inputs are refused, if by then still nothing in the fleet could run them."""
    reserved_node: str = ""
    """Where GPUs are being collected for it."""
    choices: Choices | None = None
    """What of this fleet could serve it; made anew when the fleet changes."""
    check_at: float | None = None

    @property
    def queued(self) -> int:
        return len(self.fresh) + len(self.returned)

    @property
    def held(self) -> int:
        """Its containers, those that take no further input included, those told to stop not."""
        return sum(container.status != DRAINING for container in self.containers.values())

    @property
    def live(self) -> int:
        """Containers that serve or will serve its queue."""
        return self.starting + len(self.ready)


@dataclass(slots=True, eq=False)
class App:
    id: str
    name: str
    functions: dict[str, Function] = field(default_factory=dict[str, Function])
    noticed: dict[str, None] = field(default_factory=dict[str, None])
    """Notices its run has had."""
    stopping: str = ""
    """Why it is being stopped; it is forgotten when its last container is gone."""


@dataclass(slots=True, eq=False)
class NodeState:
    node: Node
    gpus: dict[str, Gpu] = field(default_factory=dict[str, Gpu])
    by_kind: dict[Kind, list[Gpu]] = field(default_factory=dict[Kind, list[Gpu]])
    """The same in the order of their indices."""
    holders: dict[str, Container] = field(default_factory=dict[str, Container])
    """Who holds which GPU, by UUID."""
    containers: dict[str, Container] = field(default_factory=dict[str, Container])
    cordoned: dict[str, str] = field(default_factory=dict[str, str])
    """UUIDs of GPUs that failed, and how: until the node joins anew."""
    draining: str = ""


Subject = Input | Container | Function


@dataclass(slots=True, eq=False)
class State:
    limits: Limits = field(default_factory=Limits)
    epoch: str = "0"
    now: float = 0.0
    nodes: dict[str, NodeState] = field(default_factory=dict[str, NodeState])
    apps: dict[str, App] = field(default_factory=dict[str, App])
    functions: dict[str, Function] = field(default_factory=dict[str, Function])
    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    inputs: dict[str, Input] = field(default_factory=dict[str, Input])
    """Accepted inputs without an output."""
    containers: dict[str, Container] = field(default_factory=dict[str, Container])
    finished: dict[str, None] = field(default_factory=dict[str, None])
    finished_before: dict[str, None] = field(default_factory=dict[str, None])
    """Ids of inputs with an output: two generations, so that forgetting the old is one assignment."""
    timers: list[tuple[float, int, Subject]] = field(default_factory=list[tuple[float, int, Subject]])
    dirty: dict[str, Function] = field(default_factory=dict[str, Function])
    """Functions whose wish for containers may have changed since they were last looked at."""
    waiting: dict[str, Function] = field(default_factory=dict[str, Function])
    """Functions that lack a container they could not be given."""
    capacity_changed: bool = False
    """GPUs or containers may have become available: the waiting ones are looked at again."""
    fleet_version: int = 0
    counted_timers: int = 0
    counted_containers: int = 0
    counted_functions: int = 0
    trace: deque[tuple[Event, list[Command]]] = field(default_factory=deque[tuple[Event, list[Command]]])
    """Past events with the commands they led to, the latest last."""
    traced_facts: int = 0

    @property
    def next_deadline(self) -> float | None:
        """When ``TimePassed`` is due; may be earlier than anything happens."""
        return self.timers[0][0] if self.timers else None

    def wake(self, subject: Subject, at: float) -> None:
        """Have ``subject`` looked at by ``at`` at the latest. An earlier look decides about the next one,
        so a timer costs nothing while its subject has one pending."""
        if subject.check_at is None or at < subject.check_at:
            subject.check_at = at
            self.counted_timers += 1
            heappush(self.timers, (at, self.counted_timers, subject))

    def is_finished(self, input_id: str) -> bool:
        return input_id in self.finished or input_id in self.finished_before

    def remember_finished(self, input_id: str) -> None:
        self.finished[input_id] = None
        if len(self.finished) >= self.limits.finished_inputs:
            self.finished_before, self.finished = self.finished, {}
