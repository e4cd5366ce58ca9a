"""What a function's container runs in: the interpreter of its app's client, or that of an image.

An app's own environment brings Glowplug along, in whatever directory of it that lies. An image knows nothing
of Glowplug: there only the two packages that a container needs are shown, in a directory of their own that
comes last on ``sys.path``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glowplug.backends.local.driver import DriverFiles
from glowplug.backends.local.runtime import INSIDE, Runtime, packages
from glowplug.model import errors
from glowplug.ports.images import BuiltImage, ReadyImages

HOME = "/root"
"""The home directory inside; files of images that are placed nowhere else are there, modules too."""
CLIENT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONPATH")
"""Of the client's own environment, where the container uses the client's interpreter."""
NODE_FILES = ("/etc/resolv.conf", "/etc/hosts")
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where a machine keeps the authorities it trusts."""
CERTIFICATES_INSIDE = "/.glowplug/certificates.pem"
ALIAS = "glowplug/sdk/alias"
"""In the runtime: where `import modal` finds Glowplug."""


@dataclass(frozen=True)
class FilesBind:
    """A directory of this node whose files a container sees at ``path``, beside what else is there."""

    source: str
    path: str


@dataclass(frozen=True)
class Environment:
    """One interpreter and what is visible with it. Paths are those inside a container."""

    executable: str
    prefix: str = ""
    base_prefix: str = ""
    sys_path: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict[str, str])
    workdir: str = ""
    """Empty: the directory of the script."""
    root: str = ""
    """The node's directory that holds the root file system; empty: the node's own."""
    entrypoint: tuple[str, ...] = ()
    files: tuple[FilesBind, ...] = ()
    runtime: str = ""
    """The directory that holds the package glowplug."""
    runtime_binds: tuple[tuple[str, str], ...] = ()
    """(source, path): how it comes to be there, where it is not shown anyway."""
    alias: str = ""
    node_files: tuple[tuple[str, str], ...] = ()
    """(source, path): files of the node that an image's root lacks or must not have its own of."""

    @property
    def search_path(self) -> list[str]:
        return [*filter(None, [self.alias]), *self.sys_path]


class Environments:
    """Finds the environment of each function. ``sandboxed``: whether a container has a root of its own."""

    def __init__(
        self, runtime: str, alias: str, home: Path, images: ReadyImages | None, sandboxed: bool
    ) -> None:
        self._runtime = runtime
        self._alias = alias
        self._home = home
        self._images = images
        self._sandboxed = sandboxed
        self._shown_runtime = Runtime(home)
        self._links: set[Path] = set()
        """Where files appear on the machine itself, without a sandbox."""

    def suspect(self, definition: dict[str, Any]) -> None:
        """A function could not be imported: its image may be damaged."""
        image_id = (definition.get("image") or {}).get("image_id")
        if image_id and self._images is not None:
            self._images.suspect(image_id)

    def close(self) -> None:
        self._shown_runtime.close()
        for link in self._links:
            with contextlib.suppress(OSError):
                link.unlink()

    def of(self, definition: dict[str, Any], app: dict[str, Any]) -> Environment:
        """``app``: the environment that the app's client has sent.

        Raises ``NotFoundError`` when the image or its files are not on this node, ``InvalidError`` when its
        root cannot be shown.
        """
        image = definition.get("image")
        if not image:
            return self.of_app(app)
        image_id = image.get("image_id", "")
        if not image_id:
            return self.of_app(app, self._files(image, HOME))
        built = self._images.built(image_id) if self._images is not None else None
        if built is None:
            raise errors.NotFoundError(
                f"image {image_id} is not on this machine any more; start the app again to have it built"
            )
        return self.of_image(built, self._files(image, built.workdir or HOME))

    def of_app(self, app: dict[str, Any], files: Sequence[FilesBind] = ()) -> Environment:
        client = app.get("env", {})
        found = Environment(
            executable=app["executable"],
            prefix=app.get("prefix") or "",
            base_prefix=app.get("base_prefix") or "",
            sys_path=tuple(app.get("sys_path", ())),
            variables={name: client[name] for name in CLIENT_VARIABLES if name in client},
            runtime=self._runtime,
            alias=self._alias,
        )
        return self._with_files(found, files)

    def of_image(self, built: BuiltImage, files: Sequence[FilesBind] = ()) -> Environment:
        if built.root and not self._sandboxed:
            raise errors.InvalidError(
                f"image {built.image_id} has a root file system of its own (apt packages, shell commands, a "
                "registry's image or a Dockerfile), and only a sandbox can show it to a container; there is "
                "none here. `glowplug doctor` says how to get one."
            )
        runtime, binds = INSIDE, tuple(self._shown_runtime.binds(built))
        if not self._sandboxed:
            runtime, binds = linked_runtime(self._home / "runtime"), ()
        found = Environment(
            executable=built.executable,
            prefix=built.prefix,
            base_prefix=built.base_prefix,
            sys_path=built.sys_path,
            variables={**_certificates_of(built.root), **built.variables},
            workdir=built.workdir,
            root=built.root,
            entrypoint=built.entrypoint,
            runtime=runtime,
            runtime_binds=binds,
            alias=f"{runtime}/{ALIAS}",
            node_files=tuple(_node_files(built.root)) if built.root else (),
        )
        copied = [FilesBind(source, path) for source, path in built.files]
        return self._with_files(found, [*copied, *files])

    def _with_files(self, environment: Environment, files: Sequence[FilesBind]) -> Environment:
        if not files:
            return environment
        if not self._sandboxed:
            self._links.update(link_files(files))
        # Without a root of its own a container cannot see them at HOME; their modules it can import.
        modules = [HOME] if self._sandboxed else [each.source for each in files if each.path == HOME]
        sys_path = (*modules, *(path for path in environment.sys_path if path not in modules))
        return replace(environment, sys_path=sys_path, files=tuple(files))

    def _files(self, image: dict[str, Any], workdir: str) -> list[FilesBind]:
        found = []
        for mount in image.get("mounts", ()):
            source = self._images.tree(mount["tree"]) if self._images is not None else None
            if source is None:
                raise errors.NotFoundError(
                    f"the files for {mount['path']} are not on this machine any more; start the app again "
                    "to have them sent"
                )
            found.append(FilesBind(str(source), place_inside(mount["path"], workdir)))
        return found


def link_files(files: Sequence[FilesBind]) -> list[Path]:
    """Without a mount namespace files are links at the paths that they are meant for, which are returned;
    modules in HOME are found on ``sys.path``. Raises ``InvalidError`` where something else is."""
    links: list[Path] = []
    for each in files:
        for name in sorted(os.listdir(each.source)):
            source, link = Path(each.source, name), Path(each.path, name)
            if each.path == HOME and (source.suffix == ".py" or (source / "__init__.py").exists()):
                continue
            try:
                if link.is_symlink() and Path(os.readlink(link)).parent.parent == source.parent.parent:
                    link.unlink()  # of another version of these files
                elif link.exists() or link.is_symlink():
                    raise FileExistsError("something is there, and containers share this machine's root")
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
                links.append(link)
            except OSError as error:
                raise errors.InvalidError(
                    f"{link} cannot be shown to containers without a sandbox: {error}. `glowplug doctor` "
                    "says how to get one."
                ) from error
    return links


def with_driver(environment: Environment, driver: DriverFiles) -> Environment:
    """``environment`` for a function with a card. The node's own directories have the driver anyway."""
    if not environment.root:
        return environment
    return replace(
        environment,
        node_files=(*environment.node_files, *driver.binds),
        variables={**environment.variables, **driver.variables(environment.variables)},
    )


def _node_files(root: str) -> Iterator[tuple[str, str]]:
    """How names are found is the node's affair, and which authorities it trusts."""
    for path in NODE_FILES:
        # The root has a file for it: its export sees to that.
        if os.path.isfile(path) and os.path.isfile(root + path) and not os.path.islink(root + path):
            yield os.path.realpath(path), path
    certificates = next((path for path in CERTIFICATES if os.path.isfile(path)), None)
    if certificates is not None:
        yield os.path.realpath(certificates), CERTIFICATES_INSIDE


def _certificates_of(root: str) -> dict[str, str]:
    """Where an image without authorities of its own finds some."""
    if not root or any(os.path.isfile(root + path) for path in CERTIFICATES):
        return {}
    return {"SSL_CERT_FILE": CERTIFICATES_INSIDE}


def place_inside(path: str, workdir: str) -> str:
    """``path`` as an absolute one; relative ones are under the working directory."""
    return os.path.normpath(os.path.join(workdir or HOME, path))


def linked_runtime(directory: Path) -> str:
    """A directory that holds these packages and nothing else, for processes without a root of their own."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, source in packages():
        link = directory / name
        if not (link.is_symlink() and os.readlink(link) == source):
            temporary = directory / f".{name}-{os.getpid()}"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(source)
            temporary.replace(link)
    return str(directory)


def runtime_directory() -> str:
    """The directory on ``sys.path`` that holds this Glowplug."""
    return str(Path(sys.modules["glowplug"].__file__ or "").resolve().parent.parent)
