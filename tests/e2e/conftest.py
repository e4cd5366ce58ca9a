"""Real servers for tests: each test has its own home and runtime directory, and nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.processes import MARK, marked, until
from glowplug.cli.server import _end, _running_pid
from glowplug.client.serializer import pack, unpack, unpack_exception
from glowplug.client.session import AppSpec, Call, Client, LogLine, Output, Run
from glowplug.client.settings import Settings, read_settings
from glowplug.model.errors import error_from_wire
from glowplug.model.function import FunctionSpec
from glowplug.wire.payload import Payload

SOURCE = str(Path(__file__).parents[2] / "src")
TIMEOUT_S = 60.0
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


@contextlib.contextmanager
def own_server(directory: Path) -> Iterator[dict[str, str]]:
    """The environment of commands with a home of their own in ``directory`` and a virtual fleet of two T4."""
    runtime = tempfile.mkdtemp(prefix="gp-", dir="/tmp")  # a socket's path holds 108 bytes
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env |= {
        "HOME": str(directory),
        "PYTHONPATH": SOURCE,
        "GLOWPLUG_HOME": str(directory / "home"),
        "XDG_RUNTIME_DIR": runtime,
        "GLOWPLUG_GPUS": "2xT4",
    }
    try:
        yield env
    finally:
        stop_server(read_settings(env))
        shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def server_env(tmp_path: Path) -> Iterator[dict[str, str]]:
    with own_server(tmp_path) as env:
        yield env


def stop_server(settings: Settings) -> None:
    pid = _running_pid(settings)
    if pid is not None:
        _end(pid, force=True)


def run_cli(
    args: Sequence[str], env: dict[str, str], cwd: str | Path | None = None, timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """``glowplug ARGS`` as a user runs it; the result has ``stdout``, ``stderr`` and ``returncode``."""
    return subprocess.run(
        [sys.executable, "-m", "glowplug.cli.main", *args],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


@pytest.fixture
def cli(server_env: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``cli("app", "list")`` in this test's environment; extra variables by name."""
    return lambda *args, **variables: run_cli(args, {**server_env, **variables}, tmp_path)


class Sink:
    """What a run said."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.notices: list[tuple[str, str]] = []

    def on_log(self, line: LogLine) -> None:
        self.lines.append(line)

    def on_notice(self, level: str, text: str) -> None:
        self.notices.append((level, text))

    def on_waiting(self, function: str, text: str | None) -> None:
        pass

    def on_build(self, event: object) -> None:
        pass


class LiveApp:
    """An app of plain functions, started through the client in this process."""

    def __init__(self, client: Client, run: Run, sink: Sink) -> None:
        self.client = client
        self.run = run
        self.sink = sink

    def remote(self, name: str, *args: Any) -> Any:
        return value_of(self.run.remote(self.run.function_ids[name], pack((args, {}))))

    def spawn(self, name: str, *inputs: Any) -> Call:
        call = self.run.call(self.run.function_ids[name], kept=True)
        call.add([pack(((each,), {})) for each in inputs])
        return call


def value_of(output: Output) -> Any:
    """What the function returned, else what it raised is raised."""
    if output.status == "success":
        return unpack(output.payload)
    if output.status == "failure":
        raise unpack_exception(output.payload)
    raise error_from_wire(output.error, output.message)


class AppStarter:
    """``start_app(source, f={"gpu": ...}, g={})``: an app of the functions f and g in the module ``source``.

    Options are fields of ``FunctionSpec``; those of ``definition`` are added to what it has. ``gate`` is a
    network file system at ``gate_path``, its directory ``home/network-file-systems/gate`` in that of the
    starter.
    """

    def __init__(self, directory: Path, gate_path: str = "/gate") -> None:
        self.directory = directory
        self.gate_path = gate_path
        self._clients: list[Client] = []

    def __call__(
        self,
        source: str,
        app_name: str = "toy",
        detach: bool = False,
        sink: Sink | None = None,
        **functions: dict[str, Any],
    ) -> LiveApp:
        directory = self.directory / "script"
        directory.mkdir(exist_ok=True)
        (directory / "toymod.py").write_text(source)
        environment = {
            "executable": sys.executable,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "sys_path": [each for each in sys.path if each],
            "env": {},
        }
        place = {
            "script": str(directory / "toymod.py"),
            "directory": str(directory),
            "module": "toymod",
            "digest": str(hash(source)),
        }
        specs = [_toy_function(name, self.gate_path, **options) for name, options in functions.items()]
        client = Client.connect()
        self._clients.append(client)
        sink = sink or Sink()
        run = client.start_app(AppSpec(app_name, specs, environment, place, detach=detach), sink)
        return LiveApp(client, run, sink)

    def close(self) -> None:
        for client in self._clients:
            client.close()


def _toy_function(
    name: str, gate_path: str, definition: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"module": "toymod", "qualname": name, "env": {}, **(definition or {})}
    gate = {"name": "gate", "mount_path": gate_path, "kind": "shared"}
    made["volumes"] = [gate, *made.get("volumes", ())]
    return FunctionSpec("", "", name, definition=made, **options).to_wire()


@pytest.fixture
def start_app(
    server_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AppStarter]:
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    starter = AppStarter(tmp_path)
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def mark() -> str:
    """In the environment of everything that the server of ``start`` starts."""
    return secrets.token_hex(8)


@pytest.fixture(scope="module")
def secret() -> str:
    """In the environment of the client and the server of ``start``."""
    return f"hunter2-{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, mark: str, secret: str) -> Iterator[AppStarter]:
    """Apps on one server for a whole module."""
    directory = tmp_path_factory.mktemp("apps")
    with own_server(directory) as env, pytest.MonkeyPatch.context() as patch:
        for name, value in {**env, "AWS_SECRET_ACCESS_KEY": secret, MARK: mark}.items():
            patch.setenv(name, value)
        starter = AppStarter(directory)
        yield starter
        starter.close()
    until(lambda: not marked(mark), "the end of all processes")


@pytest.fixture
def app(start: AppStarter) -> Iterator[Callable[..., LiveApp]]:
    """``app(source, f={...})``: an app on the server of the module, ended with its test."""
    started: list[LiveApp] = []

    def make(*args: Any, **kwargs: Any) -> LiveApp:
        started.append(start(*args, **kwargs))
        return started[-1]

    yield make
    for each in started:
        each.run.close()
        each.client.close()


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[str], Path]:
    """``gate(name)``: a pipe that test and function meet at, at /gate/NAME in containers. Opening it waits
    for the other side."""
    directory = tmp_path / "home" / "network-file-systems" / "gate"
    directory.mkdir(mode=0o700, parents=True)

    def make(name: str) -> Path:
        os.mkfifo(directory / name)
        return directory / name

    return make


__all__ = ["LiveApp", "Payload", "Sink", "run_cli", "stop_server", "value_of"]
