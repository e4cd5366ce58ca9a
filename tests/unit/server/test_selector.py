"""The server's selector: direct calls beside asyncio's own work, and nobody's error ends the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from glowplug.server.selector import DirectSelector


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def run(test: Callable[[DirectSelector], Awaitable[None]]) -> None:
    selector = DirectSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(asyncio.wait_for(test(selector), 20))


def test_called_directly_while_asyncio_goes_on(pair):
    ours, theirs = pair

    async def test(selector: DirectSelector) -> None:
        said: list[str] = []
        done = asyncio.Event()
        selector.after_turn = lambda: said.append("turn over")
        asyncio.get_running_loop().add_reader(
            theirs, lambda: (said.append(theirs.recv(9).decode()), done.set())
        )

        def readable() -> None:
            said.append(ours.recv(9).decode())
            ours.send(b"to asyncio")

        selector.watch(ours.fileno(), readable)
        theirs.send(b"direct")
        await done.wait()
        assert said == ["direct", "turn over", "to asynci"]
        asyncio.get_running_loop().remove_reader(theirs)
        selector.unwatch(ours.fileno())

    run(test)


def test_the_loop_hears_of_what_was_scheduled_in_a_call(pair):
    ours, theirs = pair

    async def test(selector: DirectSelector) -> None:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def readable() -> None:
            ours.recv(9)
            loop.call_soon(answer.set_result, "soon")

        selector.watch(ours.fileno(), readable)
        loop.call_later(0, theirs.send, b"x")
        assert await answer == "soon"
        selector.unwatch(ours.fileno())

    run(test)


def test_writable_for_as_long_as_asked(pair):
    ours, theirs = pair

    async def test(selector: DirectSelector) -> None:
        done = asyncio.get_running_loop().create_future()
        count = 0

        def writable() -> None:
            nonlocal count
            count += 1
            selector.watch(ours.fileno(), readable)
            theirs.send(b"x")

        def readable() -> None:
            ours.recv(9)
            done.set_result(count)

        selector.watch(ours.fileno(), readable, writable)
        assert await done == 1
        selector.unwatch(ours.fileno())

    run(test)


def test_an_error_is_heard_and_the_others_are_served(pair):
    ours, theirs = pair

    async def test(selector: DirectSelector) -> None:
        heard: list[Exception] = []
        served = asyncio.Event()
        selector.on_error = heard.append

        def fails() -> None:
            ours.recv(9)
            raise ValueError("mine")

        selector.watch(ours.fileno(), fails)
        selector.watch(theirs.fileno(), lambda: (theirs.recv(9), served.set())[0])
        theirs.send(b"x")
        ours.send(b"x")
        await served.wait()
        assert [str(error) for error in heard] == ["mine"]
        for each in pair:
            selector.unwatch(each.fileno())

    run(test)
