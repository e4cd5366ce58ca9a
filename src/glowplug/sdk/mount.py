"""Mounts of scripts up to 2025: local files that are laid over what a container sees.

``mounts=[...]`` of a function or an app carries them out; ``Image.copy_mount`` copies them into an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from glowplug.model.errors import InvalidError
from glowplug.sdk.notyet import not_yet

ROOT_DIRECTORY = "/root"
_STORED = "mounts are not stored here; give the files in the script, or put them on a Volume"
Condition = Optional[Callable[[str], bool]]


@dataclass(frozen=True)
class MountEntry:
    """One thing of a mount. ``remote_path``: absolute; of a module the directory it is imported from."""

    kind: str
    """ "dir", "file" or "module"."""
    local_path: str
    remote_path: str
    condition: Condition = None
    """Of an absolute local path: whether to take it."""
    ignore: Any = None
    recursive: bool = True


class Mount:
    """Local files for a container, as declared. Chain calls return new mounts.

    >>> @app.function(mounts=[Mount.from_local_dir("assets", remote_path="/assets")])
    ... def f(): ...
    """

    def __init__(
        self,
        remote_dir: Any = None,
        *,
        local_dir: Any = None,
        local_file: Any = None,
        condition: Condition = None,
        recursive: bool = True,
        _entries: Any = None,
    ) -> None:
        """As in early 2023: ``remote_dir`` is where ``local_dir`` or ``local_file`` goes."""
        entries: list[MountEntry] = list(_entries or ())
        if local_dir is not None:
            entries.append(_directory(local_dir, remote_dir, condition, recursive))
        if local_file is not None:
            name = os.path.basename(_text(local_file, "local_file"))
            from pathlib import PurePosixPath

            place = None if remote_dir is None else PurePosixPath(_text(remote_dir, "remote_dir"), name)
            entries.append(_file(local_file, place))
        self.entries = tuple(entries)

    @classmethod
    def from_local_dir(
        cls, local_path: Any, *, remote_path: Any = None, condition: Condition = None, recursive: bool = True
    ) -> Mount:
        """A local directory, at ``remote_path``, by default its name below "/". ``condition`` is asked with
        each absolute local path whether to take it."""
        return cls().add_local_dir(
            local_path, remote_path=remote_path, condition=condition, recursive=recursive
        )

    @classmethod
    def from_local_file(cls, local_path: Any, remote_path: Any = None) -> Mount:
        """A local file, at ``remote_path``, by default its name below "/"."""
        return cls().add_local_file(local_path, remote_path)

    @classmethod
    def from_local_python_packages(
        cls,
        *module_names: str,
        remote_dir: Any = ROOT_DIRECTORY,
        condition: Condition = None,
        ignore: Any = None,
    ) -> Mount:
        """Local Python modules and packages by name, importable in containers."""
        if condition is not None and ignore is not None:
            raise InvalidError("Mount.from_local_python_packages: give condition= or ignore=, not both.")
        entries: list[MountEntry] = []
        for name in module_names:
            if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
                raise InvalidError(f"Mount.from_local_python_packages: {name!r} is not the name of a module.")
            entries.append(MountEntry("module", name, _below(remote_dir, ""), condition, ignore))
        return cls(_entries=entries)

    def add_local_dir(
        self, local_path: Any, *, remote_path: Any = None, condition: Condition = None, recursive: bool = True
    ) -> Mount:
        """This mount and a local directory."""
        return self.extend(_directory(local_path, remote_path, condition, recursive))

    def add_local_file(self, local_path: Any, remote_path: Any = None) -> Mount:
        """This mount and a local file."""
        return self.extend(_file(local_path, remote_path))

    def extend(self, *entries: Any) -> Mount:
        """This mount and further entries of mounts."""
        return Mount(_entries=(*self.entries, *entries))

    def is_local(self) -> bool:
        """As in 2023: whether its files are of this machine, which they are."""
        return True

    from_name: Any = not_yet(_STORED)
    lookup: Any = not_yet(_STORED)
    persist: Any = not_yet(_STORED)

    def __repr__(self) -> str:
        return f"<Mount of {', '.join(each.local_path for each in self.entries) or 'nothing'}>"


def create_package_mounts(module_names: Sequence[str]) -> list[Mount]:
    """Mounts of local Python modules, as in 2023."""
    if isinstance(module_names, str):
        raise InvalidError(f"create_package_mounts({module_names!r}): give a list of names.")
    return [Mount.from_local_python_packages(name) for name in module_names]


def _directory(local_path: Any, remote_path: Any, condition: Condition, recursive: bool) -> MountEntry:
    path = _text(local_path, "local_path")
    if condition is not None and not callable(condition):
        raise InvalidError(f"Mount: condition= is a function of a path, not {condition!r}.")
    return MountEntry("dir", path, _below(remote_path, path), condition, recursive=bool(recursive))


def _file(local_path: Any, remote_path: Any) -> MountEntry:
    path = _text(local_path, "local_path")
    return MountEntry("file", path, _below(remote_path, path))


def _below(remote_path: Any, local_path: str) -> str:
    name = os.path.basename(local_path.rstrip("/"))
    from pathlib import PurePosixPath

    place = PurePosixPath("/", name if remote_path is None else _text(remote_path, "remote_path"))
    if ".." in place.parts:
        raise InvalidError(f'Mount: the remote path {str(place)!r} must not contain "..".')
    return str(place)


def _text(given: Any, name: str) -> str:
    try:
        path = os.fspath(given)
    except TypeError:
        path = None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidError(f"Mount: {name} is a path, not {given!r}.")
    return path
