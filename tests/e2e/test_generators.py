"""Generators with real processes: credit, failures, and callers that leave."""

from __future__ import annotations

import secrets

import pytest

from e2e.apps import gate_of, generate, items_of
from e2e.processes import until
from glowplug.client.session import ITEM_CREDIT
from glowplug.model import errors


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_generator_runs_no_further_ahead_than_its_credit(app, start, kind):
    name = secrets.token_hex(4)
    counting = app(
        f"""
{"async " if kind == "async" else ""}def count(n):
    for number in range(n):
        with open("/gate/{name}", "w") as file:
            file.write(str(number))
        yield number
    print("end")
""",
        count={"is_generator": True},
    )
    begun = gate_of(start, name)
    made = generate(counting, 300)
    items = items_of(made)

    def progress() -> int:
        return int((begun.read_text() if begun.exists() else "") or 0)

    until(lambda: progress() == ITEM_CREDIT, "the end of the credit")
    assert [next(items) for _ in range(10)] == list(range(10))
    until(lambda: progress() == ITEM_CREDIT + 10, "ten more")
    for output_count in range(20):  # and there it stays, however often one looks
        assert progress() == ITEM_CREDIT + 10, output_count
    assert list(items) == list(range(10, 300))


def test_a_generator_that_raises_has_yielded_what_it_had(app):
    counting = app(
        "def count(n):\n    yield from range(n)\n    raise KeyError('at last')", count={"is_generator": True}
    )
    items = items_of(generate(counting, 100))
    assert [next(items) for _ in range(100)] == list(range(100))
    with pytest.raises(KeyError, match="at last"):
        next(items)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("where", ["between items", "out of credit"])
def test_an_abandoned_generator_ends_with_its_own_finally(app, start, kind, where):
    name = secrets.token_hex(4)
    prefix, sleep = ("async ", "await asyncio.sleep(1000)") if kind == "async" else ("", "time.sleep(1000)")
    counting = app(
        f"""
import asyncio, time
{prefix}def count(n):
    try:
        for number in range(n):
            yield number
        {sleep}
    finally:
        open("/gate/{name}", "w").close()
def other(): return 1
""",
        count={"is_generator": True},
        other={},
    )
    made = generate(counting, 3 if where == "between items" else 1000)
    assert next(items_of(made)) == 0
    made.cancel()
    until(gate_of(start, name).exists, "its finally")
    assert counting.remote("other") == 1


def test_large_items_travel_as_files(app):
    counting = app(
        "def count(n):\n    for number in range(n):\n        yield bytes([number]) * (2 << 20)",
        count={"is_generator": True},
    )
    assert [(item[0], len(item)) for item in items_of(generate(counting, 5))] == [
        (n, 2 << 20) for n in range(5)
    ]


def test_an_item_that_cannot_travel_ends_it(app):
    counting = app(
        "import threading\ndef count(n):\n    yield n\n    yield threading.Lock()",
        count={"is_generator": True},
    )
    items = items_of(generate(counting, 7))
    assert next(items) == 7
    with pytest.raises(errors.SerializationError, match="an item of count"):
        next(items)
