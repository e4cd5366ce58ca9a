"""Where local files go: into the image, or over it when a container starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from glowplug.client.files import LocalTree, merge
from glowplug.model.files import FileTree
from glowplug.model.image import ImageStep
from glowplug.model.image_spec import FileMount
from glowplug.sdk.local_files import python_source_ignore
from glowplug.sdk.mount import ROOT_DIRECTORY

if TYPE_CHECKING:
    from glowplug.sdk.image_translation import Translation

DIRECTORIES = frozenset(
    {".", "..", "/", "/root", "/tmp", "/opt", "/srv", "/home", "/mnt", "/usr", "/var", "/etc"}
)
"""Where a copied file goes into the directory rather than being called so."""


def lay_over(
    mounted: Sequence[tuple[str, LocalTree]],
) -> tuple[list[FileMount], LocalTree, dict[str, FileTree]]:
    """One mount a directory, none below what another shows; of two files at one path the later.

    Returns the mounts, all files, and the trees by digest.
    """
    by_directory: dict[str, list[LocalTree]] = {}
    for directory, tree in mounted:
        by_directory.setdefault(directory.rstrip("/") or "/", []).append(tree)
    merged: dict[str, LocalTree] = {}
    for directory in sorted(by_directory, key=lambda each: (each.count("/"), each)):
        tree = merge(by_directory[directory])
        above = _shown_by(directory, merged)
        if above is None:
            merged[directory] = tree
        else:
            prefix = directory[len(above.rstrip("/")) + 1 :]
            merged[above] = merge([merged[above], tree.moved(prefix)])
    mounts = [
        FileMount(directory, tree.tree.digest) for directory, tree in merged.items() if tree.tree.entries
    ]
    trees = {tree.tree.digest: tree.tree for tree in merged.values() if tree.tree.entries}
    return mounts, merge(list(merged.values())), trees


def _shown_by(directory: str, merged: dict[str, LocalTree]) -> str | None:
    """The mount whose files are already shown at a part of ``directory``."""
    for above, tree in merged.items():
        base = above.rstrip("/") + "/"
        if directory.startswith(base) and directory != "/":
            first = directory[len(base) :].split("/")[0]
            if any(entry.path.split("/")[0] == first for entry in tree.tree.entries):
                return above
    return None


# local files: (directory, what goes into it)


def _add_local_file(t: Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    local, remote = step.arguments
    directory, _, name = remote.rpartition("/")
    name = name or os.path.basename(os.path.abspath(os.path.expanduser(local)))
    return [(_directory(directory), t.files.file(f"Image.{step.method}", local, name))]


def _copy_local_file(t: Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    local, remote = step.arguments
    name = os.path.basename(os.path.abspath(os.path.expanduser(local)))
    if remote.endswith("/") or os.path.normpath(remote) in DIRECTORIES:
        directory = remote
    else:
        directory, slash, name = remote.rpartition("/")
        directory = directory or ("/" if slash else ".")
    return [(os.path.normpath(directory), t.files.file(f"Image.{step.method}", local, name))]


def _local_dir(t: Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    local, remote = step.arguments
    tree = t.files.directory(f"Image.{step.method}", local, step.options.get("ignore"))
    return [(os.path.normpath(remote), tree)]


def _python_source(t: Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    where, ignore = f"Image.{step.method}", python_source_ignore(step.options.get("ignore"))
    return [(ROOT_DIRECTORY, merge([t.files.module(where, name, ignore) for name in step.arguments]))]


def _copy_mount(t: Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    mount, remote = step.arguments
    trees = [tree.moved(directory.strip("/")) for directory, tree in t.files.mount(mount)]
    return [(os.path.normpath(remote), merge(trees))]


def _directory(path: str) -> str:
    return "/" + path.strip("/")


LOCAL_FILES: dict[str, Callable[[Translation, ImageStep], list[tuple[str, LocalTree]]]] = {
    "add_local_file": _add_local_file,
    "add_local_dir": _local_dir,
    "add_local_python_source": _python_source,
    "copy_local_file": _copy_local_file,
    "copy_local_dir": _local_dir,
    "copy_mount": _copy_mount,
}
