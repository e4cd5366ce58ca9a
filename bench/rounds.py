"""Contestants side by side: all are started, then measured in turns (A B C A B C …), so that whatever else
the machine does meets all of them. Ratios are taken within each round first."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

Start = Callable[[], AbstractContextManager[Callable[[], object]]]
"""Starts a contestant and yields what is measured; ends it on leaving."""


@dataclass
class Contestant:
    name: str
    start: Start
    versions: tuple[str, ...] = ()
    """Distributions whose versions stand beside its name."""
    warm_up: int = 20
    """Calls before each of its turns that are not counted: it has slept while the others ran."""
    before: Callable[[], object] | None = None
    """What precedes each call and is not counted."""
    absent: str = ""
    """Why it did not take part."""
    turns: list[list[float]] = field(default_factory=list)
    """Seconds of each call, by round."""

    @property
    def calls_s(self) -> list[float]:
        return [call for turn in self.turns for call in turn]

    @property
    def median_s(self) -> float:
        return statistics.median(self.calls_s)

    @property
    def p99_s(self) -> float:
        ordered = sorted(self.calls_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def measure(contestants: Iterable[Contestant], rounds: int, calls: int) -> None:
    """Start everybody, then ``rounds`` times ``calls`` calls of each in turn. Who cannot start is absent."""
    with ExitStack() as running:
        taking_part: list[tuple[Contestant, Callable[[], object]]] = []
        for contestant in contestants:
            say(f"starting {contestant.name}")
            try:
                call = running.enter_context(contestant.start())
                call()
            except ImportError as error:
                contestant.absent = f"not installed: {error}"
            else:
                taking_part.append((contestant, call))
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for contestant, call in taking_part:
                for _ in range(contestant.warm_up):
                    call()
                contestant.turns.append([_timed(call, contestant.before) for _ in range(calls)])
        say("")


def _timed(call: Callable[[], object], before: Callable[[], object] | None) -> float:
    if before is not None:
        before()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def ratio(of: Contestant, to: Contestant) -> float:
    """How many times ``to``'s cost ``of`` costs: the median over the rounds of the ratio of their medians."""
    return statistics.median(
        statistics.median(mine) / statistics.median(theirs)
        for mine, theirs in zip(of.turns, to.turns, strict=True)
    )


def say(text: str) -> None:
    """Progress, on a terminal only and on one line."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
