"""An image as the server is told of it: canonical steps, files by content, nothing of the client's machine.

The sdk turns the methods of every era into these few operations; builders know only these. Two chains that
mean the same have the same ``digest``, whoever wrote them and wherever.

Operations and their fields (``fields`` of a step; those that are absent have their default):

=================== ===================================================================================
base                ``kind``: "debian_slim" | "registry" | "dockerfile" | "scratch" | "micromamba";
                    ``python_version`` ("3.11", or "" for the client's minor version; set by the sdk);
                    ``tag``, ``registry`` ("aws_ecr" | "gcp_artifact_registry": how the step's secrets
                    log in; else REGISTRY_USERNAME and REGISTRY_PASSWORD) (registry);
                    ``text``, ``build_args``, ``tree`` (dockerfile; a registry's image with commands of its
                    own is one too); ``add_python`` (both): the version to add
python_packages     ``packages`` (list), ``requirements`` (list of file texts), ``index_url``,
                    ``extra_index_url``, ``find_links``, ``pre``, ``extra_options``, ``installer``
                    ("uv" | "pip": which method was called; both are installed by uv where that is possible)
private_repos       ``repositories`` (list), ``git_user``, and the options of python_packages
uv_sync             ``pyproject`` and ``lock`` (texts), ``groups``, ``extras``, ``frozen``, ``extra_options``
poetry              ``pyproject`` and ``lock`` (texts), ``with``, ``without``, ``only``, ``version``
apt                 ``packages``
micromamba          ``packages``, ``channels``, ``spec`` (text)
run                 ``commands`` (list of shell lines), ``volumes`` (as of run_function)
run_function        ``module``, ``qualname``, ``name``, ``serialized`` (bytes; in the digest only when there
                    is no ``source``, because it differs from run to run), ``source`` (its text and what
                    it uses, for the cache), ``arguments`` (bytes: pickled ``(args, kwargs)``), ``timeout_s``,
                    ``volumes`` (list of {"name", "mount_path", "read_only"})
dockerfile          ``commands`` (list of Dockerfile lines), ``tree`` (context), ``build_args``
copy                ``tree``, ``path``: files that later steps may use; ``path`` is a directory, made if
                    absent, relative to the working directory of the image unless absolute
env                 ``variables``
workdir             ``path``
entrypoint, cmd, shell   ``words``
=================== ===================================================================================

``tree`` is always the digest of a ``FileTree`` in ``ImageSpec.trees``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from glowplug.model.files import FileTree

OPERATIONS = (
    "base", "python_packages", "private_repos", "uv_sync", "poetry", "apt", "micromamba", "run",
    "run_function", "dockerfile", "copy", "env", "workdir", "entrypoint", "cmd", "shell",
)  # fmt: skip
ROOT_OPERATIONS = frozenset({"apt", "run", "run_function", "dockerfile", "entrypoint", "micromamba"})
"""What needs a root file system of its own; with everything else a virtual environment does."""
BYTES_FIELDS = frozenset({"serialized", "arguments"})
"""Base64 where the wire is JSON."""


@dataclass(frozen=True)
class BuildStep:
    """One canonical operation."""

    operation: str
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    text: str = ""
    """As the user wrote it, for progress and errors: ``pip_install("numpy")``. Not part of the digest."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Environment variables of this step alone (``env=``)."""
    secrets: tuple[str, ...] = ()
    """Names of stored secrets whose variables this step sees."""
    secret_variables: dict[str, str] = field(default_factory=dict[str, str])
    """Variables of secrets without a name; they reach the build, never the digest's text, a log or a disk."""
    gpu: str = ""
    """As ``gpu=`` was written: such a step runs where there is a card, if there is one."""
    force: bool = False
    """Build this step and those after it anew. Not part of the digest."""
    source: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of run_function: where its module is, as ``AppSpec.source`` of an app. Not part of the digest."""

    @property
    def needs_root(self) -> bool:
        if self.operation == "base":
            return self.fields.get("kind") != "debian_slim"
        return self.operation in ROOT_OPERATIONS

    def to_wire(self) -> dict[str, Any]:
        return {
            "operation": self.operation,
            "fields": self.fields,
            "text": self.text,
            "variables": self.variables,
            "secrets": list(self.secrets),
            "secret_variables": self.secret_variables,
            "gpu": self.gpu,
            "force": self.force,
            "source": self.source,
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> BuildStep:
        fields = dict(wire)
        fields["secrets"] = tuple(wire.get("secrets", ()))
        fields["fields"] = dict(wire.get("fields", {}))
        for name in BYTES_FIELDS.intersection(fields["fields"]):
            if isinstance(fields["fields"][name], str):  # JSON has no bytes
                fields["fields"][name] = base64.b64decode(fields["fields"][name])
        return cls(**fields)


@dataclass(frozen=True)
class FileMount:
    """Files that are there when a container starts, and not part of the image (``add_local_*``)."""

    path: str
    """A directory: absolute, or relative to the working directory. The tree's topmost files and directories
    appear in it, each over what has its name; what else is there stays."""
    tree: str

    def to_wire(self) -> dict[str, Any]:
        return {"path": self.path, "tree": self.tree}


@dataclass(frozen=True)
class ImageSpec:
    """What to build, and what is mounted over it."""

    steps: tuple[BuildStep, ...] = ()
    mounts: tuple[FileMount, ...] = ()
    trees: dict[str, FileTree] = field(default_factory=dict[str, FileTree])
    """By digest."""

    @property
    def needs_root(self) -> bool:
        return any(step.needs_root for step in self.steps)

    @property
    def forced(self) -> bool:
        return any(step.force for step in self.steps)

    @property
    def digest(self) -> str:
        """Of what is built; mounts are not."""
        return self.digest_after(len(self.steps))

    def digest_after(self, count: int) -> str:
        """Of the first ``count`` steps: the name of that layer."""
        digest = hashlib.sha256(b"glowplug image 1")
        for step in self.steps[:count]:
            digest.update(_canonical(step))
        return digest.hexdigest()

    def to_wire(self) -> dict[str, Any]:
        return {
            "steps": [step.to_wire() for step in self.steps],
            "mounts": [mount.to_wire() for mount in self.mounts],
            "trees": {digest: tree.to_wire() for digest, tree in self.trees.items()},
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> ImageSpec:
        return cls(
            tuple(BuildStep.from_wire(step) for step in wire.get("steps", ())),
            tuple(FileMount(**mount) for mount in wire.get("mounts", ())),
            {digest: FileTree.from_wire(tree) for digest, tree in wire.get("trees", {}).items()},
        )


def _canonical(step: BuildStep) -> bytes:
    secrets = [*sorted(step.secrets), *sorted(step.secret_variables)]
    fields = step.fields
    if fields.get("source"):
        fields = {name: value for name, value in fields.items() if name != "serialized"}
    relevant = [step.operation, fields, step.variables, secrets]
    return json.dumps(relevant, sort_keys=True, default=_hexadecimal).encode() + b"\n"


def _hexadecimal(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} in an image's definition")
