"""The life of a ready container: take an input, run the function, send what came of it; until told to stop.

Synchronous code holds the main thread. A control thread hears cancellations, recalls and the stop while it
runs.
"""

from __future__ import annotations

import collections
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glowplug.client import context
from glowplug.client.serializer import pack, pack_exception, unpack
from glowplug.container.executing import open_exec
from glowplug.container.frames import FrameSocket
from glowplug.container.output import MarkedOutput
from glowplug.container.space import tell_if_full
from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.agreed import ITEM_CREDIT
from glowplug.wire.payload import Payload, from_wire

if TYPE_CHECKING:
    import asyncio

BEGUN_REMEMBERED = 256
"""Inputs begun last, so that a recall of one that has just run is not answered with a promise; a container is
never leased that many ahead."""


HELD_OUTPUTS = 16
"""Outputs of very short runs travel together, at most so many; half of what a container is leased ahead."""
HELD_S = 0.0005
"""And none waits longer for the others, unless a long run follows: see ``_send_output``."""


class StopRequested(BaseException):
    """The container shall end: raised in the main thread while no user code runs."""


class InputLoop:
    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        data: FrameSocket,
        control: FrameSocket,
        output: MarkedOutput,
    ) -> None:
        self.function = function
        self.name = name
        self.data = data
        self.control = control
        self.output = output
        self._queue: collections.deque[tuple[str, int, Payload]] = collections.deque()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._current: tuple[str, int] | None = None
        self._in_user_code = False
        self._is_waiting = False
        self._recalled: set[str] = set()
        self._begun: collections.deque[str] = collections.deque(maxlen=BEGUN_REMEMBERED)
        self._held: list[list[Any]] = []
        self._held_since = 0.0
        self._sending = threading.Lock()
        self._cancelled: tuple[str, int] | None = None
        self._cancel_told = False
        self._stopping = False
        self._credit = threading.Semaphore(ITEM_CREDIT)
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._async_task: asyncio.Task[Any] | None = None
        self._is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        self._is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)

    def run(self) -> None:
        """Serve inputs until the server says stop or is gone."""
        signal.signal(signal.SIGINT, self._on_stop_signal)
        signal.signal(signal.SIGUSR1, self._on_cancel_signal)
        threading.Thread(target=self._hear_control, name="glowplug-control", daemon=True).start()
        try:
            while not self._stopping:
                if not self._queue:
                    self._send_held()
                    self._receive()
                while self._queue and not self._stopping:
                    self._run_next()
        except (StopRequested, EOFError, ConnectionError):
            pass
        finally:
            self._stopping = True
            try:
                self._send_held()
            except OSError:
                pass
            if self._event_loop is not None:
                self._event_loop.close()

    # one input

    def _receive(self) -> None:
        # Only here may the signal raise: anywhere else, in a finaliser say, what it raises might be lost.
        self._is_waiting = True
        try:
            if self._stopping:
                raise StopRequested
            self.data.wait()
        finally:
            self._is_waiting = False
        for message in self.data.receive_all():
            if message[0] == messages.LEASE:
                for input_id, attempt, field in message[1]:
                    self._queue.append((input_id, attempt, from_wire(field, self.data.fds)))

    def _run_next(self) -> None:
        with self._lock:
            input_id, attempt, payload = self._queue.popleft()
            if input_id in self._recalled:
                self._recalled.discard(input_id)
                return
            self._current = (input_id, attempt)
            self._cancel_told = False
            self._begun.append(input_id)
        if attempt > 1:
            self._send_held()
        call_id = "fc-" + input_id[3:].rsplit("-", 1)[0]
        context.set_current_input(input_id, call_id)
        self.output.set_input(input_id)
        started_at = time.perf_counter()
        try:
            status, result = self._run(input_id, attempt, payload)
        except errors.InputCancellation:
            # The signal arrived as the function was returning.
            status, result = "cancelled", None
        ended_at = time.perf_counter()
        self.output.flush()
        self._end_if_forked()
        field = None if result is None else result.to_wire()
        self._send_output([input_id, attempt, status, ended_at - started_at, field], result, ended_at)
        self._current = None

    def _end_if_forked(self) -> None:
        """A child that the function forked came back from it: there shall be one container, not two."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _send_output(self, fact: list[Any], result: Payload | None, ended_at: float) -> None:
        """Send it, or hold it for the next ones: a message each would cost more than a very short run.

        Only while further inputs are at hand. Should the next one run long, the server asks for those behind
        it, and what is held goes with the answer. An input that is run again is sent at once and alone, so
        that one which kills its container is found out: the server takes the oldest without output for it.
        """
        fd = None if result is None else result.fd
        with self._sending:
            if not self._held:
                self._held_since = ended_at
            self._held.append(fact)
            may_wait = self._queue and fact[1] == 1 and fd is None and not self._is_generator
            if may_wait and len(self._held) < HELD_OUTPUTS and ended_at - self._held_since < HELD_S:
                return
            self._flush_held(None if fd is None else [fd])

    def _send_held(self) -> None:
        with self._sending:
            self._flush_held()

    def _flush_held(self, fds: list[int] | None = None) -> None:
        facts, self._held = self._held, []
        if facts:
            self.data.send([messages.OUTPUTS, facts], fds)

    def _run(self, input_id: str, attempt: int, payload: Payload) -> tuple[str, Payload | None]:
        try:
            args, kwargs = unpack(payload)
            self._in_user_code = True
            try:
                self._check_interrupted()
                if self._is_generator:
                    self._run_generator(input_id, attempt, args, kwargs)
                    result = None
                elif self._is_async:
                    result = self._run_async(self.function(*args, **kwargs))
                else:
                    result = self.function(*args, **kwargs)
            finally:
                self._in_user_code = False
            return "success", pack(result, f"the result of {self.name}")
        except errors.InputCancellation as error:
            if self._was_cancelled(input_id, attempt):
                return "cancelled", None
            return "failure", pack_exception(error)
        except KeyboardInterrupt as error:
            if self._stopping:
                raise StopRequested from None  # interrupted: the server runs this input again
            return "failure", pack_exception(error)
        except StopRequested:
            raise
        except SystemExit as error:
            told = errors.ExecutionError(
                f"{self.name} called sys.exit({error.code!r}); return a value instead"
            )
            return "failure", pack_exception(told.with_traceback(error.__traceback__))
        except OSError as error:
            tell_if_full(error)
            return "failure", pack_exception(error)
        except BaseException as error:
            if _is_async_cancellation(error) and self._was_cancelled(input_id, attempt):
                return "cancelled", None
            return "failure", pack_exception(error)

    def _check_interrupted(self) -> None:
        """A signal that came before found no user code to interrupt: it takes effect now."""
        if self._stopping:
            raise KeyboardInterrupt
        if self._is_cancelled_now():
            self._cancel_told = True
            raise errors.InputCancellation("the input was cancelled")

    def _is_cancelled_now(self) -> bool:
        """It was cancelled and has not heard of it."""
        return self._cancelled is not None and self._cancelled == self._current and not self._cancel_told

    def _was_cancelled(self, input_id: str, attempt: int) -> bool:
        return self._cancelled == (input_id, attempt)

    # generators and async code

    def _run_generator(self, input_id: str, attempt: int, args: Any, kwargs: Any) -> None:
        self._credit = threading.Semaphore(ITEM_CREDIT)
        items = self.function(*args, **kwargs)
        index = 0
        try:
            while True:
                try:
                    item = self._run_async(items.__anext__()) if self._is_async else next(items)
                except (StopIteration, StopAsyncIteration):
                    return
                self._end_if_forked()
                self._check_interrupted()  # nothing else would end a wait for credit
                self._credit.acquire()
                self.output.flush()
                payload = pack(item, f"an item of {self.name}")
                fds = [payload.fd] if payload.fd is not None else None
                self.data.send([messages.ITEM, input_id, attempt, index, payload.to_wire()], fds)
                index += 1
        finally:
            if self._is_async:
                self._run_async(items.aclose())
            else:
                items.close()

    def _run_async(self, awaitable: Any) -> Any:
        import asyncio  # most functions are plain, and it takes longer to import than all of this

        loop = self._event_loop
        if loop is None:
            loop = self._event_loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)

        async def run() -> Any:
            return await awaitable

        task = self._async_task = loop.create_task(run())
        try:
            return loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            raise
        finally:
            self._async_task = None

    # signals, in the main thread

    def _on_stop_signal(self, *_: Any) -> None:
        self._stopping = True
        if self._in_user_code:
            raise KeyboardInterrupt
        if self._is_waiting:
            raise StopRequested

    def _on_cancel_signal(self, *_: Any) -> None:
        # A task is cancelled by its loop, and what comes after a task looks for itself.
        if self._in_user_code and self._async_task is None:
            self._check_interrupted()

    def _cancel_coroutine(self) -> None:
        """On the event loop."""
        if self._async_task is not None and self._is_cancelled_now():
            self._cancel_told = self._async_task.cancel()

    # the control thread

    def _hear_control(self) -> None:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        try:
            while True:
                message = self.control.receive()
                kind = message[0]
                self._send_held()
                if kind == messages.CANCEL_INPUT:
                    self._cancel(message[1], message[2], main_thread)
                elif kind == messages.RECALL:
                    self._recall(message[1])
                elif kind == messages.CREDIT:
                    for _ in range(message[2]):
                        self._credit.release()
                elif kind == messages.STOP:
                    signal.pthread_kill(main_thread, signal.SIGINT)
                elif kind == messages.OPEN_EXEC:
                    open_exec(*self.control.take_fds(1))
                elif kind == messages.PING:
                    self.control.send([messages.PONG, message[1]])
        except (EOFError, OSError):
            # The server is gone: nobody would hear what this container has to say.
            if not self._stopping:
                signal.pthread_kill(main_thread, signal.SIGINT)

    def _cancel(self, input_id: str, attempt: int, main_thread: int) -> None:
        self._cancelled = (input_id, attempt)
        if self._event_loop is not None:
            self._event_loop.call_soon_threadsafe(self._cancel_coroutine)
        signal.pthread_kill(main_thread, signal.SIGUSR1)

    def _recall(self, input_ids: list[str]) -> None:
        """Give back what has not begun, wherever it is: in our queue or still in the socket."""
        with self._lock:
            returned = [input_id for input_id in input_ids if input_id not in self._begun]
            self._recalled.update(returned)
        self.control.send([messages.RETURNED, returned])


def _is_async_cancellation(error: BaseException) -> bool:
    """Whoever raised it has imported asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)
