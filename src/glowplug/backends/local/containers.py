"""One container as the server sees it: its two connections, its output pipes, the descriptors of its
processes."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glowplug.backends.local.cgroups import ContainerGroup
from glowplug.backends.local.lines import LineCutter
from glowplug.ports.backend import (
    ArrivedOutput,
    ContainerExit,
    ContainerListener,
    ContainerStart,
    LeasedInput,
)
from glowplug.wire import messages
from glowplug.wire.payload import from_wire
from glowplug.wire.stream import FrameStream, Outbox

PIPE_READ_BYTES = 256 << 10
OUT_OF_MEMORY_LOOKS = 20
OUT_OF_MEMORY_LOOK_S = 0.05
TERMINATE_GRACE_S = 2.0
"""After SIGTERM a plain container's first process has this long to end its descendants."""


class LocalContainer:
    """States: starting → ready → gone. Reports to the listener; ``on_gone`` when nothing of it is left."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        start: ContainerStart,
        listener: ContainerListener,
        on_gone: Callable[[LocalContainer], None],
        sandboxed: bool,
        group: ContainerGroup | None = None,
    ) -> None:
        self.id = start.container_id
        self.start = start
        self.ready = False
        self.gone = False
        self.stop_reason = ""
        self.abandon: Callable[[], None] | None = None
        """While nothing of it runs: gives up waiting for the process it is to be forked from."""
        self.group = group
        self.scratch: Path | None = None
        """Where on disk it writes what is its own."""
        self.before_gone: Callable[[Callable[[], None]], None] | None = None
        """Does what must be done before the container's end is reported, then calls what it is given."""
        self._failure: tuple[str, bool] | None = None
        self._verdict: ContainerExit | None = None
        """Why it is being killed, where that is known before its end."""
        self._memory_event = -1
        self._loop = loop
        self._listener = listener
        self._on_gone = on_gone
        self._sandboxed = sandboxed
        self._pidfd = -1
        """Of the first process: its end is the end of all."""
        self._own_pidfd = -1
        self.host_pids: tuple[int, ...] = ()
        self._running: list[str] = []
        self._timers: list[asyncio.TimerHandle] = []
        self.client_socket, self._their_client = socket.socketpair()
        data, self._their_data = socket.socketpair()
        control, self._their_control = socket.socketpair()
        self._status, self._their_status = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._their_status, True)
        self._pipes: dict[str, int] = {}
        self._their_pipes: list[int] = []
        self._cutters = {"stdout": LineCutter(), "stderr": LineCutter()}
        self._written = select.poll()
        for name in self._cutters:
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)
            self._pipes[name] = ours
            self._their_pipes.append(theirs)
            self._written.register(ours, select.POLLIN)
            loop.add_reader(ours, self._read_pipe, name)
        self.data = FrameStream(loop, data, outbox, self._on_calls, self._on_closed)
        self.control = FrameStream(loop, control, outbox, self._on_control, self._on_closed)

    @property
    def failed_to_load(self) -> bool:
        """Its function could not be imported, whoever is to blame."""
        return self._failure is not None and self._failure[1]

    # starting

    def their_fds(self) -> list[int]:
        """What the container's process gets: data, control, client, stdout, stderr, status."""
        sockets = (self._their_data, self._their_control, self._their_client)
        return [*(sock.fileno() for sock in sockets), *self._their_pipes, self._their_status]

    def close_their_fds(self) -> None:
        """Once they were handed over, or never will be."""
        for sock in (self._their_data, self._their_control, self._their_client):
            sock.close()
        for fd in (*self._their_pipes, self._their_status):
            if fd >= 0:
                os.close(fd)
        self._their_pipes = []
        self._their_status = -1

    def said(self) -> str:
        """What its first process said when it could not go on; empty when it said nothing."""
        return _read_status(self._status).message

    def forked(self, pidfd: int) -> None:
        """Its first process runs, known by ``pidfd``."""
        self._pidfd = pidfd
        if self.gone:
            self._kill()
            os.close(pidfd)
            return
        self._loop.add_reader(pidfd, self._on_exit)
        if self.stop_reason:
            self._kill()

    def entrances(self) -> list[int]:
        """Descriptors of the control groups its first process is to enter; they are the caller's."""
        if self.group is None:
            return []
        self._memory_event = self.group.out_of_memory_event()
        if self._memory_event >= 0:
            self._loop.add_reader(self._memory_event, self._on_out_of_memory)
        return self.group.entrances()

    def send_start(self, fields: dict[str, Any]) -> None:
        self.data.send(fields)

    # commands

    def lease(self, inputs: Sequence[LeasedInput]) -> None:
        fields = []
        payloads = []
        for each in inputs:
            fields.append([each.input_id, each.attempt, each.payload.to_wire()])
            if each.payload.fd is not None:
                payloads.append(each.payload)
            self._running.append(each.input_id)
        self.data.send([messages.LEASE, fields], payloads)

    def stop(self, grace_s: float, reason: str) -> None:
        self.stop_reason = self.stop_reason or reason
        if self.abandon is not None:
            self.abandon()
            self.fail(reason)
            return
        if grace_s <= 0 or not self.ready:
            self._kill()
            return
        self.control.send([messages.STOP, reason])
        self._timers.append(self._loop.call_later(grace_s, self._kill))

    def _kill(self) -> None:
        if self._pidfd < 0 or self.gone:
            return
        if self._sandboxed:
            self._signal(signal.SIGKILL)
            return
        self._signal(signal.SIGTERM)
        self._timers.append(self._loop.call_later(TERMINATE_GRACE_S, self._signal, signal.SIGKILL))

    def _signal(self, number: int) -> None:
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass

    def end_for(self, verdict: ContainerExit) -> None:
        """Kill it, for a reason that its own process could not tell."""
        if self.gone or self._verdict is not None:
            return
        self._verdict = verdict
        self._kill()

    def _on_out_of_memory(self) -> None:
        """The kernel kills one process of it. Whichever that was, what is left is not what was started."""
        os.read(self._memory_event, 8)
        self._look_for_a_kill(OUT_OF_MEMORY_LOOKS)

    def _look_for_a_kill(self, looks: int) -> None:
        """The event comes before the kill, and to containers of which none is killed, too."""
        if self.gone or self.group is None:
            return
        if self.group.was_out_of_memory():
            self.end_for(self.group.limits.memory_exceeded())
        elif looks:
            self._timers.append(self._loop.call_later(OUT_OF_MEMORY_LOOK_S, self._look_for_a_kill, looks - 1))

    def first_pid(self) -> int:
        """The pid here of its first process; 0 when there is none."""
        return _host_pid(self._pidfd) if self._pidfd >= 0 else 0

    # what it says

    def _on_calls(self, message: Any, fds: list[int]) -> None:
        if message[0] == messages.OUTPUTS:
            self.drain_output()
            outputs = []
            for input_id, attempt, status, run_s, field in message[1]:
                payload = None if field is None else from_wire(field, fds)
                outputs.append(ArrivedOutput(input_id, attempt, status, run_s, payload))
                if input_id in self._running:
                    self._running.remove(input_id)
                self._finish_lines(input_id)
            self._listener.outputs_arrived(self.id, outputs)
        elif message[0] == messages.ITEM:
            self.drain_output()
            payload = from_wire(message[4], fds)
            self._listener.item_yielded(self.id, message[1], message[2], message[3], payload)

    def _on_control(self, message: Any, fds: list[int]) -> None:
        if message[0] == messages.READY:
            self._own_pidfd = fds.pop(0)
            self.host_pids = tuple(filter(None, (_host_pid(self._own_pidfd), _host_pid(self._pidfd))))
            self.ready = True
            if not self.stop_reason:
                self._listener.container_ready(self.id)
            else:
                self._kill()
        elif message[0] == messages.START_FAILED:
            self._failure = (message[1], message[2])
        elif message[0] == messages.RETURNED:
            for input_id in message[1]:
                if input_id in self._running:
                    self._running.remove(input_id)
            self._listener.inputs_returned(self.id, message[1])

    def _on_closed(self) -> None:
        """One connection ended; the process's own end is what counts."""

    # its output

    def _read_pipe(self, name: str) -> None:
        self._drain(name)

    def drain_output(self) -> None:
        """Read what has been written; most inputs write nothing, and one look at both pipes says so."""
        if self._written.poll(0):
            for name in self._cutters:
                self._drain(name)

    def _drain(self, name: str) -> None:
        fd = self._pipes.get(name)
        while fd is not None:
            try:
                chunk = os.read(fd, PIPE_READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._close_pipe(name)
                return
            running = self._running[0] if self._running else ""
            for input_id, lines in self._cutters[name].feed(chunk, running):
                self._listener.log_written(self.id, input_id, name, lines)
            if len(chunk) < PIPE_READ_BYTES:
                return

    def notice(self, text: str) -> None:
        """Tell the client of its app."""
        function = self.start.function
        self._listener.notice(function.app_id, function.id, "warning", f"{function.name}: {text}")

    def _finish_lines(self, input_id: str) -> None:
        for name, cutter in self._cutters.items():
            for owner, lines in cutter.finish(input_id):
                self._listener.log_written(self.id, owner, name, lines)

    def _close_pipe(self, name: str) -> None:
        fd = self._pipes.pop(name, None)
        if fd is not None:
            self._loop.remove_reader(fd)
            self._written.unregister(fd)
            os.close(fd)

    # its end

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        # What it said before it died still counts: an output that was sent is an output.
        for stream in (self.control, self.data):
            stream.read_now()
        self.drain_output()
        self._finish_lines(self._running[0] if self._running else "")
        exit = _read_status(self._status)
        if self._verdict is not None:
            exit = self._verdict
        elif self.group is not None and exit.exit_code is None and self.group.was_out_of_memory():
            exit = self.group.limits.memory_exceeded()
        self._end(exit)

    def fail(self, message: str) -> None:
        """It could not be forked at all."""
        self._failure = self._failure or (message, False)
        self._end(ContainerExit(message=message))

    def _end(self, exit: ContainerExit) -> None:
        if self.gone:
            return
        self.gone = True
        for timer in self._timers:
            timer.cancel()
        self.data.close()
        self.control.close()
        for name in list(self._pipes):
            self._close_pipe(name)
        if self._memory_event >= 0:
            self._loop.remove_reader(self._memory_event)
        for fd in (self._status, self._pidfd, self._own_pidfd, self._memory_event):
            if fd >= 0:
                os.close(fd)
        self._status = self._pidfd = self._own_pidfd = self._memory_event = -1
        self.close_their_fds()
        if self.before_gone is not None:
            self.before_gone(lambda: self._report_end(exit))
        else:
            self._report_end(exit)

    def _report_end(self, exit: ContainerExit) -> None:
        self._on_gone(self)
        if self.ready or self.stop_reason:
            self._listener.container_exited(self.id, exit)
        else:
            message, permanent = self._failure or (_exit_text(exit), False)
            self._listener.container_start_failed(self.id, message, permanent)


def _read_status(fd: int) -> ContainerExit:
    """How the container ended, in its first process's words; nothing when that was killed with it."""
    try:
        said = os.read(fd, 4096)
    except BlockingIOError:
        said = b""
    if len(said) == 4:
        (status,) = struct.unpack("<i", said)
        if os.WIFSIGNALED(status):
            return ContainerExit(signal=os.WTERMSIG(status))
        return ContainerExit(exit_code=os.WEXITSTATUS(status))
    if said.startswith(b"error "):
        return ContainerExit(message=said[6:].decode("utf-8", "replace"))
    return ContainerExit(signal=int(signal.SIGKILL))


def _exit_text(exit: ContainerExit) -> str:
    if exit.out_of_memory:
        return f"it ran out of memory and was killed before it was ready: {exit.message}"
    if exit.message:
        return exit.message
    if exit.signal is not None:
        return f"its process was ended by {signal.Signals(exit.signal).name} before it was ready"
    return f"its process exited with code {exit.exit_code} before it was ready"


def _host_pid(pidfd: int) -> int:
    """The pid in this server's namespace of a process known by descriptor."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}") as file:
            for line in file:
                if line.startswith("Pid:"):
                    return max(0, int(line.split()[1]))
    except OSError:
        pass
    return 0
