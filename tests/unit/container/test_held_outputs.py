"""Outputs of very short runs travel together; none of them waits where it could be waited for."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from glowplug.client.serializer import pack
from glowplug.container import input_loop
from glowplug.container.frames import FrameSocket
from glowplug.container.input_loop import HELD_OUTPUTS, InputLoop
from glowplug.wire import messages


class Ends:
    """A loop, and the server's ends of its connections."""

    def __init__(self, function: Callable[..., Any]) -> None:
        data, ours = socket.socketpair()
        control, control_ours = socket.socketpair()
        self.data, self.control = FrameSocket(ours), FrameSocket(control_ours)
        self.loop = InputLoop(function, "f", FrameSocket(data), FrameSocket(control), Silent())  # type: ignore[arg-type]

    def lease(self, values: list[Any], attempt: int = 1, first: int = 0) -> None:
        leases = [
            [f"in-call-{number}", attempt, pack(((value,), {})).to_wire()]
            for number, value in enumerate(values, first)
        ]
        self.data.send([messages.LEASE, leases])
        self.loop._receive()

    def run(self, count: int) -> None:
        for _ in range(count):
            self.loop._run_next()

    def outputs(self) -> list[list[str]]:
        """Ids of the inputs answered by each message that has arrived."""
        arrived: list[list[str]] = []
        self.data.sock.setblocking(False)
        try:
            while self.data._receiver.wait(0):
                for kind, facts in self.data.receive_all():
                    assert kind == messages.OUTPUTS
                    arrived.append([fact[0].rpartition("-")[2] for fact in facts])
        finally:
            self.data.sock.setblocking(True)
        return arrived

    def close(self) -> None:
        for each in (self.data, self.control, self.loop.data, self.loop.control):
            each.close()


class Silent:
    def set_input(self, input_id: str) -> None:
        pass

    def flush(self) -> None:
        pass


@pytest.fixture
def ends(monkeypatch):
    monkeypatch.setattr(input_loop, "HELD_S", 3600.0)
    made: list[Ends] = []

    def make(function: Callable[..., Any]) -> Ends:
        made.append(Ends(function))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_last_input_at_hand_sends_what_was_held(ends):
    end = ends(lambda x: x)
    end.lease([1, 2, 3])
    end.run(2)
    assert end.outputs() == []
    end.run(1)
    assert end.outputs() == [["0", "1", "2"]]


def test_no_more_are_held_than_the_limit(ends):
    end = ends(lambda x: x)
    end.lease(list(range(HELD_OUTPUTS + 3)))
    end.run(HELD_OUTPUTS + 3)
    first, rest = end.outputs()
    assert (len(first), len(rest)) == (HELD_OUTPUTS, 3)


def test_none_waits_longer_than_the_limit(ends, monkeypatch):
    monkeypatch.setattr(input_loop, "HELD_S", 0.0)
    end = ends(lambda x: x)
    end.lease([1, 2])
    end.run(2)
    assert end.outputs() == [["0"], ["1"]]


def test_an_input_that_is_run_again_is_alone(ends):
    """Should it kill its container, the server sees which one it was."""
    seen: list[Any] = []
    end = ends(lambda x: seen.append(end.outputs()))
    end.lease([1, 2])
    end.run(1)
    end.lease([3], attempt=2, first=2)
    end.lease([4], first=3)
    end.run(3)
    assert seen == [[], [], [["0", "1"]], [["2"]]]


def test_what_is_held_goes_when_the_server_asks(ends):
    """A long run is under way: the server wants back what is behind it, from the control thread."""
    seen: list[Any] = []
    end = ends(lambda x: x if x < 2 else hear())

    def hear() -> None:
        end.control.send([messages.RECALL, ["in-call-2", "in-call-3"]])
        end.control.sock.shutdown(socket.SHUT_WR)
        end.loop._stopping = True  # the end of the connection is no reason to interrupt this
        end.loop._hear_control()
        seen.append(end.outputs())

    end.lease([0, 1, 2, 3])
    end.run(3)
    assert seen == [[["0", "1"]]]
    assert end.control.receive() == [messages.RETURNED, ["in-call-3"]]
    end.run(1)  # the recalled one is not run
    assert not end.loop._queue
    end.loop._send_held()
    assert end.outputs() == [["2"]]


def test_large_results_and_failures_keep_their_place(ends):
    def function(x: Any) -> Any:
        if x == "large":
            return bytearray(2 << 20)
        raise ValueError(x)

    end = ends(function)
    end.lease(["fails", "large", "fails"])
    end.run(2)
    assert end.outputs() == [["0", "1"]]
    assert len(end.data.fds) == 1
    end.run(1)
    assert end.outputs() == [["2"]]
