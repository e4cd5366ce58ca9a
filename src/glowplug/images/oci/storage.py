"""The image storage of one home: its own, so that nobody's other images are depended on or touched.

A step's layer is an image named by the digest of the definition up to that step. Which directories make up
an image is read from the storage itself, for the export of roots.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glowplug.images.commands import BuildStopped
from glowplug.images.oci.room import Ended, Room, Shown
from glowplug.model import errors

REPOSITORY = "localhost/glowplug"
LOCK_POLL_S = 0.05
DRIVERS = ("overlay", "vfs")
"""In order of preference; the second copies a whole image for each layer, and works anywhere."""
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
_REGISTRIES = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'
_OWN_REGISTRIES = ("/etc/containers/registries.conf", "~/.config/containers/registries.conf")


class Storage:
    """``directory``: of the home, kept; ``volatile``: of this user, gone after a restart of the machine."""

    def __init__(self, directory: Path, volatile: Path, environ: Mapping[str, str]) -> None:
        self.directory = directory
        self.graph = directory / "storage"
        self._volatile = volatile
        self._environ = environ
        self._driver = ""

    # running buildah

    def buildah(
        self,
        arguments: Callable[[str], Sequence[str]] | Sequence[str],
        on_line: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
        shown: Sequence[Shown] = (),
        files: Mapping[str, bytes] | None = None,
        devices: Sequence[str] = (),
    ) -> Ended:
        """Run ``buildah ARGUMENTS``. Raises ``ImageBuildError`` when there is none."""
        program = find_buildah(self._environ)
        self._prepare()
        given = arguments if callable(arguments) else lambda _: arguments
        options = [
            "--root", str(self.graph), "--runroot", str(self._volatile), "--storage-driver", self.driver,
        ]  # fmt: skip
        room = Room(shown, files or {}, self._variables(), devices)
        return room.run(lambda stage: [program, *options, *given(stage)], on_line, stopped)

    def answer(self, *arguments: str) -> str:
        """What buildah prints. Raises ``ImageBuildError`` with its words when it fails."""
        lines: list[str] = []
        if self.buildah(arguments, lines.append).code != 0:
            raise errors.ImageBuildError(
                f"`buildah {arguments[0]}` failed: {' '.join(lines[-3:])}. `glowplug image prune` removes "
                f"what is broken below {self.directory}."
            )
        return "\n".join(lines)

    @property
    def driver(self) -> str:
        """How layers are kept; found out once for each home."""
        if not self._driver:
            chosen = self.directory / "driver"
            try:
                self._driver = chosen.read_text().strip()
            except FileNotFoundError:
                self._driver = self._try_drivers()
                chosen.write_text(self._driver)
        return self._driver

    def _try_drivers(self) -> str:
        program = find_buildah(self._environ)
        self._prepare()
        lines: list[str] = []
        for driver in DRIVERS:
            # A storage remembers its driver, so each is tried in a place of its own.
            trial = self.directory / f"trial-{driver}-{os.getpid()}"
            options = ["--root", f"{trial}/graph", "--runroot", f"{trial}/run", "--storage-driver", driver]
            try:
                command = [program, *options, "from", "--name", "trial", "scratch"]
                made = Room(environ=self._variables()).run(lambda _, each=command: each, lines.append)
                mount = [program, *options, "mount", "trial"]
                if made.code == 0 and (
                    Room(environ=self._variables()).run(lambda _, each=mount: each, lines.append).code == 0
                ):
                    return driver
            finally:
                shutil.rmtree(trial, ignore_errors=True)
        raise errors.ImageBuildError(
            f"no image can be kept in {self.directory}: {' '.join(lines[-2:])}. Set GLOWPLUG_HOME to a "
            "directory on a local disk."
        )

    def _prepare(self) -> None:
        for path in (self.graph, self._volatile, self.directory / "conf"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        driver = self._driver or DRIVERS[0]
        storage = (
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{self.graph}"\nrunroot = "{self._volatile}"\n'
        )
        texts = {
            "policy.json": _POLICY,
            "registries.conf": _REGISTRIES,
            "containers.conf": "",
            "storage.conf": storage,
        }
        for name, text in texts.items():
            path = self.directory / "conf" / name
            if not path.exists() or path.read_text() != text:
                temporary = path.with_name(f".{name}-{os.getpid()}")
                temporary.write_text(text)
                temporary.replace(path)

    def _variables(self) -> dict[str, str]:
        """Of the operator's own only what finds registries and the way to them."""
        conf = self.directory / "conf"
        passed = {
            name: value
            for name, value in self._environ.items()
            if name
            in ("PATH", "HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR")
            or name.lower().endswith("_proxy")
        }
        registries = self.operator_registries
        return {
            "HOME": str(self.directory),
            **passed,
            "TMPDIR": str(self._volatile),
            "CONTAINERS_STORAGE_CONF": str(conf / "storage.conf"),
            "CONTAINERS_CONF": str(conf / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": registries or str(conf / "registries.conf"),
        }

    @property
    def operator_registries(self) -> str:
        """The operator's own file of registries and mirrors; empty when there is none that says anything."""
        return self._environ.get("CONTAINERS_REGISTRIES_CONF") or _configured_registries()

    @property
    def policy(self) -> str:
        return str(self.directory / "conf" / "policy.json")

    # what is in it

    def images(self) -> dict[str, str]:
        """The id of each of our images by its tag. Quick: nothing is started."""
        found = {}
        for image in self._records("images"):
            for name in image.get("names") or ():
                repository, _, tag = name.rpartition(":")
                if repository == REPOSITORY:
                    found[tag] = image["id"]
        return found

    def layer_directories(self, image_id: str) -> list[Path]:
        """The directories of an image's layers, the topmost first."""
        image = next((each for each in self._records("images") if each["id"] == image_id), None)
        if image is None:
            raise errors.ImageBuildError(f"image {image_id[:12]} is not in {self.graph} any more")
        layers = {each["id"]: each for each in self._records("layers")}
        kind = "diff" if self.driver == "overlay" else ""
        place = self._layers_place
        found = []
        layer = image.get("layer")
        while layer:
            found.append(place / layer / kind)
            layer = layers[layer].get("parent")
        return found if self.driver == "overlay" else found[:1]

    def layer_name(self, directory: Path) -> str:
        """The id of the layer that this directory is of."""
        return directory.relative_to(self._layers_place).parts[0]

    def has_layer(self, layer_id: str) -> bool:
        return (self._layers_place / layer_id).is_dir()

    @property
    def _layers_place(self) -> Path:
        return self.graph / ("overlay" if self.driver == "overlay" else "vfs/dir")

    def images_with(self, layers: Collection[Path]) -> list[str]:
        """The ids of all images, ours or fetched, that one of these directories is a layer of."""
        ids = [image["id"] for image in self._records("images")]
        return [each for each in ids if not set(layers).isdisjoint(self.layer_directories(each))]

    def _records(self, what: str) -> list[dict[str, Any]]:
        path = self.graph / f"{self.driver}-{what}" / f"{what}.json"
        try:
            return json.loads(path.read_text() or "[]") or []
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise errors.ImageBuildError(
                f"{path} is damaged ({error}). Remove {self.graph} to have every image built again."
            ) from error

    # who may do what when

    @contextmanager
    def lock(self, name: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Alone among all processes with this home; ends with ``BuildStopped`` once ``stopped()``."""
        path = self.directory / "locks" / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if stopped():
                        raise BuildStopped from None
                    time.sleep(LOCK_POLL_S)
            yield

    @contextmanager
    def building(self) -> Iterator[bool]:
        """While a build runs. Where it is the only one, what a killed one has left is removed first; True
        then."""
        path = self.directory / "locks" / "building"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove_leftovers()
                alone = True
            except BlockingIOError:
                alone = False
            fcntl.flock(file, fcntl.LOCK_SH)
            yield alone

    def _remove_leftovers(self) -> None:
        if self._records("containers"):
            self.buildah(["rm", "--all"], lambda _: None)


def find_buildah(environ: Mapping[str, str]) -> str:
    """Raises ``ImageBuildError`` when it is not installed."""
    found = shutil.which("buildah", path=environ.get("PATH", os.defpath))
    if found is None:
        raise errors.ImageBuildError(
            "this image needs a root file system of its own (apt packages, shell commands, a registry's "
            "image or a Dockerfile), and buildah, which makes it, is not installed. On Debian and Ubuntu: "
            "apt-get install buildah mmdebstrap uidmap"
        )
    return found


def _configured_registries() -> str:
    """The operator's own file, when it says something."""
    for path in reversed(_OWN_REGISTRIES):
        try:
            lines = Path(path).expanduser().read_text().splitlines()
        except OSError:
            continue
        if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
            return str(Path(path).expanduser())
    return ""
