"""A cancellation or a stop takes effect wherever the input is, also just before its function begins."""

from __future__ import annotations

import asyncio
import threading

import pytest

from glowplug.client.serializer import pack
from glowplug.container.input_loop import InputLoop, StopRequested


class Silent:
    def set_input(self, input_id: str) -> None:
        pass

    def flush(self) -> None:
        pass


def loop_of(function) -> InputLoop:
    return InputLoop(function, "f", None, None, Silent())  # type: ignore[arg-type]


def never(x):
    raise AssertionError("it ran")


@pytest.fixture
def quiet(monkeypatch):
    """No signal is sent: it came before there was anything to interrupt."""
    monkeypatch.setattr("signal.pthread_kill", lambda thread, number: None)


@pytest.mark.parametrize("attempt", [1, 2])
def test_an_input_cancelled_before_it_began_does_not_run(quiet, attempt: int):
    loop = loop_of(never)
    loop._cancel("in-call-0", attempt, threading.get_ident())
    loop._current = ("in-call-0", attempt)
    assert loop._run("in-call-0", attempt, pack(((1,), {}))) == ("cancelled", None)


def test_another_attempt_of_it_runs(quiet):
    loop = loop_of(lambda x: x)
    loop._cancel("in-call-0", 1, threading.get_ident())
    loop._current = ("in-call-0", 2)
    status, _ = loop._run("in-call-0", 2, pack(((1,), {})))
    assert status == "success"


def test_a_stop_before_it_began_gives_it_back():
    loop = loop_of(never)
    loop._current = ("in-call-0", 1)
    loop._on_stop_signal()
    with pytest.raises(StopRequested):
        loop._run("in-call-0", 1, pack(((1,), {})))


def test_an_async_generator_cancelled_as_its_item_is_ready_does_not_wait_for_credit(quiet):
    """Its task is done and cannot be cancelled; its own end is not interrupted once more."""
    heard: list[str] = []

    async def generator(x):
        try:
            yield x
            heard.append("more")
            loop._cancel("in-call-0", 1, threading.get_ident())
            yield x
        finally:
            await asyncio.sleep(0)
            heard.append("end")

    loop = loop_of(generator)
    loop._current = ("in-call-0", 1)
    loop.data = NoData()  # type: ignore[assignment]
    assert loop._run("in-call-0", 1, pack(((1,), {}))) == ("cancelled", None)
    assert heard == ["more", "end"]
    assert loop._event_loop is not None
    loop._event_loop.close()


class NoData:
    def send(self, message: list[object], fds: object = None) -> None:
        pass
