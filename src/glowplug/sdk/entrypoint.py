"""The command line of an entrypoint, made from its signature: only ``glowplug run`` imports this.

``name: int = 3`` is ``--name`` with a default; without one the option is required. ``flag: bool`` is
``--flag/--no-flag``, underscores are dashes. Types are ``str``, ``int``, ``float``, ``bool``, ``datetime``,
``Any``, a ``Literal`` of strings or whole numbers, or one of these or None. ``*args: str`` alone takes the
words as they are.
"""

from __future__ import annotations

import datetime
import inspect
import typing
from collections.abc import Callable
from typing import Any

import click

from glowplug.model.errors import InvalidError, NoParserAvailable
from glowplug.sdk.function import Function
from glowplug.sdk.local_entrypoint import LocalEntrypoint

DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M")
ACCEPTED = "str, int, float, bool, datetime.datetime, Any, Literal[...], or one of these or None"
_SIMPLE: dict[Any, click.ParamType] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    datetime.datetime: click.DateTime(DATE_FORMATS),
}


def entrypoint_command(target: LocalEntrypoint[..., Any] | Function[..., Any, Any]) -> click.Command:
    """A command that runs a local entrypoint here, or a function in a container, and returns its result.

    Raises ``NoParserAvailable`` for a parameter whose type has no form on the command line, ``InvalidError``
    for a generator function.

    >>> command = entrypoint_command(main)
    >>> context = command.make_context("script.py", ["--count", "3"])
    >>> with app.run():
    ...     command.invoke(context)
    """
    raw_f = target.plain if isinstance(target, Function) else target.raw_f
    if isinstance(target, Function) and target.is_generator:
        raise InvalidError(
            f"{target.name} is a generator function and cannot be run alone. Write a local entrypoint that "
            f"loops over {target.name}.remote_gen(...)."
        )
    signature = inspect.signature(raw_f)
    hints = _type_hints(raw_f)
    parameters = [
        _parameter(target.name, parameter, hints.get(parameter.name, Any))
        for parameter in signature.parameters.values()
    ]
    words = [each for each in parameters if isinstance(each, click.Argument)]
    if words and len(parameters) > 1:
        raise InvalidError(f"{target.name}: *{words[0].name} takes all words, so it must stand alone.")

    def run(**values: Any) -> Any:
        if words:
            return _invoke(target, values[str(words[0].name)], {})
        return _invoke(target, (), _named_as_declared(signature, values))

    return click.Command(
        name=target.name,
        callback=run,
        params=list(parameters),
        help=inspect.getdoc(raw_f),
        context_settings={"ignore_unknown_options": bool(words), "allow_interspersed_args": not words},
    )


def _invoke(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if isinstance(target, Function):
        return target.remote(*args, **kwargs)
    result = target.raw_f(*args, **kwargs)
    if inspect.iscoroutine(result):
        import asyncio

        return asyncio.run(result)
    return result


def _named_as_declared(signature: inspect.Signature, values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in signature.parameters}


def _parameter(owner: str, parameter: inspect.Parameter, hint: Any) -> click.Parameter:
    where = f"{owner}: the parameter {parameter.name!r}"
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        if hint not in (Any, str):
            raise NoParserAvailable(
                f"{where} takes words of the command line; declare *{parameter.name}: str."
            )
        return click.Argument([parameter.name], nargs=-1, type=click.UNPROCESSED)
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        raise NoParserAvailable(
            f"{where} takes any keyword, which a command line cannot name. Name each option."
        )
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise NoParserAvailable(f"{where} is positional only. Remove the / from the signature.")
    return _option(where, parameter, hint)


def _option(where: str, parameter: inspect.Parameter, hint: Any) -> click.Option:
    kind = _without_none(hint)
    default = parameter.default
    required = default is inspect.Parameter.empty
    if kind is Any and type(default) in (*_SIMPLE, bool):
        kind = type(default)  # without an annotation the default says what is meant
    name, dashed = parameter.name, parameter.name.replace("_", "-")
    shown: dict[str, Any] = {"required": True}
    if not required:
        shown = {"default": default, "show_default": default is not None}
    if kind is bool:
        return click.Option([name, f"--{dashed}/--no-{dashed}"], **shown)
    choice = _choice(where, kind)
    converter = choice or _SIMPLE.get(kind) or (click.STRING if kind is Any else None)
    if converter is None:
        raise NoParserAvailable(
            f"{where} has the type {_text(hint)}, which has no form on a command line. Use {ACCEPTED}, and "
            "convert it inside."
        )
    # click would convert a default too: what the script declares goes through as it is.
    return _Option([name, f"--{dashed}"], type=converter, **shown)


class _Option(click.Option):
    """An option whose default is passed on untouched, whatever its type."""

    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, Any]:
        value, source = super().consume_value(ctx, opts)
        self._given = source not in (
            click.core.ParameterSource.DEFAULT,
            click.core.ParameterSource.DEFAULT_MAP,
        )
        return value, source

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, value) if self._given else value


class _WholeNumbers(click.ParamType):
    """A ``Literal`` of whole numbers."""

    name = "integer"

    def __init__(self, choices: tuple[int, ...]) -> None:
        self.choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(map(str, self.choices))}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = click.INT.convert(value, param, ctx)
        if number not in self.choices:
            self.fail(f"{number} is not one of {', '.join(map(str, self.choices))}.", param, ctx)
        return number


def _choice(where: str, kind: Any) -> click.ParamType | None:
    if typing.get_origin(kind) is not typing.Literal:
        return None
    values = typing.get_args(kind)
    if all(type(value) is str for value in values):
        return click.Choice(values)
    if all(type(value) is int for value in values):
        return _WholeNumbers(values)
    raise NoParserAvailable(f"{where}: a Literal may hold strings or whole numbers, not both or others.")


def _without_none(hint: Any) -> Any:
    """The type in ``Optional[type]`` or ``type | None``; another one as it is."""
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    is_union = typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType"
    return parts[0] if is_union and len(parts) == 1 else hint


def _type_hints(raw_f: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(raw_f)
    except Exception as error:
        raise NoParserAvailable(
            f"{raw_f.__qualname__}: its annotations cannot be evaluated: {error}. Import what they name."
        ) from None


def _text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
