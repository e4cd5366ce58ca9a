"""What lists look like: aligned columns for people, JSON for programs; a terminal adds bold names."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import click

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> None:
    """The columns under their names; those in ``right`` end together. Names are bold on a terminal only."""
    head, *lines = aligned([columns, *rows], [name in right for name in columns])
    click.echo(click.style(head, bold=True))
    for line in lines:
        click.echo(line)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterator[str]:
    widths = [max(len(row[number]) for row in rows) for number in range(len(right))]
    for row in rows:
        cells = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """One thing's properties, a line each."""
    width = max(len(name) for name, _ in fields)
    for name, text in fields:
        click.echo(f"{name.ljust(width)}  {text}")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def duration(seconds: float) -> str:
    """ "42 s", "3 min", "5 h 20 min", "2 d 4 h": the two largest units."""
    whole = max(0, int(seconds))
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def ranges(numbers: Sequence[int]) -> str:
    """ "0–2,4" for 0, 1, 2, 4."""
    groups = [
        [number for _, number in group]
        for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]
    return ",".join(f"{group[0]}–{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def amount(size_bytes: int) -> str:
    """Bytes as a person says them: 512 B, 3.2 MiB."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
