"""``glowplug doctor``: what keeps this machine from running GPU functions well, each with its fix."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from glowplug.backends.local.doctor import Check

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings for programs.")
def doctor(as_json: bool) -> None:
    """Check this machine and say how to mend what is wrong.

    Changes nothing. The exit code is 1 when something will not work.
    """
    from glowplug.backends.local.doctor import checks
    from glowplug.client.settings import read_settings

    found = checks(read_settings().home)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in found], indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(report(found)), color=False if os.environ.get("NO_COLOR") else None)
    if any(check.status == "fail" for check in found):
        sys.exit(1)


def report(found: Sequence[Check]) -> list[str]:
    """The lines a person reads: every finding, its fix below it, and the sum."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        mark, colour = MARKS[check.status]
        lines.append(f"{click.style(mark, fg=colour)}  {check.name.ljust(width)}  {check.what}")
        if check.fix:
            lines.append(f"{' ' * (width + 8)}{click.style(check.fix, bold=True)}")
    wrong = [check for check in found if check.status != "ok"]
    if not wrong:
        return [*lines, "", "Nothing is wrong."]
    failed = sum(check.status == "fail" for check in wrong)
    warned = len(wrong) - failed
    counts = [f"{failed} will not work"] * bool(failed) + [f"{warned} could be better"] * bool(warned)
    return [*lines, "", f"{', '.join(counts)}: each line below a finding is its fix."]
