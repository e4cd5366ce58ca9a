"""One persistent connection to a server, shared by every thread and event loop of a process.

A thread that waits for a message reads for all (the leader): it hands out what it reads, wakes those it
concerns and passes the lead on when its own message has come. No reader thread stands between the socket
and the caller, so a call costs no thread switch. Event loops watch the descriptor themselves. When nobody
waits, a slow ticking thread reads what arrives, so that log lines appear while user code is busy elsewhere.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glowplug.wire.codec import FrameError, frame
from glowplug.wire.payload import Payload
from glowplug.wire.receive import MAX_FDS, FrameReceiver

if TYPE_CHECKING:
    import asyncio

IDLE_READ_S = 0.1


class Waiter:
    """Something one caller waits for. ``ready`` is set by ``Connection.wake``, under no lock."""

    __slots__ = ("event", "future", "loop", "ready")

    def __init__(self) -> None:
        self.ready = False
        self.event: threading.Event | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        self.ready = True
        event = self.event
        if event is not None:
            event.set()
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Connection:
    """Frames over a connected stream socket. ``on_message(message, fds)`` runs in whichever thread reads;
    ``on_lost(error)`` is called once, when the other end is gone."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[list[Any], list[int]], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._sock = sock
        self._on_message = on_message
        self._on_lost = on_lost
        self._receiver = FrameReceiver(sock)
        self._send_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._followers_lock = threading.Lock()
        self._followers: list[Waiter] = []
        self._loops: dict[asyncio.AbstractEventLoop, int] = {}
        self._closed = False
        self.pid = os.getpid()
        sock.setblocking(True)

    @property
    def closed(self) -> bool:
        return self._closed

    # sending

    def send(self, message: list[Any], payloads: list[Payload] | None = None) -> None:
        """Send one message and the descriptors of its large payloads. Raises ``OSError`` when the
        connection is gone."""
        raw = frame(message)
        fds = [payload.fd for payload in payloads if payload.fd is not None] if payloads else []
        with self._send_lock:
            if not fds:
                self._sock.sendall(raw)
                return
            # The kernel carries few descriptors a message, so they ride on the frame's first bytes.
            position = 0
            while fds:
                some, fds = fds[:MAX_FDS], fds[MAX_FDS:]
                position += socket.send_fds(self._sock, [raw[position : position + 1]], some)
            self._sock.sendall(raw[position:])

    # waiting

    def wait(self, waiter: Waiter, timeout_s: float | None = None) -> bool:
        """Block until ``waiter.ready``; False when ``timeout_s`` passed first. Raises ``ConnectionError``
        when the connection is gone and the waiter was not served."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not waiter.ready:
            if self._read_lock.acquire(blocking=False):
                try:
                    if not self._lead(waiter, deadline):
                        return waiter.ready
                finally:
                    self._read_lock.release()
                    self._promote()
            elif not self._follow(waiter, deadline):
                break
        self._promote()  # it may have been this one's turn to lead
        return waiter.ready

    def _lead(self, waiter: Waiter, deadline: float | None) -> bool:
        while not waiter.ready:
            if self._closed:
                raise ConnectionError("the connection to the server is closed")
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._receiver.wait(left_s):
                return waiter.ready
            self._read()
        return True

    def _follow(self, waiter: Waiter, deadline: float | None) -> bool:
        with self._followers_lock:
            waiter.event = waiter.event or threading.Event()
            waiter.event.clear()
            self._followers.append(waiter)
        try:
            if waiter.ready or not self._read_lock.locked():
                return True
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            return waiter.event.wait(left_s)
        finally:
            with self._followers_lock:
                if waiter in self._followers:
                    self._followers.remove(waiter)

    def _promote(self) -> None:
        """Let one follower take the lead."""
        if self._followers:
            with self._followers_lock:
                for follower in self._followers:
                    if not follower.ready and follower.event is not None:
                        follower.event.set()
                        break

    async def wait_async(self, waiter: Waiter) -> None:
        """Like ``wait``, on the running event loop, which reads while it waits."""
        import asyncio  # synchronous programs never pay for it

        loop = asyncio.get_running_loop()
        waiter.future = loop.create_future()
        waiter.loop = loop
        if waiter.ready:
            return
        if self._closed:
            raise ConnectionError("the connection to the server is closed")
        self._loops[loop] = self._loops.get(loop, 0) + 1
        if self._loops[loop] == 1:
            loop.add_reader(self._sock.fileno(), self.read_available)
        try:
            # Another thread may have read the answer before the loop began to watch.
            await waiter.future
        finally:
            self._loops[loop] -= 1
            if not self._loops[loop]:
                del self._loops[loop]
                if not self._closed:
                    loop.remove_reader(self._sock.fileno())
        if not waiter.ready:
            raise ConnectionError("the connection to the server is closed")

    def read_available(self) -> None:
        """Handle what has arrived, without blocking; a no-op while another thread reads."""
        if not self._read_lock.acquire(blocking=False):
            return
        try:
            while self._read():
                pass
        finally:
            self._read_lock.release()
            self._promote()

    # reading, under the read lock

    def _read(self) -> bool:
        """One receive and what it completes. False when nothing was there or the end was reached."""
        try:
            messages = self._receiver.receive()
        except (BlockingIOError, InterruptedError):
            return False
        except (OSError, EOFError, FrameError) as error:
            self._lose(error)
            return False
        for message in messages:
            self._on_message(message, self._receiver.fds)
        return True

    def _lose(self, error: Exception) -> None:
        if not self._closed:
            self.close()
            self._on_lost(error)

    def close(self) -> None:
        """Close and wake everybody who waits."""
        if self._closed:
            return
        self._closed = True
        for loop in list(self._loops):
            loop.call_soon_threadsafe(loop.remove_reader, self._sock.fileno())
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        with self._followers_lock:
            for follower in self._followers:
                if follower.event is not None:
                    follower.event.set()

    def start_idle_reader(self) -> None:
        """Read now and then while nobody waits. The thread ends with the connection or the process."""
        threading.Thread(target=self._idle_read, name="glowplug-idle-reader", daemon=True).start()

    def _idle_read(self) -> None:
        while not self._closed and os.getpid() == self.pid:
            time.sleep(IDLE_READ_S)
            self.read_available()
