"""One invocation of a function: its inputs until they are answered, its outputs until they are taken."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from glowplug.client.connection import Waiter
from glowplug.client.session.ids import index_of
from glowplug.client.session.values import Output
from glowplug.wire import messages
from glowplug.wire.agreed import ITEM_CREDIT as ITEM_CREDIT
from glowplug.wire.payload import Payload

if TYPE_CHECKING:
    from glowplug.client.session.run import Run

INPUTS_MESSAGE_BYTES = 8 << 20
"""A message of inputs ends with the one that passes this."""


class Call:
    """One invocation of a function: inputs go in by ``add``, outputs come out by ``next`` as they arrive."""

    def __init__(self, run: Run, function_id: str, call_id: str, kept: bool = False) -> None:
        self.run = run
        self.function_id = function_id
        self.call_id = call_id
        self.kept = kept
        self.cancelled = False
        self._added = 0
        self._unanswered: dict[str, Payload] = {}
        self._outputs: collections.deque[Output] = collections.deque()
        self._waiters: list[Waiter] = []
        self._items_seen: dict[str, int] = {}
        self._abandoned = False
        self.answered: set[str] | None = None
        """Of a call made elsewhere: the inputs whose outputs came, since it sent none itself."""

    def add(self, payloads: Sequence[Payload]) -> None:
        """Send further inputs; they are numbered on from 0."""
        if not payloads:
            return
        first = self._added
        self._added += len(payloads)
        inputs = [
            (f"in-{self.call_id[3:]}-{index}", payload) for index, payload in enumerate(payloads, first)
        ]
        self._unanswered.update(inputs)
        self.run.send_inputs(self, inputs)

    def next(self, timeout_s: float | None = None) -> Output:
        """The next output, in order of arrival. Raises the builtin ``TimeoutError`` when none came in
        time."""
        while True:
            if self._outputs:
                try:
                    return self._take()
                except IndexError:  # another thread was quicker
                    pass
            waiter = Waiter()
            self._waiters.append(waiter)
            try:
                if not self._outputs and not self.run.wait(waiter, timeout_s):
                    raise TimeoutError(f"no output of {self.call_id} within {timeout_s} s")
            finally:
                self._waiters.remove(waiter)

    async def next_async(self, timeout_s: float | None = None) -> Output:
        """``next`` for async code."""
        import asyncio

        while True:
            try:
                return self._take()
            except IndexError:
                pass
            waiter = Waiter()
            self._waiters.append(waiter)
            try:
                if not self._outputs:
                    await asyncio.wait_for(self.run.wait_async(waiter), timeout_s)
            except asyncio.TimeoutError:
                raise TimeoutError(f"no output of {self.call_id} within {timeout_s} s") from None
            finally:
                self._waiters.remove(waiter)

    def cancel(self, terminate_containers: bool = False) -> None:
        """Drop what is queued, interrupt what runs. Its outputs are errors of ``InputCancellation``."""
        self.cancelled = True
        self.run.send([messages.CANCEL_CALL, self.call_id, terminate_containers])

    def abandon(self, taken: Iterable[Output] = ()) -> None:
        """Nobody here holds this call any more: forget it once it is answered, so that calls that were
        spawned and left alone do not add up. ``taken``: outputs to give back, should somebody ask for it by
        id before."""
        self._outputs.extend(taken)
        self._abandoned = True
        if not self.unanswered:
            self.run.finish_call(self)

    @property
    def added(self) -> int:
        """Inputs sent so far."""
        return self._added

    @property
    def unanswered(self) -> int:
        """Inputs whose output has not arrived yet."""
        return len(self._unanswered) if self.answered is None else self._added - len(self.answered)

    # the run's side

    def accept(self, input_id: str, status: str, payload: Payload | None, error: str, message: str) -> None:
        if self._unanswered.pop(input_id, None) is None:
            if self.answered is None or input_id in self.answered:
                return  # answered before: a resend crossed the output
            self.answered.add(input_id)
        self._outputs.append(Output(index_of(input_id), input_id, status, payload, error, message))
        self._wake()
        if self._abandoned and not self.unanswered:
            self.run.finish_call(self)

    def accept_item(self, input_id: str, index: int, payload: Payload) -> None:
        seen = self._items_seen.get(input_id, 0)
        if index != seen:  # a restarted generator repeats what the caller has
            self.run.send([messages.CREDIT, input_id, 1])
            return
        self._items_seen[input_id] = seen + 1
        self._outputs.append(Output(index_of(input_id), input_id, "item", payload))
        self._wake()

    def owed(self) -> list[tuple[str, Payload]]:
        """The inputs to send again to a server that has not seen them."""
        return list(self._unanswered.items())

    def fail_half_read(self) -> None:
        """A generator that has yielded is not run again silently: its caller has a part of it."""
        for input_id in [each for each in self._unanswered if self._items_seen.get(each)]:
            self.accept(
                input_id,
                "error",
                None,
                "ExecutionError",
                f"the server was lost after the generator's input {input_id} had yielded "
                f"{self._items_seen[input_id]} items; it is not run again from its start, because its caller "
                "has seen them. Call it again.",
            )

    def fail(self, error: str, message: str) -> None:
        """Answer everything still owed with an error of ours."""
        owed = list(self._unanswered)
        if self.answered is not None:
            ids = [f"in-{self.call_id[3:]}-{index}" for index in range(self._added)]
            owed = [input_id for input_id in ids if input_id not in self.answered]
        for input_id in owed:
            self.accept(input_id, "error", None, error, message)
        self._wake()

    def _take(self) -> Output:
        output = self._outputs.popleft()
        if output.status == "item":
            self.run.send([messages.CREDIT, output.input_id, 1])
        return output

    def _wake(self) -> None:
        for waiter in list(self._waiters):
            waiter.wake()


def input_messages(
    call: Call, inputs: Sequence[tuple[str, Payload]]
) -> Iterator[tuple[list[Any], list[Payload]]]:
    """Messages of many inputs each, none anywhere near the size a frame may have."""
    fields: list[Any] = []
    payloads: list[Payload] = []
    size_bytes = 0
    for input_id, payload in inputs:
        fields.append([input_id, payload.to_wire()])
        payloads.append(payload)
        if payload.body is not None:
            size_bytes += len(payload.body)
        if size_bytes > INPUTS_MESSAGE_BYTES:
            yield [messages.INPUTS, call.function_id, call.call_id, call.kept, fields], payloads
            fields, payloads, size_bytes = [], [], 0
    if fields:
        yield [messages.INPUTS, call.function_id, call.call_id, call.kept, fields], payloads
