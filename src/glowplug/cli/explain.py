"""``glowplug explain``: why something waits, and what happened to it."""

from __future__ import annotations

from urllib.parse import quote

import click


@click.command()
@click.argument("subject", metavar="ID|FUNCTION")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
def explain(subject: str, as_json: bool) -> None:
    """Say why an input, call, function or container waits or did what it did.

    \b
    Takes an id (in-…, fc-…, ct-…, fu-…, ap-…), a node, a GPU, or a running function's name.
    Example:
      glowplug explain fit
      glowplug explain ct-3f2a01-7
    """
    from glowplug.cli.table import print_json
    from glowplug.client.http import request

    found = request("GET", f"/v1/explain/{quote(subject, safe='')}")
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['kind']} {found['subject']}: {found['now']}")
    waiting = found["waiting"]
    if waiting is not None:
        click.echo(f"waits: {waiting['text']}")
        click.echo(f"until: {waiting['unblocks']}")
    if found["story"]:
        click.echo("")
        for line in found["story"]:
            click.echo(line)
