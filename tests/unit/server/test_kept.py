"""When outputs of spawned calls become visible to others, with a journal whose commits the test ends."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from glowplug.model.errors import ExecutionError, NotFoundError, OutputExpiredError, error_class
from glowplug.ports.journal import RESULT_RETENTION_S, JournaledRun
from glowplug.server.kept import KeptCalls
from glowplug.server.records import CallRecord, FinishedOutput
from glowplug.store.memory_journal import MemoryJournal
from glowplug.wire.payload import Payload
from glowplug.wire.stream import Outbox


class HeldJournal(MemoryJournal):
    """Commits are done when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[Future[bool]] = []

    def committed(self) -> Future[bool]:
        self.commits.append(Future())
        return self.commits[-1]


class Listener:
    """A session that only remembers."""

    def __init__(self) -> None:
        self.outputs: list[FinishedOutput] = []
        self.replies: list[dict] = []
        self.refusals: list[Exception] = []
        self.heard = asyncio.Event()

    def deliver(self, output):
        self.outputs.append(output)
        self.heard.set()

    def reply(self, request, result):
        self.replies.append(result)
        self.heard.set()

    def refuse(self, request, error):
        self.refusals.append(error)
        self.heard.set()

    @property
    def ids(self):
        return [output.input_id for output in self.outputs]


class World:
    def __init__(self) -> None:
        self.journal = HeldJournal()
        self.unwritten: list[CallRecord] = []
        self.kept = KeptCalls(self.journal, Outbox(), self.unwritten.append)
        self.call = CallRecord("fc-1", "fu-1", "ap-1", None, kept=True)
        self.journal.run_started(JournaledRun("ap-1", "toy", 1.0, 7))

    def accept(self, *input_ids: str) -> None:
        self.call.inputs += len(input_ids)
        self.kept.accept(self.call, "f", [(each, Payload(b"in")) for each in input_ids], 1.0)

    def finish(self, input_id: str) -> None:
        output = FinishedOutput(input_id, "success", Payload(b"out"), "", "")
        self.call.outputs[input_id] = output
        self.kept.finish(self.call, output, 2.0)


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_others_see_an_output_after_its_commit_and_memory_lets_go_of_it():
    async def scenario():
        world, other = World(), Listener()
        world.accept("in-1-0")
        world.kept.attach(other, 1, world.call)
        await settle()
        world.finish("in-1-0")
        await settle()
        seen_before = list(other.ids)
        world.journal.commits[0].set_result(True)
        await settle()
        return world, other, seen_before

    world, other, seen_before = asyncio.run(scenario())
    assert other.replies == [{"inputs": 1, "function_id": "fu-1", "app_id": "ap-1"}]
    assert seen_before == []
    assert other.ids == ["in-1-0"]
    assert world.call.outputs == {"in-1-0": None}


def test_what_finishes_during_a_commit_is_in_the_next_one():
    async def scenario():
        world = World()
        world.accept("in-1-0", "in-1-1", "in-1-2")
        world.finish("in-1-0")
        world.finish("in-1-1")
        world.finish("in-1-2")
        await settle()
        first = len(world.journal.commits)
        world.journal.commits[0].set_result(True)
        await settle()
        written_first = [each for each, output in world.call.outputs.items() if output is None]
        second = len(world.journal.commits)
        world.journal.commits[1].set_result(True)
        await settle()
        return first, written_first, second, world

    first, written_first, second, world = asyncio.run(scenario())
    assert (first, second) == (1, 2)
    assert written_first == ["in-1-0"]
    assert set(world.call.outputs.values()) == {None}


def test_what_cannot_be_written_is_visible_from_memory():
    async def scenario():
        world, watching, later = World(), Listener(), Listener()
        world.accept("in-1-0")
        world.kept.attach(watching, 1, world.call)
        await settle()
        world.finish("in-1-0")
        world.journal.calls.clear()  # as a disk that takes nothing
        world.journal.commits[0].set_result(False)
        await settle()
        world.kept.attach(later, 1, world.call)
        await settle()
        return world, watching, later

    world, watching, later = asyncio.run(scenario())
    assert world.unwritten == [world.call]
    assert watching.ids == later.ids == ["in-1-0"]
    assert world.call.outputs["in-1-0"] is not None


def test_a_caller_who_lost_its_connection_gets_what_it_asks_for_again():
    async def scenario():
        world, caller = World(), Listener()
        world.accept("in-1-0", "in-1-1")
        world.finish("in-1-0")
        world.finish("in-1-1")
        world.kept.deliver_written(caller, world.call, ["in-1-1"])
        await settle()
        return caller

    assert asyncio.run(scenario()).ids == ["in-1-1"]


@pytest.mark.parametrize("case", ["unknown", "open", "expired"])
def test_a_call_of_an_ended_run(case):
    async def scenario():
        world, other = World(), Listener()
        if case != "unknown":
            world.accept("in-1-0", "in-1-1")
            world.finish("in-1-0")
            world.journal.run_ended("ap-1", 3.0, "its client is gone", {})
        if case == "expired":
            world.journal.forget_old(4.0 + RESULT_RETENTION_S)
        world.kept.attach_written(other, 1, "fc-1")
        await settle()
        return other

    other = asyncio.run(scenario())
    if case == "open":
        assert other.replies == [{"inputs": 2, "function_id": "fu-1", "app_id": "ap-1"}]
        assert [(each.input_id, each.status) for each in other.outputs] == [
            ("in-1-0", "success"),
            ("in-1-1", "error"),
        ]
        assert error_class(other.outputs[1].error) is ExecutionError
        assert (
            "the run of toy ended (its client is gone) before f had this result" in other.outputs[1].message
        )
        return
    (refusal,) = other.refusals
    assert type(refusal) is (NotFoundError if case == "unknown" else OutputExpiredError)
    assert "fc-1" in str(refusal)
