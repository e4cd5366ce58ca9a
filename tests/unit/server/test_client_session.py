"""What a client is sent: results in messages of bearable size, lines before results, what was dropped."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from glowplug.client.serializer import pack
from glowplug.container.frames import FrameSocket
from glowplug.server import session as session_module
from glowplug.server.records import FinishedOutput
from glowplug.server.session import ClientSession
from glowplug.wire import messages
from glowplug.wire.stream import Outbox


class NoKernel:
    def client_lost(self, session: ClientSession) -> None:
        pass


def sent_by(act) -> list[Any]:
    """The messages a client reads after ``act(session)`` and a flush."""

    async def main() -> list[Any]:
        ours, theirs = socket.socketpair()
        outbox = Outbox()
        session = ClientSession(asyncio.get_running_loop(), ours, outbox, NoKernel())  # type: ignore[arg-type]
        act(session)
        outbox.flush()
        session.stream.sock.shutdown(socket.SHUT_WR)
        client = FrameSocket(theirs)
        received = []
        try:
            while True:
                received.append(client.receive())
        except EOFError:
            pass
        client.close()
        session.stream.close()
        return received

    return asyncio.run(main())


def result(number: int, value: Any = None) -> FinishedOutput:
    return FinishedOutput(f"in-a-{number}", "success", pack(value), "", "")


def test_results_of_one_turn_travel_together():
    received = sent_by(lambda session: [session.deliver(result(number)) for number in range(100)])
    assert [message[0] for message in received] == [messages.RESULTS]
    assert len(received[0][1]) == 100


def test_many_bytes_of_results_are_several_messages(monkeypatch):
    monkeypatch.setattr(session_module, "RESULTS_MESSAGE_BYTES", 1000)
    received = sent_by(lambda session: [session.deliver(result(n, b"x" * 400)) for n in range(10)])
    assert [len(message[1]) for message in received] == [3, 3, 3, 1]
    assert [each[0] for message in received for each in message[1]] == [f"in-a-{n}" for n in range(10)]


def test_lines_come_before_the_results_of_their_turn():
    def act(session: ClientSession) -> None:
        session.deliver(result(0))
        session.tell_lines("ap-1", [["f", "in-a-0", "ct-1", "stdout", "text", 0.0]])
        session.notice("ap-1", "info", "after both")

    assert [message[0] for message in sent_by(act)] == [messages.LOGS, messages.RESULTS, messages.NOTICE]


@pytest.mark.parametrize("told_by", ["the next line", "the end of the run"])
def test_lines_that_were_dropped_are_counted_and_told(monkeypatch, told_by):
    line = ["f", "in-a-0", "ct-1", "stdout", "text", 0.0]

    def act(session: ClientSession) -> None:
        monkeypatch.setattr(session_module, "LOG_BACKLOG_BYTES", -1)  # whatever waits is too much
        session.tell_lines("ap-1", [line] * 7)
        session.tell_lines("ap-1", [line] * 2)
        session.tell_lines("ap-2", [line])
        monkeypatch.setattr(session_module, "LOG_BACKLOG_BYTES", 1 << 20)
        if told_by == "the next line":
            session.tell_lines("ap-1", [line])
        session.tell_dropped("ap-1")
        session.tell_dropped("ap-1")

    received = sent_by(act)
    notices = [message for message in received if message[0] == messages.NOTICE]
    assert len(notices) == 1
    assert notices[0][1] == "ap-1"
    assert notices[0][3].startswith("9 log lines were dropped")


def test_large_results_travel_as_files_in_their_order():
    received = sent_by(
        lambda session: [session.deliver(result(n, b"x" * (2 << 20 if n % 2 else 1))) for n in range(6)]
    )
    fields = [each[2] for message in received for each in message[1]]
    assert [isinstance(field, list) for field in fields] == [False, True] * 3
