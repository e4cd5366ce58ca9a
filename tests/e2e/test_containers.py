"""Containers with real processes: what they see, what they leave, how they end and what is said of it."""

from __future__ import annotations

import os
import resource
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import AppStarter, LiveApp, own_server, value_of
from e2e.processes import MARK, marked, until
from glowplug.backends.local import bubblewrap
from glowplug.client.serializer import pack, unpack
from glowplug.client.session import ITEM_CREDIT, Call, Output
from glowplug.model import errors
from glowplug.model.function import RetryPolicy
from glowplug.model.gpu import GpuRequest

sandboxed = pytest.mark.skipif(not bubblewrap.probe().works, reason="no namespaces here")
SECRET = "hunter2-" + secrets.token_hex(8)
MODES = [pytest.param("auto", marks=sandboxed, id="sandboxed"), pytest.param("off", id="plain")]


@pytest.fixture(scope="module")
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, mark: str) -> Iterator[AppStarter]:
    """Apps on one server for the whole module."""
    directory = tmp_path_factory.mktemp("containers")
    with own_server(directory) as env, pytest.MonkeyPatch.context() as patch:
        for name, value in {**env, "AWS_SECRET_ACCESS_KEY": SECRET, MARK: mark}.items():
            patch.setenv(name, value)
        starter = AppStarter(directory)
        yield starter
        starter.close()
    assert until(lambda: not marked(mark), "the end of all processes")


@pytest.fixture
def app(start: AppStarter) -> Iterator[Any]:
    """``app(source, f={...})`` starts an app that ends with its test."""
    started: list[LiveApp] = []

    def make(*args: Any, **kwargs: Any) -> LiveApp:
        started.append(start(*args, **kwargs))
        return started[-1]

    yield make
    for each in started:
        each.run.close()
        each.client.close()


def call(app: LiveApp, name: str, *inputs: Any) -> Call:
    made = app.run.call(app.run.function_ids[name])
    made.add([pack(((each,), {})) for each in inputs])
    return made


def outputs(made: Call, count: int) -> list[Output]:
    return sorted((made.next(60.0) for _ in range(count)), key=lambda output: output.index)


def gate_of(start: AppStarter, name: str) -> Path:
    """A file in the volume that every function has at /gate."""
    directory = start.directory / "home" / "volumes" / "gate"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory / name


# what a container sees


@sandboxed
def test_a_container_is_alone_and_without_power(app):
    looked = app(
        """
import os
def look():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "pid": os.getpid(),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
        "powers": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "new powers": status["NoNewPrivs"].strip(),
        "root": sorted(os.listdir("/")),
        "devices": sorted(os.listdir("/dev")),
    }
def escape():
    import subprocess
    tries = ["unshare -Ur id", "mount -t tmpfs none /mnt", "mknod /tmp/sda b 8 0", "touch /usr/x"]
    return [each for each in tries if subprocess.run(each, shell=True, capture_output=True).returncode == 0]
""",
        look={},
        escape={},
    )
    seen = looked.remote("look")
    assert seen["pid"] in (2, 3)
    assert len(seen["pids"]) <= 3
    assert set(seen["powers"]) == {"0" * 16}
    assert seen["new powers"] == "1"
    assert not {"boot", "media", "lost+found", ".old"} & set(seen["root"])
    assert not any(name.startswith(("nvidia", "sd", "vd", "mem", "kmsg")) for name in seen["devices"])
    assert looked.remote("escape") == []


@sandboxed
def test_two_containers_at_once_share_nothing_but_volumes(app, start):
    pair = app(
        """
import os, time
def meet(name):
    for place in ("/tmp", "/root", "/var/tmp", "/dev/shm", os.getcwd()):
        with open(f"{place}/mine-{name}", "w") as file:
            file.write(name)
    open(f"/gate/met-{name}", "w").close()
    while len([each for each in os.listdir("/gate") if each.startswith("met-")]) < 2:
        time.sleep(0.005)
    return {
        place: sorted(each for each in os.listdir(place) if each.startswith("mine-"))
        for place in ("/tmp", "/root", "/var/tmp", "/dev/shm", os.getcwd())
    }
""",
        meet={},
    )
    one, other = outputs(call(pair, "meet", "one", "other"), 2)
    assert set(map(str, value_of(one).values())) == {"['mine-one']"}
    assert set(map(str, value_of(other).values())) == {"['mine-other']"}
    assert sorted(each.name for each in gate_of(start, "").iterdir() if each.name.startswith("met")) == [
        "met-one",
        "met-other",
    ]


@sandboxed
def test_the_scripts_directory_may_be_written_and_is_not_changed(app, start):
    beside = start.directory / "script" / "data.txt"
    source = """
import os
def spoil():
    before = open("data.txt").read()
    open("data.txt", "w").write("spoilt")
    open("new.txt", "w").write("new")
    os.remove("toymod.py")
    os.mkdir("made")
    return before, open("data.txt").read(), sorted(os.listdir("."))
"""
    (start.directory / "script").mkdir(exist_ok=True)
    beside.write_text("precious")
    spoiler = app(source, spoil={})
    before = sorted(os.listdir(beside.parent))
    assert spoiler.remote("spoil") == ("precious", "spoilt", ["data.txt", "made", "new.txt"])
    assert beside.read_text() == "precious"
    assert sorted(os.listdir(beside.parent)) == before
    assert (beside.parent / "toymod.py").read_text() == source


@sandboxed
def test_volumes_are_where_the_function_names_them_and_stay(app, start):
    places = ["/vol", "/data/deep/er", "/usr/share/glowplug-test", "/root/cache", "/tmp/cache", "/vol/inner"]
    volumes = [
        {"name": f"v{number}", "mount_path": path} for number, path in reversed(list(enumerate(places)))
    ]
    volumes.append({"name": "v0", "mount_path": "/same", "read_only": True})
    app(
        """
import os
def write(places):
    for place in places:
        with open(f"{place}/file", "w") as file:
            file.write(place)
""",
        write={"definition": {"volumes": volumes}},
    ).remote("write", places)
    reader = app(
        """
import os
def read(places):
    try:
        open("/same/file", "w")
    except OSError as error:
        refused = error.errno
    return [open(f"{place}/file").read() for place in places], open("/same/file").read(), refused
""",
        read={"definition": {"volumes": volumes}},
    )
    found, same, refused = reader.remote("read", places)
    assert found == places
    assert same == "/vol"
    assert refused == 30  # a read-only file system
    for number, place in enumerate(places):
        assert (start.directory / "home" / "volumes" / f"v{number}" / "file").read_text() == place


@sandboxed
@pytest.mark.parametrize(
    ("volume", "said"),
    [
        ({"name": "v", "mount_path": "/etc/hostname"}, "/etc/hostname"),
        ({"name": "../../escape", "mount_path": "/v"}, "escape"),
    ],
)
def test_a_volume_that_cannot_be_placed_is_told(app, volume, said):
    with pytest.raises(errors.Error, match=said):
        app("def f(): pass", f={"definition": {"volumes": [volume]}}).remote("f")


@pytest.mark.parametrize("kind", ["own", "of a child", "of every process"])
def test_the_callers_environment_stays_outside(app, kind):
    found = app(
        """
import glob, os, subprocess
def variables(kind):
    if kind == "own":
        return repr(dict(os.environ))
    if kind == "of a child":
        return subprocess.run(["env"], capture_output=True, text=True).stdout
    return repr([open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/environ")])
""",
        variables={},
    ).remote("variables", kind)
    assert SECRET not in found
    assert "AWS_SECRET" not in found
    assert "GLOWPLUG_HOME" not in found


def test_variables_of_the_function_are_there_and_those_of_the_node_win(app):
    env = {"MINE": "1", "CUDA_VISIBLE_DEVICES": "7", "HOME": "/elsewhere"}
    found = app(
        """
import os
def variables():
    return dict(os.environ)
""",
        variables={
            "definition": {"env": env, "secrets": {"TOKEN": "t"}},
            "gpu": (GpuRequest("T4", count=2),),
        },
    ).remote("variables")
    assert found["MINE"] == "1"
    assert found["TOKEN"] == "t"
    assert found["HOME"] == "/elsewhere"
    assert found["CUDA_VISIBLE_DEVICES"].count(",") == 1
    assert found["GLOWPLUG_GPU_TYPE"] == "T4"
    assert found["GLOWPLUG_GPU_COUNT"] == "2"
    assert found["NVIDIA_VISIBLE_DEVICES"] == found["GLOWPLUG_GPU_UUIDS"] == found["CUDA_VISIBLE_DEVICES"]
    assert found["MODAL_IS_REMOTE"] == "1"
    assert found["MODAL_TASK_ID"].startswith("ct-")


def test_a_function_without_a_gpu_is_shown_none(app):
    found = app("import os\ndef variables(): return dict(os.environ)", variables={}).remote("variables")
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert found["GLOWPLUG_GPU_COUNT"] == "0"


# what it says


def test_everything_that_writes_is_heard_and_given_to_its_input(app):
    loud = app(
        """
import ctypes, os, subprocess, sys
def speak(number):
    print("python", number)
    print("python error", number, file=sys.stderr)
    os.write(1, b"descriptor %d\\n" % number)
    subprocess.run(f"echo child {number}; echo child error {number} >&2", shell=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"c %d" % number)
    libc.fflush(None)
    pid = os.fork()
    if pid == 0:
        print("fork", number, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print("unfinished", number, end="")
""",
        speak={"max_containers": 1},
    )
    made = call(loud, "speak", 0, 1, 2)
    ids = [output.input_id for output in outputs(made, 3)]
    kinds = ["python", "python error", "descriptor", "child", "child error", "c", "fork", "unfinished"]
    assert sorted((line.input_id, line.text) for line in loud.sink.lines) == sorted(
        (input_id, f"{kind} {number}") for number, input_id in enumerate(ids) for kind in kinds
    )
    assert {line.function for line in loud.sink.lines} == {"speak"}
    assert {line.stream for line in loud.sink.lines if "error" in line.text} == {"stderr"}
    assert {line.stream for line in loud.sink.lines if "error" not in line.text} == {"stdout"}


def test_what_an_import_prints_is_heard_once(app):
    twice = app('print("imported")\ndef f(x): return x', f={})
    assert [value_of(each) for each in outputs(call(twice, "f", 1, 2, 3), 3)] == [1, 2, 3]
    assert [line.text for line in twice.sink.lines] == ["imported"]


def test_binary_rubbish_and_a_huge_line_are_only_lines(app):
    loud = app(
        """
import os, sys
def speak():
    sys.stdout.buffer.write(bytes(range(256)) * 4000)
    sys.stdout.buffer.flush()
    print()
    print("x" * 10_000_000)
    print("done")
    return "back"
""",
        speak={},
    )
    assert loud.remote("speak") == "back"
    lines = [line.text for line in loud.sink.lines]
    assert lines[-1] == "done"
    assert sum(line.count("x") for line in lines) == 10_000_000 + 4000


def test_a_client_that_does_not_read_loses_lines_and_no_result(app, start):
    count, name = 500_000, secrets.token_hex(4)
    loud = app(
        f"""
import os
def speak():
    block = b"".join(b"a line of ordinary length, number %06d\\n" % number for number in range({count}))
    view = memoryview(block)
    while view:
        view = view[os.write(1, view):]
    open("/gate/{name}", "w").close()
    return "back"
""",
        speak={},
    )
    with loud.client._connection._read_lock:
        made = loud.run.call(loud.run.function_ids["speak"])
        made.add([pack(((), {}))])
        # The server reads on and serves others meanwhile.
        until(gate_of(start, name).exists, "the end of the flood")
        assert app("def f(x): return x", f={}).remote("f", 1) == 1
    assert value_of(made.next(60.0)) == "back"
    loud.run.close()
    lost = sum(int(text.split()[0]) for _, text in loud.sink.notices if "dropped" in text)
    assert len(loud.sink.lines) + lost == count


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
    (_, notice) = crashing.sink.notices[0]
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


# generators


def items_of(made: Call) -> Iterator[Any]:
    while True:
        output = made.next(60.0)
        if output.status != "item":
            value_of(output)
            return
        yield unpack(output.payload)


def generate(app: LiveApp, *args: Any) -> Call:
    made = app.run.call(app.run.function_ids["count"])
    made.add([pack((args, {}))])
    return made


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


# what is left of it


RUNAWAYS = """
import os, subprocess, sys, time
def leave(how):
    if how == "session":
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    elif how == "twice":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "1000"])
            os._exit(0)
        os.wait()
    elif how == "ignoring":
        subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; sleep 1000; sleep 1000"], start_new_session=True)
    elif how == "running":
        subprocess.Popen(["sleep", "1000"])
        open(os.environ["BEGUN"], "w").close()
        time.sleep(1000)
    return os.getpid()
"""


def sleepers(mark: str) -> list[str]:
    return [command for command in marked(mark).values() if command.startswith(("sleep ", "sh "))]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_a_run_has_started_outlives_it(mode, tmp_path, monkeypatch):
    mark, name = secrets.token_hex(8), secrets.token_hex(4)
    with own_server(tmp_path) as env:
        for variable, value in {**env, MARK: mark, "GLOWPLUG_SANDBOX": mode}.items():
            monkeypatch.setenv(variable, value)
        starter = AppStarter(tmp_path, str(tmp_path / "gate"))
        app = starter(RUNAWAYS, leave={"definition": {"env": {"BEGUN": f"{starter.gate_path}/{name}"}}})
        for how in ("session", "twice", "ignoring"):
            app.remote("leave", how)
        running = call(app, "leave", "running")
        until(gate_of(starter, name).exists, "the beginning")
        assert len(sleepers(mark)) >= 4
        began = time.monotonic()
        app.run.close()
        assert sleepers(mark) == []
        assert time.monotonic() - began < 30
        assert outputs(running, 1)[0].status == "error"
        starter.close()
    until(lambda: not marked(mark), "the end of all processes")


@pytest.mark.parametrize("mode", MODES)
def test_nothing_outlives_a_container_that_is_replaced(mode, tmp_path, monkeypatch):
    mark = secrets.token_hex(8)
    with own_server(tmp_path) as env:
        for variable, value in {**env, MARK: mark, "GLOWPLUG_SANDBOX": mode}.items():
            monkeypatch.setenv(variable, value)
        starter = AppStarter(tmp_path, str(tmp_path / "gate"))
        app = starter(
            f"""
import os, subprocess
def leave():
    if os.path.exists("{starter.gate_path}/again"):
        return "second"
    open("{starter.gate_path}/again", "w").close()
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os.kill(os.getpid(), 9)
""",
            leave={},
        )
        assert app.remote("leave") == "second"
        until(lambda: sleepers(mark) == [], "the end of what the first one left")
        app.run.close()
        starter.close()


# without a sandbox


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppStarter]:
    with own_server(tmp_path) as env:
        for variable, value in {**env, "GLOWPLUG_SANDBOX": "off", "AWS_SECRET_ACCESS_KEY": SECRET}.items():
            monkeypatch.setenv(variable, value)
        starter = AppStarter(tmp_path, str(tmp_path / "gate"))
        yield starter
        starter.close()


def test_plain_processes_work_and_are_warned_of_once(plain):
    app = plain(
        f"""
import os
def f(x):
    with open("{plain.gate_path}/file", "a") as file:
        file.write(str(x))
    return x, sorted(os.environ), os.getcwd()
def g(): return 1
""",
        f={"gpu": (GpuRequest("T4"),)},
        g={},
    )
    value, variables, directory = app.remote("f", 3)
    assert value == 3
    assert "AWS_SECRET_ACCESS_KEY" not in variables
    assert os.path.basename(directory) == "script"
    app.remote("f", 4)
    app.remote("g")
    warnings = [text for level, text in app.sink.notices if level == "warning"]
    assert len(warnings) == 1
    assert "plain process" in warnings[0]
    assert "GLOWPLUG_SANDBOX" in warnings[0]
    assert (plain.directory / "home" / "volumes" / "gate" / "file").read_text() == "34"
    app.run.close()
    again = plain("def f(): return 1", f={})
    assert again.remote("f") == 1
    assert len([text for level, text in again.sink.notices if "plain process" in text]) == 1


def test_a_sandboxed_run_is_not_warned(app):
    if not bubblewrap.probe().works:
        pytest.skip("no namespaces here")
    quiet = app("def f(): return 1", f={})
    assert quiet.remote("f") == 1
    assert quiet.sink.notices == []


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


def test_many_threads_of_one_client(app):
    echo = app("def f(x): return x", f={})
    answers: list[Any] = []

    def ask(number: int) -> None:
        answers.extend(echo.remote("f", number * 100 + each) for each in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == sorted(number * 100 + each for number in range(8) for each in range(20))


def test_a_forked_child_of_the_client_may_call(app):
    echo = app("def f(x): return x", f={})
    assert echo.remote("f", 1) == 1
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(echo.remote("f", 42))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert echo.remote("f", 2) == 2


@pytest.mark.parametrize("may_raise", [True, False], ids=["soft limit", "hard limit"])
def test_more_large_results_than_a_process_may_hold_files(app, start, may_raise):
    """Files are how large values travel: there are as many as the process may have, and then words."""
    count, room = 120, 60
    source = "def f(x): return bytes([x]) * (2 << 20)\ndef g(x): return x"
    another = app(source, g={})
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing"
        try:
            free_from = os.dup(0)
            limit = free_from + room
            resource.setrlimit(
                resource.RLIMIT_NOFILE,
                (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1] if may_raise else limit),
            )
            mine = start(source, f={})
            made = call(mine, "f", *range(count))
            until(lambda: made.unanswered == 0, "all results")
            answers = outputs(made, count)
            failed = [output for output in answers if output.status != "success"]
            said = f"{len(answers) - len(failed)} {failed[0].error} {failed[0].message}" if failed else "all"
        except BaseException as error:
            said = repr(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as told:
        said = told.read()
    os.waitpid(pid, 0)
    if may_raise:
        assert said == "all"
    else:
        assert "ResourceExhaustedError" in said
        assert "ulimit -n" in said
    assert another.remote("g", 1) == 1
