"""One connected client: what it sends becomes facts, what it is owed leaves once a turn."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glowplug.model import errors
from glowplug.server.records import FinishedOutput
from glowplug.wire import messages
from glowplug.wire.payload import Payload, from_wire
from glowplug.wire.stream import FrameStream, Outbox

if TYPE_CHECKING:
    from glowplug.server.kernel import Kernel

LOG_BACKLOG_BYTES = 32 << 20
"""Lines for a client that does not read are dropped above this; what was dropped is said."""
RESULTS_MESSAGE_BYTES = 8 << 20
"""A message of results ends with the one that passes this: a replayed call may have thousands."""


class ClientSession:
    """``container_id`` names the container this client runs in; empty for a user's own process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        outbox: Outbox,
        kernel: Kernel,
        container_id: str = "",
    ) -> None:
        self.container_id = container_id
        self._kernel = kernel
        self._outbox = outbox
        self._results: list[list[Any]] = []
        self._payloads: list[Payload] = []
        self._inline_bytes = 0
        self._lines: dict[str, list[list[Any]]] = {}
        self._dirty = False
        self._dropped_lines: dict[str, int] = {}
        self.stream = FrameStream(loop, sock, outbox, self._on_message, self._on_closed)

    # to the client

    def deliver(self, output: FinishedOutput) -> None:
        payload = output.payload
        field = None
        if payload is not None:
            field = payload.to_wire()
            if payload.body is None:
                self._payloads.append(payload)
            else:
                self._inline_bytes += len(payload.body)
        self._results.append([output.input_id, output.status, field, output.error, output.message])
        self._touch()
        if self._inline_bytes > RESULTS_MESSAGE_BYTES:
            self._flush()

    def deliver_item(self, input_id: str, index: int, payload: Payload) -> None:
        self._send_in_order([messages.ITEM, input_id, index, payload.to_wire()], [payload])

    def tell_lines(self, app_id: str, lines: list[list[Any]]) -> None:
        if self.stream.queued_bytes > LOG_BACKLOG_BYTES:
            self._dropped_lines[app_id] = self._dropped_lines.get(app_id, 0) + len(lines)
            return
        self.tell_dropped(app_id)
        self._lines.setdefault(app_id, []).extend(lines)
        self._touch()

    def tell_dropped(self, app_id: str) -> None:
        """At the latest with the end of the run."""
        dropped = self._dropped_lines.pop(app_id, 0)
        if dropped:
            self.notice(
                app_id, "warning", f"{dropped} log lines were dropped: they came faster than they were read"
            )

    def notice(self, app_id: str, level: str, text: str) -> None:
        self._send_in_order([messages.NOTICE, app_id, level, text])

    def waiting(self, app_id: str, function: str, text: str | None) -> None:
        self._send_in_order([messages.WAITING, app_id, function, text])

    def run_ended(self, app_id: str, text: str) -> None:
        self._send_in_order([messages.RUN_ENDED, app_id, text])

    def reply(self, request: int, result: Any) -> None:
        self._send_in_order([messages.REPLY, request, "", result])

    def refuse(self, request: int, error: Exception) -> None:
        self._send_in_order([messages.REPLY, request, type(error).__name__, str(error)])

    def _touch(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._outbox.add(self._flush)

    def _flush(self) -> None:
        """Lines before results: what a call printed is seen before what it returned."""
        self._dirty = False
        if self._lines:
            lines, self._lines = self._lines, {}
            for app_id, some in lines.items():
                self.stream.send([messages.LOGS, app_id, some])
        if self._results:
            results, self._results = self._results, []
            payloads, self._payloads = self._payloads, []
            self._inline_bytes = 0
            self.stream.send([messages.RESULTS, results], payloads)

    def _send_in_order(self, message: Any, payloads: Sequence[Payload] = ()) -> None:
        """A message of its own, after the lines and results that came before it."""
        if self._dirty:
            self._flush()
        self.stream.send(message, payloads)

    # from the client

    def _on_message(self, message: Any, fds: list[int]) -> None:
        kind = message[0]
        kernel = self._kernel
        if kind == messages.INPUTS:
            _, function_id, call_id, kept, fields = message
            inputs = [(input_id, from_wire(field, fds)) for input_id, field in fields]
            kernel.calls.accept(self, function_id, call_id, kept, inputs)
        elif kind == messages.CREDIT:
            kernel.grant_credit(message[1], message[2])
        elif kind == messages.CANCEL_CALL:
            kernel.calls.cancel(message[1], message[2])
        elif kind in (messages.OPEN_APP, messages.CLOSE_APP, messages.ATTACH_CALL):
            self._answer(message)
        elif kind == messages.HTTP:
            kernel.accept_http(socket.socket(fileno=fds.pop(0)), self.container_id)
        elif kind == messages.PING:
            self.stream.send([messages.PONG, message[1]])

    def _answer(self, message: Any) -> None:
        kind, request = message[0], message[1]
        try:
            if kind == messages.OPEN_APP:
                self.reply(request, self._kernel.runs.open(self, message[2], message[3]))
            elif kind == messages.CLOSE_APP:
                self._kernel.runs.leave(message[2], message[3], (self, request))
            elif kind == messages.ATTACH_CALL:
                self._kernel.calls.attach(self, request, message[2])
        except errors.Error as error:
            self.refuse(request, error)
        except Exception as error:
            traceback.print_exc()  # into the server's log
            self.refuse(
                request,
                errors.InternalError(f"the server failed: {type(error).__name__}: {error} (see its log)"),
            )

    def _on_closed(self) -> None:
        self._kernel.client_lost(self)
