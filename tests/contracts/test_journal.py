"""What every journal promises, asked of the one in SQLite and of the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from glowplug.ports.journal import (
    HISTORY_RETENTION_S,
    RESULT_RETENTION_S,
    CallFact,
    Journal,
    JournaledContainer,
    JournaledOutput,
    JournaledRun,
)
from glowplug.store.memory_journal import MemoryJournal
from glowplug.store.sqlite_journal import SqliteJournal
from glowplug.wire.payload import INLINE_LIMIT_BYTES, Payload, make_payload

RUN = JournaledRun(
    "ap-1", "train", started_at=100.0, server_pid=7, detach=True, spec={"name": "train", "raw": b"\0"}
)
CALL = CallFact("fc-1", "ap-1", "fu-1-0", "f", accepted_at=101.0)
CONTAINER = JournaledContainer(
    "ct-a-1", "ap-1", "fu-1-0", "box", "A10G", ("GPU-1", "GPU-2"), started_at=102.0
)
TIMEOUT_S = 30.0


@pytest.fixture(params=["memory", "sqlite"])
def open_again(request, tmp_path) -> Iterator[Callable[[], Journal]]:
    """Opens the journal; a second call is the next life, after the first closed it."""
    opened: list[Journal] = []
    memory = MemoryJournal()

    def open_journal() -> Journal:
        if request.param == "memory":
            return memory
        troubles: list[str] = []
        journal = SqliteJournal(tmp_path, troubles.append)
        opened.append(journal)
        assert troubles == []
        return journal

    yield open_journal
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_again) -> Journal:
    return open_again()


def output(input_id: str, body: bytes = b"result", at: float = 110.0) -> JournaledOutput:
    return JournaledOutput(input_id, "success", Payload(body), "", "", at)


def read_call(journal: Journal, call_id: str = "fc-1"):
    return journal.read_call(call_id).result(TIMEOUT_S)


def bodies(payloads) -> list[bytes]:
    return [bytes(payload.parts()[0]) for payload in payloads]


def test_a_call_reads_back_as_it_was_written(journal):
    journal.run_started(RUN)
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a")), ("in-1-1", Payload(b"b"))])
    journal.output_recorded("fc-1", output("in-1-1"))
    assert journal.committed().result(TIMEOUT_S) is True
    call = read_call(journal)
    assert call.fact == CALL
    assert (call.inputs, call.expired) == (2, False)
    assert [(each.input_id, each.status, each.at) for each in call.outputs] == [("in-1-1", "success", 110.0)]
    assert bodies(each.payload for each in call.outputs) == [b"result"]
    assert [input_id for input_id, _ in call.open_inputs] == ["in-1-0"]
    assert bodies(payload for _, payload in call.open_inputs) == [b"a"]


def test_an_output_without_payload_keeps_its_error(journal):
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    journal.output_recorded(
        "fc-1", JournaledOutput("in-1-0", "error", None, "FunctionTimeoutError", "too long", 110.0)
    )
    (only,) = read_call(journal).outputs
    assert (only.status, only.payload, only.error, only.message) == (
        "error", None, "FunctionTimeoutError", "too long",
    )  # fmt: skip


def test_an_input_has_one_output_whatever_is_said_later(journal):
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    journal.output_recorded("fc-1", output("in-1-0", b"first"))
    journal.output_recorded("fc-1", output("in-1-0", b"second"))
    assert bodies(each.payload for each in read_call(journal).outputs) == [b"first"]


def test_inputs_that_are_sent_again_count_once(journal):
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    journal.output_recorded("fc-1", output("in-1-0"))
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a")), ("in-1-1", Payload(b"b"))])
    call = read_call(journal)
    assert (call.inputs, len(call.outputs), len(call.open_inputs)) == (2, 1, 1)


def test_outputs_are_read_in_the_order_they_came(journal):
    journal.inputs_accepted(CALL, [(f"in-1-{n}", Payload(b"")) for n in range(12)])
    for n in (11, 2, 10, 0):
        journal.output_recorded("fc-1", output(f"in-1-{n}"))
    assert [each.input_id for each in read_call(journal).outputs] == [
        "in-1-11",
        "in-1-2",
        "in-1-10",
        "in-1-0",
    ]


def test_a_large_payload_reads_back_with_its_buffers(open_again):
    journal = open_again()
    large = make_payload(b"pickle", [b"x" * (INLINE_LIMIT_BYTES + 5), b"", b"tail"])
    assert large.fd is not None
    journal.inputs_accepted(CALL, [("in-1-0", large)])
    journal.output_recorded("fc-1", JournaledOutput("in-1-0", "success", large, "", "", 110.0))
    assert journal.committed().result(TIMEOUT_S)
    journal.close()
    journal = open_again()
    journal.take_over(200.0)
    (only,) = read_call(journal).outputs
    first, second, third, fourth = only.payload.parts()
    assert (bytes(first), bytes(second), len(third) + len(fourth)) == (
        b"pickle", b"x" * (INLINE_LIMIT_BYTES + 5), 4,
    )  # fmt: skip


def test_nobody_knows_a_call_that_was_never_written(journal):
    assert read_call(journal, "fc-nobody") is None
    assert journal.read_run("ap-nobody").result(TIMEOUT_S) is None


def test_runs_are_listed_latest_first_and_without_their_specs(journal):
    for number in range(3):
        journal.run_started(JournaledRun(f"ap-{number}", "x", float(number), 7, spec={"large": b"spec"}))
    journal.run_ended("ap-0", 50.0, "its client left", {"inputs": 3})
    runs = journal.read_runs(2).result(TIMEOUT_S)
    assert [run.app_id for run in runs] == ["ap-2", "ap-1"]
    assert all(run.spec == {} and run.ended_at is None for run in runs)
    ended = journal.read_run("ap-0").result(TIMEOUT_S)
    assert (ended.ended_at, ended.reason, ended.usage) == (50.0, "its client left", {"inputs": 3})


def test_usage_is_kept_while_a_run_goes_on(journal):
    journal.run_started(RUN)
    journal.run_used("ap-1", {"inputs": 9, "cost_usd": 0.25})
    assert journal.read_run("ap-1").result(TIMEOUT_S).usage == {"inputs": 9, "cost_usd": 0.25}


def test_the_next_life_is_told_what_was_left_and_ends_it(open_again):
    journal = open_again()
    journal.take_over(99.0)
    journal.run_started(RUN)
    journal.run_started(JournaledRun("ap-done", "done", 90.0, 7))
    journal.run_ended("ap-done", 95.0, "over", {})
    journal.container_started(CONTAINER)
    journal.container_started(JournaledContainer("ct-a-0", "ap-1", "fu-1-0", "box", "", (), 101.0))
    journal.container_ended("ct-a-0", 103.0, "idle")
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a")), ("in-1-1", Payload(b"b"))])
    journal.output_recorded("fc-1", output("in-1-0"))
    journal.close()

    journal = open_again()
    left = journal.take_over(200.0)
    assert left.runs == (RUN,)
    assert left.containers == (CONTAINER,)
    (call,) = left.calls
    assert [(each.input_id, each.payload) for each in call.outputs] == [("in-1-0", None)]
    assert [input_id for input_id, _ in call.open_inputs] == ["in-1-1"]
    assert bodies(payload for _, payload in call.open_inputs) == [b"b"]
    assert bodies(each.payload for each in read_call(journal).outputs) == [b"result"]
    ended = journal.read_run("ap-1").result(TIMEOUT_S)
    assert ended.ended_at == 200.0
    assert "without ending it" in ended.reason
    assert journal.take_over(300.0).runs == ()


def test_a_run_whose_client_comes_back_is_no_longer_ended(open_again):
    journal = open_again()
    journal.run_started(RUN)
    journal.run_used("ap-1", {"inputs": 4})
    journal.close()
    journal = open_again()
    journal.take_over(200.0)
    journal.run_started(JournaledRun("ap-1", "train", 210.0, server_pid=8))
    run = journal.read_run("ap-1").result(TIMEOUT_S)
    assert (run.ended_at, run.reason, run.server_pid) == (None, "", 8)
    assert (run.started_at, run.usage) == (100.0, {"inputs": 4})


def test_results_expire_and_are_still_remembered_as_such(journal):
    journal.run_started(RUN)
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    journal.output_recorded("fc-1", output("in-1-0", at=110.0))
    journal.forget_old(110.0 + RESULT_RETENTION_S)
    assert not read_call(journal).expired
    journal.run_ended("ap-1", 120.0, "over", {})
    journal.forget_old(111.0 + RESULT_RETENTION_S)
    call = read_call(journal)
    assert (call.expired, call.outputs, call.fact) == (True, (), CALL)
    journal.forget_old(121.0 + HISTORY_RETENTION_S)
    assert read_call(journal) is None
    assert journal.read_run("ap-1").result(TIMEOUT_S) is None


def test_inputs_of_a_run_that_ended_without_answering_expire_too(journal):
    journal.run_started(RUN)
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    journal.run_ended("ap-1", 120.0, "over", {})
    journal.forget_old(121.0 + RESULT_RETENTION_S)
    assert read_call(journal).open_inputs == ()


def test_a_call_that_still_runs_keeps_its_first_outputs(journal):
    journal.run_started(RUN)
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a")), ("in-1-1", Payload(b"b"))])
    journal.output_recorded("fc-1", output("in-1-0", at=110.0))
    journal.forget_old(111.0 + RESULT_RETENTION_S)
    assert len(read_call(journal).outputs) == 1
    journal.output_recorded("fc-1", output("in-1-1", at=111.0 + RESULT_RETENTION_S))
    journal.forget_old(112.0 + RESULT_RETENTION_S)
    assert len(read_call(journal).outputs) == 2


def test_open_inputs_of_a_run_that_goes_on_do_not_expire(journal):
    journal.run_started(RUN)
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    journal.forget_old(1000.0 + HISTORY_RETENTION_S)
    assert [input_id for input_id, _ in read_call(journal).open_inputs] == ["in-1-0"]
