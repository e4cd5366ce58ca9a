"""One persistent connection to a server, shared by every thread and event loop of a process.

A thread that waits for a message reads for all (the leader): it hands out what it reads, wakes those it
concerns and passes the lead on when its own message has come. No reader thread stands between the socket
and the caller, so a call costs no thread switch. Event loops watch the descriptor themselves. When nobody
waits, a slow ticking thread reads what arrives, so that log lines appear while user code is busy elsewhere.
"""

from __future__ import annotations

import collections
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
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
        self.stir()

    def stir(self) -> None:
        """Let an event loop look again whether it is served."""
        if self.loop is not None:
            try:
                self.loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:  # the loop was closed meanwhile: nobody waits there
                pass

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
        self._fd = sock.fileno()
        self._on_message = on_message
        self._on_lost = on_lost
        self._receiver = FrameReceiver(sock)
        # A finaliser may run in the middle of a send, in the same thread, and send as well.
        self._send_lock = threading.RLock()
        self._sending = False
        self._deferred: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self._read_lock = threading.Lock()
        self._followers_lock = threading.Lock()
        self._followers: list[Waiter] = []
        self._loops: dict[asyncio.AbstractEventLoop, set[Waiter]] = {}
        self._arrived: collections.deque[list[Any]] = collections.deque()
        self._closed = False
        sock.setblocking(True)

    @property
    def closed(self) -> bool:
        return self._closed

    # sending

    def send(self, message: list[Any], payloads: Sequence[Payload] = ()) -> None:
        """Send one message and the descriptors of its large payloads. Raises ``OSError`` when the
        connection is gone."""
        raw = frame(message)
        fds = [payload.fd for payload in payloads if payload.fd is not None]
        if self._closed:
            raise ConnectionError("the connection to the server is closed")
        with self._send_lock:
            self._deferred.append((raw, fds))
            if self._sending:
                return
            self._sending = True
            try:
                while self._deferred:
                    self._send_frame(*self._deferred.popleft())
            except BaseException:
                self.close()  # part of a frame may have left: whatever followed would be taken for its rest
                raise
            finally:
                self._sending = False

    def _send_frame(self, raw: bytes, fds: list[int]) -> None:
        # The kernel carries few descriptors a message, so they ride on the frame's first bytes.
        position = 0
        while fds:
            some, fds = fds[:MAX_FDS], fds[MAX_FDS:]
            position += socket.send_fds(self._sock, [raw[position : position + 1]], some)
        self._sock.sendall(raw[position:] if position else raw)

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
        self._hand_out()
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
        waiting = self._loops.setdefault(loop, set())
        if not waiting:
            loop.add_reader(self._fd, self.read_available)
        waiting.add(waiter)
        try:
            # Another thread may have read the answer, or the end, before this loop began to watch.
            if not waiter.ready and not self._closed:
                await waiter.future
        finally:
            waiting.discard(waiter)
            if not waiting:
                del self._loops[loop]
                loop.remove_reader(self._fd)
        if not waiter.ready:
            raise ConnectionError("the connection to the server is closed")

    def read_available(self) -> None:
        """Handle what has arrived, without blocking; a no-op while another thread reads."""
        if not self._read_lock.acquire(blocking=False):
            return
        try:
            self._hand_out()
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
        self._arrived.extend(messages)
        self._hand_out()
        return True

    def _hand_out(self) -> None:
        """What a listener raises reaches whoever reads; the messages behind stay for the next to read."""
        while self._arrived:
            self._on_message(self._arrived.popleft(), self._receiver.fds)

    def _lose(self, error: Exception) -> None:
        if not self._closed:
            self.close()
            self._on_lost(error)

    def close(self) -> None:
        """Close and wake everybody who waits."""
        if self._closed:
            return
        self._closed = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        # Only ended here, closed with the last holder: a thread or a loop may be waiting on the descriptor.
        self._sock.detach()
        for waiting in list(self._loops.values()):
            for waiter in list(waiting):
                waiter.stir()
        with self._followers_lock:
            for follower in self._followers:
                if follower.event is not None:
                    follower.event.set()

    def abandon(self) -> None:
        """In a forked child: let go of it without ending it for the parent."""
        self._closed = True
        self._sock.detach()
        os.close(self._fd)
        self._fd = -1

    def __del__(self) -> None:
        self._sock.detach()
        for fd in (self._fd, *self._receiver.fds):
            if fd >= 0:
                os.close(fd)

    def start_idle_reader(self) -> None:
        """Read now and then while nobody waits. The thread ends with the connection or the process."""
        threading.Thread(target=self._idle_read, name="glowplug-idle-reader", daemon=True).start()

    def _idle_read(self) -> None:
        while not self._closed:
            time.sleep(IDLE_READ_S)
            self.read_available()
