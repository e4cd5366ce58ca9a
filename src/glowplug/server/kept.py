"""Spawned calls: their inputs and outputs are written down, so that other processes can ask for them, now or
later.

Whoever made a call is answered from memory at once. To anybody else an output is visible only after its group
commit: what somebody was shown, a later server shows again.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from glowplug.model import errors
from glowplug.ports.journal import (
    RESULT_RETENTION_S,
    CallFact,
    Journal,
    JournaledCall,
    JournaledOutput,
    JournaledRun,
)
from glowplug.server.records import CallRecord, FinishedOutput
from glowplug.server.session import ClientSession
from glowplug.wire.payload import Payload
from glowplug.wire.stream import Outbox


class KeptCalls:
    """Payloads are in memory until they are on disk, no longer. ``on_unwritten(call)``: the disk did not take
    an output of it, so its record must stay."""

    def __init__(self, journal: Journal, outbox: Outbox, on_unwritten: Callable[[CallRecord], None]) -> None:
        self._journal = journal
        self._outbox = outbox
        self._on_unwritten = on_unwritten
        self._fresh: list[tuple[CallRecord, FinishedOutput]] = []
        """Finished, and not part of a commit yet."""
        self._committing = False
        self._answers: set[asyncio.Task[None]] = set()

    # writing

    def accept(
        self, call: CallRecord, function_name: str, inputs: Sequence[tuple[str, Payload]], at: float
    ) -> None:
        fact = CallFact(call.id, call.app_id, call.function_id, function_name, at)
        self._journal.inputs_accepted(fact, inputs)

    def finish(self, call: CallRecord, output: FinishedOutput, at: float) -> None:
        self._journal.output_recorded(
            call.id,
            JournaledOutput(output.input_id, output.status, output.payload, output.error, output.message, at),
        )
        self._fresh.append((call, output))
        if not self._committing:
            self._commit()

    def _commit(self) -> None:
        """One commit at a time; what finishes meanwhile is in the next."""
        finished, self._fresh = self._fresh, []
        self._committing = True

        def committed(future: asyncio.Future[bool]) -> None:
            self._committing = False
            if not future.cancelled():
                self._show(finished, durable=future.result())

        asyncio.wrap_future(self._journal.committed()).add_done_callback(committed)

    def _show(self, finished: list[tuple[CallRecord, FinishedOutput]], durable: bool) -> None:
        for call, output in finished:
            if durable:
                call.outputs[output.input_id] = None
            else:
                call.unwritten[output.input_id] = output
                self._on_unwritten(call)
            for watcher in call.watchers:
                watcher.deliver(output)
        if self._fresh:
            self._commit()
        self._outbox.flush()

    # asking

    def attach(self, session: ClientSession, request: int, call: CallRecord) -> None:
        """Send what is visible of a call in memory, and what becomes visible. What does so meanwhile may be
        sent twice; a client counts it once."""
        if session not in call.watchers:
            call.watchers.append(session)
        session.reply(
            request, {"inputs": call.inputs, "function_id": call.function_id, "app_id": call.app_id}
        )
        self.deliver_written(session, call, None)

    def deliver_written(
        self, session: ClientSession, call: CallRecord, input_ids: Collection[str] | None
    ) -> None:
        """Send those outputs of a call again, all by default, once they are read."""

        async def deliver() -> None:
            try:
                written = await asyncio.wrap_future(self._journal.read_call(call.id))
            except Exception as error:  # a disk that fails reading: what memory has must do
                traceback.print_exception(error)  # into the server's log
                written = None
            found = [as_finished(output) for output in written.outputs] if written is not None else []
            for output in [*found, *call.unwritten.values()]:
                if input_ids is None or output.input_id in input_ids:
                    session.deliver(output)
            self._outbox.flush()

        self._serve(deliver())

    def attach_written(self, session: ClientSession, request: int, call_id: str) -> None:
        """Send what is written of a call whose run is over, once it is read."""

        async def answer() -> None:
            try:
                call = await asyncio.wrap_future(self._journal.read_call(call_id))
                app_id = call.fact.app_id if call is not None else ""
                run = await asyncio.wrap_future(self._journal.read_run(app_id))
                outputs = outputs_of(call_id, call, run)
            except errors.Error as error:
                session.refuse(request, error)
            except Exception as error:
                session.refuse(request, errors.DataLossError(f"{call_id} cannot be read: {error}"))
            else:
                assert call is not None
                fact = call.fact
                session.reply(
                    request, {"inputs": call.inputs, "function_id": fact.function_id, "app_id": fact.app_id}
                )
                for output in outputs:
                    session.deliver(output)
            self._outbox.flush()

        self._serve(answer())

    def _serve(self, answer: Coroutine[Any, Any, None]) -> None:
        answering = asyncio.get_running_loop().create_task(answer)
        self._answers.add(answering)
        answering.add_done_callback(self._answers.discard)


def outputs_of(call_id: str, call: JournaledCall | None, run: JournaledRun | None) -> list[FinishedOutput]:
    """An output for every input of a call whose run is over.

    Raises ``NotFoundError`` for one nobody spawned here, ``OutputExpiredError`` after the retention.
    """
    if call is None:
        raise errors.NotFoundError(
            f"no call {call_id!r} is known here. Only spawned calls can be asked for by id "
            "(FunctionCall.object_id), on the machine and with the GLOWPLUG_HOME they were made."
        )
    app = run.name if run is not None else call.fact.app_id
    if call.expired:
        raise errors.OutputExpiredError(
            f"the results of {call_id} ({call.fact.function_name} of {app}) were kept for "
            f"{RESULT_RETENTION_S / 86400:.0f} days and are gone; call the function again"
        )
    ended = f" ({run.reason})" if run is not None and run.reason else ""
    missing = [
        FinishedOutput(
            input_id,
            "error",
            None,
            "ExecutionError",
            f"the run of {app} ended{ended} before {call.fact.function_name} had this result; call it again",
        )
        for input_id, _ in call.open_inputs
    ]
    return [as_finished(output) for output in call.outputs] + missing


def as_finished(output: JournaledOutput) -> FinishedOutput:
    return FinishedOutput(output.input_id, output.status, output.payload, output.error, output.message)
