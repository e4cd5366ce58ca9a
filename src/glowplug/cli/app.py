"""``glowplug app``: which apps run and ran, what they print, and their end."""

from __future__ import annotations

import sys
import time
from typing import Any
from urllib.parse import quote, urlencode

import click


@click.group()
def app() -> None:
    """List running apps, read their logs, stop them.

    \b
    An app is named by its name or its id. Example:
      glowplug app list
      glowplug app logs -f train
    """


@app.command("list")
@click.option("-a", "--all", "show_all", is_flag=True, help="Also apps that have ended.")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def list_(show_all: bool, as_json: bool) -> None:
    """List apps: what runs, what waits, what it cost so far.

    \b
    Example:
      glowplug app list --all
    """
    from glowplug.cli.table import print_json, print_table
    from glowplug.client.http import request

    apps = request("GET", "/v1/apps?ended=1" if show_all else "/v1/apps")["apps"]
    if as_json:
        print_json(apps)
    elif not apps:
        click.echo("no app runs" + ("" if show_all else "; `glowplug app list --all` shows those that ended"))
    else:
        print_table(COLUMNS, [_row(each, time.time()) for each in apps], RIGHT)


COLUMNS = ("APP", "ID", "STATE", "STARTED", "CONTAINERS", "RUNNING", "QUEUED", "DONE", "GPU SECONDS", "COST")
RIGHT = frozenset({"CONTAINERS", "RUNNING", "QUEUED", "DONE", "COST"})


def _row(each: dict[str, Any], now: float) -> tuple[str, ...]:
    from glowplug.cli.table import duration

    state = each["state"] + (", detached" if each["detached"] and each["state"] == "running" else "")
    if each["state"] == "ended" and each["reason"]:
        state = f"ended: {each['reason']}"
    used = ", ".join(f"{seconds:.1f} {kind}" for kind, seconds in sorted(each["gpu_seconds"].items()))
    return (
        each["name"],
        each["app_id"],
        state,
        f"{duration(now - each['started_at'])} ago",
        str(each["containers"]),
        str(each["running"]),
        str(each["queued"]),
        str(each["inputs"]),
        used or "–",
        f"${each['cost_usd']:.4f}" if used else "–",
    )


@app.command()
@click.argument("name", metavar="APP")
@click.option("-f", "--follow", is_flag=True, help="Go on until the app ends.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the latest so many lines.")
@click.option("--function", "function", metavar="NAME", help="Only what this function prints.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@click.option("-v", "--verbose", is_flag=True, help="Put function, container and input before each line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def logs(
    name: str,
    follow: bool,
    lines: int | None,
    function: str | None,
    timestamps: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Print what an app's functions print, each line on the stream it was written to.

    \b
    Lines are kept for 7 days, the latest GB of each app. Example:
      glowplug app logs -f train --function fit
    """
    asked = {"follow": "1" if follow else None, "lines": lines, "function": function}
    query = urlencode({key: value for key, value in asked.items() if value is not None})
    path = f"/v1/apps/{quote(name, safe='')}/logs?{query}"
    print_lines(path, timestamps=timestamps, verbose=verbose, as_json=as_json)


def print_lines(path: str, *, timestamps: bool, as_json: bool, verbose: bool = False) -> None:
    """Lines as the server gives them, each on the stream it was written to."""
    import json

    from glowplug.client.http import stream

    for line in stream(path):
        if as_json:
            click.echo(json.dumps(line, ensure_ascii=False))
            continue
        text = line["text"]
        if verbose:
            text = f"[{line['function']} {line['container_id']} {line['input_id']}] {text}"
        if timestamps:
            text = f"{time.strftime('%H:%M:%S', time.localtime(line['at']))} {text}"
        click.echo(text, file=sys.stderr if line["stream"] == "stderr" else sys.stdout)


@app.command()
@click.argument("name", metavar="APP")
@click.option("--reason", default="stopped with `glowplug app stop`", help="What its client is told.")
def stop(name: str, reason: str) -> None:
    """End an app: its calls fail, its containers are gone when this returns.

    \b
    Example:
      glowplug app stop train
    """
    from glowplug.client.http import request

    ended = request("POST", f"/v1/apps/{quote(name, safe='')}/stop", {"reason": reason})
    click.echo(f"app {ended['name']} ({ended['app_id']}) ended; nothing of it runs any more")
