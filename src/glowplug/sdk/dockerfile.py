"""The files that lines of a Dockerfile copy: only these travel with it."""

from __future__ import annotations

import json
import os
import posixpath
import re
import shlex
from collections.abc import Sequence
from typing import Any

from glowplug.client.files import LocalTree, merge
from glowplug.client.ignore import IgnorePatterns, read_patterns
from glowplug.model.errors import InvalidError
from glowplug.sdk.image_bases import AUTODOCKERIGNORE
from glowplug.sdk.local_files import LocalFiles, absolute

_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")


def copied_sources(where: str, lines: Sequence[str]) -> list[str] | None:
    """The paths that COPY and ADD read from the context, patterns among them; None: any of it.

    Raises ``InvalidError`` for a path outside.
    """
    sources: list[str] = []
    for instruction in _instructions(lines):
        word, _, rest = instruction.partition(" ")
        if word.upper() not in ("COPY", "ADD"):
            continue
        paths = _sources(rest.strip())
        for path in paths:
            if "$" in path:
                return None
            if re.match(r"[a-z]+://|git@", path):
                continue
            clean = posixpath.normpath("/" + path).lstrip("/") or "."
            if ".." in path.split("/") and posixpath.normpath(path.lstrip("/")).startswith(".."):
                raise InvalidError(
                    f"Image.{where}: `{instruction[:80]}` copies {path}, which is outside of the context. "
                    "Give a context_dir= that holds it."
                )
            if clean == ".":
                return None
            sources.append(clean)
    return sources


def context_tree(
    where: str, lines: Sequence[str], options: dict[str, Any], files: LocalFiles, dockerfile: str = ""
) -> LocalTree:
    """What the lines may copy: named files, a mount's files, those of the context directory that they name.

    ``dockerfile``: the path of the Dockerfile, if there is one; its .dockerignore may lie beside it.
    """
    trees: list[LocalTree] = []
    sources = copied_sources(where, lines)
    if options.get("context_mount") is not None:
        for directory, tree in files.mount(options["context_mount"]):
            trees.append(tree.moved(directory.strip("/")))
    elif sources is None or sources:
        given = options.get("context_dir")
        directory = absolute(given or ".")
        named = options.get("context_files") or {}
        unnamed = sources is None or any(each.strip("/") not in _names(named) for each in sources)
        if unnamed:
            ignore = _ignore(options.get("ignore"), directory, dockerfile, files)
            taken = None if sources is None else IgnorePatterns(sources).matches
            trees.append(files.directory(f"Image.{where}", given or directory, ignore, taken=taken))
    for name, path in (options.get("context_files") or {}).items():
        trees.append(files.file(f"Image.{where}", path, posixpath.normpath("/" + name).lstrip("/")))
    return merge(trees)


def _names(named: dict[str, str]) -> set[str]:
    return {name.strip("/") for name in named}


def _ignore(given: Any, directory: str, dockerfile: str, files: LocalFiles) -> Any:
    if given is not AUTODOCKERIGNORE:
        return given
    candidates = [os.path.join(directory, ".dockerignore")]
    if dockerfile:
        candidates.insert(0, f"{absolute(dockerfile)}.dockerignore")
    for path in candidates:
        if os.path.isfile(path):
            return read_patterns(files.text("ignore=", path))
    return None


def _instructions(lines: Sequence[str]) -> list[str]:
    """Instructions as single lines: comments gone, continuations joined, the content of heredocs skipped."""
    found: list[str] = []
    pending = ""
    until: list[str] = []
    for line in "\n".join(lines).split("\n"):
        if until:
            if line.strip() == until[0]:
                until.pop(0)
            continue
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.endswith("\\"):
            pending += text[:-1] + " "
            continue
        found.append(pending + text)
        until = [match.group(2) for match in _HEREDOC.finditer(pending + text)]
        pending = ""
    return [*found, pending] if pending else found


def _sources(rest: str) -> list[str]:
    flags: list[str] = []
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        flags.append(flag)
        rest = rest.strip()
    if any(flag.startswith("--from=") for flag in flags) or _HEREDOC.match(rest):
        return []
    try:
        words = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    except ValueError:
        words = rest.split()
    return [str(word) for word in words[:-1]]
