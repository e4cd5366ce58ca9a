"""One connection shared by threads and event loops: everybody gets their answer, nobody is left waiting."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from glowplug.client.connection import Connection, Waiter
from glowplug.container.frames import FrameSocket
from glowplug.wire.codec import frame
from glowplug.wire.payload import Payload

DEADLINE_S = 20.0
ENDED = r"closed|Bad file|Broken pipe|reset"


class Echo:
    """The other end: answers each ``[number, ...]`` by the same, when and in the order ``answer`` says."""

    def __init__(self, sock: socket.socket, answer: Callable[[Echo, list[Any]], None] | None = None) -> None:
        self.stream = FrameSocket(sock)
        self._answer = answer or (lambda echo, message: echo.stream.send(message))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._answer(self, self.stream.receive())

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE_S)
        self.stream.close()


class Caller:
    """Numbers its questions and finds their askers again, as the client does."""

    def __init__(self, answer: Callable[[Echo, list[Any]], None] | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.lost: list[Exception] = []
        self.answers: dict[int, list[Any]] = {}
        self.asking: dict[int, Waiter] = {}
        self.sent: list[int] = []
        self.connection = Connection(ours, self._on_message, self.lost.append)
        self.echo = Echo(theirs, answer)

    def _on_message(self, message: list[Any], fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        fds.clear()
        self.answers[message[0]] = message
        waiter = self.asking.get(message[0])
        if waiter is not None:
            waiter.wake()

    def ask(self, number: int, *rest: Any) -> Waiter:
        waiter = self.asking[number] = Waiter()
        self.connection.send([number, *rest])
        self.sent.append(number)
        return waiter

    def call(self, number: int, *rest: Any, timeout_s: float | None = DEADLINE_S) -> bool:
        return self.connection.wait(self.ask(number, *rest), timeout_s)

    async def call_async(self, number: int, *rest: Any) -> None:
        await self.connection.wait_async(self.ask(number, *rest))

    def call_somehow(self, number: int, timeout_s: float | None) -> None:
        """Blocking or on a loop."""
        if number % 2:
            self.call(number, timeout_s=timeout_s)
        else:
            asyncio.run(self.call_async(number))


@contextlib.contextmanager
def calling(answer: Callable[[Echo, list[Any]], None] | None = None) -> Iterator[Caller]:
    caller = Caller(answer)
    try:
        yield caller
    finally:
        caller.connection.close()
        caller.echo.hang_up()


def file_of(text: bytes) -> Payload:
    """A large payload, whatever its inner order."""
    fd = os.memfd_create("payload", os.MFD_CLOEXEC)
    os.write(fd, text)
    return Payload(None, fd, [len(text)])


def in_threads(count: int, run: Callable[[int], None]) -> None:
    """Run ``run(number)`` in threads; what one raises is raised here."""
    problems: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            run(number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in threads), "threads hang"
    if problems:
        raise problems[0]


def silent(echo: Echo, message: list[Any]) -> None:
    pass


def until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(DEADLINE_S * 1000)):
        if condition():
            return
        waiting.wait(0.001)
    raise AssertionError("it did not come about")


def test_a_caller_reads_its_own_answer():
    with calling() as caller:
        for number in range(200):
            assert caller.call(number)
            assert caller.answers[number] == [number]


@pytest.mark.parametrize("shuffled", [False, True])
def test_many_threads_all_get_their_answers(shuffled):
    chance = random.Random(7)
    held: list[list[Any]] = []
    lock = threading.Lock()

    def later(echo: Echo, message: list[Any]) -> None:
        """Answers come in any order, several at once."""
        with lock:
            held.append(message)
            if len(held) >= 8 or message[1] == "last":
                chance.shuffle(held)
                echo.stream.sock.sendall(b"".join(map(frame, held)))
                held.clear()

    with calling(later if shuffled else None) as caller:

        def ask(thread: int) -> None:
            for number in range(100):
                assert caller.call(thread * 1000 + number, "last" if number % 5 == 4 or thread == 0 else "")

        if shuffled:
            # The last words of a round free what the others of it wait for.
            in_threads(8, lambda thread: [caller.call(thread * 1000 + n, "last") for n in range(100)])
        else:
            in_threads(12, ask)
        assert not caller.connection._followers


def test_a_follower_takes_the_lead_when_the_leader_is_served():
    """The first asks and leads; its answer comes first; the second must go on reading."""
    asked: list[list[Any]] = []

    def both(echo: Echo, message: list[Any]) -> None:
        asked.append(message)
        if len(asked) == 2:
            echo.stream.send([1])
        elif message[0] == 3:
            echo.stream.send([2])

    with calling(both) as caller:
        served: list[int] = []

        def call(number: int) -> None:
            assert caller.call(number)
            served.append(number)
            if number == 1:
                caller.connection.send([3])

        in_threads(2, lambda number: call(number + 1))
        assert served == [1, 2]


def test_a_wait_may_have_an_end():
    with calling(silent) as caller:
        assert not caller.call(1, timeout_s=0)
        assert not caller.call(2, timeout_s=0.01)


def test_followers_time_out_too_and_leaders_pass_the_lead_on():
    def third_only(echo: Echo, message: list[Any]) -> None:
        if message[0] == 9:
            echo.stream.send([3])

    with calling(third_only) as caller:
        results: dict[int, bool] = {}

        def call(number: int) -> None:
            timeout_s = DEADLINE_S if number == 3 else 0.05 * number
            results[number] = caller.call(number, timeout_s=timeout_s)
            if len(results) == 3:  # all others gave up, whoever led; the patient one must still be read for
                caller.connection.send([9])

        in_threads(4, call)
        assert results == {0: False, 1: False, 2: False, 3: True}


def test_threads_and_loops_together():
    with calling() as caller:

        def ask(thread: int) -> None:
            if thread % 2:
                for number in range(100):
                    assert caller.call(thread * 1000 + number)
                return

            async def several() -> None:
                for start in range(0, 100, 10):
                    await asyncio.gather(
                        *(caller.call_async(thread * 1000 + start + number) for number in range(10))
                    )

            asyncio.run(several())

        in_threads(6, ask)
        assert len(caller.answers) == 600
        assert not caller.connection._loops


def test_an_async_wait_may_be_cancelled():
    with calling(silent) as caller:

        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await caller.call_async(1)

        asyncio.run(give_up())
        assert not caller.connection._loops


def test_an_answer_to_a_loop_that_is_closed_harms_nobody():
    asked: list[list[Any]] = []

    def second_first(echo: Echo, message: list[Any]) -> None:
        asked.append(message)
        if len(asked) == 2:
            echo.stream.send([1])
            echo.stream.send([2])

    with calling(second_first) as caller:

        async def give_up() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await caller.call_async(1)

        asyncio.run(give_up())
        assert caller.call(2)


@pytest.mark.parametrize("how", ["ended", "rubbish"])
def test_a_lost_connection_wakes_everybody(how):
    with calling(silent) as caller:
        told: list[int] = []

        def ask(number: int) -> None:
            with pytest.raises(OSError, match=ENDED):
                caller.call_somehow(number, timeout_s=None if number % 3 else DEADLINE_S)
            told.append(number)

        def lose() -> None:
            until(lambda: len(caller.sent) == 8)
            if how == "rubbish":
                caller.echo.stream.sock.sendall(b"\xff" * 64)
            else:
                caller.echo.hang_up()

        in_threads(9, lambda number: lose() if number == 8 else ask(number))
        assert sorted(told) == list(range(8))
        assert caller.connection.closed
        until(lambda: caller.lost)  # told after the callers
        assert len(caller.lost) == 1
        with pytest.raises(ConnectionError):
            caller.connection.wait(Waiter(), None)
        with pytest.raises(OSError, match=ENDED):
            caller.connection.send([1])


def test_closing_it_oneself_wakes_everybody_and_is_no_loss():
    with calling(silent) as caller:

        def ask(number: int) -> None:
            with pytest.raises(OSError, match=ENDED):
                caller.call_somehow(number, timeout_s=None)

        def close() -> None:
            until(lambda: len(caller.sent) == 6)
            caller.connection.close()

        in_threads(7, lambda number: close() if number == 6 else ask(number))
        assert caller.lost == []


def test_what_was_said_before_the_end_still_counts():
    def last_words(echo: Echo, message: list[Any]) -> None:
        echo.stream.send(message)
        echo.stream.sock.shutdown(socket.SHUT_RDWR)

    with calling(last_words) as caller:
        assert caller.call(1)


def test_the_idle_reader_reads_while_nobody_waits():
    with calling() as caller:
        caller.connection.start_idle_reader()
        caller.connection.send([5, "a log line"])
        until(lambda: 5 in caller.answers)


def test_a_listener_that_raises_loses_no_message():
    """A log line printed into a closed pipe must not cost a result that came with it."""

    def three(echo: Echo, message: list[Any]) -> None:
        echo.stream.sock.sendall(frame(["line"]) + frame([message[0]]))

    with calling(three) as caller:
        handle = caller.connection._on_message

        def on_message(message: list[Any], fds: list[int]) -> None:
            if message == ["line"]:
                raise BrokenPipeError("nobody reads our output")
            handle(message, fds)

        caller.connection._on_message = on_message
        with pytest.raises(BrokenPipeError):
            caller.call(1)
        assert caller.connection.wait(caller.asking[1], DEADLINE_S)


@pytest.mark.parametrize("count", [1, 200, 450])
def test_large_payloads_travel_beside(count):
    received: list[bytes] = []

    def read_files(echo: Echo, message: list[Any]) -> None:
        for fd in echo.stream.take_fds(count):
            received.append(os.pread(fd, 10, 0))
            os.close(fd)
        echo.stream.send(message)

    with calling(read_files) as caller:
        payloads = [file_of(b"%d" % number) for number in range(count)]
        waiter = caller.asking[1] = Waiter()
        caller.connection.send([1, b"x" * 100_000], payloads)
        assert caller.connection.wait(waiter, DEADLINE_S)
        assert received == [b"%d" % number for number in range(count)]


def test_threads_that_send_at_once_do_not_mix_their_frames():
    with calling() as caller:

        def ask(thread: int) -> None:
            for number in range(10):
                text = f"{thread}.{number}" * 20_000
                assert caller.call(thread * 100 + number, text)
                assert caller.answers[thread * 100 + number][1] == text

        in_threads(6, ask)


def test_nothing_is_left_open_when_it_is_gone():
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with calling() as caller:
        assert caller.call(1)
        del caller
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_finaliser_that_sends_in_the_middle_of_a_send_waits_its_turn(monkeypatch):
    """The collector may close an abandoned generator anywhere, and that cancels its call."""
    with calling(lambda echo, message: echo.stream.send([message[0]])) as caller:
        connection = caller.connection
        send_fds = socket.send_fds

        def interrupted(*arguments: Any) -> int:
            sent = send_fds(*arguments)
            monkeypatch.setattr(socket, "send_fds", send_fds)
            caller.ask(2)
            return sent

        monkeypatch.setattr(socket, "send_fds", interrupted)
        waiter = caller.asking[1] = Waiter()
        connection.send([1, b"x" * 1000], [file_of(b"large")])
        assert connection.wait(waiter, DEADLINE_S)
        assert connection.wait(caller.asking[2], DEADLINE_S)


def test_an_interrupted_send_ends_the_connection(monkeypatch):
    """Half a frame has left; what came after it would be taken for its other half."""
    with calling() as caller:

        def interrupted(*arguments: Any) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(socket, "send_fds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            caller.connection.send([1], [file_of(b"large")])
        assert caller.connection.closed
