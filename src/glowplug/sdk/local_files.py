"""Local files that a definition names: found relative to the working directory, read, with clear errors."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

from glowplug.client.files import HashCache, LocalTree, merge, scan_directory, scan_file
from glowplug.client.ignore import IgnorePatterns
from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.sdk.file_pattern_matcher import NON_PYTHON_FILES
from glowplug.sdk.mount import Mount, MountEntry

MAX_TEXT_BYTES = 4 << 20
"""Of a requirements file, a lock, a Dockerfile: they travel inside the definition."""

Ignored = Optional[Callable[[str], bool]]


class LocalFiles:
    """Reads what definitions name. One for a start of an app: of what was read twice the first is kept."""

    def __init__(self, cache: HashCache | None = None) -> None:
        self._cache = cache
        self._texts: dict[str, str] = {}

    def text(self, where: str, path: str) -> str:
        """The text of a file. Raises ``NotFoundError``, ``InvalidError``."""
        full = absolute(path)
        if full not in self._texts:
            try:
                with open(full, "rb") as file:
                    content = file.read(MAX_TEXT_BYTES + 1)
                if len(content) > MAX_TEXT_BYTES:
                    raise InvalidError(f"{where}: {shown(path)} is larger than {MAX_TEXT_BYTES >> 20} MiB.")
                self._texts[full] = content.decode("utf-8-sig").replace("\r\n", "\n")
            except FileNotFoundError:
                raise missing(where, path) from None
            except UnicodeDecodeError:
                raise InvalidError(f"{where}: {shown(path)} is not a text in UTF-8.") from None
            except OSError as error:
                raise InvalidError(f"{where}: {shown(path)} cannot be read: {error.strerror}.") from None
        return self._texts[full]

    def file(self, where: str, path: str, name: str) -> LocalTree:
        """One file, under ``name``."""
        full = absolute(path)
        if not os.path.lexists(full):
            raise missing(where, path)
        try:
            return scan_file(full, name, cache=self._cache)
        except (InvalidError, NotFoundError) as error:
            raise type(error)(f"{where}: {error}") from None

    def directory(
        self,
        where: str,
        path: str,
        ignore: Any = None,
        *,
        condition: Any = None,
        recursive: bool = True,
        taken: Ignored = None,
    ) -> LocalTree:
        """The files of a directory without those that ``ignore`` leaves out or ``condition`` does not take;
        of these the ones that ``taken`` says True of."""
        full = absolute(path)
        if not os.path.exists(full):
            raise missing(where, path, "directory")
        if not os.path.isdir(full):
            raise InvalidError(f"{where}: {shown(path)} is a file, not a directory.")
        ignored, prunable = ignoring(ignore)
        if condition is not None:
            root = os.path.realpath(full)
            ignored, prunable = (lambda relative: not condition(os.path.join(root, relative))), False
        try:
            return scan_directory(
                full, ignored, prunable=prunable, recursive=recursive, taken=taken, cache=self._cache
            )
        except (InvalidError, NotFoundError) as error:
            raise type(error)(f"{where}: {error}") from None

    def module(self, where: str, name: str, ignore: Any = None, condition: Any = None) -> LocalTree:
        """A module or a package, as ``a/b.py`` or ``a/b/...``: importable from the directory it is put in."""
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            raise NotFoundError(
                f"{where}: there is no module {name!r} here. It is looked for as by `import {name}`: in the "
                "directory of the script, the working directory and what is installed."
            )
        parts = name.split(".")
        places = list(spec.submodule_search_locations or ())
        if places:
            trees = [self.directory(where, place, ignore, condition=condition) for place in places]
            return merge([tree.moved("/".join(parts)) for tree in trees])
        if not spec.origin or not os.path.isfile(spec.origin):
            raise InvalidError(f"{where}: the module {name!r} is built into Python and has no file to add.")
        return self.file(where, spec.origin, "/".join([*parts[:-1], os.path.basename(spec.origin)]))

    def mount(self, mount: Mount) -> list[tuple[str, LocalTree]]:
        """(absolute directory, files in it) of each entry."""
        return [self._entry(entry) for entry in mount.entries]

    def _entry(self, entry: MountEntry) -> tuple[str, LocalTree]:
        where = "Mount"
        if entry.kind == "module":
            ignore, condition = entry.ignore, entry.condition
            if ignore is None and condition is None:
                ignore = _not_source
            return entry.remote_path, self.module(where, entry.local_path, ignore, condition)
        if entry.kind == "dir":
            tree = self.directory(
                where, entry.local_path, condition=entry.condition, recursive=entry.recursive
            )
            return entry.remote_path, tree
        directory, _, name = entry.remote_path.rpartition("/")
        return directory or "/", self.file(where, entry.local_path, name)


def absolute(path: str) -> str:
    """``path`` from the working directory; ``~`` is the home directory."""
    return os.path.abspath(os.path.expanduser(path))


def shown(path: str) -> str:
    """As written, and where that is."""
    full = absolute(path)
    return path if full == path else f"{path} ({full})"


def missing(where: str, path: str, kind: str = "file") -> NotFoundError:
    hint = "" if os.path.isabs(os.path.expanduser(path)) else " Paths are relative to the working directory."
    return NotFoundError(f"{where}: there is no {kind} {shown(path)}.{hint}")


def ignoring(ignore: Any) -> tuple[Ignored, bool]:
    """``ignore=`` as a function of a relative path, and whether ignored directories need not be read."""
    if ignore is None or (isinstance(ignore, Sequence) and not ignore):
        return None, False
    if callable(ignore):
        prunes = getattr(ignore, "can_prune_directories", None)
        return (lambda relative: bool(ignore(Path(relative)))), bool(prunes is not None and prunes())
    patterns = IgnorePatterns(list(ignore))
    return patterns.matches, patterns.prunable


def _not_source(path: Path) -> bool:
    """What old mounts of packages leave out: compiled and hidden files."""
    return path.suffix == ".pyc" or any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def python_source_ignore(ignore: Any) -> Any:
    """``ignore=`` of ``add_local_python_source``."""
    return NON_PYTHON_FILES if ignore is None else ignore
