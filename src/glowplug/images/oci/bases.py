"""The first layer: what an image starts from, and which way to it this machine has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from glowplug.images.oci import debian
from glowplug.images.oci.containerfile import StepLines, enter_lines, has_variables, logical_lines, with_uv
from glowplug.images.oci.packages import uv_install
from glowplug.images.oci.pythons import standalone
from glowplug.images.oci.registries import Reach, full_name, host_of, login
from glowplug.images.oci.storage import Storage
from glowplug.images.uv import uv_path
from glowplug.model import errors
from glowplug.model.image_spec import BuildStep

WAYS = ("auto", "registry", "debian")
"""Where debian_slim comes from: a registry when it answers, else a Debian made here; or always one."""
PYTHON_PARTS = ("bin", "include", "lib")
PYTHON_CONTEXT = "glowplug-python"
PIP_IF_POSSIBLE = (
    f"{uv_install({'packages': ['pip', 'setuptools', 'wheel']})} "
    "|| echo 'pip is not in this base: the package index cannot be reached'"
)
"""For scripts that call pip themselves; Glowplug installs by uv, which is no part of an image."""
MICROMAMBA_IMAGE = "docker.io/mambaorg/micromamba:2-debian12-slim"


@dataclass(frozen=True)
class BaseLines:
    """The first build of an image. ``lines`` begin with FROM."""

    lines: StepLines
    contexts: dict[str, Path] = field(default_factory=dict[str, Path])
    """Further directories that COPY --from may name."""
    login: bytes = b""
    host: str = ""
    """Of the registry that is asked."""


class Bases:
    def __init__(
        self,
        storage: Storage,
        environ: Mapping[str, str],
        way: str = "auto",
        mirror: str = debian.MIRROR,
    ) -> None:
        if way not in WAYS:
            raise errors.InvalidError(
                f"GLOWPLUG_IMAGE_BASE={way!r} is not known; use one of {', '.join(WAYS)}"
            )
        self._storage = storage
        self._environ = environ
        self._way = way
        self._mirror = mirror
        self._reach = Reach(storage.directory / "reached.json")

    def lines(
        self,
        step: BuildStep,
        secrets: dict[str, str],
        on_line: Callable[[str], None],
        stopped: Callable[[], bool],
    ) -> BaseLines:
        """How the first step is built. Raises ``ImageBuildError`` for a registry out of reach, an unknown
        version of Python and the like."""
        fields = step.fields
        match fields.get("kind"):
            case "debian_slim":
                return self._debian_slim(fields.get("python_version", ""), on_line, stopped)
            case "registry":
                tag = full_name(fields["tag"])
                self._require(host_of(tag), fields["tag"])
                made = BaseLines(
                    StepLines((f"FROM {tag}",)),
                    {},
                    login(tag, fields.get("registry", ""), secrets),
                    host_of(tag),
                )
                return self._with_python(made, fields.get("add_python") or "")
            case "dockerfile":
                return self._dockerfile(step, secrets)
            case "scratch":
                made = BaseLines(StepLines(("FROM scratch", f"ENV PATH={debian.SEARCH_PATH}")))
                return self._with_python(made, fields.get("add_python") or "")
            case "micromamba":
                return self._micromamba(fields.get("python_version", ""))
            case kind:
                raise errors.ImageBuildError(f"{step.text or kind}: a base that cannot be built here")

    def _debian_slim(
        self, version: str, on_line: Callable[[str], None], stopped: Callable[[], bool]
    ) -> BaseLines:
        version = ".".join(version.split(".")[:2]) or "3.11"
        tag = f"docker.io/library/python:{version}-slim"
        if self._way == "registry" or (self._way == "auto" and not self._refusal(host_of(tag))):
            self._require(host_of(tag), tag)
            return BaseLines(StepLines((f"FROM {tag}",)), host=host_of(tag))
        own = version in debian.SUITES
        base = debian.DebianBase(
            debian.SUITES.get(version, debian.PLAIN_SUITE), version if own else "", self._mirror
        )
        python = None if own else self._standalone(version)  # before the long part: it may be unknown
        reference = debian.make(base, self._storage, self._environ, on_line, stopped)
        if python is not None:
            return self._copied(BaseLines(StepLines((f"FROM {reference}",))), python)
        pip = with_uv([PIP_IF_POSSIBLE], {})
        return BaseLines(
            replace(pip, lines=(f"FROM {reference}", *pip.lines), commands=("uv pip install pip",))
        )

    def _dockerfile(self, step: BuildStep, secrets: dict[str, str]) -> BaseLines:
        fields = step.fields
        lines = logical_lines(fields["text"])
        froms = [line.split()[1:] for line in lines if line.split()[0].upper() == "FROM"]
        if not froms:
            raise errors.ImageBuildError(f"{step.text or 'the Dockerfile'}: it has no FROM line")
        stages: set[str] = set()
        host = ""
        for words in froms:
            words = [word for word in words if not word.startswith("--")]
            tag = words[0] if words else ""
            if tag and "$" not in tag and tag != "scratch" and tag.lower() not in stages:
                host = host_of(full_name(tag))
                if not full_name(tag).startswith("localhost/"):
                    self._require(host, tag)
            if len(words) == 3 and words[1].lower() == "as":
                stages.add(words[2].lower())
        made = StepLines(
            tuple(enter_lines(lines, has_variables(step))),
            tree=fields.get("tree", ""),
            build_args=dict(fields.get("build_args") or {}),
            resumable=not any("--mount" in line for line in lines),
        )
        last = next((words[0] for words in reversed(froms) if words), "")
        base = BaseLines(made, {}, login(last, "", secrets) if host else b"", host)
        return self._with_python(base, fields.get("add_python") or "")

    def _micromamba(self, version: str) -> BaseLines:
        self._require(host_of(MICROMAMBA_IMAGE), MICROMAMBA_IMAGE)
        python = f"python={version}" if version else "python"
        return BaseLines(
            StepLines(
                (
                    f"FROM {MICROMAMBA_IMAGE}",
                    "USER root",
                    "ENV MAMBA_ROOT_PREFIX=/opt/conda PATH=/opt/conda/bin:$PATH",
                    f"RUN micromamba install -y -n base -c conda-forge {python} pip",
                )
            ),
            host=host_of(MICROMAMBA_IMAGE),
        )

    def _with_python(self, base: BaseLines, version: str) -> BaseLines:
        return self._copied(base, self._standalone(version)) if version else base

    def _copied(self, base: BaseLines, python: Path) -> BaseLines:
        copies = (f'COPY --from={PYTHON_CONTEXT} ["{name}", "/usr/local/{name}/"]' for name in PYTHON_PARTS)
        lines = replace(base.lines, lines=(*base.lines.lines, *copies))
        return BaseLines(lines, {**base.contexts, PYTHON_CONTEXT: python}, base.login, base.host)

    def _standalone(self, version: str) -> Path:
        return standalone(version, uv_path(), self._storage.directory / "pythons", self._environ)

    def _refusal(self, host: str) -> str:
        if any(
            name.lower() in ("https_proxy", "all_proxy") and value for name, value in self._environ.items()
        ):
            return ""  # the proxy knows
        if self._storage.operator_registries:
            return ""  # mirrors may be elsewhere
        return self._reach.refusal(host)

    def _require(self, host: str, tag: str) -> None:
        reason = self._refusal(host)
        if reason:
            raise errors.ImageBuildError(
                f"{tag} cannot be fetched: the registry {host} is not reachable from here ({reason}). "
                "Connect it, name a mirror in /etc/containers/registries.conf, or start from "
                "Image.debian_slim(), which is made without a registry where there is a Debian mirror."
            )
