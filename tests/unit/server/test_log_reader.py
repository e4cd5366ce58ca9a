"""Reading an app's lines while they are written."""

from __future__ import annotations

import asyncio

from glowplug.client.session import LogLine
from glowplug.server import log_reader
from glowplug.server.log_reader import LogReader
from glowplug.server.records import RunRecord


def run_record() -> RunRecord:
    return RunRecord("ap-1", "toy", {}, {}, {}, False, 1.0, None)


def line(text: str, function: str = "f") -> LogLine:
    return LogLine(function, "in-1-0", "ct-1", "stdout", text, 1.0)


async def read_all(reader: LogReader, follow: bool) -> list[str]:
    return [each.text async for lines in reader.read(follow) for each in lines]


def test_without_following_it_ends_with_what_is_there():
    async def scenario():
        return await read_all(LogReader(run_record(), [line("a"), line("b")]), follow=False)

    assert asyncio.run(scenario()) == ["a", "b"]


def test_following_goes_on_until_the_run_is_gone():
    async def scenario():
        run = run_record()
        reader = LogReader(run, [line("before")])
        reading = asyncio.create_task(read_all(reader, follow=True))
        await asyncio.sleep(0)
        reader.write([line("during"), line("other", function="g")])
        await asyncio.sleep(0)
        reader.write([line("last")])
        run.gone.set()
        reader.wake()
        return await reading

    assert asyncio.run(scenario()) == ["before", "during", "other", "last"]


def test_only_one_function():
    async def scenario():
        run = run_record()
        reader = LogReader(run, [], function="g")
        reader.write([line("mine", function="g"), line("not mine")])
        return await read_all(reader, follow=False)

    assert asyncio.run(scenario()) == ["mine"]


def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_told(monkeypatch):
    monkeypatch.setattr(log_reader, "BACKLOG_LINES", 3)

    async def scenario():
        reader = LogReader(run_record(), [])
        reader.write([line(str(number)) for number in range(5)])
        return await read_all(reader, follow=False)

    assert asyncio.run(scenario()) == [
        "glowplug: 2 lines were dropped: they came faster than they were read", "2", "3", "4",
    ]  # fmt: skip


def test_a_closed_reader_is_forgotten():
    run = run_record()
    reader = LogReader(run, [])
    assert run.log_readers == [reader]
    reader.close()
    reader.close()
    assert run.log_readers == []
