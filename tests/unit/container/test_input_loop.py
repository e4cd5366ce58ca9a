"""The loop of a container, driven by hand: inputs, and a stop that may come at any moment."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from glowplug.client.serializer import pack, unpack
from glowplug.container.frames import FrameSocket
from glowplug.container.input_loop import InputLoop, StopRequested
from glowplug.wire import messages
from glowplug.wire.payload import from_wire


class NoOutput:
    def set_input(self, input_id: str) -> None:
        pass

    def flush(self) -> None:
        pass


class Driven:
    """A loop and the server's end of its data connection."""

    def __init__(self, function: Any) -> None:
        data, server = socket.socketpair()
        control, self._control = socket.socketpair()
        self.server = FrameSocket(server)
        self._control = FrameSocket(self._control)
        self.ends = [FrameSocket(data), FrameSocket(control)]
        self.loop = InputLoop(function, "f", *self.ends, NoOutput())  # type: ignore[arg-type]

    def lease(self, *values: Any) -> None:
        fields = [
            [f"in-a-{number}", 1, pack(((value,), {})).to_wire()] for number, value in enumerate(values)
        ]
        self.server.send([messages.LEASE, fields])

    def outputs(self, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            found += self.server.receive()[1]
        return [(status, unpack(from_wire(field, []))) for _, _, status, _, field in found]

    def close(self) -> None:
        for end in (*self.ends, self.server, self._control):
            end.close()


@pytest.fixture
def driven() -> Iterator[Any]:
    made: list[Driven] = []

    def make(function: Any) -> Driven:
        made.append(Driven(function))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_inputs_are_run_in_order(driven):
    one = driven(lambda x: x + 1)
    one.lease(1, 2, 3)
    one.loop._receive()
    for _ in range(3):
        one.loop._run_next()
    one.loop._send_held()
    assert one.outputs(3) == [("success", 2), ("success", 3), ("success", 4)]


def test_a_stop_while_it_waits_is_heard_at_once(driven, monkeypatch):
    one = driven(lambda x: x)
    monkeypatch.setattr(one.loop.data, "wait", one.loop._on_stop_signal)
    with pytest.raises(StopRequested):
        one.loop._receive()


@pytest.mark.parametrize("when", ["before it waits", "between inputs", "as a finaliser runs"])
def test_a_stop_at_any_other_moment_is_kept(driven, when):
    """What a signal's handler raises inside a finaliser is printed and lost; the stop must not be."""
    one = driven(lambda x: x)

    class Finalised:
        def __del__(self) -> None:
            one.loop._on_stop_signal()

    one.lease(1)
    one.loop._receive()
    if when == "between inputs":
        one.loop._run_next()
        one.loop._send_held()
        assert one.outputs(1) == [("success", 1)]
        one.loop._on_stop_signal()
    elif when == "as a finaliser runs":
        Finalised()
    else:
        one.loop._on_stop_signal()
    with pytest.raises(StopRequested):
        one.loop._receive()


def test_a_stop_interrupts_the_function_and_its_input_is_not_answered(driven):
    one = driven(lambda x: one.loop._on_stop_signal())
    one.lease(1)
    one.loop._receive()
    with pytest.raises(StopRequested):
        one.loop._run_next()
