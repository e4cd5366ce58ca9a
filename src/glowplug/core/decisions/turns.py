"""Whose turn it is among all that wait, and what the time they have waited entitles them to."""

from __future__ import annotations

from collections.abc import Container, Iterator
from heapq import heapify, heappop, heapreplace

from glowplug.core.decisions.autoscaling import missing_containers
from glowplug.core.limits import Limits
from glowplug.core.state import Function, State


def turns(state: State, at: float, done: Container[str] = ()) -> Iterator[Function]:
    """Who is given a container next, one at a time: waiting inputs before promises, who holds least before
    who holds more, then who waits longest. What is given out on the way counts as held.

    Functions whose ids are ``done`` have no further turn.
    """
    lacking = [
        (not function.queued, function.held, function.waiting_since or 0.0, number, function, missing)
        for number, function in enumerate(state.waiting.values())
        if function.spec.gpu and function.choices is not None and function.start_not_before <= at
        if (missing := missing_containers(function, function.choices, state.limits)) > 0
    ]
    heapify(lacking)
    while lacking:
        is_promise, held, _, number, function, missing = lacking[0]
        yield function
        if missing > 1 and function.spec.id not in done:
            heapreplace(lacking, (is_promise, held + 1, at, number, function, missing - 1))
        else:
            heappop(lacking)


def is_aged(function: Function, at: float, limits: Limits) -> bool:
    """Whether it holds nothing and has waited so long that others make room for it between two inputs."""
    since = function.waiting_since
    return not function.held and since is not None and at - since >= limits.ageing_s


def is_short(run_time_s: float | None, limits: Limits) -> bool:
    """Whether runs are known to be so short that they may use what is being collected."""
    return run_time_s is not None and run_time_s < limits.backfill_run_s
