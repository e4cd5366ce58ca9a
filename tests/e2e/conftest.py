"""Real servers for tests: each test has its own home and runtime directory, and nothing is left of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def server_env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of one test's commands: its own home, a virtual fleet of two T4."""
    runtime = tempfile.mkdtemp(prefix="gp-", dir="/tmp")  # a socket's path holds 108 bytes
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env |= {
        "HOME": str(tmp_path),
        "PYTHONPATH": SOURCE,
        "GLOWPLUG_HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": runtime,
        "GLOWPLUG_GPUS": "2xT4",
    }
    yield env
    stop_server(read_settings(env))
    shutil.rmtree(runtime, ignore_errors=True)


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


@pytest.fixture
def start_app(
    server_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., LiveApp]]:
    """``start_app(source, f={"gpu": ...}, g={})``: an app of the functions f and g in the module ``source``.

    Options are fields of ``FunctionSpec``. ``gate`` is a volume at /gate, its directory
    ``tmp_path/home/volumes/gate``.
    """
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    clients: list[Client] = []

    def start(
        source: str, app_name: str = "toy", detach: bool = False, **functions: dict[str, Any]
    ) -> LiveApp:
        directory = tmp_path / "script"
        directory.mkdir(exist_ok=True)
        (directory / "toymod.py").write_text(source)
        definition = {"module": "toymod", "env": {}}
        definition["volumes"] = [{"name": "gate", "mount_path": "/gate"}]  # type: ignore[assignment]
        specs = [
            FunctionSpec("", "", name, definition={**definition, "qualname": name}, **options).to_wire()
            for name, options in functions.items()
        ]
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
        client = Client.connect()
        clients.append(client)
        sink = Sink()
        run = client.start_app(AppSpec(app_name, specs, environment, place, detach=detach), sink)
        return LiveApp(client, run, sink)

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def gate(tmp_path: Path) -> Callable[[str], Path]:
    """``gate(name)``: a pipe that test and function meet at, at /gate/NAME in containers. Opening it waits
    for the other side."""
    directory = tmp_path / "home" / "volumes" / "gate"
    directory.mkdir(mode=0o700, parents=True)

    def make(name: str) -> Path:
        os.mkfifo(directory / name)
        return directory / name

    return make


__all__ = ["LiveApp", "Payload", "Sink", "run_cli", "stop_server", "value_of"]
