"""Which files of a directory stay behind: patterns as a .dockerignore has them.

A pattern is a path with ``*`` (no slash), ``?``, ``[a-z]`` and ``**`` (any number of directories); it also
matches everything below what it names. ``!pattern`` brings back what an earlier one took; the last one that
matches decides. Leading and trailing slashes mean nothing.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from glowplug.model.errors import InvalidError


class IgnorePatterns:
    """Patterns, ready to be asked. Raises ``InvalidError`` for one that cannot be read."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for pattern in self.patterns:
            if not isinstance(pattern, str):
                raise InvalidError(f"a pattern of files to ignore is a string, not {pattern!r}.")
            kept = pattern.strip().startswith("!")
            path = pattern.strip()[kept:].strip()
            if path:
                self._rules.append((not kept, _expression(path)))
            elif kept:
                raise InvalidError('the pattern "!" names no file to keep.')

    @property
    def prunable(self) -> bool:
        """Whether an ignored directory is ignored with all that is in it: no pattern brings a file back."""
        return all(ignored for ignored, _ in self._rules)

    def matches(self, path: str) -> bool:
        """Whether ``path``, relative and with ``/``, is ignored."""
        matched = False
        for ignored, expression in self._rules:
            if matched != ignored and expression.match(path):
                matched = ignored
        return matched


def read_patterns(text: str) -> list[str]:
    """The patterns of a .dockerignore: one a line; empty lines and those that begin with ``#`` are none."""
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _expression(path: str) -> re.Pattern[str]:
    clean = posixpath.normpath(path).lstrip("/")
    if clean in ("", "."):
        return re.compile(r"", re.DOTALL)  # everything
    try:
        return re.compile(f"{_translated(clean)}(?:/.*)?\\Z", re.DOTALL)
    except re.error as error:
        raise InvalidError(f"the pattern {path!r} cannot be read: {error}.") from None


def _translated(pattern: str) -> str:
    parts: list[str] = []
    index = 0
    while index < len(pattern):
        letter = pattern[index]
        if pattern.startswith("**", index):
            index += 2
            while pattern.startswith("*", index):
                index += 1
            if pattern.startswith("/", index):
                index += 1
                parts.append("(?:.*/)?")
            else:
                parts.append(".*")
            continue
        index += 1
        if letter == "*":
            parts.append("[^/]*")
        elif letter == "?":
            parts.append("[^/]")
        elif letter == "\\" and index < len(pattern):
            parts.append(re.escape(pattern[index]))
            index += 1
        elif letter == "[":
            end = pattern.find("]", index + 1)
            if end < 0:
                raise InvalidError(f"the pattern {pattern!r} cannot be read: its [ has no ].")
            content = pattern[index:end]
            inverted = content[:1] in ("^", "!")
            content = content[inverted:].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[^/{content}]" if inverted else f"(?!/)[{content}]")
            index = end + 1
        else:
            parts.append(re.escape(letter))
    return "".join(parts)
