"""``glowplug secret``: what functions need and nobody else should read. Values go in and never come out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click


@click.group()
def secret() -> None:
    """Store secrets for functions, list and delete them.

    \b
    A function asks for one by its name: secrets=[Secret.from_name("huggingface")]. Example:
      glowplug secret create huggingface HF_TOKEN=-
      glowplug secret list
    """


_SOURCES = (
    click.argument("keyvalues", nargs=-1, metavar="[KEY=VALUE]..."),
    click.option(
        "--from-dotenv", type=click.Path(exists=True, dir_okay=False), help="A file of KEY=VALUE lines."
    ),
    click.option(
        "--from-json", type=click.Path(exists=True, dir_okay=False), help='A file with {"KEY": "VALUE"}.'
    ),
)


def _takes_variables(command: Any) -> Any:
    for each in reversed(_SOURCES):
        command = each(command)
    return command


@secret.command()
@click.argument("name")
@_takes_variables
@click.option("--force", is_flag=True, help="Replace a secret of this name.")
@click.option("-e", "--env", "environment", hidden=True)
def create(
    name: str,
    keyvalues: tuple[str, ...],
    from_dotenv: str | None,
    from_json: str | None,
    force: bool,
    environment: str | None,
) -> None:
    """Store a secret, encrypted.

    \b
    What is on a command line can be read by others of this machine, and stays in the shell's history: KEY=-
    reads the value from standard input (on a terminal it is asked for, and not shown). Example:
      glowplug secret create huggingface HF_TOKEN=-
      glowplug secret create aws --from-dotenv aws.env
    """
    from glowplug.client.http import request

    variables = read_variables(keyvalues, from_dotenv, from_json)
    asked = {"name": name, "variables": variables, "force": force}
    stored = request("POST", "/v1/secrets", asked, start=True)
    _say_stored(stored)


@secret.command()
@click.argument("name")
@_takes_variables
def update(name: str, keyvalues: tuple[str, ...], from_dotenv: str | None, from_json: str | None) -> None:
    """Set some variables of a secret; the others stay. Containers that start later get them.

    \b
    Example:
      glowplug secret update huggingface HF_TOKEN=-
    """
    from glowplug.client.http import request

    variables = read_variables(keyvalues, from_dotenv, from_json)
    path = f"/v1/secrets/{quote(name, safe='')}/update"
    _say_stored(request("POST", path, {"variables": variables}, start=True))


@secret.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything known, for programs.")
@click.option("-e", "--env", "environment", hidden=True)
def list_(as_json: bool, environment: str | None) -> None:
    """List the stored secrets: their names and those of their variables, never values.

    \b
    Example:
      glowplug secret list --json
    """
    from glowplug.cli.table import print_json, print_table
    from glowplug.client.http import request

    stored = request("GET", "/v1/secrets", start=True)["secrets"]
    if as_json:
        print_json(stored)
    elif not stored:
        click.echo("no secret is stored; `glowplug secret create NAME KEY=VALUE` stores one")
    else:
        print_table(COLUMNS, [_row(each, time.time()) for each in stored])
        for each in stored:
            if each["problem"]:
                click.echo(f"{each['name']}: {each['problem']}", err=True)


COLUMNS = ("SECRET", "VARIABLES", "CREATED", "UPDATED", "LAST USED")


def _row(each: dict[str, Any], now: float) -> tuple[str, ...]:
    from glowplug.cli.table import duration

    def ago(at: float | None) -> str:
        return f"{duration(now - at)} ago" if at else "–"

    changed = each["updated_at"] if each["updated_at"] != each["created_at"] else None
    keys = "cannot be read" if each["problem"] else ", ".join(each["keys"])
    used = each["last_used_at"]
    return (each["name"], keys, ago(each["created_at"]), ago(changed), ago(used) if used else "never")


@secret.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--allow-missing", is_flag=True, help="It is no error when there is none.")
@click.option("-e", "--env", "environment", hidden=True)
def delete(name: str, yes: bool, allow_missing: bool, environment: str | None) -> None:
    """Delete a secret. Containers that run keep what they were given.

    \b
    Example:
      glowplug secret delete huggingface -y
    """
    from glowplug.client.http import request
    from glowplug.model import errors

    if not yes:
        if not sys.stdin.isatty():
            raise errors.InvalidError(
                f"deleting {name} would be asked for, and this is no terminal: add --yes"
            )
        click.confirm(f"Delete the secret {name}? Its values cannot be brought back.", abort=True, err=True)
    try:
        request("DELETE", f"/v1/secrets/{quote(name, safe='')}", start=True)
    except errors.NotFoundError:
        if not allow_missing:
            raise
        click.echo(f"there is no secret {name}")
    else:
        click.echo(f"deleted the secret {name}")


def read_variables(
    keyvalues: Sequence[str], from_dotenv: str | None, from_json: str | None
) -> dict[str, str]:
    """From one of the three places. Raises ``InvalidError`` without showing a value."""
    from glowplug.client.dotenv import read_dotenv
    from glowplug.model import errors

    given = [bool(keyvalues), from_dotenv is not None, from_json is not None]
    if sum(given) != 1:
        raise errors.InvalidError(
            "give variables as KEY=VALUE, by --from-dotenv or by --from-json: one of these"
        )
    if from_dotenv is not None:
        return read_dotenv(from_dotenv)
    if from_json is not None:
        return _read_json(from_json)
    variables: dict[str, str] = {}
    for number, each in enumerate(keyvalues, start=1):
        key, separator, value = each.partition("=")
        if not separator:
            raise errors.InvalidError(f"argument {number} is not KEY=VALUE")
        if key in variables:
            raise errors.InvalidError(f"{key} is given twice")
        variables[key] = value
    asked = [key for key, value in variables.items() if value == "-"]
    if len(asked) > 1 and not sys.stdin.isatty():
        raise errors.InvalidError(f"only one value can be read from standard input, not {', '.join(asked)}")
    for key in asked:
        variables[key] = _read_value(key)
    return variables


def _read_json(path: str) -> dict[str, str]:
    from glowplug.model import errors

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise errors.InvalidError(f"{path}: {error.msg} in line {error.lineno}") from None
    if not isinstance(found, dict):
        raise errors.InvalidError(f'{path}: expected {{"KEY": "VALUE", …}}, found {type(found).__name__}')
    for key, value in found.items():
        if not isinstance(value, str):
            raise errors.InvalidError(f"{path}: the value of {key} is {type(value).__name__}, not a string")
    return found


def _read_value(key: str) -> str:
    if sys.stdin.isatty():
        return click.prompt(f"{key} (not shown)", hide_input=True, err=True)
    return sys.stdin.read().removesuffix("\n")


def _say_stored(stored: dict[str, Any]) -> None:
    name = stored["name"]
    click.echo(f"stored the secret {name}: {', '.join(stored['keys'])}")
    click.echo(f'in a script: secrets=[Secret.from_name("{name}")]', err=True)
