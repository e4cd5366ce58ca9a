"""Calls of one input: results, errors, generators, async code, spawned calls."""

from __future__ import annotations

import asyncio
import builtins
import gc
import inspect
import pickle
import threading

import pytest

import glowplug
from glowplug.client import context
from glowplug.client.serializer import pack
from glowplug.model import errors
from glowplug.model.errors import DeprecationError, ExecutionError, InvalidError, SerializationError
from glowplug.sdk import running
from unit.sdk.fake_client import FakeClient

app = glowplug.App("calls")


class Mine(Exception):
    pass


@app.function()
def add(x: int, y: int = 1) -> int:
    return x + y


@app.function()
def fail(text: str):
    raise Mine(text)


@app.function()
def count(n: int):
    yield from range(n)


@app.function()
async def later(x: int) -> int:
    return x + 1


@app.function()
def through(x: int) -> int:
    return add.remote(x) + 10


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


def test_remote_and_local(client):
    assert add.remote(1) == 2
    assert add.remote(1, y=5) == 6
    assert add.local(1, 2) == 3
    assert add.raw_f(1) == add.get_raw_f()(1) == 2
    assert asyncio.run(add.remote.aio(1)) == 2
    assert through.remote(1) == 12
    assert client.runs[0].calls == {}, "nothing is kept of answered calls"


def test_methods_are_documented_and_have_signatures():
    assert "return its result" in add.remote.__doc__
    assert "return its result" in glowplug.Function.remote.__doc__
    assert list(inspect.signature(add.map).parameters)[-3:] == [
        "order_outputs",
        "return_exceptions",
        "wrap_returned_exceptions",
    ]


def test_exceptions_come_back(client):
    with pytest.raises(Mine, match="why") as raised:
        fail.remote("why")
    assert "raise Mine(text)" in str(raised.value.__cause__)
    with pytest.raises(Mine):
        asyncio.run(fail.remote.aio("why"))


def test_verdicts_of_the_server_are_raised_by_name(held):
    call = add.spawn(1)
    held.pending[0].answer("error", error="FunctionTimeoutError", message="add ran longer than 1 s")
    with pytest.raises(errors.FunctionTimeoutError, match="longer than 1 s"):
        call.get()


def test_async_functions_run_the_same(client):
    assert later.remote(1) == 2
    assert asyncio.run(later.local(1)) == 2
    assert asyncio.run(later.remote.aio(1)) == 2


async def _collected(items):
    return [item async for item in items]


def test_generators(client):
    assert list(count.remote_gen(3)) == [0, 1, 2]
    assert asyncio.run(_collected(count.remote_gen.aio(3))) == [0, 1, 2]
    assert list(count.local(2)) == [0, 1]


def test_what_returns_an_iterable_can_be_declared_a_generator():
    other = glowplug.App("iterables")
    letters = other.function(serialized=True, is_generator=True, name="letters")(lambda text: list(text))
    with other.run(client=FakeClient(other)):
        assert list(letters.remote_gen("ab")) == ["a", "b"]


def test_leaving_a_generator_cancels_it(held):
    items = count.remote_gen(3)
    item = pack("first")
    threading.Thread(target=lambda: held.wait_for_inputs(1)[0].call.accept_item("in-x-0", 0, item)).start()
    assert next(items) == "first"
    pending = held.pending[0]
    items.close()
    assert held.cancelled == [pending.call.call_id]
    assert held.runs[0].calls == {}


@pytest.mark.parametrize(
    ("misuse", "text"),
    [
        (
            lambda: count.remote(1),
            r"count.remote\(...\): count is a generator function. Use count.remote_gen",
        ),
        (lambda: count.spawn(1), "Use count.remote_gen"),
        (lambda: count.map([1]), "cannot be mapped"),
        (lambda: count.for_each([1]), "cannot be mapped"),
        (lambda: count.spawn_map([1]), "cannot be mapped"),
        (lambda: count.map.aio([1]), "cannot be mapped"),
        (lambda: add.remote_gen(1), r"add.remote_gen\(...\): add does not yield. Use add.remote"),
        (lambda: add.spawn_map([]), "no inputs"),
    ],
)
def test_misuse_is_refused_before_anything_is_sent(client, misuse, text):
    with pytest.raises(InvalidError, match=text):
        misuse()
    assert client.messages == []


def test_arguments_that_cannot_be_pickled_are_named(client):
    with pytest.raises(SerializationError, match="the arguments of add"):
        add.remote(threading.Lock())


def test_calls_of_2023(client):
    with pytest.warns(DeprecationError, match=r"add\.call\(\.\.\.\) is now add\.remote"):
        assert add.call(1) == 2
    with pytest.warns(DeprecationError, match=r"count\.call\(\.\.\.\) is now count\.remote_gen"):
        assert list(count.call(2)) == [0, 1]
    with pytest.warns(DeprecationError, match=r"add\(\.\.\.\) runs in this process; write add\.local"):
        assert add(1) == 2
    assert client.batches == [1, 1]


def test_warnings_are_for_the_users_process_only(client, monkeypatch):
    monkeypatch.setattr(context, "_container", object())
    assert add(1) == 2


# spawned calls


def test_spawn_returns_before_the_result_is_there(held):
    call = add.spawn(1)
    assert call.object_id.startswith("fc-")
    with pytest.raises(builtins.TimeoutError, match="has no result after 0 s"):
        call.get(timeout=0)
    with pytest.raises(builtins.TimeoutError):
        asyncio.run(call.get.aio(timeout=0))
    held.pending[0].run()
    assert call.get() == 2
    assert call.get(timeout=0) == 2, "it can be asked for again"
    assert asyncio.run(call.get.aio()) == 2
    assert call.num_inputs() == 1


def test_a_waiting_get_hears_of_the_result(held):
    call = add.spawn(1)
    pending = held.pending[0]
    results = []
    getters = [threading.Thread(target=lambda: results.append(call.get())) for _ in range(3)]
    for getter in getters:
        getter.start()
    pending.run()
    for getter in getters:
        getter.join(30)
    assert results == [2, 2, 2]


def test_spawned_calls_are_found_by_id(held):
    call = add.spawn(1)
    held.pending[0].run()
    again = glowplug.FunctionCall.from_id(call.object_id)
    assert again.get() == 2
    assert call.get() == 2, "two handles do not take each other's results"
    assert pickle.loads(pickle.dumps(call)).get() == 2
    with pytest.raises(errors.NotFoundError, match="fc-absent"):
        glowplug.FunctionCall.from_id("fc-absent").get()
    with pytest.raises(InvalidError, match="begins with fc-"):
        glowplug.FunctionCall.from_id("ap-1")


def test_spawned_calls_that_nobody_holds_are_forgotten_once_answered(held):
    calls = held.runs[0].calls
    call_id = add.spawn(1).object_id
    gc.collect()
    assert list(calls) == [call_id], "an unanswered input may have to be sent again"
    held.pending[0].run()
    assert calls == {}
    assert glowplug.FunctionCall.from_id(call_id).get() == 2, "the server still has it"


def test_results_taken_by_a_handle_that_is_gone_are_there_for_the_next(held):
    call = add.spawn_map([1, 2])
    call_id = call.object_id
    held.pending[0].run()
    assert call.get(index=0) == 2
    del call
    gc.collect()
    again = glowplug.FunctionCall.from_id(call_id)
    assert again.get(timeout=0, index=0) == 2
    held.pending[0].run()
    assert again.get(index=1) == 3


def test_calls_are_found_without_an_app(monkeypatch):
    other = FakeClient(app)
    with app.run(client=other):
        call = add.spawn(1)
        call_id = call.object_id
        assert call.get() == 2
    monkeypatch.setattr(running, "_client", other)
    assert glowplug.FunctionCall.from_id(call_id).num_inputs() == 1


def test_cancel(held):
    call = add.spawn(1)
    call.cancel()
    asyncio.run(call.cancel.aio(terminate_containers=True))
    assert held.cancelled == [call.object_id] * 2
    assert [message[2] for message in held.messages[1:]] == [False, True]


def test_gather_keeps_the_order(held):
    calls = [add.spawn(n) for n in range(3)]
    for pending in reversed(list(held.pending)):
        pending.run()
    assert glowplug.FunctionCall.gather(*calls) == [1, 2, 3]
    assert asyncio.run(_gathered(calls)) == ([1, 2, 3], [1, 2, 3])


async def _gathered(calls):
    # Blocking on a loop is no good manners, but must not deadlock.
    return await glowplug.FunctionCall.gather.aio(*calls), glowplug.FunctionCall.gather(*calls)


def test_gather_raises_the_first_error_without_waiting_for_the_rest(held):
    slow, failed = add.spawn(1), fail.spawn("early")
    held.pending[1].run()
    with pytest.raises(Mine, match="early"):
        glowplug.FunctionCall.gather(slow, failed)


def test_spawn_map(held):
    call = add.spawn_map(range(60), range(60), kwargs={})
    assert call.num_inputs() == 60
    assert held.batches == [49, 11]
    for pending in reversed(list(held.pending)):
        pending.run()
    assert call.get(index=7) == 14
    assert list(call.iter(start=1, end=4)) == [2, 4, 6]
    assert asyncio.run(_collected(call.iter.aio(start=58))) == [116, 118]
    with pytest.raises(InvalidError, match="there is no input 60"):
        call.get(index=60)


def test_inputs_unanswered_at_the_end_of_a_run_are_errors():
    with app.run(client=FakeClient(app, hold=True)):
        call = add.spawn(1)
    with pytest.raises(ExecutionError, match="the run ended before this call had its output"):
        call.get()


# functions as values


def test_functions_travel_as_references(client, monkeypatch):
    assert pickle.loads(pickle.dumps(add)) is add
    monkeypatch.setattr(add, "qualname", "absent")
    elsewhere = pickle.loads(pickle.dumps(add))
    assert elsewhere is not add
    monkeypatch.setattr(context, "current_run", lambda: client.runs[0])
    assert elsewhere.remote(4) == 5
    with pytest.raises(ExecutionError, match="declared in another process"):
        elsewhere.local(4)


def test_a_function_of_another_app_cannot_be_called_in_a_container(client, monkeypatch):
    stranger = glowplug.App("stranger")
    other = stranger.function(serialized=True, name="other")(lambda: 1)
    monkeypatch.setattr(context, "current_run", lambda: client.runs[0])
    with pytest.raises(ExecutionError, match=r"no such function.*app\.include"):
        other.remote()


def test_no_app_is_started_in_a_container(monkeypatch):
    monkeypatch.setattr(context, "_container", object())
    with pytest.raises(InvalidError, match="cannot be started inside a container"):
        app.run(client=FakeClient(app)).__enter__()


def test_imports_of_an_image_that_failed_are_raised_where_the_function_is_loaded(monkeypatch):
    image = glowplug.Image.debian_slim().pip_install("absent")
    other = glowplug.App("images")
    with image.imports():
        import module_that_does_not_exist  # noqa: F401
    needs = other.function(serialized=True, image=image, name="needs")(lambda: 1)
    assert needs.raw_f() == 1
    monkeypatch.setattr(context, "_container", object())
    with pytest.raises(ImportError, match="module_that_does_not_exist"):
        _ = needs.raw_f
