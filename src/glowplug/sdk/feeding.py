"""Inputs of a ``.map`` on their way out: pulled lazily, packed, sent in batches, never too many at a time.

What is already in memory (a list, a range) is pulled in the caller's thread. Any other iterator may block in
its ``next``, or wait for results of this very map, so a thread of its own pulls it; an asynchronous iterator
is pulled by a task. Results then stream while inputs still come.

A batch must not delay an input that a container could run now. So inputs of a slow iterator are gathered only
while enough others are on their way; whoever receives an output sends the gathered rest when these run low.
"""

from __future__ import annotations

import collections
import contextvars
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from glowplug.client.serializer import pack
from glowplug.wire.payload import Payload

if TYPE_CHECKING:
    from glowplug.client.session import Call

MAX_OUTSTANDING = 1000
"""Inputs sent whose output has not come."""
LARGE_BYTES = 64 << 10
MIN_LARGE, MAX_LARGE, MAX_LARGE_BYTES = 16, 64, 256 << 20
"""Of large inputs fewer are outstanding: they hold memory, here and there, and a descriptor each."""
MAX_HELD = 10_000
"""Results of an ordered map that wait for an earlier one."""
BATCH = 49
"""Inputs in one message."""
LOW_WATER = 2 * BATCH
"""With fewer on their way, gathered inputs are sent at once."""

IN_MEMORY = (
    list,
    tuple,
    range,
    dict,
    set,
    frozenset,
    str,
    bytes,
    bytearray,
    type({}.keys()),
    type({}.values()),
)


class Feed:
    """Counts what was sent and answered, and packs and sends rows. Subclasses decide who pulls."""

    def __init__(self, call: Call, kwargs: dict[str, Any], what: str) -> None:
        self._call = call
        self._kwargs = kwargs
        self._what = what
        self._large: dict[int, int] = {}
        """Size in bytes of each large input that is outstanding, by index."""
        self._large_bytes = 0
        self.sent = 0
        self.answered = 0
        self.held = 0
        """Results that wait for an earlier one, counted by the receiver."""
        self.ended = False
        """The iterator is exhausted, or failed."""

    @property
    def outstanding(self) -> int:
        return self.sent - self.answered

    def has_room(self) -> bool:
        return (
            self.sent - self.answered < MAX_OUTSTANDING
            and self.held < MAX_HELD
            and (not self._large or self._has_room_for_large())
        )

    def _has_room_for_large(self) -> bool:
        count = len(self._large)
        return count < MIN_LARGE or (count < MAX_LARGE and self._large_bytes < MAX_LARGE_BYTES)

    def answer(self, index: int) -> None:
        """The output of input ``index`` has come."""
        self.answered += 1
        if self._large:
            self._large_bytes -= self._large.pop(index, 0)

    def send(self, rows: Iterable[Any]) -> int:
        """Pack and send rows, how many it says: all, or up to the large one that leaves no room."""
        kwargs, what = self._kwargs, self._what
        payloads: list[Payload] = []
        for row in rows:
            payload = pack((row, kwargs), what)
            payloads.append(payload)
            if payload.body is None or len(payload.body) >= LARGE_BYTES:
                self._large[self.sent + len(payloads) - 1] = payload.size_bytes
                self._large_bytes += payload.size_bytes
                if not self._has_room_for_large():
                    break
        # Counted first: the answer may be there before add() returns.
        self.sent += len(payloads)
        self._call.add(payloads)
        return len(payloads)

    def advance(self) -> bool:
        """Send what can be sent now. False when nothing is outstanding and nothing will be.

        May return True with nothing outstanding: then ``wait()`` for the next input.
        """
        raise NotImplementedError

    def wait(self) -> None:
        """Block until something is outstanding or the iterator has ended."""

    def stop(self) -> None:
        """No more inputs."""


class InMemoryFeed(Feed):
    """Rows that can be pulled without blocking."""

    def __init__(self, call: Call, kwargs: dict[str, Any], what: str, rows: Iterator[Any]) -> None:
        super().__init__(call, kwargs, what)
        self._rows = rows

    def advance(self) -> bool:
        while not self.ended and self.sent - self.answered <= MAX_OUTSTANDING - BATCH and self.has_room():
            self.ended = self.send(islice(self._rows, BATCH)) < BATCH and self.has_room()
        return self.sent > self.answered

    def stop(self) -> None:
        self.ended = True


class GatheringFeed(Feed):
    """Rows that come when they come: gathered while enough others are outstanding."""

    def __init__(self, call: Call, kwargs: dict[str, Any], what: str) -> None:
        super().__init__(call, kwargs, what)
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        """Held from taking gathered rows until they are sent, so that they keep their order."""
        self._gathered: collections.deque[Any] = collections.deque()
        self._stopped = False
        self._waiting_for_room = False
        self._error: BaseException | None = None

    def advance(self) -> bool:
        if self._gathered and self.outstanding < LOW_WATER and self._sending.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._sending.release()
        if self._waiting_for_room and self.has_room():
            with self._changed:
                self._changed.notify_all()
        if self._error is not None:
            raise self._error
        return not self.ended or self.sent > self.answered

    def wait(self) -> None:
        with self._changed:
            while not (self.outstanding or self.ended):
                self._changed.wait()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def gather(self, row: Any) -> None:
        """One more row, from whoever pulls."""
        self._gathered.append(row)
        if len(self._gathered) >= BATCH or self.outstanding < LOW_WATER:
            with self._sending:
                self._flush()

    def finish(self, error: BaseException | None) -> None:
        """The iterator has ended, with ``error`` or without."""
        if error is None and not self._stopped:
            try:
                with self._sending:
                    self._flush()
            except BaseException as unsendable:
                error = unsendable
        with self._changed:
            self._error = error
            self.ended = True
            self._changed.notify_all()
        if error is not None and self.outstanding and not self._stopped:
            self._call.cancel()  # so that a caller who waits for outputs hears of it

    def _flush(self) -> None:
        """Send what was gathered; ``_sending`` is held. Not under ``_changed``: sending may take its time."""
        while self._gathered:
            self.send(self._taken())
            with self._changed:
                self._changed.notify_all()

    def _taken(self) -> Iterator[Any]:
        while self._gathered:
            yield self._gathered.popleft()


class ThreadFeed(GatheringFeed):
    """An iterator that may block, pulled by a thread of its own (in the caller's context)."""

    def __init__(self, call: Call, kwargs: dict[str, Any], what: str, rows: Iterator[Any]) -> None:
        super().__init__(call, kwargs, what)
        self._rows = rows
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._pull,), name="glowplug-map", daemon=True).start()

    def _pull(self) -> None:
        error: BaseException | None = None
        try:
            for row in self._rows:
                self.gather(row)
                if not self.has_room():
                    self._wait_for_room()
                if self._stopped:
                    break
        except BaseException as raised:
            error = raised
        self.finish(error)

    def _wait_for_room(self) -> None:
        with self._changed:
            self._waiting_for_room = True
            while not (self._stopped or self.has_room()):
                self._changed.wait()
            self._waiting_for_room = False


class AsyncFeed(GatheringFeed):
    """An asynchronous iterator, pulled by a task of the caller's event loop."""

    def __init__(
        self, call: Call, kwargs: dict[str, Any], what: str, rows: AsyncGenerator[Any, None]
    ) -> None:
        import asyncio

        super().__init__(call, kwargs, what)
        self._rows = rows
        self._room = asyncio.Event()
        self._some = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._pull())

    def advance(self) -> bool:
        if self.has_room():
            self._room.set()
        return super().advance()

    async def wait_async(self) -> None:
        """``wait`` for the loop that also runs the task."""
        while not (self.outstanding or self.ended):
            self._some.clear()
            await self._some.wait()

    def stop(self) -> None:
        super().stop()
        self._task.cancel()

    async def _pull(self) -> None:
        error: BaseException | None = None
        try:
            async for row in self._rows:
                self.gather(row)
                self._some.set()
                while not self.has_room():
                    self._room.clear()
                    await self._room.wait()
        except BaseException as raised:
            error = raised
        finally:
            await self._rows.aclose()
        self.finish(error)
        self._some.set()


def open_feed(
    call: Call, iterators: tuple[Any, ...], kwargs: dict[str, Any], what: str, *, unpacked: bool
) -> Feed:
    """The feed for the arguments of a map; ``unpacked``: one iterator of argument tuples (starmap)."""
    in_memory = all(type(iterator) in IN_MEMORY for iterator in iterators)
    if not in_memory and any(hasattr(iterator, "__aiter__") for iterator in iterators):
        return AsyncFeed(call, kwargs, what, _async_rows(iterators, unpacked))
    feed = InMemoryFeed if in_memory else ThreadFeed
    return feed(call, kwargs, what, _rows(iterators, unpacked))


def _rows(iterators: tuple[Iterable[Any], ...], unpacked: bool) -> Iterator[Any]:
    return map(tuple, iterators[0]) if unpacked else zip(*iterators)


async def _async_rows(iterators: tuple[Any, ...], unpacked: bool) -> AsyncGenerator[Any, None]:
    """Rows of iterators some of which are asynchronous; ends with the shortest."""
    opened = [aiter_of(iterator) for iterator in iterators]
    try:
        while True:
            row: list[Any] = []
            for iterator in opened:
                try:
                    row.append(await iterator.__anext__())
                except StopAsyncIteration:
                    return
            yield tuple(row[0]) if unpacked else tuple(row)
    finally:
        for iterator in opened:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()


def aiter_of(iterator: Any) -> Any:
    """An asynchronous iterator over either kind of iterable."""
    return iterator.__aiter__() if hasattr(iterator, "__aiter__") else _as_async(iterator)


async def _as_async(iterable: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for value in iterable:
        yield value
