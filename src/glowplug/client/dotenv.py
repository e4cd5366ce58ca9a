"""Files of environment variables: ``NAME=value`` lines, with the comments and quotes that shells know."""

from __future__ import annotations

import os

from glowplug.model.checks import check_variable
from glowplug.model.errors import InvalidError

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


def read_dotenv(path: str | os.PathLike[str]) -> dict[str, str]:
    """The variables of a file, in order. Raises ``InvalidError`` naming the line it cannot read."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    variables: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("export "):
            text = text[len("export ") :].lstrip()
        name, separator, value = text.partition("=")
        where = f"{os.fspath(path)}, line {number}:"
        if not separator:
            # Not the line itself: it may hold half a password.
            raise InvalidError(f"{where} expected NAME=value.")
        check_variable(where, name.strip(), None)
        variables[name.strip()] = _value(value.strip())
    return variables


def find_upwards(filename: str, directory: str) -> str | None:
    """The nearest ``filename`` in ``directory`` or above it."""
    while True:
        candidate = os.path.join(directory, filename)
        if os.path.isfile(candidate):
            return candidate
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def _value(text: str) -> str:
    quote = text[:1]
    if quote == "'":
        return text[1:].partition("'")[0]
    if quote == '"':
        return _unescaped(text[1:])
    return text.partition(" #")[0].rstrip()


def _unescaped(text: str) -> str:
    """A double-quoted value up to its closing quote."""
    characters: list[str] = []
    rest = iter(text)
    for character in rest:
        if character == '"':
            break
        if character == "\\":
            following = next(rest, "")
            characters.append(_ESCAPES.get(following, "\\" + following))
        else:
            characters.append(character)
    return "".join(characters)
