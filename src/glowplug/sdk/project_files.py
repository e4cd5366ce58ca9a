"""Requirements files and pyproject.toml, as what they ask for: their text travels, their path does not."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from glowplug.model.errors import InvalidError
from glowplug.sdk.local_files import LocalFiles, absolute, shown

_INCLUDE = re.compile(r"(?:-r|--requirement)(?:\s+|=|\s*=\s*)(\S.*)\Z")
_CONSTRAINT = re.compile(r"(?:-c|--constraint)(?:\s|=)")
_LOCAL = re.compile(r"(?:-e|--editable)(?:\s|=)|\.{1,2}(?:/|\[|\s|$)|/|file:|[\w.-]+\s*@\s*(?:file:|\.|/)")


def requirements_text(where: str, path: str, files: LocalFiles) -> str:
    """A requirements file with those it includes in their place, without comments.

    Raises ``NotFoundError``, ``InvalidError`` for lines that need further local files.
    """
    lines: list[str] = []
    _read(where, path, files, lines, [])
    return "\n".join(lines) + "\n"


def _read(where: str, path: str, files: LocalFiles, lines: list[str], within: list[str]) -> None:
    full = absolute(path)
    if full in within:
        raise InvalidError(f"{where}: {shown(path)} includes itself.")
    text = re.sub(r"\\\n", " ", files.text(where, path))
    for line in text.split("\n"):
        plain = re.sub(r"(^|\s+)#.*", "", line).strip()
        if not plain:
            continue
        include = _INCLUDE.match(plain)
        if include:
            name = include.group(1).strip().strip("'\"")
            _read(where, os.path.join(os.path.dirname(full), name), files, lines, [*within, full])
        elif _CONSTRAINT.match(plain):
            raise InvalidError(
                f"{where}: {shown(path)}: `{plain}` names a file that does not travel. Write the versions "
                "into the requirements themselves, such as by `uv pip compile`."
            )
        elif _LOCAL.match(plain):
            raise InvalidError(
                f"{where}: {shown(path)}: `{plain}` is a local package, which does not travel. Leave it out "
                'and add it by add_local_python_source("...").'
            )
        else:
            lines.append(re.sub(r"\s+", " ", plain))


def read_toml(where: str, path: str, text: str) -> dict[str, Any]:
    """Raises ``InvalidError`` for what is no TOML."""
    try:
        import tomllib
    except ImportError:  # before Python 3.11
        try:
            import tomli as tomllib  # type: ignore[import-not-found,no-redef]
        except ImportError:
            raise InvalidError(
                f"{where}: reading {shown(path)} takes Python 3.11 or newer, or the package tomli."
            ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidError(f"{where}: {shown(path)} is not valid: {error}.") from None


def pyproject_packages(where: str, path: str, extras: Sequence[str], files: LocalFiles) -> list[str]:
    """What ``[project]`` depends on, with these groups of optional dependencies. Raises ``InvalidError``."""
    project = read_toml(where, path, files.text(where, path)).get("project")
    if not isinstance(project, dict) or "dependencies" not in project:
        raise InvalidError(
            f"{where}: {shown(path)} has no [project] with dependencies. For Poetry's own tables use "
            "poetry_install_from_file, for uv's uv_sync."
        )
    optional = project.get("optional-dependencies", {})
    packages = list(project["dependencies"])
    for extra in extras:
        if extra not in optional:
            raise InvalidError(
                f"{where}: {shown(path)} has no optional dependencies {extra!r}; it has: "
                f"{', '.join(optional) or 'none'}."
            )
        packages += optional[extra]
    return packages
