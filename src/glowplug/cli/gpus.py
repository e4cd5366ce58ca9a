"""``glowplug gpus``: every GPU of the fleet, what it is, who has it, and why it is not free."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import click

from glowplug.cli.table import ranges

WAYS_ON = (
    ("glowplug doctor", "what is wrong with this machine, and how to mend it"),
    (
        'GLOWPLUG_GPUS="2xH100" glowplug gpus',
        "a virtual fleet: placement and prices are real, functions run on the CPU",
    ),
)
COLUMNS = ("GPU", "TYPE", "MEMORY", "$/HOUR", "NVLINK", "STATE")
RIGHT_ALIGNED = frozenset({"MEMORY", "$/HOUR"})


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
@click.option(
    "--fits", "model", metavar="PARAMETERS", help="Which cards hold a model of this size, such as 34B."
)
@click.option(
    "--dtype", metavar="TYPE", help="With --fits: fp32, bf16, fp16, fp8, int8 or int4. [default: bf16]"
)
@click.option(
    "--method", metavar="METHOD", help="With --fits: inference, full, lora or qlora. [default: inference]"
)
def gpus(as_json: bool, model: str | None, dtype: str | None, method: str | None) -> None:
    """Show the GPUs, who holds them, and which hold a model (--fits)."""
    if model is None and (dtype or method):
        raise click.UsageError(
            "--dtype and --method belong to --fits, such as: glowplug gpus --fits 34B --dtype fp8"
        )
    from glowplug.cli.fleet import load_fleet

    fleet = load_fleet()
    if model is not None:
        click.echo(_fits(model, dtype or "bf16", method or "inference", fleet, as_json))
    elif as_json:
        click.echo(json.dumps(fleet, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(table(fleet)), color=False if os.environ.get("NO_COLOR") else None)


def table(fleet: dict[str, Any]) -> list[str]:
    """The lines a person reads, in colours; ``click.echo`` leaves those out where they do not belong."""
    lines = [click.style(fleet["banner"], bold=True)]
    cards = [gpu for node in fleet["nodes"] for gpu in node["gpus"]]
    for node in fleet["nodes"]:
        if node["gpus"]:
            lines += ["", _node_line(node), *_columns(_rows(node))]
    if not cards:
        return [*lines, "", *_two_columns(WAYS_ON)]
    free = sum(_state(gpu)[1] == "green" for gpu in cards)
    return [*lines, "", f"{free} of {len(cards)} free"]


def _fits(model: str, dtype: str, method: str, fleet: dict[str, Any], as_json: bool) -> str:
    from glowplug.cli.gpus_fits import fits_json, fits_table
    from glowplug.model.node import Node

    nodes = [
        Node.from_wire(
            {
                **{key: value for key, value in node.items() if key in Node.__dataclass_fields__},
                "gpus": [
                    {key: value for key, value in gpu.items() if key != "held_by"} for gpu in node["gpus"]
                ],
            }
        )
        for node in fleet["nodes"]
    ]
    here = nodes if any(node.gpus for node in nodes) else None
    if as_json:
        return json.dumps(fits_json(model, dtype, method, here), indent=2, ensure_ascii=False)
    return fits_table(model, dtype, method, here)


def _node_line(node: dict[str, Any]) -> str:
    parts = [f"{node['cpus']:g} CPU{'s' if node['cpus'] != 1 else ''}"] if node["cpus"] else []
    parts += [f"{node['memory_mib'] / 1024:.0f} GB"] if node["memory_mib"] else []
    parts += [f"{key}={value}" for key, value in node["labels"].items()]
    parts += ["draining"] if node.get("draining") else []
    return f"{node['id']} ({', '.join(parts)})" if parts else node["id"]


def _rows(node: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row a GPU; of a virtual machine one for all that are alike, because it may have very many."""
    numbers = _numbers(node["gpus"])
    rows = [_row(gpu, numbers) for gpu in node["gpus"]]
    if not node["virtual"]:
        return [(numbers[gpu["uuid"]], *row) for gpu, row in zip(node["gpus"], rows, strict=True)]
    alike: list[tuple[str, ...]] = []
    for row, group in groupby(zip(rows, node["gpus"], strict=True), key=lambda pair: pair[0]):
        members = [numbers[gpu["uuid"]] for _, gpu in group]
        alike.append((members[0] if len(members) == 1 else f"{members[0]}–{members[-1]}", *row))
    return alike


def _row(gpu: dict[str, Any], numbers: dict[str, str]) -> tuple[str, ...]:
    from glowplug.model.catalog import variant_name

    state, colour = _state(gpu)
    price = gpu["price_usd_per_hour"]
    peers = [int(numbers[uuid]) for uuid in gpu["nvlink_peers"] if uuid in numbers]  # slices have no links
    variant = variant_name(gpu["type"], gpu["memory_gb"])
    return (
        f"{variant} slice" if gpu["is_slice"] else variant,
        f"{gpu['memory_gb']} GB" if gpu["memory_gb"] else "–",
        f"{price:.2f}" if price else "–",
        ranges(sorted(peers)),
        click.style(state, fg=colour),
    )


def _numbers(gpus: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What the first column calls each GPU: its index, and for a slice its place on the card."""
    numbers: dict[str, str] = {}
    for _, group in groupby(gpus, key=lambda gpu: (gpu["index"], gpu["is_slice"])):
        slices = list(group)
        several = slices[0]["is_slice"] and len(slices) > 1
        for place, gpu in enumerate(slices):
            numbers[gpu["uuid"]] = f"{gpu['index']}.{place}" if several else str(gpu["index"])
    return numbers


def _state(gpu: dict[str, Any]) -> tuple[str, str]:
    """Who has it or what is wrong, the worst first, and the colour of that."""
    note = f"; {gpu['note']}" if gpu.get("note") else ""
    if not gpu["healthy"]:
        return f"unhealthy: {gpu['unhealthy_reason']}", "red"
    if gpu.get("held_by"):
        return f"held by {_holder(gpu['held_by'])}{note}", "cyan"
    if gpu["foreign"]:
        return f"used by {'; '.join(map(_foreign, gpu['foreign']))}{note}", "yellow"
    if gpu["locked_by"]:
        return f"locked by {gpu['locked_by']}{note}", "yellow"
    return f"free{note}", "green"


def _holder(holder: dict[str, str] | str) -> str:
    if isinstance(holder, str):
        return holder
    return f"{holder['app']}.{holder['function']} ({holder['container_id']})"


def _foreign(use: dict[str, Any]) -> str:
    if not use["pid"]:
        return f"processes not visible from here, {use['memory_mib']:,} MiB"
    command = f" {use['command']}" if use["command"] else ""
    return f"{use['user']}: pid {use['pid']}{command}, {use['memory_mib']:,} MiB"


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Aligned columns under their names; NVLINK only where something is linked."""
    linked = any(row[COLUMNS.index("NVLINK")] for row in rows)
    shown = [number for number, name in enumerate(COLUMNS) if linked or name != "NVLINK"]
    widths = [max(len(row[number]) for row in (COLUMNS, *rows)) for number in shown]
    for row in (COLUMNS, *rows):
        cells = [
            row[number].rjust(width) if COLUMNS[number] in RIGHT_ALIGNED else row[number].ljust(width)
            for number, width in zip(shown[:-1], widths, strict=False)
        ]
        yield "  " + "  ".join([*cells, row[shown[-1]]])


def _two_columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, _ in rows)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows]
