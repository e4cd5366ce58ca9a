"""One step of an image carried out: buildah upon the layer before it, with what the step is shown."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from glowplug.images.commands import BuildStopped
from glowplug.images.disk import full_text
from glowplug.images.oci.bases import BaseLines, Bases
from glowplug.images.oci.containerfile import RUNTIME, UV, StepLines, step_lines
from glowplug.images.oci.output import BuildOutput
from glowplug.images.oci.room import SHOWN_INSIDE, Ended, Shown
from glowplug.images.oci.storage import REPOSITORY, Storage
from glowplug.images.uv import build_variables, uv_path
from glowplug.model import errors
from glowplug.model.image_spec import BuildStep
from glowplug.ports.images import BuildLog, DriverFiles
from glowplug.ports.volumes import View, VolumeUse, VolumeViews

RUNTIME_PACKAGES = ("glowplug", "cloudpickle")
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where a machine keeps the authorities it trusts."""
INDEX_VARIABLES = frozenset(
    {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"}
)
_OF_THE_IMAGE = {
    "PATH": "$PATH",
    "LD_LIBRARY_PATH": f"${{LD_LIBRARY_PATH:-{SHOWN_INSIDE}/driver/lib}}",
    "XDG_DATA_DIRS": "${XDG_DATA_DIRS:-/usr/local/share:/usr/share}",
}
"""What a shell in the image puts in for these variables."""
_DIRECTORY = re.compile(r"(?:(?<=[\s,=])|^)(file://)?(/[^\s,]*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FULL = re.compile(r"no space left on device|disk quota exceeded|os error 28", re.IGNORECASE)


class StepBuild:
    """``number`` of ``count``; becomes the image ``tag`` upon ``parent``."""

    def __init__(
        self,
        storage: Storage,
        bases: Bases,
        step: BuildStep,
        number: int,
        count: int,
        tag: str,
        parent: str,
        environ: Mapping[str, str],
        volumes: VolumeViews | None,
        driver: DriverFiles | None,
    ) -> None:
        self._storage = storage
        self._bases = bases
        self._step = step
        self._where = f"step {number} of {count}, {step.text or step.operation}"
        self._tag = tag
        self._parent = parent
        self._environ = environ
        self._volumes = volumes
        self._views: list[View] = []
        self._driver = driver

    def run(
        self,
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
        fresh: bool,
    ) -> None:
        """Build it. ``fresh``: from no cached layer. Raises ``ImageBuildError``."""
        step = self._step
        secret = {name: value for each in step.secrets for name, value in secrets(each).items()}
        secret.update(step.secret_variables)
        try:
            base = self._lines(secret, log, stopped)
        except errors.ImageBuildError as error:
            raise errors.ImageBuildError(f"{self._where}: {error}") from error
        output = BuildOutput(log, base.lines.commands, [*secret.values()])
        with self._mounted_volumes(log):
            ended = self._build(base, secret, trees, output, stopped, fresh)
        if ended.stopped:
            raise BuildStopped
        if ended.code != 0:
            raise errors.ImageBuildError(self._failure(base, output, ended))

    @contextmanager
    def _mounted_volumes(self, log: BuildLog) -> Iterator[None]:
        """The step writes to its volumes themselves; what it wrote is committed when it ends."""
        wanted = self._step.fields.get("volumes") or ()
        if not wanted:
            yield
            return
        if self._volumes is None:
            raise errors.ImageBuildError(f"{self._where}: this builder has no volumes")
        uses = [VolumeUse(each["name"], each["mount_path"], bool(each.get("read_only"))) for each in wanted]
        name = f"build-{self._tag[:16]}"
        self._views = self._volumes.open(name, uses, private=False)
        try:
            yield
        finally:
            for problem in self._volumes.close(name):
                log.line(problem)

    def _lines(self, secret: dict[str, str], log: BuildLog, stopped: Callable[[], bool]) -> BaseLines:
        if self._step.operation == "base":
            return self._bases.lines(self._step, secret, log.line, stopped)
        made = step_lines(self._step, secret)
        head = f"FROM {REPOSITORY}:{self._parent}"
        return BaseLines(replace(made, lines=(head, *made.lines)))

    def _build(
        self,
        base: BaseLines,
        secret: dict[str, str],
        trees: Callable[[str], Path],
        output: BuildOutput,
        stopped: Callable[[], bool],
        fresh: bool,
    ) -> Ended:
        lines = base.lines
        files = {f"shown/{name}": content for name, content in lines.files.items()}
        files["shown/env"] = self._variables(lines, secret).encode()
        files["own/Containerfile"] = ("\n".join(lines.lines) + "\n").encode()
        if self._step.operation == "run_function":
            files["shown/function"] = self._function()
        if base.login:
            files["own/login.json"] = base.login
        context = str(trees(lines.tree)) if lines.tree else ""

        def arguments(stage: str) -> list[str]:
            shown = ["--volume", f"{stage}/shown:{SHOWN_INSIDE}"]
            return ["build", *self._options(base, f"{stage}/own", fresh), *shown, context or f"{stage}/empty"]

        return self._storage.buildah(
            arguments, output.line, stopped, self._shown(lines), files, self._devices()
        )

    def _options(self, base: BaseLines, directory: str, fresh: bool) -> list[str]:
        lines = base.lines
        options = [
            "--isolation=chroot", "--network=host", "--format=docker",
            "--signature-policy", self._storage.policy,
            # From a chroot whoever may change the root again gets out.
            "--cap-drop=CAP_SYS_CHROOT", "--force-rm", "--identity-label=false",
            "--file", f"{directory}/Containerfile", "--tag", f"{REPOSITORY}:{self._tag}",
            "--pull=never" if self._parent else "--pull=true",
        ]  # fmt: skip
        if lines.resumable:
            options.append("--layers")
        if fresh or not lines.resumable:
            options.append("--no-cache")
        if base.login:
            options += ["--authfile", f"{directory}/login.json"]
        for name, value in lines.build_args.items():
            options += ["--build-arg", f"{name}={value}"]
        for name, value in lines.environment.items():
            options += ["--env", f"{name}={value}"]
        for name, path in base.contexts.items():
            options += ["--build-context", f"{name}={path}"]
        for view in self._views:
            options += ["--volume", f"{view.source}:{view.mount_path}"]
        directory_of_module = self._step.source.get("directory")
        if self._step.operation == "run_function" and directory_of_module and directory_of_module != "/":
            options += ["--volume", f"{directory_of_module}:{directory_of_module}:ro"]
        return options

    def _shown(self, lines: StepLines) -> list[Shown]:
        shown = [Shown("certificates.pem", path) for path in CERTIFICATES[:] if os.path.isfile(path)][:1]
        if UV in lines.tools:
            cache = self._storage.directory / "uv-cache"
            cache.mkdir(mode=0o700, exist_ok=True)
            shown += [Shown("uv", uv_path()), Shown("uv-cache", str(cache), writable=True)]
            shown += self._local_indexes()[1]
        if self._driver is not None:
            inside = len(SHOWN_INSIDE) + 1
            shown += [Shown(path[inside:], source) for source, path in self._driver.binds]
        if RUNTIME in lines.tools:
            shown += [Shown(f"runtime/{name}", _package_directory(name)) for name in RUNTIME_PACKAGES]
        return shown

    def _variables(self, lines: StepLines, secret: dict[str, str]) -> str:
        """The file that a step's commands read first."""
        variables = dict(lines.variables)
        if UV in lines.tools:
            variables |= self._local_indexes()[0]
            variables |= {
                "UV_CACHE_DIR": f"{SHOWN_INSIDE}/uv-cache",
                "UV_LINK_MODE": "copy",
                "UV_NO_PROGRESS": "1",
                "UV_PYTHON_DOWNLOADS": "never",
                "UV_PROJECT_ENVIRONMENT": "/.uv/.venv",
                "UV_TOOL_DIR": "/tmp/.glowplug-tools",
            }
            if any(os.path.isfile(path) for path in CERTIFICATES):
                variables["SSL_CERT_FILE"] = f"{SHOWN_INSIDE}/certificates.pem"
        if RUNTIME in lines.tools:
            variables["MODAL_IS_REMOTE"] = "1"
        variables |= {**self._step.variables, **secret}
        for name in variables:
            if not _NAME.match(name):
                raise errors.ImageBuildError(f"{self._where}: {name!r} is no name of a variable")
        texts = {name: shlex.quote(value) for name, value in variables.items()}
        if self._driver is not None:
            # Beside what the image has, which the shell knows.
            found = self._driver.variables(_OF_THE_IMAGE)
            texts = {**{name: f'"{value}"' for name, value in found.items()}, **texts}
        return "".join(f"export {name}={text}\n" for name, text in texts.items())

    def _local_indexes(self) -> tuple[dict[str, str], list[Shown]]:
        """uv's settings on this machine. Directories among its indexes are shown to the build, those that are
        not there left out."""
        shown: list[Shown] = []

        def inside(found: re.Match[str]) -> str:
            if not os.path.isdir(found[2]):
                return ""
            # The pages of an index name files beside it.
            above, last = os.path.split(found[2].rstrip("/"))
            whole = above if found[1] and above != "/" else found[2]
            # uv remembers an index by its address, and must not take one directory for another.
            name = f"index-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:16]}"
            shown.append(Shown(name, whole))
            place = f"{SHOWN_INSIDE}/{name}/{last}" if whole == above else f"{SHOWN_INSIDE}/{name}"
            return f"{found[1] or ''}{place}"

        given = build_variables(self._environ)
        variables = {
            name: _DIRECTORY.sub(inside, value) if name in INDEX_VARIABLES else value
            for name, value in given.items()
            if name.startswith("UV_")
        }
        return {name: value.strip(" ,") for name, value in variables.items() if value.strip(" ,")}, shown

    def _function(self) -> bytes:
        fields = self._step.fields

        def text(name: str) -> str:
            return base64.b64encode(fields.get(name) or b"").decode()

        return json.dumps(
            {
                "module": fields.get("module", ""),
                "qualname": fields.get("qualname", ""),
                "serialized": text("serialized"),
                "arguments": text("arguments"),
                "source": dict(self._step.source),
                "search_path": [f"{SHOWN_INSIDE}/{RUNTIME}/glowplug/sdk/alias"],
            }
        ).encode()

    def _devices(self) -> list[str]:
        if self._driver is None:
            return []
        return sorted(
            name for name in os.listdir("/dev") if name.startswith("nvidia") and name != "nvidia-caps"
        )

    def _failure(self, base: BaseLines, output: BuildOutput, ended: Ended) -> str:
        last = "\n".join(f"  {line}" for line in output.last if line.strip())
        if _FULL.search(last) or _FULL.search(output.error):
            return f"{self._where}: {full_text(self._storage.directory)}"
        if output.exit_code is not None:
            text = f"{self._where}: `{output.command}` failed with exit code {output.exit_code}."
            return f"{text} Its last lines:\n{last}" if last else f"{text} It printed nothing."
        reason = output.error or (f"buildah ended with {ended.code}" + (f":\n{last}" if last else ""))
        if base.host and ("registry" in reason or "docker://" in reason):
            return (
                f"{self._where}: its image could not be fetched from {base.host}: {reason}. Is the name "
                "right, and may this machine read it? Private images need a secret with REGISTRY_USERNAME "
                "and REGISTRY_PASSWORD."
            )
        return f"{self._where}: {reason}"


def _package_directory(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise errors.InternalError(f"the package {name} of this installation cannot be found")
    return os.path.realpath(next(iter(spec.submodule_search_locations)))
