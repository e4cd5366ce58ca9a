"""Maps: order, laziness, limits, failures, blocking and asynchronous inputs."""

from __future__ import annotations

import asyncio
import queue
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glowplug
from glowplug.model.errors import SerializationError
from glowplug.sdk import feeding
from unit.sdk.fake_client import FakeClient

app = glowplug.App("maps")


@app.function()
def double(x, add=0):
    return 2 * x + add


@app.function()
def power(x, y):
    return x**y


@app.function()
def picky(x):
    if x % 10 == 3:
        raise ValueError(x)
    return x


@pytest.fixture
def client():
    fake = FakeClient(app)
    with app.run(client=fake):
        yield fake


@pytest.fixture
def held():
    fake = FakeClient(app, hold=True)
    with app.run(client=fake):
        yield fake


def answer_all(client, order=reversed):
    for pending in order(list(client.pending)):
        pending.run()


@pytest.mark.parametrize("count", [0, 1, 48, 49, 50, 2500])
@pytest.mark.parametrize("make", [list, iter, tuple, lambda inputs: (x for x in inputs), np.array])
def test_results_are_in_order_whatever_the_inputs(client, count, make):
    assert list(double.map(make(range(count)))) == [2 * x for x in range(count)]
    assert client.runs[0].calls == {}


def test_several_iterators_are_zipped_and_tuples_unpacked(client):
    assert list(power.map([2, 3], [3, 2, 9])) == [8, 9]
    assert list(power.starmap([(2, 3), [3, 2]])) == [8, 9]
    assert list(double.map([1, 2], kwargs={"add": 5})) == [7, 9]
    assert list(double.map()) == []


def test_for_each_returns_nothing_and_runs_everything(client):
    assert double.for_each(range(100)) is None
    assert sum(client.batches) == 100
    with pytest.raises(ValueError, match="3"):
        picky.for_each(range(10))
    assert picky.for_each(range(10), ignore_exceptions=True) is None


def test_a_map_starts_when_it_is_iterated(client):
    results = double.map([1])
    assert client.messages == []
    assert list(results) == [2]


def test_inputs_are_pulled_lazily_and_at_most_a_thousand_ahead(client):
    pulled = []
    results = double.map(pulled.append(x) or x for x in range(100_000))
    assert [next(results) for _ in range(10)] == list(range(0, 20, 2))
    assert len(pulled) <= feeding.MAX_OUTSTANDING + 10
    results.close()


def test_at_most_a_thousand_inputs_are_outstanding(held):
    results = double.map(range(100_000))
    threading.Thread(target=lambda: held.wait_for_inputs(1)[0].run()).start()
    assert next(results) == 0
    assert feeding.MAX_OUTSTANDING - feeding.BATCH < sum(held.batches) <= feeding.MAX_OUTSTANDING
    results.close()


@pytest.mark.parametrize("make", [list, iter])
@pytest.mark.parametrize(("size", "expected"), [(1 << 18, feeding.MAX_LARGE), (1 << 21, feeding.MIN_LARGE)])
def test_large_arguments_use_up_neither_memory_nor_descriptors(held, make, size, expected):
    array = np.zeros(size)  # 2 or 16 MiB pickled
    results = double.map(make([array] * 200))
    consumer = threading.Thread(target=lambda: next(results))
    consumer.start()
    held.wait_for_inputs(expected)
    assert len(held.pending) == expected
    held.pending[0].run()
    consumer.join(30)
    results.close()


def test_results_come_as_they_arrive_when_order_does_not_matter(held):
    results = double.map([1, 2, 3], order_outputs=False)
    taken = []
    consumer = threading.Thread(target=lambda: taken.extend(results))
    consumer.start()
    held.wait_for_inputs(3)
    answer_all(held)
    consumer.join(30)
    assert taken == [6, 4, 2]


def test_early_results_wait_for_their_turn(held):
    results = double.map([1, 2, 3])
    taken = []
    consumer = threading.Thread(target=lambda: taken.extend(results))
    consumer.start()
    held.wait_for_inputs(3)
    answer_all(held)
    consumer.join(30)
    assert taken == [2, 4, 6]


def test_the_first_failure_is_raised_and_the_rest_cancelled(held):
    results = picky.map([1, 2, 3])
    raised = []

    def consume():
        with pytest.raises(ValueError, match="3"):
            list(results)
        raised.append(True)

    consumer = threading.Thread(target=consume)
    consumer.start()
    pending = held.wait_for_inputs(3)
    pending[2].run()
    consumer.join(30)
    assert raised
    assert held.cancelled == [pending[0].call.call_id]
    assert held.runs[0].calls == {}


def test_exceptions_as_results(client):
    results = list(picky.map(range(5), return_exceptions=True))
    assert results[:3] == [0, 1, 2]
    assert isinstance(results[3], ValueError)
    assert results[4] == 4


def test_leaving_early_cancels_the_rest(held):
    results = double.map(range(10))
    threading.Thread(target=lambda: held.wait_for_inputs(10)[0].run()).start()
    for _ in results:
        break
    results.close()
    assert len(held.cancelled) == 1


def test_an_unpicklable_input_is_an_error_and_ends_the_map(client):
    for inputs in ([threading.Lock()], iter([threading.Lock()])):
        with pytest.raises(SerializationError, match="the arguments of double"):
            list(double.map(inputs))


def test_a_failing_iterator_fails_the_map_at_once(held):
    """Even while an earlier input runs."""

    def inputs():
        yield 1
        held.wait_for_inputs(1)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(double.map(inputs()))


# inputs that block


def test_results_stream_while_inputs_still_come(client):
    """Each input is only there once the result before it was seen."""
    inputs: queue.Queue = queue.Queue()
    results = double.map(iter(inputs.get, None))
    for x in range(5):
        inputs.put(x)
        assert next(results) == 2 * x
    inputs.put(None)
    assert list(results) == []


def test_maps_of_maps_are_pipelined(client):
    assert list(double.map(double.map(double.map(range(300))))) == [8 * x for x in range(300)]


def test_an_iterator_that_ends_late_ends_the_map(client):
    seen = threading.Event()

    def inputs():
        yield 1
        seen.wait(30)

    results = double.map(inputs())
    assert next(results) == 2
    seen.set()
    assert list(results) == []


def test_context_variables_reach_a_blocking_iterator(client):
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    assert list(double.map(variable.get() for _ in range(1))) == [14]


# async


async def collected(results):
    return [result async for result in results]


async def numbers(count):
    for number in range(count):
        if number % 7 == 0:
            await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("count", [0, 1, 49, 2500])
@pytest.mark.parametrize("make", [range, numbers, lambda count: (x for x in range(count))])
def test_async_maps(client, count, make):
    assert asyncio.run(collected(double.map.aio(make(count)))) == [2 * x for x in range(count)]
    assert client.runs[0].calls == {}


def test_async_starmap_and_for_each(client):
    async def pairs():
        yield 2, 3
        yield 3, 2

    assert asyncio.run(collected(power.starmap.aio(pairs()))) == [8, 9]
    assert asyncio.run(collected(power.map.aio(numbers(3), [0, 1, 2]))) == [1, 1, 4]
    assert asyncio.run(double.for_each.aio(numbers(3))) is None
    assert asyncio.run(double.spawn_map.aio([1, 2])).get(index=1) == 4


def test_async_inputs_may_wait_for_results(client):
    async def feedback():
        results: asyncio.Queue = asyncio.Queue()

        async def inputs():
            value = 1
            while value < 100:
                yield value
                value = await results.get()

        values = []
        async for result in double.map.aio(inputs()):
            values.append(result)
            results.put_nowait(result)
        return values

    assert asyncio.run(feedback()) == [2, 4, 8, 16, 32, 64, 128]


def test_async_failures_end_the_map_and_close_its_inputs(client):
    closed = []

    async def inputs():
        try:
            for x in range(10_000):
                yield x
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def fail():
        with pytest.raises(ValueError, match="3"):
            await collected(picky.map.aio(inputs()))
        await asyncio.sleep(0)  # the task that pulled is cancelled in the next turn
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(fail())
    assert closed == [True]


def test_a_failing_async_iterator_fails_the_map(client):
    async def inputs():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        asyncio.run(collected(double.map.aio(inputs())))


# any order, any pace


@settings(max_examples=60, deadline=None)
@given(
    answers=st.lists(st.integers(0, 1 << 30), min_size=1, max_size=150),
    blocking=st.booleans(),
    ordered=st.booleans(),
)
def test_every_input_has_its_result_whatever_the_order_of_answers(answers, blocking, ordered):
    count = len(answers)
    client = FakeClient(app, hold=True)
    with app.run(client=client):
        results = double.map(iter(range(count)) if blocking else range(count), order_outputs=ordered)
        taken: list[int] = []
        consumer = threading.Thread(target=lambda: taken.extend(results))
        consumer.start()
        for choice in answers:
            pending = client.wait_for_inputs(1)
            pending[choice % len(pending)].run()
        consumer.join(30)
    expected = [2 * x for x in range(count)]
    assert (taken if ordered else sorted(taken)) == expected
