"""``glowplug demo``: a home and a server of its own, the fleet, the steps, the bill, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from glowplug.cli.demo.cards import VIRTUAL, Cards, cards_of
from glowplug.cli.demo.steps import STEPS, Broken, Stage, expect
from glowplug.model import errors

LABEL = 11
WIDTH = 100
SCRIPT = Path(__file__).with_name("functions.py")


@click.command()
@click.option("--virtual", is_flag=True, help="Take a virtual fleet although there are cards.")
def demo(virtual: bool) -> None:
    """Show the main job on this machine's cards, or on virtual ones. Every line is asserted.

    \b
    It has a home and a server of its own and leaves nothing behind. Exits with 1 if something does not hold.
    Example:
      glowplug demo
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _on_terminate)
    with _own_home() as home:
        cards, why_virtual = _choose(virtual)
        if cards.fleet:
            os.environ["GLOWPLUG_GPUS"] = cards.fleet
        os.environ["DEMO_GPUS"] = json.dumps(cards.asked)
        try:
            held = _play(cards, why_virtual, home)
        except Broken as broken:
            raise click.ClickException(f"this does not hold here: {broken}{_log_tail(home)}") from None
    click.echo(f"{held} claims held, in {time.monotonic() - began:.1f} s")


def _play(cards: Cards, why_virtual: str, home: Path) -> int:
    """Everything between the first line and the last. Returns how many steps held."""
    from glowplug.cli.script import load_script
    from glowplug.client.http import request
    from glowplug.client.session import Client
    from glowplug.sdk.running import start

    sink = _Sink()
    script = load_script(str(SCRIPT))
    with _uninterrupted():
        # A server that is only just coming up could not be found and ended.
        client = Client.connect()
    running = start(script.apps[0], client=client, sink=sink)
    try:
        fleet = request("GET", "/v1/nodes")
        expect(fleet["banner"].startswith("VIRTUAL" if cards.fleet else "REAL"), fleet["banner"])
        click.secho(fleet["banner"], bold=True)
        if why_virtual:
            _show("virtual", [why_virtual])
        _show("fleet", _fleet_lines(fleet["nodes"]))
        stage = Stage(cards, script.module, running.run.app_id, home, sink.notices, sink.warnings)
        for label, step in STEPS:
            try:
                _show(label, step(stage))
            except BrokenPipeError:
                raise  # nobody reads what this prints any more
            except (errors.Error, TimeoutError, OSError) as error:
                raise Broken(f"{label}: {error}") from error
            _show("note", stage.warnings)  # those that no step expected
            stage.warnings.clear()
        stage.containers()
    finally:
        summary = running.close()
    left = [pid for pid in stage.pids if _runs(pid)]
    expect(not left, f"processes of ended containers still run: {left}")
    most = sorted(summary.gpu_seconds.items(), key=lambda used: -used[1])
    used = [f"{seconds:.2f} s of {type}" for type, seconds in most]
    as_if = "" if stage.real else ", as if these were real cards"
    _show("cost", [f"{', '.join(used)}: ${summary.cost_usd:.4f} by the list prices{as_if}"])
    _show("left", [f"nothing: all {len(stage.pids)} processes of its containers are gone"])
    return len(STEPS) + 2


def _choose(virtual: bool) -> tuple[Cards, str]:
    """What to ask for, and why it is virtual where somebody may wonder."""
    from glowplug.cli.fleet import read_inventory
    from glowplug.client.settings import read_settings
    from glowplug.model.node import Node

    if virtual:
        return VIRTUAL, "as asked"
    inventory = read_inventory(read_settings())
    shown = [{**node, "gpus": [_plain(gpu) for gpu in node["gpus"]]} for node in inventory["nodes"]]
    nodes = [Node.from_wire(node) for node in shown]
    cards = cards_of(nodes)
    if cards is not None:
        return cards, ""
    busy = [gpu for node in nodes for gpu in node.gpus]
    return VIRTUAL, "no whole card of this machine is free; `glowplug gpus` says why" if busy else ""


def _plain(gpu: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in gpu.items() if name != "held_by"}


def _fleet_lines(nodes: list[dict[str, Any]]) -> Iterator[str]:
    from glowplug.model.catalog import variant_name

    width = max(len(node["id"]) for node in nodes)
    strangers = []
    for node in nodes:
        counts: dict[str, int] = {}
        for gpu in node["gpus"]:
            name = variant_name(gpu["type"], gpu["memory_gb"])
            counts[name] = counts.get(name, 0) + 1
            where = f"{name} {gpu['index']} of {node['id']}"
            for use in gpu["foreign"]:
                strangers.append(f"{where}: {use['user']}, pid {use['pid']}, {use['memory_mib']:,} MiB")
            if gpu["locked_by"]:
                strangers.append(f"{where}: {gpu['locked_by']}")
        yield f"{node['id'].ljust(width)}  " + ", ".join(f"{count}× {name}" for name, count in counts.items())
    yield f"used by others: {'; '.join(strangers) or 'none of them'}"


def _show(label: str, lines: Iterable[str]) -> None:
    """Lines under a label, wrapped and aligned; plain where this is no terminal."""
    width = max(60, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
    for line in lines:
        wrapped = textwrap.wrap(line, width - LABEL, break_long_words=False, break_on_hyphens=False)
        for part in wrapped or [""]:
            click.echo(click.style(label.ljust(LABEL), bold=True) + part)
            label = ""


def _runs(pid: int) -> bool:
    """Whether there is more of it than a line in its parent's book."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class _Sink:
    """Keeps what the server says."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.warnings: list[str] = []

    def on_log(self, line: Any) -> None:
        pass

    def on_notice(self, level: str, text: str) -> None:
        (self.warnings if level == "warning" else self.notices).append(text)

    def on_waiting(self, function: str, text: str | None) -> None:
        pass

    def on_build(self, event: Any) -> None:
        pass


@contextmanager
def _own_home() -> Iterator[Path]:
    """A home and a runtime directory for this process alone; both are gone in the end, and its server."""
    directory = Path(tempfile.mkdtemp(prefix="glowplug-demo-"))
    for name in [name for name in os.environ if name.startswith("GLOWPLUG_") and name != "GLOWPLUG_SANDBOX"]:
        del os.environ[name]
    (directory / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(directory / "run")
    os.environ["GLOWPLUG_HOME"] = str(directory / "home")
    try:
        yield directory / "home"
    finally:
        from glowplug.cli.server import end_server

        with _uninterrupted():
            end_server(force=True)
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C takes effect when the block is over."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _log_tail(home: Path) -> str:
    try:
        lines = (home / "server.log").read_text(errors="replace").splitlines()[-8:]
    except OSError:
        return ""
    return "\nThe last lines of the server's log:\n" + "\n".join(lines)


def _on_terminate(number: int, frame: Any) -> None:
    sys.exit(128 + number)
