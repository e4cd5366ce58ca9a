"""A call that was spawned: its results when they are there, from this process or another."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from glowplug.model.errors import InvalidError
from glowplug.sdk.dual import Dual, dual
from glowplug.sdk.notyet import not_yet
from glowplug.sdk.results import value_of

if TYPE_CHECKING:
    from glowplug.client.session import Call, Output

R = TypeVar("R")


class Received:
    """A call and the outputs taken from it so far, shared by every handle of this call in this process."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.outputs: dict[int, Output] = {}
        self.lock = threading.Lock()

    def put(self, output: Output) -> None:
        self.outputs[output.index] = output
        if len(self.outputs) == self.call.added:
            self.call.run.finish_call(self.call)  # who asks by id from now on gets it from the server

    def __del__(self) -> None:
        self.call.abandon(self.outputs.values())


_received: weakref.WeakValueDictionary[str, Received] = weakref.WeakValueDictionary()
_received_lock = threading.Lock()

RECHECK_S = 1.0
"""How long an async ``get`` waits before it looks whether a thread took its output instead."""


class FunctionCall(Generic[R]):
    """What ``Function.spawn`` returns. Can be pickled, and found again by its id with ``from_id``.

    >>> call = f.spawn(3)
    >>> call.get(timeout=60)
    """

    def __init__(self, object_id: str, call: Call | None = None) -> None:
        if not isinstance(object_id, str) or not object_id.startswith("fc-"):
            raise InvalidError(f"FunctionCall {object_id!r}: the id of a call begins with fc-.")
        self.object_id = object_id
        self._received: Received | None = None
        if call is not None:
            self._received = _received[object_id] = Received(call)

    @classmethod
    def from_id(
        cls, function_call_id: str, client: Any = None, is_generator: bool = False
    ) -> FunctionCall[Any]:
        """The call with this id ("fc-..."), made here or in another process.

        Its use raises ``NotFoundError`` when there is no such call, ``OutputExpiredError`` when its
        results are no longer kept.
        """
        return cls(function_call_id)

    # results

    def _get(self, timeout: float | None = None, index: int = 0) -> R:
        """The result of the call, of input ``index`` when it has several.

        Waits ``timeout`` seconds at most, for ever by default; 0 looks and does not wait. Raises the builtin
        ``TimeoutError`` when the result is not there by then, and whatever the function raised.
        """
        received = self._attached()
        self._check(index, received.call)
        deadline = None if timeout is None else time.monotonic() + timeout
        while index not in received.outputs:
            if not received.lock.acquire(timeout=-1 if deadline is None else _left(deadline)):
                raise self._not_ready(timeout)
            try:
                if index not in received.outputs:
                    received.put(received.call.next(None if deadline is None else _left(deadline)))
            except TimeoutError:
                raise self._not_ready(timeout) from None
            finally:
                received.lock.release()
        return value_of(received.outputs[index])

    async def _get_async(self, timeout: float | None = None, index: int = 0) -> R:
        received = self._attached()
        self._check(index, received.call)
        deadline = None if timeout is None else time.monotonic() + timeout
        while index not in received.outputs:
            left_s = RECHECK_S if deadline is None else min(RECHECK_S, _left(deadline))
            try:
                output = await received.call.next_async(left_s)
            except TimeoutError:
                if deadline is not None and time.monotonic() >= deadline and index not in received.outputs:
                    raise self._not_ready(timeout) from None
            else:
                received.put(output)
        return value_of(received.outputs[index])

    def _iter(self, start: int = 0, end: int | None = None) -> Generator[R, None, None]:
        """The results of inputs ``start`` to ``end`` (excluded; all by default), in order."""
        for index in range(start, self._num_inputs() if end is None else end):
            yield self._get(index=index)

    async def _iter_async(self, start: int = 0, end: int | None = None) -> AsyncGenerator[R, None]:
        for index in range(start, self._num_inputs() if end is None else end):
            yield await self._get_async(index=index)

    def _num_inputs(self) -> int:
        """How many inputs the call has."""
        return self._attached().call.added

    async def _num_inputs_async(self) -> int:
        return self._num_inputs()

    def _cancel(self, terminate_containers: bool = False) -> None:
        """Drop the inputs that wait and interrupt those that run; nothing is retried.

        A running function gets ``InputCancellation``. ``terminate_containers``: end its containers too.
        """
        self._attached().call.cancel(terminate_containers)

    async def _cancel_async(self, terminate_containers: bool = False) -> None:
        self._cancel(terminate_containers)

    get = dual(_get, _get_async)
    iter = dual(_iter, _iter_async)
    num_inputs = dual(_num_inputs, _num_inputs_async)
    cancel = dual(_cancel, _cancel_async)
    gather: Dual[..., Any, Any]

    get_call_graph: Any = not_yet("`glowplug run` shows which inputs wait and why")
    get_gen: Any = not_yet("use remote_gen() of the function")
    logs: Any = not_yet("`glowplug run` shows the logs")

    # inside

    def _attached(self) -> Received:
        if self._received is None:
            with _received_lock:
                known = _received.get(self.object_id)
                if known is None:
                    from glowplug.sdk.running import run_for_attaching

                    known = Received(run_for_attaching().attach_call(self.object_id))
                    _received[self.object_id] = known
            self._received = known
        return self._received

    def _check(self, index: int, call: Call) -> None:
        if not 0 <= index < call.added:
            raise InvalidError(f"{self.object_id} has {call.added} inputs; there is no input {index}.")

    def _not_ready(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{self.object_id} has no result after {timeout} s; ask again later.")

    def __repr__(self) -> str:
        return f"FunctionCall.from_id({self.object_id!r})"

    def __reduce__(self) -> Any:
        return FunctionCall, (self.object_id,)


def gather(*function_calls: FunctionCall[Any]) -> list[Any]:
    """The results of several calls, in the order given. Raises the first error of any of them at once."""
    import asyncio

    if asyncio._get_running_loop() is None:
        return asyncio.run(gather_async(*function_calls))
    # A loop runs in this thread already, so ours needs another.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(gather_async(*function_calls))).result()


async def gather_async(*function_calls: FunctionCall[Any]) -> list[Any]:
    """``gather`` for async code."""
    import asyncio

    return list(await asyncio.gather(*(call._get_async() for call in function_calls)))


FunctionCall.gather = Dual(gather, gather_async)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
