"""``glowplug plan``: where each function of a script would run, what it would wait for and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from glowplug.client.settings import Settings
    from glowplug.model.function import FunctionSpec


@click.command()
@click.option("-m", "as_module", is_flag=True, help="REFERENCE is a module's dotted name, not a file.")
@click.option("--gpu-map", "gpu_map", multiple=True, metavar="A10G=RTX-4090", help="Run one type on another.")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
@click.argument("reference", metavar="SCRIPT[::FUNCTION]")
def plan(as_module: bool, gpu_map: tuple[str, ...], as_json: bool, reference: str) -> None:
    """Say where each function of a script would run, before anything runs.

    \b
    The script is imported, nothing of it is called. Exits with 1 if a function could not run here.
    Example:
      glowplug plan train.py
      GLOWPLUG_GPUS="8xH100" glowplug plan train.py
    """
    import sys

    from glowplug.cli.run import show_user_error
    from glowplug.cli.script import load_script
    from glowplug.cli.table import print_json
    from glowplug.client.settings import read_settings
    from glowplug.model import errors
    from glowplug.model.gpu_map import parse_gpu_map
    from glowplug.sdk.running import gpu_map_here

    try:
        script = load_script(reference, as_module)
    except (errors.Error, click.ClickException):
        raise
    except Exception as error:
        show_user_error(error)
        sys.exit(1)
    specs = specs_of(script, {**gpu_map_here(), **parse_gpu_map(gpu_map)})
    settings = read_settings()
    found = ask(settings, specs)
    if as_json:
        print_json(found)
    else:
        for line in lines_of(found, specs):
            click.echo(line)
    if any(each["problem"] for each in found["functions"]):
        sys.exit(1)


def specs_of(script: Any, gpu_map: dict[str, str]) -> list[FunctionSpec]:
    """The functions of a script's apps, or the one it names. Raises ``NotFoundError``."""
    from glowplug.model import errors
    from glowplug.sdk.spec import function_spec

    functions = script.functions()
    if script.target:
        if script.target not in functions:
            raise errors.NotFoundError(
                f"{script.path} has no function {script.target!r}; it has: {', '.join(functions) or 'none'}"
            )
        functions = {script.target: functions[script.target]}
    return [function_spec(function, gpu_map) for _, function in functions.values()]


def ask(settings: Settings, specs: Sequence[FunctionSpec]) -> dict[str, Any]:
    """The running server's plan if `glowplug run` would use that server; else that of one started now.

    Adds "server" (whether it was asked), "gpus" (index by UUID) and "note".
    """
    from glowplug.assembly.fleet import plan_here
    from glowplug.cli.fleet import load_fleet
    from glowplug.client.http import NoServerError, request
    from glowplug.client.settings import build_id

    note, asked = "", False
    try:
        status = request("GET", "/v1/status", settings=settings)
    except NoServerError:
        pass
    else:
        asked = status["config_digest"] == settings.config_digest and status["build_id"] == build_id()
        if not asked and status["busy"]:
            apps = ", ".join(each["name"] for each in status["apps"])
            note = f"a server of another configuration is busy with {apps}; `glowplug run` fails meanwhile"
    if asked:
        functions = [{**spec.to_wire(), "definition": {}} for spec in specs]
        found = request("POST", "/v1/plan", {"functions": functions}, settings=settings)
    else:
        found = plan_here(settings, specs)
    nodes = load_fleet(settings)["nodes"]
    indices = {gpu["uuid"]: gpu["index"] for each in nodes for gpu in each["gpus"]}
    return {**found, "server": asked, "gpus": indices, "note": note}


COLUMNS = ("FUNCTION", "ASKS FOR", "GETS", "WHERE", "WHEN", "$/HOUR", "AT MOST")
RIGHT = frozenset({"$/HOUR", "AT MOST"})


def lines_of(found: dict[str, Any], specs: Sequence[FunctionSpec]) -> list[str]:
    """What a person reads: a row a function, what is to be said of each, the sum."""
    from glowplug.cli.table import aligned

    planned = found["functions"]
    rows = [_row(each, found["gpus"]) for each in planned]
    lines = [found["banner"], ""]
    lines += aligned([COLUMNS, *rows], [name in RIGHT for name in COLUMNS])
    remarks = [line for each in planned for line in _remarks(each)]
    if remarks:
        lines += ["", *remarks]
    lines += ["", *_sums(planned, specs)]
    if found["note"]:
        lines += ["", found["note"]]
    return lines


def _row(each: dict[str, Any], indices: dict[str, int]) -> tuple[str, ...]:
    from glowplug.cli.table import ranges

    asked = each["asked"] or "no GPU"
    if each["problem"]:
        return each["name"], asked, "–", "–", "cannot run here", "–", "–"
    gets = (
        f"{each['gpu_count']} × {each['gpu_type']}"
        if each["gpu_count"]
        else ("CPU" if not each["asked"] else "–")
    )
    numbers = sorted(indices[uuid] for uuid in each["gpu_uuids"] if uuid in indices)
    where = each["node_id"] or "–"
    if numbers:
        where += f" GPU {ranges(numbers)}"
    when = "at once" if each["starts_now"] else "waits"
    price = f"{each['usd_per_hour']:.2f}" if each["usd_per_hour"] else "–"
    most = str(each["most_containers"]) if each["asked"] else "–"
    return each["name"], asked, gets, where, when, price, most


def _remarks(each: dict[str, Any]) -> list[str]:
    found = [each["problem"]] if each["problem"] else []
    found += [f"waits for {each['waits_for']}"] if each["waits_for"] else []
    found += [f"stops {container}, which is idle" for container in each["evicts"]]
    found += each["notices"]
    found += [f"warning: {text}" for text in each["warnings"]]
    return [f"{each['name']}: {line}" for text in found for line in text.splitlines()]


def _sums(planned: Sequence[dict[str, Any]], specs: Sequence[FunctionSpec]) -> list[str]:
    """What one container of each costs, and what is paid for whether it is called or not."""
    if not planned:
        return ["the script has no functions"]
    one = sum(each["usd_per_hour"] for each in planned)
    if not one:
        return ["no GPU, no cost"]
    lines = [f"one container of each: ${one:.2f} an hour (list prices, or the operator's own)"]
    kept = sum(each["usd_per_hour"] * spec.min_containers for each, spec in zip(planned, specs, strict=True))
    if kept:
        lines.append(f"of min_containers alone: ${kept:.2f} an hour, called or not")
    return lines
