"""Every way to call a function, against real containers. Says "done" when all of it held."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import glowplug
from glowplug import FunctionCall
from glowplug.exception import (
    ExecutionError,
    FunctionTimeoutError,
    InputCancellation,
    InvalidError,
    SerializationError,
)

app = glowplug.App("every-call", secrets=[glowplug.Secret.from_dict({"OF_APP": "1", "BOTH": "app"})])
kept = glowplug.SharedVolume.from_name("every-call", create_if_missing=True)


class Box:
    def __init__(self, content):
        self.content = content


class Fragile(Exception):
    """Pickle cannot rebuild it: its constructor wants more than its arguments."""

    def __init__(self, one, two):
        super().__init__("fragile")


@app.function()
def square(x):
    return x * x


@app.function()
def boxed(box: Box) -> Box:
    assert not glowplug.is_local()
    assert glowplug.current_input_id().startswith("in-")
    assert glowplug.current_function_call_id().startswith("fc-")
    return Box(box.content + 1)


@app.function()
def slow(x):
    time.sleep(0.05)
    return x


@app.function()
def for_ever():
    while True:
        time.sleep(0.05)


@app.function(timeout=1)
def too_long():
    time.sleep(60)


@app.function()
def items(n):
    yield from range(n)


@app.function()
async def async_items(n):
    for x in range(n):
        await asyncio.sleep(0)
        yield x


@app.function(is_generator=True)
def returned_items(n):
    return iter(range(n))


@app.function()
async def later(x):
    await asyncio.sleep(0)
    return x + 1


@app.function()
def fails(kind):
    if kind == "lookup":
        raise LookupError("remote text")
    if kind == "fragile":
        raise Fragile(1, 2)
    return threading.Lock()


@app.function(retries=glowplug.Retries(max_retries=2, initial_delay=0), volumes={"/tries": kept})
def third_time(path):
    with open(path, "a+") as file:
        file.write("x")
        file.seek(0)
        tries = len(file.read())
    if tries % 3:
        raise ValueError(tries)
    return tries


@app.function(
    network_file_systems={"/kept": kept},
    secrets=[glowplug.Secret.from_dict({"BOTH": "function"})],
    env={"MINE": "3"},
)
def surroundings(text):
    with open("/kept/text", "w") as file:
        file.write(text)
    return [os.environ.get(name) for name in ("OF_APP", "BOTH", "MINE")]


@app.function(volumes={"/elsewhere": kept})
def what_was_kept():
    with open("/elsewhere/text") as file:
        return file.read()


@app.function()
def calls_others(x):
    spawned = square.spawn(x)
    return square.remote(x), list(square.map(range(3))), spawned


@app.function()
def given_a_function(f, x):
    return f.remote(x), f.local(x)


for number in range(2):

    @app.function(name=f"tens_{number}")
    def tens(number=number):
        return 10 * number


def declare_inside():
    offset = 100

    @app.function(serialized=True)
    def inside(x):
        return x + offset + square.remote(2)

    return inside


inside = declare_inside()


def blocking():
    assert square.remote(3) == 9
    box = boxed.remote(Box(1))
    assert isinstance(box, Box)
    assert box.content == 2
    assert list(square.map(range(120))) == [x * x for x in range(120)]
    assert sorted(square.map(range(5), order_outputs=False)) == [0, 1, 4, 9, 16]
    assert list(slow.map(x for x in range(3))) == [0, 1, 2]
    assert square.for_each(range(3)) is None
    assert list(items.remote_gen(3)) == list(async_items.remote_gen(3)) == [0, 1, 2]
    assert list(returned_items.remote_gen(3)) == [0, 1, 2]
    endless = items.remote_gen(10**9)
    assert [next(endless), next(endless)] == [0, 1]
    endless.close()
    assert later.remote(1) == 2
    assert (app.tens_0.remote(), app["tens_1"].remote()) == (0, 10)
    assert inside.remote(1) == 105
    assert surroundings.remote("kept text") == ["1", "function", "3"]
    assert what_was_kept.remote() == "kept text"
    one, several, spawned = calls_others.remote(3)
    assert (one, several, spawned.get(timeout=60)) == (9, [0, 1, 4], 9)
    assert given_a_function.remote(square, 3) == (9, 9)


def spawned():
    call = square.spawn(4)
    assert call.get(timeout=60) == 16
    assert FunctionCall.from_id(call.object_id).get() == 16
    assert FunctionCall.gather(*[square.spawn(x) for x in range(3)]) == [0, 1, 4]
    many = square.spawn_map(range(60))
    assert many.num_inputs() == 60
    assert many.get(index=7) == 49
    assert list(many.iter(start=1, end=3)) == [1, 4]
    endless = for_ever.spawn()
    assert raises(TimeoutError, lambda: endless.get(timeout=0))
    endless.cancel()
    assert raises(InputCancellation, endless.get)


def failing():
    error = raises(LookupError, lambda: fails.remote("lookup"))
    assert "remote text" in str(error)
    assert 'raise LookupError("remote text")' in str(error.__cause__)
    assert raises(Fragile, lambda: fails.remote("fragile")).args == ("fragile",)
    assert "the result of fails" in str(raises(SerializationError, lambda: fails.remote("result")))
    assert raises(SerializationError, lambda: square.remote(threading.Lock()))
    assert raises(FunctionTimeoutError, too_long.remote)
    assert third_time.remote("/tries/third_time") % 3 == 0
    outcomes = list(fails.map(["lookup", "lookup"], return_exceptions=True))
    assert [type(outcome) for outcome in outcomes] == [LookupError, LookupError]
    assert raises(LookupError, lambda: list(fails.map(["lookup"] * 3)))
    assert raises(InvalidError, lambda: items.remote(1))


async def asynchronously():
    async with app.run():
        assert await square.remote.aio(3) == 9
        assert await asyncio.gather(*[slow.remote.aio(x) for x in range(4)]) == [0, 1, 2, 3]
        assert [x async for x in slow.map.aio(range(3))] == [0, 1, 2]
        assert [x async for x in async_items.remote_gen.aio(3)] == [0, 1, 2]
        assert [x async for x in items.remote_gen.aio(3)] == [0, 1, 2]
        call = await slow.spawn.aio(5)
        assert await call.get.aio(timeout=60) == 5

        async def inputs():
            for x in range(3):
                await asyncio.sleep(0.001)
                yield x

        assert [x async for x in square.map.aio(inputs())] == [0, 1, 4]
        assert await FunctionCall.gather.aio(*[square.spawn(x) for x in range(3)]) == [0, 1, 4]


def raises(kinds, call):
    """What ``call`` raised of these; fails if it returned."""
    try:
        result = call()
    except kinds as error:
        return error
    raise AssertionError(f"returned {result!r}")


def everything():
    blocking()
    spawned()
    failing()


@app.local_entrypoint()
def main(word: str, times: int = 1):
    everything()
    print(" ".join([word] * times))


if __name__ == "__main__":
    with app.run():
        everything()
    asyncio.run(asynchronously())
    assert raises(ExecutionError, lambda: square.remote(1))
    print("done")
