"""Commands inside running containers and shells in containers of their own, with real terminals."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from e2e.apps import sandboxed
from e2e.conftest import AppStarter, own_server, run_cli
from e2e.processes import until
from glowplug.client.http import request
from glowplug.model.gpu import parse_gpu

SOURCE = """
import os

def waits(name):
    print("begun", name)
    open(f"/gate/{name}", "w").close()
    open(f"/gate/{name}-go").close()
    return name

def quick(x):
    return x
"""
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """Variables of commands on one server with one container that runs."""
    directory = tmp_path_factory.mktemp("exec")
    with own_server(directory) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def holding(env):
    """The id of a container that runs an input, with a T4."""
    from pathlib import Path

    directory = Path(env["HOME"])
    gate = directory / "home" / "network-file-systems" / "gate"
    gate.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("a", "a-go"):
        os.mkfifo(gate / name)
    starter = AppStarter(directory)
    app = starter(
        SOURCE,
        waits={"gpu": parse_gpu("T4"), "definition": {"env": {"OWN": "of the function"}}},
        quick={},
    )
    app.spawn("waits", "a")
    (gate / "a").read_bytes()
    (container,) = request("GET", "/v1/containers")["containers"]
    yield container["container_id"]
    app.run.close()
    starter.close()


def execute(env, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "glowplug.cli.main", "container", "exec", *arguments],
        env=env,
        capture_output=True,
        timeout=DEADLINE_S,
        **options,
    )


def inside(env, holding):
    """The command lines of the container's processes."""
    listed = execute(env, holding, "--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    return listed.stdout.decode()


class Terminal:
    """A command on a terminal of its own, as a person has it."""

    def __init__(self, env, *arguments, size=(33, 101)):
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, size)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "glowplug.cli.main", *arguments],
            env={**env, "TERM": "xterm-256color"},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            preexec_fn=self._take_terminal,
        )
        self.seen = b""

    def _take_terminal(self):
        import fcntl

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, pattern):
        """What matches, once it has been written."""
        deadline = time.monotonic() + DEADLINE_S
        while not (match := re.search(pattern.encode(), self.seen)):
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 1.0)[0]:
                self.seen += os.read(self.master, 1 << 16)
            assert self.process.poll() is None or select.select([self.master], [], [], 0)[0], self.seen
        self.seen = self.seen[match.end() :]
        return match

    def ended(self):
        """The exit code; everything it writes meanwhile is taken."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 1 << 16)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(env):
    with contextlib.ExitStack() as stack:

        def make(*arguments, **options):
            made = Terminal(env, *arguments, **options)
            stack.callback(made.close)
            return made

        yield make


def test_a_command_has_the_containers_world_and_gives_its_exit_code(env, holding):
    done = execute(env, holding, "--", "sh", "-c", "echo $GLOWPLUG_GPU_TYPE $OWN; pwd; echo err >&2; exit 3")
    directory = f"{env['HOME']}/script"
    assert done.stdout.decode() == f"T4 of the function\n{directory}\n"
    assert (done.stderr, done.returncode) == (b"err\n", 3)
    assert execute(env, "-w", "/tmp", holding, "pwd").stdout == b"/tmp\n"
    assert execute(env, holding, "--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL


@sandboxed
def test_a_command_sees_the_containers_processes_only_and_is_no_session_of_its(env, holding):
    pids = execute(env, holding, "--", "sh", "-c", "echo /proc/[0-9]*").stdout.split()
    assert b"/proc/1" in pids
    assert len(pids) < 8
    capabilities = execute(env, holding, "grep", "CapEff", "/proc/self/status").stdout
    assert capabilities.split() == [b"CapEff:", b"0" * 16]


def test_ten_megabytes_come_through_unchanged(env, holding):
    content = os.urandom(10_000_000)
    done = execute(env, holding, "cat", input=content)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(content).digest()
    lines = b"".join(b"%d\n" % number for number in range(200_000))
    shown = execute(env, "--pty", holding, "--", "sh", "-c", "seq 0 199999", stdin=subprocess.DEVNULL)
    assert shown.stdout.replace(b"\r\n", b"\n") == lines


def test_a_slow_reader_gets_everything(env, holding):
    command = [
        sys.executable,
        "-m",
        "glowplug.cli.main",
        "container",
        "exec",
        holding,
        "--",
        "seq",
        "1000000",
    ]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        os.read(reading.stdout.fileno(), 10)
        until(lambda: "seq" in inside(env, holding))  # held up: the command waits for its reader
        assert reading.stdout.read().endswith(b"999999\n1000000\n")
    assert reading.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("CONTAINER", "nothere"), "there is no program 'nothere' in the container"),
        (("CONTAINER", "/etc"), "'/etc' cannot be run: Permission denied"),
        (("-w", "/nothere", "CONTAINER", "ls"), "there is no directory '/nothere' in the container"),
        (("ct-nothere", "ls"), "no container 'ct-nothere' runs here"),
    ],
)
def test_what_cannot_be_run_is_told(env, holding, arguments, said):
    done = execute(env, *(holding if each == "CONTAINER" else each for each in arguments))
    assert done.returncode == 1
    assert said in done.stderr.decode()


def test_a_terminal_has_its_size_its_changes_and_ctrl_c(terminal, env, holding):
    shell = terminal("container", "exec", holding, "--", "sh")
    shell.type("stty size; tty; echo $TERM\n")
    shell.until(r"33 101\r\n/dev/pts/\d+\r\nxterm-256color\r\n")
    termios.tcsetwinsize(shell.slave, (44, 122))
    os.kill(shell.process.pid, signal.SIGWINCH)
    shell.type("until stty size | grep -q '44 122'; do :; done; echo chan''ged\n")
    shell.until("changed\r\n")
    shell.type("sleep 4242\n")
    until(lambda: "4242" in inside(env, holding))
    shell.type("\x03")
    until(lambda: "4242" not in inside(env, holding))
    shell.type("echo status $?\n")
    shell.until(rf"status {128 + signal.SIGINT}\r\n")
    shell.type("exit 3\n")
    assert shell.ended() == 3
    assert termios.tcgetattr(shell.slave) == shell.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_when_the_command_is_told_to_end(terminal, env, holding, number):
    shell = terminal("container", "exec", holding)
    shell.type("echo rea''dy\n")
    shell.until("ready\r\n")
    assert termios.tcgetattr(shell.slave) != shell.before
    shell.process.send_signal(number)
    assert shell.ended() == 128 + number
    assert termios.tcgetattr(shell.slave) == shell.before


def test_nothing_is_left_of_a_client_that_was_killed(terminal, env, holding):
    shell = terminal("container", "exec", holding, "--", "sh")
    shell.type("(setsid sh -c 'trap \"\" HUP TERM; sleep 5353' &) ; sleep 5252 & echo sta''rted\n")
    shell.until("started\r\n")
    until(lambda: {"5353", "5252"} <= set(inside(env, holding).split()))
    shell.process.kill()
    until(lambda: not {"5353", "5252"} & set(inside(env, holding).split()))
    until(lambda: "exec_entry" not in inside(env, holding).replace("exec_entry", "", 1))


def test_what_a_command_leaves_behind_ends_with_it(env, holding):
    done = execute(env, holding, "--", "sh", "-c", "sleep 6161 & echo done")
    assert (done.stdout, done.returncode) == (b"done\n", 0)
    assert "6161" not in inside(env, holding)


def test_a_signal_reaches_a_command_without_a_terminal(env, holding):
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    command = [
        sys.executable,
        "-m",
        "glowplug.cli.main",
        "container",
        "exec",
        holding,
        "--",
        "sh",
        "-c",
        script,
    ]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == "caught\n"
        assert running.wait(DEADLINE_S) == 7


def test_lists_and_logs_of_one_container(env, holding):
    (row,) = json.loads(run_cli(["container", "list", "--json"], env).stdout)
    assert (row["container_id"], row["function"], row["gpu_type"]) == (holding, "waits", "T4")
    shown = run_cli(["container", "list"], env).stdout.splitlines()
    assert re.fullmatch(rf"{holding} +toy +waits +ready +1 × T4 +virtual-1 +1 +0 +\d+ (s|min)", shown[1])
    assert run_cli(["container", "logs", holding], env).stdout == "begun a\n"
    missing = run_cli(["container", "logs", "ct-nothere"], env)
    assert (missing.returncode, "no container 'ct-nothere' runs here" in missing.stderr) == (1, True)


def test_a_stopped_container_gives_its_input_to_another(cli, start_app, gate, tmp_path):
    begun, go = gate("a"), gate("a-go")
    app = start_app(SOURCE, waits={}, quick={})
    call = app.spawn("waits", "a")
    begun.read_bytes()
    (first,) = request("GET", "/v1/containers")["containers"]
    command = [sys.executable, "-m", "glowplug.cli.main", "container", "exec", first["container_id"]]
    with subprocess.Popen(
        [*command, "--", "sh", "-c", "echo in; sleep 600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as beside:
        assert beside.stdout is not None
        assert beside.stdout.readline() == "in\n"
        stopped = cli("container", "stop", first["container_id"])
        assert stopped.stdout == f"container {first['container_id']} ended\n", stopped.stderr
        _, told = beside.communicate(timeout=DEADLINE_S)
    assert "the container ended, and the command with it" in told
    begun.read_bytes()
    (second,) = request("GET", "/v1/containers")["containers"]
    assert second["container_id"] != first["container_id"]
    assert cli("container", "logs", "-f", first["container_id"]).stdout == "begun a\n"
    go.write_bytes(b"")
    from e2e.conftest import value_of

    assert value_of(call.next(DEADLINE_S)) == "a"
    again = cli("container", "stop", first["container_id"])
    assert (again.returncode, "runs here" in again.stderr) == (1, True)


def test_a_shell_has_a_container_of_its_own(cli, tmp_path):
    done = cli("shell", "--gpu", "T4", "-c", "pwd; echo $GLOWPLUG_GPU_TYPE $CUDA_VISIBLE_DEVICES; exit 5")
    directory, card = done.stdout.splitlines()
    assert (directory, card.split()[0], done.returncode) == (str(tmp_path), "T4", 5), done.stderr
    assert cli("container", "list").stdout == "no container runs\n"
    misspelt = cli("shell", "--volume", "nono", "-c", "true")
    assert (misspelt.returncode, "'nono'" in misspelt.stderr) == (1, True), misspelt.stderr
    assert json.loads(cli("volume", "list", "--json").stdout) == []
    refused = cli("shell", "--gpu", "H100", "-c", "true")
    assert (refused.returncode, "no machine has an H100" in refused.stderr) == (1, True)


def test_a_shell_of_a_function_has_what_the_function_has(cli, tmp_path):
    (tmp_path / "app.py").write_text(
        "import modal\n"
        "made = modal.Volume.from_name('kept', create_if_missing=True)\n"
        "app = modal.App('x', secrets=[modal.Secret.from_dict({'TOKEN': 'of-the-app'})])\n"
        "@app.function(gpu='T4:2', env={'OWN': 'yes'}, volumes={'/kept': made})\n"
        "def train(x: int): raise SystemExit('never called')\n"
        "@app.function(gpu='H100')\n"
        "def other(): pass\n"
    )
    command = "echo $OWN $TOKEN $GLOWPLUG_GPU_COUNT; ls -d /kept; ls app.py"
    done = cli("shell", "app.py::train", "-c", command)
    assert done.stdout == "yes of-the-app 2\n/kept\napp.py\n", done.stderr
    unnamed = cli("shell", "app.py")
    assert "name a function of app.py, as in app.py::NAME; it has: train, other" in unnamed.stderr
    both = cli("shell", "app.py::train", "--gpu", "T4")
    assert "--gpu: app.py::train says already" in both.stderr


def test_a_shell_on_a_terminal_ends_everything_with_it(server_env, tmp_path):
    shell = Terminal({**server_env, "PWD": str(tmp_path)}, "shell")
    try:
        shell.type("stty size; echo $((20 + 22))\n")
        shell.until(r"33 101\r\n42\r\n")
        shell.type("sleep 7171 & exit 4\n")
        assert shell.ended() == 4
        assert termios.tcgetattr(shell.slave) == shell.before
    finally:
        shell.close()
    listed = json.loads(run_cli(["container", "list", "--json"], server_env).stdout)
    assert listed == []


def test_a_shell_that_waits_for_a_gpu_says_why(server_env, tmp_path, monkeypatch):
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "glowplug.cli.main", "shell", "--gpu", "T4:2", "-c"]
    with subprocess.Popen(
        [*command, "echo in; sleep 600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"in\n"
        with subprocess.Popen(
            [*command, "echo second"], stderr=subprocess.PIPE, stdout=subprocess.PIPE
        ) as second:
            assert second.stderr is not None
            line = second.stderr.readline().decode()
            assert re.match(r"glowplug: shell waits: .*T4", line), line
            first.terminate()
            first.wait(DEADLINE_S)
            assert second.communicate(timeout=DEADLINE_S)[0] == b"second\n"


def test_a_shell_in_an_image_of_a_script(cli, tmp_path):
    (tmp_path / "images.py").write_text(
        "import modal\nimage = modal.Image.debian_slim().env({'OWN': 'of the image'})\n"
    )
    (tmp_path / "note.txt").write_text("noted\n")
    asked = ("--image", "images.py::image", "--add-local", "note.txt")
    done = cli("shell", *asked, "-c", "echo $OWN; cat /mnt/note.txt; exit 6")
    assert (done.stdout, done.returncode) == ("of the image\nnoted\n", 6), done.stderr
    missing = cli("shell", "--image", "images.py::nothing", "-c", "true")
    assert "images.py has no image 'nothing'" in missing.stderr
    (tmp_path / "broken.py").write_text("1 / 0\n")
    broken = cli("shell", "--image", "broken.py::image", "-c", "true")
    assert (broken.returncode, "ZeroDivisionError" in broken.stderr) == (1, True)
    local = cli("shell", "--add-local", "note.txt", "-c", "true")
    assert "--add-local puts files into an image: give --image" in local.stderr
