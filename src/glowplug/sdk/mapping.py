"""``.map`` and its kin: many inputs of one function, results in order or as they come.

The first failure is raised as soon as it arrives, and what has not run by then is cancelled; with
``return_exceptions`` failures are results. Leaving the loop early cancels the rest.
"""

from __future__ import annotations

import collections
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

from glowplug.sdk.feeding import AsyncFeed, Feed, open_feed
from glowplug.sdk.results import exception_of, value_of

if TYPE_CHECKING:
    from glowplug.client.session import Call, Output, Run

Open = Callable[["Call"], Feed]


class Collector:
    """Takes outputs as they come and lines up ``ready`` values for the caller."""

    def __init__(self, feed: Feed, ordered: bool, return_exceptions: bool, keep_values: bool) -> None:
        self._feed = feed
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._keep_values = keep_values
        self._next = 0
        self._early: dict[int, Output] = {}
        self.ready: collections.deque[Any] = collections.deque()

    def take(self, output: Output) -> None:
        """Raises the exception of a failed output unless exceptions are results."""
        self._feed.answer(output.index)
        if output.status != "success" and not self._return_exceptions:
            raise exception_of(output)
        if not self._ordered:
            self._line_up(output)
        elif output.index != self._next:
            self._early[output.index] = output
            self._feed.held = len(self._early)
        else:
            self._line_up(output)
            self._next += 1
            early = self._early
            if early:
                while self._next in early:
                    self._line_up(early.pop(self._next))
                    self._next += 1
                self._feed.held = len(early)

    def _line_up(self, output: Output) -> None:
        if output.status != "success":
            self.ready.append(exception_of(output))
        elif self._keep_values:
            self.ready.append(value_of(output))


def results(
    run: Run,
    function_id: str,
    open_one: Open,
    *,
    ordered: bool = True,
    return_exceptions: bool = False,
    keep_values: bool = True,
) -> Generator[Any, None, None]:
    """The results of one map, while its inputs are fed. ``keep_values=False``: failures only."""
    call = run.call(function_id)
    feed = open_one(call)
    collector = Collector(feed, ordered, return_exceptions, keep_values)
    ready = collector.ready
    try:
        while feed.advance():
            if not feed.outstanding:
                feed.wait()
                continue
            collector.take(call.next())
            while ready:
                yield ready.popleft()
    finally:
        _end(call, feed)


async def results_async(
    run: Run,
    function_id: str,
    open_one: Open,
    *,
    ordered: bool = True,
    return_exceptions: bool = False,
    keep_values: bool = True,
) -> AsyncGenerator[Any, None]:
    """``results`` for async code."""
    import asyncio

    call = run.call(function_id)
    feed = open_one(call)
    collector = Collector(feed, ordered, return_exceptions, keep_values)
    ready = collector.ready
    try:
        while feed.advance():
            if feed.outstanding:
                collector.take(await call.next_async())
                while ready:
                    yield ready.popleft()
            elif isinstance(feed, AsyncFeed):
                await feed.wait_async()
            else:
                await asyncio.get_running_loop().run_in_executor(None, feed.wait)
    finally:
        _end(call, feed)


def feed_opener(
    iterators: tuple[Any, ...], kwargs: dict[str, Any], what: str, *, unpacked: bool = False
) -> Open:
    """How to feed a call with these arguments; nothing is pulled before the call exists."""
    return lambda call: open_feed(call, iterators, kwargs, what, unpacked=unpacked)


def _end(call: Call, feed: Feed) -> None:
    feed.stop()
    if call.unanswered and not call.run.closed:
        call.cancel()
    call.run.finish_call(call)
