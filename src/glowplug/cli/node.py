"""``glowplug node``: the machines, and taking one out of use without losing what runs there."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any
from urllib.parse import quote

import click

DRAIN_POLL_S = 0.2
DRAIN_SLACK_S = 30.0
"""How long after the grace time a drain is given up waiting for."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?")
_UNIT_S = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600}


class DurationType(click.ParamType):
    """Seconds, or "30s", "5m", "1h"."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no time; write seconds, or 30s, 5m, 1h", param, ctx)
        return float(match[1]) * _UNIT_S[match[2]]


@click.group()
def node() -> None:
    """List and drain nodes.

    \b
    Example:
      glowplug node list
      glowplug node drain box-1 --grace 2m
    """


@node.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def list_(as_json: bool) -> None:
    """List the machines with their GPUs, and whether they take containers.

    \b
    Example:
      glowplug node list --json
    """
    from glowplug.cli.fleet import load_fleet
    from glowplug.cli.table import print_json, print_table

    fleet = load_fleet()
    if as_json:
        print_json(fleet["nodes"])
        return
    click.echo(fleet["banner"])
    if fleet["nodes"]:
        print_table(COLUMNS, [_row(each) for each in fleet["nodes"]], {"FREE", "CONTAINERS"})


COLUMNS = ("NODE", "GPUS", "FREE", "CONTAINERS", "LABELS", "STATE")


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    from glowplug.model.catalog import variant_name

    kinds = Counter(
        variant_name(gpu["type"], gpu["memory_gb"]) + (" slice" if gpu["is_slice"] else "")
        for gpu in each["gpus"]
    )
    free = sum(
        gpu["healthy"] and not (gpu["held_by"] or gpu["foreign"] or gpu["locked_by"]) for gpu in each["gpus"]
    )
    draining = each.get("draining")
    return (
        each["id"],
        ", ".join(f"{number}× {kind}" for kind, number in kinds.items()) or "–",
        str(free),
        str(each.get("containers", 0)),
        ", ".join(f"{key}={value}" for key, value in sorted(each["labels"].items())) or "–",
        f"draining: {draining}" if draining else "ready",
    )


@node.command()
@click.argument("name", metavar="NODE")
@click.option(
    "--grace", type=DurationType(), default="30s", show_default=True, help="Time for exit handlers."
)
@click.option("--reason", default="drained with `glowplug node drain`", help="What is shown to others.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
def drain(name: str, grace: float, reason: str, no_wait: bool) -> None:
    """Start nothing on a node any more and move what runs there elsewhere; no input is lost, no retry spent.

    \b
    Returns when no container is left there. Example:
      glowplug node drain box-1 --grace 2m
    """
    from glowplug.cli.table import count
    from glowplug.client.http import request
    from glowplug.model import errors

    path = f"/v1/nodes/{quote(name, safe='')}"
    found = request("POST", f"{path}/drain", {"grace_s": grace, "reason": reason})
    left = found["containers"]
    if left:
        click.echo(f"{name} drains; {grace:g} s for {count(len(left), 'container')}")
    deadline = time.monotonic() + grace + DRAIN_SLACK_S
    while left and not no_wait:
        if time.monotonic() > deadline:
            names = ", ".join(each["container_id"] for each in left)
            raise errors.ConnectionError(
                f"{name} still has {names} {DRAIN_SLACK_S:g} s after their grace time; "
                "`glowplug explain` says what one of them does"
            )
        time.sleep(DRAIN_POLL_S)
        left = request("GET", path)["containers"]
    if not left:
        click.echo(f"{name} is empty; nothing starts there until `glowplug node undrain {name}`")


@node.command()
@click.argument("name", metavar="NODE")
def undrain(name: str) -> None:
    """Use a node again.

    \b
    Example:
      glowplug node undrain box-1
    """
    from glowplug.client.http import request

    request("POST", f"/v1/nodes/{quote(name, safe='')}/undrain")
    click.echo(f"{name} takes containers again")
