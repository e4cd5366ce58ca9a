"""Runs and calls when their server comes and goes: every input is answered once, whoever asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from glowplug.client import session
from glowplug.client.serializer import pack, unpack
from glowplug.client.session import AppSpec, Client, LogLine, Run
from glowplug.client.session import call as calls
from glowplug.container.frames import FrameSocket
from glowplug.model import errors
from glowplug.wire import messages
from glowplug.wire.payload import Payload, from_wire

DEADLINE_S = 20.0
FUNCTION = {"name": "f", "id": "", "app_id": ""}


class Server:
    """The other end of every connection a client makes. Answers inputs with themselves unless ``on_inputs``
    says otherwise; ``heard`` are all messages of all connections, in order."""

    def __init__(self) -> None:
        self.heard: list[list[Any]] = []
        self.opened: list[set[str]] = []
        self.ends: list[FrameSocket] = []
        self.on_inputs: Callable[[FrameSocket, list[Any], list[Payload]], None] = answer
        self.dials_that_fail = 0
        self._threads: list[threading.Thread] = []

    def dial(self) -> tuple[socket.socket, tuple[int, str]]:
        ours, theirs = socket.socketpair()
        if self.dials_that_fail:
            self.dials_that_fail -= 1
            ours.close()
            return theirs, (0, "stillborn")
        end = FrameSocket(ours)
        self.ends.append(end)
        self.opened.append(set())
        thread = threading.Thread(target=self._serve, args=(end, self.opened[-1]))
        thread.start()
        self._threads.append(thread)
        return theirs, (os.getpid(), "a fake")

    def _serve(self, end: FrameSocket, opened: set[str]) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = end.receive()
                self.heard.append(message)
                if message[0] == messages.OPEN_APP:
                    opened.update(each["id"] for each in message[3]["functions"])
                    end.send([messages.REPLY, message[1], "", {}])
                elif message[0] == messages.CLOSE_APP:
                    end.send([messages.REPLY, message[1], "", {"inputs": 7}])
                elif message[0] == messages.INPUTS:
                    payloads = [from_wire(field, end.fds) for _, field in message[4]]
                    if message[1] in opened:
                        self.on_inputs(end, message, payloads)
                    else:
                        for input_id, _ in message[4]:
                            end.send(
                                [
                                    messages.RESULTS,
                                    [[input_id, "error", None, "ExecutionError", "an app unheard of"]],
                                ]
                            )

    def hang_up(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.hang_up()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        for end in self.ends:
            end.close()

    def of_kind(self, kind: int) -> list[list[Any]]:
        return [message for message in self.heard if message[0] == kind]


def answer(end: FrameSocket, message: list[Any], payloads: list[Payload]) -> None:
    fields = [
        [input_id, "success", payload.to_wire(), "", ""]
        for (input_id, _), payload in zip(message[4], payloads, strict=True)
    ]
    end.send([messages.RESULTS, fields], [payload.fd for payload in payloads if payload.fd is not None])


def silence(end: FrameSocket, message: list[Any], payloads: list[Payload]) -> None:
    pass


class Sink:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_log(self, line: LogLine) -> None:
        self.lines.append(line.text)

    def on_notice(self, level: str, text: str) -> None:
        self.lines.append(text)

    def on_waiting(self, function: str, text: str | None) -> None:
        self.lines.append(text or "")

    def on_build(self, event: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    made = Client(server.dial)
    yield made
    made.close()


@pytest.fixture
def run(client: Client) -> Run:
    return start(client)


def start(client: Client, **options: Any) -> Run:
    return client.start_app(AppSpec("toy", [{**FUNCTION, **options}]), Sink())


def ask(run: Run, value: Any) -> Any:
    output = run.remote(run.function_ids["f"], pack(value))
    assert output.status == "success", output.message
    return unpack(output.payload)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.001)


def test_a_call_and_its_answer(run):
    assert ask(run, 3) == 3


def test_outputs_are_numbered_as_their_inputs(run):
    call = run.call(run.function_ids["f"])
    call.add([pack(number) for number in range(5)])
    call.add([pack(5)])
    outputs = [call.next(DEADLINE_S) for _ in range(6)]
    assert [(output.index, unpack(output.payload)) for output in outputs] == [(n, n) for n in range(6)]
    assert call.unanswered == 0


def test_what_is_owed_is_sent_again_in_order_after_its_app(run, server):
    server.on_inputs = silence
    call = run.call(run.function_ids["f"])
    call.add([pack(number) for number in range(5)])
    until(lambda: server.of_kind(messages.INPUTS))
    server.on_inputs = answer
    server.hang_up()
    outputs = [call.next(DEADLINE_S) for _ in range(5)]
    assert [output.index for output in outputs] == list(range(5))
    kinds = [message[0] for message in server.heard]
    assert kinds == [messages.OPEN_APP, messages.INPUTS] * 2


def test_what_was_answered_is_not_sent_again(run, server):
    call = run.call(run.function_ids["f"])
    call.add([pack(0)])
    call.next(DEADLINE_S)
    server.on_inputs = silence
    call.add([pack(1)])
    until(lambda: len(server.of_kind(messages.INPUTS)) == 2)
    server.on_inputs = answer
    server.hang_up()
    assert call.next(DEADLINE_S).index == 1
    assert [each[0] for each in server.of_kind(messages.INPUTS)[-1][4]] == [f"in-{call.call_id[3:]}-1"]


def test_a_second_answer_to_one_input_is_not_heard(run, server):
    def twice(end: FrameSocket, message: list[Any], payloads: list[Payload]) -> None:
        answer(end, message, payloads)
        answer(end, message, payloads)

    server.on_inputs = twice
    call = run.call(run.function_ids["f"])
    call.add([pack(0)])
    call.next(DEADLINE_S)
    call.add([pack(1)])
    assert call.next(DEADLINE_S).index == 1
    with pytest.raises(TimeoutError):
        call.next(0)


def test_threads_that_send_while_the_server_is_lost_never_overtake_their_app(run, server):
    """An input that reaches a new server before its app is an input nobody knows."""
    lost = threading.Event()

    def ask_many() -> None:
        while not lost.is_set():
            answers.append(ask(run, 1))

    answers: list[int] = []
    threads = [threading.Thread(target=ask_many) for _ in range(6)]
    for thread in threads:
        thread.start()
    for round_ in range(20):
        count = len(answers)
        until(lambda count=count: len(answers) > count + 10)
        server.hang_up()
        until(lambda round_=round_: len(server.ends) > round_ + 1)
    lost.set()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("stillborn", [1, session.RECONNECT_LIMIT - 1])
def test_a_server_lost_again_at_once_is_looked_for_again(run, server, stillborn):
    server.dials_that_fail = stillborn
    server.hang_up()
    assert ask(run, 3) == 3


def test_at_last_it_gives_up_and_says_so(run, server):
    server.dials_that_fail = 1000
    server.hang_up()
    with pytest.raises(errors.ConnectionError, match="lost 5 times in a row"):
        ask(run, 3)


def test_async_callers_are_served_after_a_loss_too(run, server):
    server.on_inputs = silence
    call = run.call(run.function_ids["f"])
    call.add([pack(7)])
    until(lambda: server.of_kind(messages.INPUTS))
    server.on_inputs = answer

    async def wait() -> Any:
        asking = asyncio.ensure_future(call.next_async(DEADLINE_S))
        await asyncio.sleep(0)
        server.hang_up()
        return unpack((await asking).payload)

    assert asyncio.run(wait()) == 7


def test_messages_of_inputs_stay_far_below_the_limit_of_a_frame(run, server, monkeypatch):
    monkeypatch.setattr(calls, "INPUTS_MESSAGE_BYTES", 1000)
    server.on_inputs = silence
    call = run.call(run.function_ids["f"])
    call.add([pack(b"x" * 400) for _ in range(10)])
    until(lambda: sum(len(message[4]) for message in server.of_kind(messages.INPUTS)) == 10)
    assert max(len(message[4]) for message in server.of_kind(messages.INPUTS)) == 3
    server.on_inputs = answer
    server.hang_up()
    assert sorted(call.next(DEADLINE_S).index for _ in range(10)) == list(range(10))
    assert max(len(message[4]) for message in server.of_kind(messages.INPUTS)) == 3


def test_large_payloads_are_sent_again_too(run, server):
    server.on_inputs = silence
    call = run.call(run.function_ids["f"])
    call.add([pack(b"x" * (2 << 20) + bytes([number])) for number in range(3)])
    until(lambda: server.of_kind(messages.INPUTS))
    server.on_inputs = answer
    server.hang_up()
    values = [unpack(call.next(DEADLINE_S).payload) for _ in range(3)]
    assert [value[-1] for value in values] == [0, 1, 2]


# generators


def yields(count: int) -> Callable[[FrameSocket, list[Any], list[Payload]], None]:
    def send(end: FrameSocket, message: list[Any], payloads: list[Payload]) -> None:
        (input_id, _) = message[4][0]
        for index in range(count):
            end.send([messages.ITEM, input_id, index, pack(index).to_wire()])

    return send


def test_a_generator_that_has_yielded_is_not_run_again_silently(run, server):
    server.on_inputs = yields(2)
    call = run.call(run.function_ids["f"])
    call.add([pack(0)])
    assert [unpack(call.next(DEADLINE_S).payload) for _ in range(2)] == [0, 1]
    server.hang_up()
    output = call.next(DEADLINE_S)
    assert (output.status, output.error) == ("error", "ExecutionError")
    assert "yielded 2 items" in output.message
    assert len(server.of_kind(messages.INPUTS)) == 1


def test_one_that_may_start_again_does_and_what_is_known_is_not_repeated(client, server):
    run = start(client, restart_generator=True)
    server.on_inputs = yields(2)
    call = run.call(run.function_ids["f"])
    call.add([pack(0)])
    assert [unpack(call.next(DEADLINE_S).payload) for _ in range(2)] == [0, 1]
    server.on_inputs = yields(4)
    server.hang_up()
    assert [unpack(call.next(DEADLINE_S).payload) for _ in range(2)] == [2, 3]
    # Items that were not wanted gave their credit back, or the generator would stand still.
    until(lambda: len(server.of_kind(messages.CREDIT)) == 6)


def test_one_that_had_not_begun_is_run(run, server):
    server.on_inputs = silence
    call = run.call(run.function_ids["f"])
    call.add([pack(0)])
    until(lambda: server.of_kind(messages.INPUTS))
    server.on_inputs = yields(1)
    server.hang_up()
    assert call.next(DEADLINE_S).status == "item"


# what a sink does


def test_a_sink_that_raises_costs_nothing(client, server):
    class Closed(Sink):
        def on_log(self, line: LogLine) -> None:
            raise BrokenPipeError("our output is closed")

        on_notice = on_waiting = on_log  # type: ignore[assignment]

    run = client.start_app(AppSpec("toy", [FUNCTION]), Closed())
    line = ["f", "in-1", "ct-1", "stdout", "text", 0.0]

    def loud(end: FrameSocket, message: list[Any], payloads: list[Payload]) -> None:
        end.send([messages.LOGS, run.app_id, [line, line]])
        end.send([messages.NOTICE, run.app_id, "warning", "text"])
        answer(end, message, payloads)

    server.on_inputs = loud
    assert ask(run, 3) == 3


# endings


def test_the_end_of_a_run_answers_what_it_owes(run, server):
    server.on_inputs = silence
    call = run.call(run.function_ids["f"])
    call.add([pack(0)])
    summary = run.close()
    assert summary.inputs == 7
    output = call.next(DEADLINE_S)
    assert (output.status, output.error) == ("error", "ExecutionError")
    assert run.close().inputs == 0


def test_ending_a_run_whose_server_is_gone_is_quiet(run, server):
    server.dials_that_fail = 1000
    server.hang_up()
    assert run.close().inputs == 0


def test_a_refused_app_is_the_servers_error(client, server, monkeypatch):
    def refuse(end: FrameSocket, opened: set[str]) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                end.send([messages.REPLY, end.receive()[1], "InvalidError", "no such GPU"])

    monkeypatch.setattr(server, "_serve", refuse)
    server.hang_up()
    with pytest.raises(errors.InvalidError, match="no such GPU"):
        start(client)


# forks


def in_child(check: Callable[[], Any]) -> None:
    """Run ``check`` in a forked child of this process; what it raises is raised here."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            check()
        except BaseException as error:
            text = repr(error)
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as said:
        assert said.read() == ""
    os.waitpid(pid, 0)


class Remote(Server):
    """A server that forked clients reach as well: over a real socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def dial(self) -> tuple[socket.socket, tuple[int, str]]:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self._path)
        return sock, (os.getpid(), "a fake")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end = FrameSocket(self._listening.accept()[0])
                self.ends.append(end)
                opened = self.opened[0] if self.opened else set()
                self.opened.append(opened)
                thread = threading.Thread(target=self._serve, args=(end, opened))
                thread.start()
                self._threads.append(thread)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE_S)
        self._listening.close()
        super().close()


@pytest.fixture
def remote(tmp_path) -> Iterator[Server]:
    made = Remote(str(tmp_path / "socket"))
    yield made
    made.close()


def test_a_forked_child_calls_on_a_connection_of_its_own(remote):
    client = Client(remote.dial)
    run = start(client)
    held: list[tuple[FrameSocket, list[Any], list[Payload]]] = []
    remote.on_inputs = lambda *what: held.append(what) if unpack(what[2][0]) == "parent" else answer(*what)
    mine = run.call(run.function_ids["f"])
    mine.add([pack("parent")])
    until(lambda: held)

    def child() -> None:
        assert ask(run, "child") == "child"
        inherited = mine.next(DEADLINE_S)
        assert (inherited.status, inherited.error) == ("error", "ExecutionError")
        assert "forked" in inherited.message
        assert run.close().inputs == 0  # its parent's, and not ended

    in_child(child)
    assert len(remote.ends) == 2
    # The child has neither opened the app again, nor sent its parent's inputs, nor ended the run.
    assert [message[0] for message in remote.heard].count(messages.OPEN_APP) == 1
    assert len(remote.of_kind(messages.INPUTS)) == 2
    assert not remote.of_kind(messages.CLOSE_APP)
    for what in held:
        answer(*what)
    assert unpack(mine.next(DEADLINE_S).payload) == "parent"
    client.close()


def test_a_child_does_not_keep_its_parents_connection_open(remote):
    client = Client(remote.dial)
    start(client)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        client.close()
        del client
        until(lambda: not any(thread.is_alive() for thread in remote._threads))
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(pid, 0)


def test_a_fork_while_another_thread_connects_leaves_the_child_free(remote, monkeypatch):
    """The lock another thread held at the fork is held for ever in the child."""
    client = Client(remote.dial)
    run = start(client)
    with client._lock:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()

    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with client._lock:
            taken.set()
            release.wait(DEADLINE_S)

    holding = threading.Thread(target=hold)
    holding.start()
    taken.wait(DEADLINE_S)
    try:
        in_child(lambda: ask(run, 3))
    finally:
        release.set()
        holding.join()
    client.close()
