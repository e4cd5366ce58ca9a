"""The evented end of a socket: order, descriptors, partial writes, and an end that is told once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from glowplug.container.frames import FrameSocket
from glowplug.wire.codec import frame
from glowplug.wire.payload import Payload
from glowplug.wire.stream import FrameStream, Outbox

DEADLINE_S = 20.0


class End:
    """A stream under test and the plain socket at its other end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, self.other = socket.socketpair()
        for sock in (ours, self.other):  # small, so that little is already too much
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.outbox = Outbox()
        self.messages: list[Any] = []
        self.fds: list[int] = []
        self.ends = 0
        self.on_message = lambda message: None
        self.stream = FrameStream(loop, ours, self.outbox, self._on_message, self._on_closed)

    def _on_message(self, message: Any, fds: list[int]) -> None:
        self.messages.append(message)
        self.fds += fds
        fds.clear()
        self.on_message(message)

    def _on_closed(self) -> None:
        self.ends += 1


@contextlib.contextmanager
def end_of(loop: asyncio.AbstractEventLoop) -> Iterator[End]:
    end = End(loop)
    try:
        yield end
    finally:
        end.stream.close()
        end.other.close()
        for fd in end.fds:
            os.close(fd)


def file_of(text: bytes) -> Payload:
    """A large payload, whatever its inner order."""
    fd = os.memfd_create("payload", os.MFD_CLOEXEC)
    os.write(fd, text)
    return Payload(None, fd, [len(text)])


async def until(condition) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - nothing tells when a socket was drained
            await asyncio.sleep(0)


def in_thread(function, *arguments):
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def read_all(sock: socket.socket, count: int) -> tuple[list[Any], list[int]]:
    other = FrameSocket(sock)
    messages = [other.receive() for _ in range(count)]
    return messages, other.take_fds(len(other.fds))


def run(test) -> None:
    """Run ``test(end)`` on a loop of its own; what a callback of the loop raises fails the test."""
    problems = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        with end_of(loop) as end:
            await test(end)

    asyncio.run(main())
    assert problems == []


def test_one_flush_sends_in_order_whatever_the_sizes():
    sent = [[number, b"x" * size] for number, size in enumerate([1, 300_000, 5, 10, 1 << 20, 0, 7] * 3)]

    async def test(end: End) -> None:
        for message in sent:
            end.stream.send(message)
        assert end.stream.queued_bytes == sum(len(frame(message)) for message in sent)
        end.outbox.flush()
        received, _ = await in_thread(read_all, end.other, len(sent))
        assert received == sent
        await until(lambda: end.stream.queued_bytes == 0)

    run(test)


def test_what_the_other_end_does_not_take_waits_and_counts():
    async def test(end: End) -> None:
        for number in range(100):
            end.stream.send([number, b"x" * 10_000])
            end.outbox.flush()
        waiting = end.stream.queued_bytes
        assert waiting > 500_000
        received, _ = await in_thread(read_all, end.other, 100)
        assert [message[0] for message in received] == list(range(100))
        await until(lambda: end.stream.queued_bytes == 0)

    run(test)


@pytest.mark.parametrize("count", [1, 199, 200, 201, 450])
def test_descriptors_arrive_in_order_with_their_message(count):
    async def test(end: End) -> None:
        payloads = [file_of(b"%d" % number) for number in range(count)]
        end.stream.send(["before"])
        end.stream.send(["with", b"x" * 100_000], [*payloads, Payload(b"inline")])
        end.stream.send(["after"])
        end.outbox.flush()
        received, fds = await in_thread(read_all, end.other, 3)
        assert [message[0] for message in received] == ["before", "with", "after"]
        try:
            assert [os.pread(fd, 10, 0) for fd in fds] == [b"%d" % number for number in range(count)]
        finally:
            for fd in fds:
                os.close(fd)

    run(test)


def test_many_descriptors_while_the_other_end_is_slow():
    async def test(end: End) -> None:
        expected = []
        for number in range(60):
            payloads = [file_of(b"%d.%d" % (number, each)) for each in range(number % 4)]
            expected += [b"%d.%d" % (number, each) for each in range(number % 4)]
            end.stream.send([number, b"x" * 3000], payloads)
        end.outbox.flush()
        assert end.stream.queued_bytes
        received, fds = await in_thread(read_all, end.other, 60)
        assert [message[0] for message in received] == list(range(60))
        try:
            assert [os.pread(fd, 10, 0) for fd in fds] == expected
        finally:
            for fd in fds:
                os.close(fd)

    run(test)


def test_payloads_are_held_until_they_are_sent_and_no_longer():
    async def test(end: End) -> None:
        before = len(os.listdir("/proc/self/fd"))
        end.stream.send(["with"], [file_of(b"large")])
        end.outbox.flush()
        assert len(os.listdir("/proc/self/fd")) == before  # the one in the socket is nobody's here
        _, fds = await in_thread(read_all, end.other, 1)
        assert os.pread(fds[0], 10, 0) == b"large"
        os.close(fds[0])

    run(test)


def test_received_descriptors_reach_the_message_and_are_not_inherited():
    async def test(end: End) -> None:
        sender = FrameSocket(end.other)
        payloads = [file_of(b"%d" % number) for number in range(450)]
        sending = in_thread(sender.send, ["with"], [payload.fd for payload in payloads])
        await until(lambda: end.messages)
        await sending
        assert [os.pread(fd, 10, 0) for fd in end.fds] == [b"%d" % number for number in range(450)]
        assert not any(os.get_inheritable(fd) for fd in end.fds)

    run(test)


def test_read_now_takes_everything_that_has_arrived():
    async def test(end: End) -> None:
        for number in range(5):
            end.other.sendall(frame([number]))
        end.stream.read_now()
        assert end.messages == [[number] for number in range(5)]

    run(test)


@pytest.mark.parametrize(
    ("said", "end_is_clean"),
    [(b"", True), (b"\x00\x00\x00\x05half", True), (b"\xff" * 4, False), (b"\x00\x00\x00\x01\xc1", False)],
)
def test_the_end_is_told_once(said, end_is_clean):
    async def test(end: End) -> None:
        end.other.sendall(frame(["last words"]) + said)
        end.other.close()
        await until(lambda: end.ends)
        end.stream.close()
        end.stream.send(["nobody hears"])
        end.outbox.flush()
        assert end.messages == ([["last words"]] if end_is_clean else [])
        assert end.ends == 1
        assert end.stream.closed
        assert end.stream.queued_bytes == 0

    run(test)


def test_sending_to_a_closed_peer_ends_the_stream():
    async def test(end: End) -> None:
        end.other.close()
        end.stream.send([b"x" * 100_000])
        end.outbox.flush()
        await until(lambda: end.ends)
        assert end.ends == 1

    run(test)


def test_a_peer_that_vanishes_while_much_waits_for_it():
    async def test(end: End) -> None:
        end.stream.send([b"x" * 1_000_000], [file_of(b"large")])
        end.stream.send([b"y" * 1_000_000])
        end.outbox.flush()
        assert end.stream.queued_bytes
        end.other.close()
        await until(lambda: end.ends)
        assert end.stream.queued_bytes == 0

    run(test)


def test_a_stream_closed_by_its_listener_says_no_more():
    async def test(end: End) -> None:
        end.on_message = lambda message: end.stream.close()
        end.other.sendall(frame([1]) + frame([2]))
        await until(lambda: end.ends)
        assert end.messages == [[1]]

    run(test)


def test_a_message_its_listener_cannot_take_ends_the_stream_and_nothing_else():
    """A peer that says nonsense is let go; half-handled messages would leave descriptors out of step."""

    async def test(end: End) -> None:
        def refuse(message: Any) -> None:
            raise TypeError("no such message")

        end.on_message = refuse
        end.other.sendall(frame([1]) + frame([2]))
        await until(lambda: end.ends)
        assert end.messages == [[1]]

    problems = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        with end_of(loop) as end:
            await test(end)

    asyncio.run(main())
    assert [type(each["exception"]) for each in problems] == [TypeError]  # told, not swallowed


def test_descriptors_nobody_took_are_closed_with_the_stream():
    async def test(end: End) -> None:
        before = len(os.listdir("/proc/self/fd"))
        payload = file_of(b"large")
        raw = frame(["cut off"])
        socket.send_fds(end.other, [raw[:3]], [payload.fd])
        end.stream.read_now()
        assert len(os.listdir("/proc/self/fd")) == before + 2
        end.stream.close()
        payload.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1

    run(test)


def test_more_descriptors_than_this_process_may_hold_end_the_stream():
    """The kernel drops what does not fit; going on would give a payload to another message."""
    import resource

    async def test(end: End) -> None:
        payloads = [file_of(b"%d" % number) for number in range(50)]
        sender = FrameSocket(end.other)
        sender.send(["with"], [payload.fd for payload in payloads])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = set(map(int, os.listdir("/proc/self/fd")))
        tenth_free = [number for number in range(1000) if number not in used][10]
        resource.setrlimit(resource.RLIMIT_NOFILE, (tenth_free, hard))
        try:
            end.stream.read_now()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert end.messages == []
        assert end.ends == 1

    run(test)
