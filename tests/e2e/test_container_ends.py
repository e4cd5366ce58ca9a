"""How functions and their containers end, and what is said of it."""

from __future__ import annotations

import secrets
import time

import pytest

from e2e.apps import call, gate_of, generate, items_of, outputs
from e2e.conftest import value_of
from e2e.processes import until
from glowplug.client.serializer import pack
from glowplug.model import errors
from glowplug.model.function import RetryPolicy

# how it ends

CRASHES = {
    "killed": ("os.kill(os.getpid(), 9)", "signal 9"),
    "segmentation fault": ("ctypes.string_at(0)", "signal 11"),
    "abort": ("os.abort()", "signal 6"),
    "exit": ("os._exit(3)", "code 3"),
    "quiet exit": ("os._exit(0)", "code 0"),
}


@pytest.mark.parametrize("kind", CRASHES)
def test_a_container_that_dies_is_replaced_and_its_input_tried_again(app, kind):
    code, said = CRASHES[kind]
    crashing = app(
        f"""
import ctypes, os
def crash(times):
    name = f"/gate/{secrets.token_hex(4)}"
    if not os.path.exists(name) or len(open(name).read()) < times:
        open(name, "a").write("x")
        {code}
    return len(open(name).read())
""",
        crash={},
    )
    assert crashing.remote("crash", 1) == 1
    # Where there is no sandbox, that is said first.
    (_, notice) = crashing.sink.notices[-1]
    assert said in notice
    assert "1 input runs again" in notice


def test_an_input_that_kills_every_container_is_given_up(app):
    crashing = app("import os\ndef crash(): os.kill(os.getpid(), 9)", crash={})
    with pytest.raises(errors.RemoteError, match=r"died of signal 9.*3 containers"):
        crashing.remote("crash")


RAISES = {
    "sys.exit": ("sys.exit(3)", errors.ExecutionError, "sys.exit"),
    "memory": ("bytearray(1 << 50)", MemoryError, ""),
    "recursion": ("again()", RecursionError, "recursion"),
    "keyboard": ("raise KeyboardInterrupt", KeyboardInterrupt, ""),
    "stop iteration": ("next(iter([]))", StopIteration, ""),
    "generator exit": ("raise GeneratorExit", GeneratorExit, ""),
    "class missing here": ("raise Mine('only there')", errors.ExecutionError, "toymod.Mine: only there"),
    "cannot be pickled": ("raise ValueError(threading.Lock())", errors.ExecutionError, "lock"),
    "cancellation of its own": ("raise InputCancellation('mine')", errors.InputCancellation, "mine"),
}


@pytest.mark.parametrize("kind", RAISES)
def test_what_a_function_raises_is_raised_and_its_container_lives(app, kind):
    code, expected, said = RAISES[kind]
    raising = app(
        f"""
import os, sys, threading
from glowplug.model.errors import InputCancellation
class Mine(Exception): pass
def again(): return again()
def f(fail):
    if fail:
        {code}
    return os.environ["GLOWPLUG_CONTAINER_ID"]
""",
        f={},
    )
    container = raising.remote("f", False)
    with pytest.raises(expected) as caught:
        raising.remote("f", True)
    assert said in str(caught.value)
    assert raising.remote("f", False) == container


def test_a_child_that_comes_back_from_the_function_is_no_second_container(app):
    forking = app(
        """
import os, time
def f(x):
    os.fork()
    return x, os.getpid()
def count(n):
    for number in range(n):
        if number == 2:
            os.fork()
        yield number, os.getpid()
""",
        f={"max_containers": 1},
        count={"is_generator": True},
    )
    values = [value_of(each) for each in outputs(call(forking, "f", *range(10)), 10)]
    assert [value for value, _ in values] == list(range(10))
    assert len({pid for _, pid in values}) == 1
    items = list(items_of(generate(forking, 10)))
    assert [number for number, _ in items] == list(range(10))
    assert len({pid for _, pid in items}) == 1


DAMAGE = {
    "closes every file": "os.closerange(3, 256)",
    "writes into its sockets": "[os.write(fd, b'nonsense') for fd in sockets()]",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_function_that_damages_its_own_container_harms_no_other(app, kind):
    damaging = app(
        f"""
import os
def sockets():
    names = os.listdir("/proc/self/fd")
    return [int(name) for name in names if "socket:" in os.path.realpath("/proc/self/fd/" + name)]
def f():
    {DAMAGE[kind]}
def g(): return "well"
""",
        f={},
        g={},
    )
    with pytest.raises(errors.Error, match="3 containers"):
        damaging.remote("f")
    assert damaging.remote("g") == "well"


RESULTS = {
    "cannot be pickled": ("threading.Lock()", errors.SerializationError, "the result of f"),
    "too large": ("too_large()", errors.RequestSizeError, "the result of f"),
    "a class missing here": ("Mine()", errors.DeserializationError, "toymod"),
    "a generator": ("(x for x in 'ab')", errors.SerializationError, "generator"),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_that_cannot_travel_is_told(app, kind):
    code, expected, said = RESULTS[kind]
    raising = app(
        f"""
import threading
from glowplug.client import serializer
class Mine: pass
def too_large():
    serializer.MAX_PAYLOAD_BYTES = 1000
    return b"x" * 2000
def f():
    return {code}
""",
        f={},
    )
    with pytest.raises(expected) as caught:
        raising.remote("f")
    assert said in str(caught.value)


IMPORTS = {
    "raises": ("raise OSError('no such dataset')", "f", "no such dataset"),
    "exits": ("import sys; sys.exit('not today')", "f", "not today"),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "f", "SIGKILL"),
    "ends the process": ("import os; os._exit(7)", "f", "7"),
    "cannot be parsed": ("def broken(:", "f", "SyntaxError"),
    "lacks the function": ("", "absent", "absent"),
    "has something else": ("f = 3", "f", "no function"),
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_a_module_that_cannot_be_imported_is_told(app, kind):
    code, name, said = IMPORTS[kind]
    broken = app(f"def f(): pass\n{code}\n", **{name: {}})
    with pytest.raises(errors.Error) as caught:
        broken.remote(name)
    text = str(caught.value)
    assert said in text
    assert name in text
    assert "glowplug/container" not in text  # no traceback of ours


# time


TIMEOUTS = {
    "sleeps": "time.sleep(1000)",
    "computes": "while True: pass",
    "catches everything": "while True:\n        try: time.sleep(1000)\n        except BaseException: pass",
    "waits for a child": "subprocess.run(['sleep', '1000'])",
}


@pytest.mark.parametrize("kind", TIMEOUTS)
def test_a_function_that_takes_too_long_is_ended(app, kind):
    slow = app(
        f"""
import subprocess, time
def f(slow):
    if not slow:
        return "quick"
    {TIMEOUTS[kind]}
""",
        f={"timeout_s": 0.3},
    )
    with pytest.raises(errors.FunctionTimeoutError, match=r"f ran longer than its timeout of 0\.3 s"):
        slow.remote("f", True)
    assert slow.remote("f", False) == "quick"


def test_a_retry_after_a_timeout(app):
    again = app(
        """
import os, time
def f(name):
    if not os.path.exists(name):
        open(name, "w").close()
        time.sleep(1000)
    return "second"
""",
        f={"timeout_s": 0.3, "retries": RetryPolicy(max_retries=1, initial_delay_s=0.0)},
    )
    assert again.remote("f", f"/gate/{secrets.token_hex(4)}") == "second"


CANCELLED = {
    "sleeps": "def f(x):\n    begin()\n    time.sleep(1000)",
    "computes": "def f(x):\n    begin()\n    while True: pass",
    "awaits": "async def f(x):\n    begin()\n    await asyncio.sleep(1000)",
    "awaits a thread": ("async def f(x):\n    begin()\n    await asyncio.to_thread(time.sleep, 1000)"),
}


@pytest.mark.parametrize("kind", CANCELLED)
def test_a_cancelled_input_is_interrupted(app, start, kind):
    name = secrets.token_hex(4)
    slow = app(
        f"""
import asyncio, time
def begin():
    open("/gate/{name}", "w").close()
{CANCELLED[kind]}
""",
        f={"max_containers": 1},
    )
    made = call(slow, "f", 0, 1, 2)
    until(gate_of(start, name).exists, "the beginning")
    made.cancel()
    for output in outputs(made, 3):
        assert output.status == "error"
        assert output.error == "InputCancellation"


def test_a_function_hears_that_it_is_cancelled(app, start):
    name = secrets.token_hex(4)
    slow = app(
        f"""
import time
from glowplug.model.errors import InputCancellation
def f():
    open("/gate/{name}", "w").close()
    try:
        time.sleep(1000)
    except InputCancellation:
        open("/gate/{name}-heard", "w").close()
        raise
def g():
    return "free"
""",
        f={},
        g={},
    )
    made = slow.run.call(slow.run.function_ids["f"])
    made.add([pack(((), {}))])
    until(gate_of(start, name).exists, "the beginning")
    made.cancel()
    assert outputs(made, 1)[0].error == "InputCancellation"
    until(gate_of(start, f"{name}-heard").exists, "the function's own end")
    assert slow.remote("g") == "free"


# imports that never end, and ends that come first


def test_a_run_ends_while_its_module_is_still_being_imported(app, start):
    name = secrets.token_hex(4)
    hanging = app(
        f"""
import time
open("/gate/{name}", "w").close() if __import__("os").path.isdir("/gate") else None
while True: time.sleep(1)
def f(): pass
""",
        f={},
    )
    made = hanging.run.call(hanging.run.function_ids["f"])
    made.add([pack(((), {}))])
    began = time.monotonic()
    hanging.run.close()
    assert time.monotonic() - began < 10
    assert outputs(made, 1)[0].status == "error"


def test_an_import_that_takes_too_long_is_told(app):
    hanging = app("import time\ntime.sleep(1000)\ndef f(): pass", f={"startup_timeout_s": 0.5})
    with pytest.raises(errors.Error, match="start"):
        hanging.remote("f")


def test_a_run_that_ends_at_once(app):
    app("def f(): pass", f={}).run.close()
