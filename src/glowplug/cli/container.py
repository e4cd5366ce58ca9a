"""``glowplug container``: what runs where, what it prints, a command inside it, and its end."""

from __future__ import annotations

import sys
import time
from typing import Any
from urllib.parse import quote, urlencode

import click

STOP_POLL_S = 0.1
STOP_GRACE_S = 30.0
STOP_SLACK_S = 10.0


@click.group()
def container() -> None:
    """List containers, read their logs, run commands in them, stop them.

    \b
    Example:
      glowplug container list
      glowplug container exec ct-1a2b3c-4 -- nvidia-smi
    """


@container.command("list")
@click.option("--app", "--app-id", "app", metavar="APP", help="Only those of this app, by name or id.")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
@click.option("-e", "--env", "environment", hidden=True)
def list_(app: str | None, as_json: bool, environment: str | None) -> None:
    """List the containers: whose they are, which GPUs they hold, what they run.

    \b
    Example:
      glowplug container list --app train
    """
    from glowplug.cli.table import print_json, print_table
    from glowplug.client.http import NoServerError, request

    path = "/v1/containers" + (f"?{urlencode({'app': app})}" if app else "")
    try:
        found = request("GET", path)["containers"]
    except NoServerError:
        found = []
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no container runs")
    else:
        print_table(COLUMNS, [_row(each, time.time()) for each in found], RIGHT)


COLUMNS = ("CONTAINER", "APP", "FUNCTION", "STATE", "GPUS", "NODE", "RUNS", "DONE", "AGE")
RIGHT = frozenset({"RUNS", "DONE"})


def _row(each: dict[str, Any], now: float) -> tuple[str, ...]:
    from glowplug.cli.table import duration

    gpus = f"{len(each['gpu_uuids'])} × {each['gpu_type']}" if each["gpu_uuids"] else "–"
    running = len(each["running"])
    state = each["status"] + (f": {each['stop_reason']}" if each["stop_reason"] else "")
    if each["status"] == "ready" and not running:
        state = "idle"
    done = each["taken"] - running - each["ahead"]
    return (
        each["container_id"],
        each["app"],
        each["function"],
        state,
        gpus,
        each["node_id"],
        str(running),
        str(done),
        duration(now - each["created_at"]),
    )


@container.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--pty/--no-pty", "pty", default=None, help="With a terminal of its own; else if this is one.")
@click.option("-w", "--workdir", metavar="PATH", help="In this directory; else that of the function.")
@click.argument("container_id")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def exec(pty: bool | None, workdir: str | None, container_id: str, command: tuple[str, ...]) -> None:
    """Run a command in a running container: its files, environment and GPUs.

    \b
    Without a command a shell. Ctrl-C goes to the command; its exit code is this one's. What it started ends
    with it, and with this command. Example:
      glowplug container exec ct-1a2b3c-4 -- nvidia-smi
      glowplug container exec ct-1a2b3c-4
    """
    from glowplug.cli.terminal import run_in_container

    sys.exit(run_in_container(container_id, command[1:] if command[:1] == ("--",) else command, pty, workdir))


@container.command()
@click.argument("container_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@click.option(
    "-n", "--tail", "--lines", "lines", type=click.IntRange(min=0), help="Only the latest so many lines."
)
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def logs(container_id: str, follow: bool, lines: int | None, timestamps: bool, as_json: bool) -> None:
    """Print what one container prints, each line on the stream it was written to.

    \b
    Example:
      glowplug container logs -f ct-1a2b3c-4
    """
    from glowplug.cli.app import print_lines

    asked = {"follow": "1" if follow else None, "lines": lines}
    query = urlencode({key: value for key, value in asked.items() if value is not None})
    path = f"/v1/containers/{quote(container_id, safe='')}/logs?{query}"
    print_lines(path, timestamps=timestamps, as_json=as_json)


@container.command()
@click.argument("container_id")
@click.option("--graceful/--now", default=True, help="Leave exit handlers their time, or kill it at once.")
@click.option("-y", "--yes", is_flag=True, hidden=True)
def stop(container_id: str, graceful: bool, yes: bool) -> None:
    """End one container. What it runs goes on in another one; no retry is spent.

    \b
    Example:
      glowplug container stop ct-1a2b3c-4
    """
    from glowplug.client.http import request
    from glowplug.model import errors

    path = f"/v1/containers/{quote(container_id, safe='')}"
    grace_s = STOP_GRACE_S if graceful else 0.0
    found = request(
        "POST", f"{path}/stop", {"grace_s": grace_s, "reason": "stopped with `glowplug container stop`"}
    )
    deadline = time.monotonic() + grace_s + STOP_SLACK_S
    while found is not None:
        if time.monotonic() > deadline:
            raise errors.ConnectionError(
                f"{container_id} is still there {STOP_SLACK_S:g} s after its time; "
                f"`glowplug explain {container_id}` says what it does"
            )
        time.sleep(STOP_POLL_S)
        try:
            found = request("GET", path)
        except errors.NotFoundError:
            found = None
    click.echo(f"container {container_id} ended")
