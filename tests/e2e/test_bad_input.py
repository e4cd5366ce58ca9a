"""What goes wrong on a user's side is one clear message and a non-zero exit; nothing stays behind.

Every script here is wrong in one way. The message says what, which, why and what to do, and where in the
script; a traceback, where there is one, is the user's own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import glowplug
from commands import Finished, Home, finish

OURS = os.path.dirname(glowplug.__file__)
FLEET = "2xT4,1xA100-80GB"
APP = "import modal\napp = modal.App()\n"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    home = Home({"GLOWPLUG_GPUS": FLEET})
    yield home
    home.close()


@dataclass(frozen=True)
class Wrong:
    script: str
    says: tuple[str, ...]
    """What the message holds, in this order."""
    arguments: tuple[str, ...] = ("script.py",)
    status: int = 1
    environ: dict[str, str] = field(default_factory=dict)
    users_traceback: bool = False


def asks_for(gpu: str) -> str:
    return f"{APP}@app.function(gpu={gpu})\ndef f(): pass\n"


def wrong_gpu(gpu: str, *says: str) -> Wrong:
    return Wrong(asks_for(gpu), ("@app.function of f", f"gpu={gpu}", *says, "script.py:3"))


def function(body: str, called: str = "f.remote()", options: str = "", arguments: str = "") -> str:
    """A script whose function has this body and whose entrypoint calls it so."""
    inner = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return (
        f"{APP}import threading\n@app.function({options})\ndef f({arguments}):\n{inner}\n"
        f"@app.local_entrypoint()\ndef main():\n    {called}\n"
    )


ENTRYPOINT = APP + "@app.local_entrypoint()\ndef main(count: int, dry_run: bool = False): print(count)\n"
TWO_FUNCTIONS = APP + "@app.function()\ndef f(): pass\n@app.function()\ndef g(): pass\n"

WRONG = {
    # gpu=
    "unknown GPU": wrong_gpu("'V9000'", 'no GPU type is called "V9000"', 'Did you mean "V100"?'),
    "misspelt GPU": wrong_gpu("'H10O'", 'no GPU type is called "H10O"', 'Did you mean "H100"?'),
    "count 0": wrong_gpu("'H100:0'", "at least 1, not 0", 'Did you mean "H100"?', "gpu=None"),
    "count -1": wrong_gpu("'H100:-1'", "at least 1", 'Did you mean "H100"?'),
    "count 9": wrong_gpu("'H100:9'", "up to 8 GPUs per container, not 9", 'Did you mean "H100:8"?'),
    "count x": wrong_gpu("'H100:x'", '"x" is not a whole number', 'Did you mean "H100"?'),
    "A10G:5": wrong_gpu("'A10G:5'", "A10G supports up to 4 GPUs per container", 'Did you mean "A10G:4"?'),
    "an empty list": wrong_gpu("[]", "the list of fallbacks is empty", "gpu=None"),
    "a wrong fallback": wrong_gpu("['H100', 'T4:x']", "entry 2, 'T4:x'", "whole number", "T4"),
    "an object's count": Wrong(
        asks_for("modal.gpu.H100(count=9)"), ("up to 8 GPUs per container, not 9", 'Did you mean "H100:8"?')
    ),
    "a type this fleet lacks": Wrong(
        asks_for("'A10G'"),
        (
            "function f asks for gpu='A10G'",
            "no machine has an A10G",
            "1×A100-80GB + 2×T4",
            "--gpu-map A10G=A100",
        ),
    ),
    "a count no machine has": Wrong(
        asks_for("'T4:4'"),
        ("function f asks for gpu='T4:4'", "the most on one is 2", "glowplug gpus lists them"),
    ),
    "an exact type this fleet lacks": Wrong(
        asks_for("'A10G!'"), ("asks for gpu='A10G!'", "no machine has an A10G")
    ),
    "a cloud this fleet lacks": Wrong(
        APP + "@app.function(cloud='gcp')\ndef f(): pass\n",
        ("function f asks for cloud=gcp", "this fleet has aws", "name one that is there"),
        environ={"GLOWPLUG_GPUS": "1xT4 @cloud=aws"},
    ),
    "no GPU on this machine": Wrong(
        asks_for("'A10G:2'") + "@app.function(gpu='any')\ndef g(): pass\n",
        (
            "functions f, g ask for GPUs, and no machine here has a GPU",
            "glowplug doctor",
            "on a machine with GPUs",
            'GLOWPLUG_GPUS="2xA10G"',
            "--gpu none",
        ),
        arguments=("script.py::f",),
        environ={"GLOWPLUG_GPUS": "", "CUDA_VISIBLE_DEVICES": ""},
    ),
    "a fleet that cannot be": Wrong(
        asks_for("None"),
        ("GLOWPLUG_GPUS", "2xFOO99", 'no GPU type is called "FOO99"', "For example"),
        environ={"GLOWPLUG_GPUS": "2xFOO99"},
    ),
    # other options
    "an unknown option": Wrong(
        APP + "@app.function(gpus='T4')\ndef f(): pass\n",
        ("@app.function of f: gpus= is not a known option", "Did you mean gpu=?", "script.py:3"),
    ),
    "a timeout below nothing": Wrong(
        APP + "@app.function(timeout=-3)\ndef f(): pass\n", ("timeout=-3", "from 1 to 86400", "script.py:3")
    ),
    "retries of a generator": Wrong(
        APP + "@app.function(retries=2)\ndef f(): yield 1\n", ("retries= cannot be used", "script.py:3")
    ),
    # values and exceptions
    "an unpicklable argument": Wrong(
        function("pass", "f.remote(1, [threading.Lock()])", arguments="x, y"),
        (
            "the arguments of f cannot be pickled (_thread.lock)",
            "made where they are used",
            "script.py:9, in main",
        ),
    ),
    "an unpicklable result": Wrong(
        function("return {'key': threading.Lock()}"),
        (
            "the result of f cannot be pickled (_thread.lock)",
            "made where they are used",
            "script.py:9, in main",
        ),
    ),
    "a result over the limit": Wrong(
        "import glowplug.client.serializer as s\ns.MAX_PAYLOAD_BYTES = 100_000\n"
        + function("return bytes(200_000)"),
        ("the result of f", "volume"),
    ),
    "an argument over the limit": Wrong(
        "import glowplug.client.serializer as s\ns.MAX_PAYLOAD_BYTES = 100_000\n"
        + function("pass", "f.remote(bytes(200_000))", arguments="x"),
        ("the arguments of f", "volume"),
    ),
    "an exception": Wrong(
        function("return 1 / 0"),
        ("In the container:", "line 6, in f", "1 / 0", "Here:", "line 9, in main", "ZeroDivisionError"),
        users_traceback=True,
    ),
    "an exception whose class is missing here": Wrong(
        function(
            """
            import sys, types
            only_there = types.ModuleType("only_there")
            exec("class Odd(Exception): pass", only_there.__dict__)
            sys.modules["only_there"] = only_there
            only_there.Odd.__module__ = "only_there"
            raise only_there.Odd("boo")
            """
        ),
        ("only_there.Odd: boo", "No module named 'only_there'", "line 11, in f", "script.py:14, in main"),
        users_traceback=True,
    ),
    "a generator under map": Wrong(
        function("yield 1", "list(f.map([1]))", arguments="x"),
        ("f.map(...): f is a generator function", "f.remote_gen(...)", "script.py:9, in main"),
    ),
    "sys.exit in a function": Wrong(
        function("raise SystemExit(3)"), ("f called sys.exit(3); return a value instead", "in main")
    ),
    "a container that dies": Wrong(
        function("import os; os._exit(3)"),
        ("of function f exited with code 3", "by 3 containers that died", "limit 3"),
    ),
    "a function over its timeout": Wrong(
        function("threading.Event().wait()", options="timeout=1"),
        ("function f ran longer than its timeout of 1 s", "raise timeout="),
    ),
    "a function that is not there in the container": Wrong(
        APP + "if modal.is_local():\n    @app.function()\n    def f(): pass\n",
        ("f cannot be loaded", "has no 'f'", "at the top level", "serialized=True"),
    ),
    "an import that fails in the container": Wrong(
        APP + "if not modal.is_local():\n    import nothing_like_it\n@app.function()\ndef f(): pass\n",
        ("the import of 'script' failed", "line 4", "No module named 'nothing_like_it'"),
        users_traceback=True,
    ),
    "a function within a function": Wrong(
        APP + "def make():\n    @app.function()\n    def f(): pass\n    return f\nf = make()\n",
        ("not at the top level", "serialized=True", "script.py:4, in make"),
    ),
    "a closure that cannot travel": Wrong(
        APP + "import threading\ndef make(lock):\n    @app.function(serialized=True)\n"
        "    def f(): return lock\n    return f\nf = make(threading.Lock())\n",
        ("f cannot be sent by value", "_thread.lock", "inside the function"),
    ),
    "a call of an app that does not run": Wrong(
        APP + "@app.function()\ndef f(): pass\nf.remote()\n",
        ("f cannot be called: the app does not run", "with app.run():", "script.py:5"),
    ),
    # the script
    "a missing file": Wrong("", ("there is no file 'nothere.py' in",), arguments=("nothere.py",)),
    "a module taken for a file": Wrong(
        "", ("no file 'package.nothere'", "-m package.nothere"), ("package.nothere",)
    ),
    "a missing module": Wrong("", ("there is no module 'nothere.main'",), arguments=("-m", "nothere.main")),
    "a directory": Wrong("", (". is a directory; name the script in it",), arguments=(".",)),
    "a script that hides a module of Python": Wrong(
        "", ("'random'", "rename it"), arguments=("beside/random.py",)
    ),
    "no text": Wrong("\0\0", ("script.py is not a Python script",)),
    "a syntax error": Wrong(APP + "def f(:\n", ("script.py", "line 3", "SyntaxError"), users_traceback=True),
    "an import error": Wrong(
        "import nothing_like_it\n",
        ("Traceback", "script.py", "line 1", "No module named 'nothing_like_it'"),
        users_traceback=True,
    ),
    "an error while it is imported": Wrong(
        APP + "def f():\n    return {}['key']\nf()\n",
        ("Traceback", "line 5", "line 4, in f", "KeyError"),
        users_traceback=True,
    ),
    "an empty script": Wrong("", ("script.py has no App", "app = modal.App()", "@app.function()")),
    "an app without functions": Wrong(APP, ("an App without functions", "@app.function()")),
    "a wrong name": Wrong(
        ENTRYPOINT,
        ("no entrypoint or function 'mian'", "it has: main", "Did you mean 'main'?"),
        ("script.py::mian",),
    ),
    "several functions": Wrong(
        TWO_FUNCTIONS, ("several things to run", "`glowplug run script.py::f`, `glowplug run script.py::g`")
    ),
    "two apps": Wrong(
        "import modal\na = modal.App('a')\nb = modal.App('b')\n"
        "@a.function()\ndef f(): pass\n@b.function()\ndef g(): pass\n",
        ("several things to run", "script.py::f", "script.py::g"),
    ),
    # the command line
    "an argument of another type": Wrong(
        ENTRYPOINT,
        ("glowplug run script.py::main", "'--count'", "'many' is not a valid integer"),
        ("script.py", "--count", "many"),
        status=2,
    ),
    "a missing argument": Wrong(ENTRYPOINT, ("script.py::main", "Missing option '--count'"), status=2),
    "an unknown argument": Wrong(
        ENTRYPOINT,
        ("script.py::main", "No such option '--dry-rum'", "--dry-run"),
        ("script.py", "--count", "1", "--dry-rum"),
        status=2,
    ),
    "an argument too many": Wrong(
        ENTRYPOINT,
        ("script.py::main", "unexpected extra argument", "3"),
        ("script.py", "--count", "1", "3"),
        2,
    ),
    "a parameter without a form": Wrong(
        APP + "@app.local_entrypoint()\ndef main(x: dict): pass\n",
        ("main: the parameter 'x' has the type dict", "convert it inside"),
    ),
    "a function's missing argument": Wrong(
        APP + "@app.function()\ndef f(x): pass\n", ("script.py::f", "Missing option '--x'"), status=2
    ),
    "a generator by itself": Wrong(
        APP + "@app.function()\ndef f(): yield 1\n", ("f is a generator function", "f.remote_gen(...)")
    ),
    "a map to nothing": Wrong(
        asks_for("'T4'"), ('--gpu-map "T4"', "--gpu-map A10G=RTX-4090"), ("--gpu-map", "T4", "script.py")
    ),
    "a map to an unknown type": Wrong(
        asks_for("'T4'"), ("--gpu-map", 'no GPU type is called "Hx"'), ("--gpu-map", "T4=Hx", "script.py")
    ),
    "another word than none": Wrong(
        asks_for("'T4'"), ("--gpu T4: only `none` is possible", "--gpu-map"), ("--gpu", "T4", "script.py")
    ),
    "a result that is no text": Wrong(
        APP + "@app.function()\ndef f(): return 1\n",
        ("--write-result writes str or bytes", "int"),
        ("-w", "result.txt", "script.py"),
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_one_message_that_says_it_all(home: Home, tmp_path: Path, monkeypatch, wrong: Wrong):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text(wrong.script)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "random.py").write_text(APP)
    done = home.command("run", *wrong.arguments, environ=wrong.environ)
    assert done.status == wrong.status, done.said
    position = 0
    for words in wrong.says:
        found = done.stderr.find(words, position)
        assert found >= 0, f"{words!r} is not said in its place\n{done.said}"
        position = found + len(words)
    assert OURS not in done.stderr, done.said
    assert "Traceback" not in done.stderr or wrong.users_traceback, done.said
    assert len(messages(done)) <= 1, done.said


def messages(done: Finished) -> list[str]:
    """What Glowplug says beside warnings, reasons to wait and the closing line of the run."""
    said = [line for line in done.stderr.splitlines() if line.startswith("glowplug: ")]
    return [line for line in said if not re.match(r"glowplug: (\d+ inputs? in|warning:|\w+ waits:)", line)]


def test_after_all_of_it_nothing_is_left(home: Home, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text(function("return 1"))
    home.run(tmp_path / "script.py")
    status = json.loads(home.command("server", "status", "--json").stdout)
    assert (status["apps"], status["containers"]) == ([], 0)


# the server


def test_the_socket_of_a_dead_server_is_no_hindrance(home: Home, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(function("return 1"))
    home.run(script)
    pid = json.loads(home.command("server", "status", "--json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    home.run(script)
    assert json.loads(home.command("server", "status", "--json").stdout)["pid"] != pid


def test_two_that_start_the_server_at_once_share_one(tmp_path: Path):
    home = Home({"GLOWPLUG_GPUS": FLEET})
    try:
        script = tmp_path / "script.py"
        script.write_text(function("return 1", "print('done', f.remote())"))
        for done in [finish(each, 60) for each in [home.start("run", str(script)) for _ in range(2)]]:
            assert (done.status, done.stdout) == (0, "done 1\n"), done.said
        log = (home.directory / "home" / "server.log").read_text()
        assert log.count("serving on") == 1, log
    finally:
        home.close()


def test_a_busy_server_of_another_configuration_is_named(home: Home, tmp_path: Path):
    script = tmp_path / "busy.py"
    script.write_text(function("print('begun', flush=True)\nthreading.Event().wait()"))
    busy = home.start("run", str(script))
    try:
        assert busy.stdout is not None
        assert busy.stdout.readline() == "begun\n"
        done = home.command("run", str(script), environ={"GLOWPLUG_GPUS": "8xH100"})
        assert done.status == 1
        for words in (
            f"GLOWPLUG_GPUS={FLEET}",
            "busy with: busy",
            "GLOWPLUG_GPUS=8xH100",
            "glowplug server stop",
        ):
            assert words in done.stderr, done.said
        assert busy.poll() is None, "the run that keeps it busy goes on"
    finally:
        os.killpg(busy.pid, signal.SIGINT)
        done = finish(busy, 60)
    assert done.status == 130, done.said
    assert done.stderr.endswith("glowplug: interrupted\n"), done.said
    assert "Traceback" not in done.stderr
