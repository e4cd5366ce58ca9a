"""Commands that run inside containers for a client: bytes carried between its connection and their terminal.

Each has a thread of its own that waits for all of its descriptors, and stops reading from whoever is faster
than the other side takes. The client never sees a descriptor, so its connection may be a forwarded one.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from typing import Any

from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.codec import FrameError, FrameReader, frame

CHUNK_BYTES = 64 << 10
BEHIND_BYTES = 512 << 10
"""What one side may be behind before the other is not read any more."""
LATE_OUTPUT_S = 2.0
"""After a command's end its output is complete; this long is waited should somebody still hold it open."""

OpenExec = Callable[[str, int], None]
"""``open_exec(container_id, channel)``: have the container run what comes through ``channel``."""


class Execs:
    """All of a server's."""

    def __init__(self, open_exec: OpenExec) -> None:
        self._open_exec = open_exec
        self._running: set[Exec] = set()

    @property
    def count(self) -> int:
        return len(self._running)

    def start(self, sock: socket.socket, said: list[Any], reader: FrameReader) -> None:
        """Take over a connection whose first message is EXEC; ``reader`` has the beginning of the next."""
        try:
            _, protocol, container_id, request = said[0]
            if protocol != messages.PROTOCOL:
                raise errors.VersionError(
                    "the running server is of another version of Glowplug than this command; "
                    "`glowplug server stop` ends it, the next command starts one of this version"
                )
            running = Exec(sock, _checked(request), said[1:], reader, self._running.discard)
            try:
                self._open_exec(container_id, running.theirs)
            except BaseException:
                running.abandon()
                raise
        except errors.Error as error:
            sock.setblocking(True)
            try:
                sock.sendall(frame([messages.REFUSED, type(error).__name__, str(error)]))
            except OSError:
                pass
            sock.close()
            return
        self._running.add(running)
        running.start()

    def close(self) -> None:
        """End all; their processes go with their channels."""
        for running in list(self._running):
            running.end()


class Exec:
    def __init__(
        self,
        sock: socket.socket,
        request: dict[str, Any],
        said: list[Any],
        reader: FrameReader,
        on_over: Callable[[Exec], None],
    ) -> None:
        self._sock = sock
        self._request = request
        self._on_over = on_over
        self._channel, theirs = socket.socketpair()
        self.theirs = theirs.detach()
        """For the container. Closed by whoever sends it there."""
        self._reader = reader
        self._said = said
        self._to_client = bytearray()
        self._to_program = bytearray()
        self._input = -1
        self._input_ended = False
        self._outputs: dict[int, int] = {}
        self._ended: list[Any] | None = None
        self._told = b""
        self._open_at_end_s = 0.0
        self._end_read, self._end_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def start(self) -> None:
        threading.Thread(target=self._run, name="glowplug-exec", daemon=True).start()

    def end(self) -> None:
        os.write(self._end_write, b"x")

    def abandon(self) -> None:
        """It never began."""
        for fd in (self._end_read, self._end_write):
            os.close(fd)
        self._channel.close()

    def _run(self) -> None:
        try:
            self._send_request()
            for message in self._said:
                self._hear_client(message)
            while self._turn():
                pass
        except (OSError, FrameError, EOFError):
            pass  # one end is gone: so is the other, below
        finally:
            self._on_over(self)
            for fd in {*self._outputs, self._input, self._end_read, self._end_write} - {-1}:
                os.close(fd)
            self._channel.close()
            self._sock.close()

    def _send_request(self) -> None:
        theirs: list[int] = []
        if not self._request["pty"]:
            their_in, self._input = os.pipe2(os.O_CLOEXEC)
            theirs.append(their_in)
            for stream in (1, 2):
                ours, their_out = os.pipe2(os.O_CLOEXEC)
                self._outputs[ours] = stream
                theirs.append(their_out)
            os.set_blocking(self._input, False)
        raw = json.dumps(self._request).encode() + b"\n"
        fds = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", theirs))] if theirs else []
        sent = self._channel.sendmsg([raw], fds)
        self._channel.sendall(raw[sent:])
        for fd in theirs:
            os.close(fd)
        self._sock.setblocking(False)
        self._channel.setblocking(False)

    # one turn

    def _turn(self) -> bool:
        """Wait for something and do it. False when all is said."""
        if self._ended is not None and (not self._outputs or time.monotonic() > self._open_at_end_s):
            self._flush_last()
            return False
        poll = select.poll()
        poll.register(self._end_read, select.POLLIN)
        poll.register(self._sock, self._client_events())
        if self._ended is None:
            poll.register(self._channel, select.POLLIN)
        if len(self._to_client) < BEHIND_BYTES:
            for fd in self._outputs:
                poll.register(fd, select.POLLIN)
        if self._to_program and self._input >= 0:
            poll.register(self._input, select.POLLOUT)
        for fd, events in poll.poll(None if self._ended is None else LATE_OUTPUT_S * 1000):
            if fd == self._end_read:
                return False
            if fd == self._sock.fileno():
                self._serve_client(events)
            elif fd == self._channel.fileno():
                self._hear_container()
            elif fd in self._outputs:
                self._read_output(fd)
            if fd == self._input and events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                self._write_input()
        return True

    def _client_events(self) -> int:
        events = select.POLLIN if len(self._to_program) < BEHIND_BYTES else 0
        return events | (select.POLLOUT if self._to_client else 0)

    def _serve_client(self, events: int) -> None:
        if events & select.POLLIN:
            received = self._sock.recv(CHUNK_BYTES)
            if not received:
                raise EOFError
            for message in self._reader.feed(received):
                self._hear_client(message)
        elif events & (select.POLLHUP | select.POLLERR):
            raise EOFError
        if events & select.POLLOUT:
            del self._to_client[: self._sock.send(memoryview(self._to_client)[:CHUNK_BYTES])]

    def _hear_client(self, message: Any) -> None:
        kind = message[0]
        if kind == messages.EXEC_INPUT:
            if message[1]:
                self._to_program += message[1]
            else:
                self._input_ended = True
            self._write_input()
        elif kind == messages.EXEC_SIZE and self._request["pty"]:
            self._request["size"] = message[1:3]
            self._resize()
        elif kind == messages.EXEC_SIGNAL and self._ended is None:
            self._channel.send(json.dumps({"signal": int(message[1])}).encode() + b"\n")

    def _resize(self) -> None:
        if self._request["pty"] and self._input >= 0:
            try:
                size = struct.pack("HHHH", *self._request["size"], 0, 0)
                fcntl.ioctl(self._input, termios.TIOCSWINSZ, size)
            except (OSError, struct.error, TypeError):
                pass

    def _hear_container(self) -> None:
        received, ancillary, _, _ = self._channel.recvmsg(CHUNK_BYTES, socket.CMSG_SPACE(4))
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                (terminal,) = struct.unpack("i", raw[:4])
                os.set_inheritable(terminal, False)
                os.set_blocking(terminal, False)
                self._input = os.dup(terminal)
                self._outputs[terminal] = 1
                self._resize()
        if not received:
            self._end([None, "the container ended, and the command with it"])
            return
        *lines, self._told = (self._told + received).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "started" in said:
                self._send([messages.EXEC_STARTED])
            elif "exit" in said:
                self._end([said["exit"], ""])
            elif "failed" in said:
                self._end([None, said["failed"]])

    def _end(self, ended: list[Any]) -> None:
        if self._ended is None:
            self._ended = ended
            self._open_at_end_s = time.monotonic() + LATE_OUTPUT_S

    def _read_output(self, fd: int) -> None:
        try:
            chunk = os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose last program has ended
            chunk = b""
        if chunk:
            self._open_at_end_s = time.monotonic() + LATE_OUTPUT_S
            self._send([messages.EXEC_OUTPUT, self._outputs[fd], chunk])
        else:
            del self._outputs[fd]
            os.close(fd)

    def _write_input(self) -> None:
        if self._input < 0:
            return
        try:
            while self._to_program:
                del self._to_program[: os.write(self._input, memoryview(self._to_program)[:CHUNK_BYTES])]
            if self._input_ended:
                self._input_ended = False
                if self._request["pty"]:
                    os.write(self._input, b"\x04")
                else:
                    self._close_input()
        except BlockingIOError:
            return
        except OSError:  # it does not read any more
            self._to_program.clear()
            self._close_input()

    def _close_input(self) -> None:
        os.close(self._input)
        self._input = -1

    def _send(self, message: list[Any]) -> None:
        self._to_client += frame(message)

    def _flush_last(self) -> None:
        assert self._ended is not None
        self._send([messages.EXEC_ENDED, *self._ended])
        self._sock.setblocking(True)
        self._sock.sendall(self._to_client)


def _checked(request: Any) -> dict[str, Any]:
    """What a client asks for, with nothing in it that the container's side does not expect."""
    try:
        command = [str(part) for part in request["command"]]
        rows, columns = (int(number) for number in request.get("size") or (24, 80))
        variables = {str(name): str(value) for name, value in (request.get("variables") or {}).items()}
        wanted = {"command": command, "pty": bool(request["pty"]), "size": [rows, columns]}
    except (TypeError, ValueError, LookupError, AttributeError):
        raise errors.InvalidError(
            "the command to run in the container is not described as it must be"
        ) from None
    return {**wanted, "variables": variables, "directory": request.get("directory")}
