"""Mounts of scripts up to 2025: recorded, and reported by the function that is given one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Mount:
    """Local files for a container, as declared. Chain calls return new mounts."""

    def __init__(self, *paths: Any, _entries: tuple[Any, ...] = (), **options: Any) -> None:
        first = (("Mount", paths, options),) if paths or options else ()
        self.entries: tuple[Any, ...] = (*_entries, *first)

    @classmethod
    def from_local_dir(cls, local_path: Any, **options: Any) -> Mount:
        """A local directory."""
        return cls().add_local_dir(local_path, **options)

    @classmethod
    def from_local_file(cls, local_path: Any, remote_path: Any = None) -> Mount:
        """A local file."""
        return cls().add_local_file(local_path, remote_path)

    @classmethod
    def from_local_python_packages(cls, *module_names: str, **options: Any) -> Mount:
        """Local Python modules."""
        return cls(_entries=(("local_python_packages", module_names, options),))

    @classmethod
    def from_name(cls, label: str, **options: Any) -> Mount:
        """A stored mount."""
        return cls(_entries=(("name", (label,), options),))

    def add_local_dir(self, local_path: Any, **options: Any) -> Mount:
        """This mount and a local directory."""
        return Mount(_entries=(*self.entries, ("local_dir", (local_path,), options)))

    def add_local_file(self, local_path: Any, remote_path: Any = None) -> Mount:
        """This mount and a local file."""
        return Mount(_entries=(*self.entries, ("local_file", (local_path, remote_path), {})))

    def __repr__(self) -> str:
        return f"<Mount of {len(self.entries)} entries>"


def create_package_mounts(module_names: Sequence[str]) -> list[Mount]:
    """Mounts of local Python modules, as in 2023."""
    return [Mount.from_local_python_packages(*module_names)]
