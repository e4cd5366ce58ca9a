"""Which input is next, how many a container is leased, and where an input goes back to.

A function's queue keeps the order in which inputs were accepted. What was leased and comes back (interrupted,
recalled, crashed, retried) has lower order numbers than anything never leased, so the queue is a heap of
returned inputs in front of a plain deque.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from glowplug.core.limits import Limits
from glowplug.core.state import Container, Function, Input


def take_next(function: Function) -> Input:
    return heappop(function.returned)[1] if function.returned else function.fresh.popleft()


def put_back(function: Function, input: Input) -> None:
    heappush(function.returned, (input.order, input))


def remove_queued(function: Function, gone: dict[str, Input]) -> None:
    """Take inputs out of the queue, wherever in it they are."""
    kept = [input for input in function.fresh if input.id not in gone]
    if len(kept) < len(function.fresh):
        function.fresh = deque(kept)
    function.returned = [entry for entry in function.returned if entry[1].id not in gone]
    heapify(function.returned)


def look_ahead(function: Function, limits: Limits) -> int:
    """How many inputs beyond the running ones a container is leased: none, unless runs are so short that
    it would idle while the next lease travels."""
    run_s = function.run_time_s
    if run_s is None or run_s >= limits.look_ahead_below_s:
        return 0
    return max(1, min(limits.look_ahead_inputs, int(limits.look_ahead_work_s / max(run_s, 1e-9))))


def lease_count(function: Function, container: Container, ahead: int, share: int, has_stalled: bool) -> int:
    """How many more inputs this container gets now.

    No more than its ``share`` of everything there is, so that a burst spreads over all containers; and
    refilled only when half empty, so that leases travel many at a time.
    """
    at_once = function.spec.max_concurrent_inputs
    held = len(container.running) + len(container.ahead)
    most = at_once if has_stalled else at_once + ahead
    if held >= at_once and held > most // 2:
        return 0
    count = min(most, share) - held
    if function.spec.max_inputs is not None:
        count = min(count, function.spec.max_inputs - container.taken)
    return max(0, min(count, function.queued))


def stalls_at(container: Container, limits: Limits) -> float:
    """When what it runs takes so long that nothing should wait behind it any more."""
    # In order of their start, so the first is the longest.
    for input in container.running.values():
        return input.started_at + limits.look_ahead_stall_s
    return float("inf")


def recall_due(container: Container, limits: Limits) -> float:
    """When what waits behind a stalled input is asked back. Not at once again: what an answer left out had
    been begun, and its output is on its way."""
    return max(stalls_at(container, limits), container.returned_at + limits.look_ahead_stall_s)


def fair_share(function: Function) -> int:
    return -(-(function.queued + function.leased) // max(1, len(function.ready)))
