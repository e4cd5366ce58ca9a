"""What a chain means to a server: the methods of every era, in the few operations of ``model.image_spec``.

Two chains that mean the same become the same operations. Local files are read here, and only here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glowplug.client.files import LocalTree, merge
from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.model.files import FileTree
from glowplug.model.image import ImageDefinition, ImageStep
from glowplug.model.image_spec import BuildStep, FileMount, ImageSpec
from glowplug.model.volume import VolumeDefinition
from glowplug.sdk.built_function import function_fields
from glowplug.sdk.dockerfile import context_tree
from glowplug.sdk.image_chain import is_mounting
from glowplug.sdk.image_commands import DEFAULT_RUN_FUNCTION_TIMEOUT_S
from glowplug.sdk.image_packages import REPOSITORY_HOSTS
from glowplug.sdk.local_files import LocalFiles, missing, python_source_ignore, shown
from glowplug.sdk.mount import ROOT_DIRECTORY
from glowplug.sdk.project_files import pyproject_packages, read_toml, requirements_text

VolumeNames = Callable[[VolumeDefinition, str], str]
"""The name of a volume mounted at a path."""
PIP_OPTIONS = ("find_links", "index_url", "extra_index_url", "pre", "extra_options")
DIRECTORIES = frozenset(
    {".", "..", "/", "/root", "/tmp", "/opt", "/srv", "/home", "/mnt", "/usr", "/var", "/etc"}
)
"""Where a copied file goes into the directory rather than being called so."""


@dataclass
class Translated:
    """A definition for the server, and where the contents of its files are."""

    spec: ImageSpec
    mounted: list[tuple[str, LocalTree]] = field(default_factory=list[tuple[str, LocalTree]])
    """(absolute directory, files): what is laid over it."""
    places: dict[str, str] = field(default_factory=dict[str, str])
    """Path by digest, of the files that are built in."""
    skipped: list[str] = field(default_factory=list[str])


def translate(
    image: ImageDefinition, files: LocalFiles, volume_names: VolumeNames | None = None
) -> Translated:
    """The operations of a chain. One without a base is Debian's with the Python that runs here.

    Raises ``InvalidError``, ``NotFoundError`` for local files that are not there.
    """
    translation = _Translation(files, volume_names or _only_named)
    if not image.steps or image.steps[0].method not in BASES:
        translation.add(ImageStep("debian_slim"))
    for step in image.steps:
        translation.add(step)
    trees = {tree.tree.digest: tree.tree for tree in translation.trees}
    places = {digest: path for tree in translation.trees for digest, path in tree.places.items()}
    skipped = [path for tree in translation.trees for path in tree.skipped]
    spec = ImageSpec(tuple(translation.steps), (), trees)
    return Translated(spec, translation.mounted, places, skipped)


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


class _Translation:
    def __init__(self, files: LocalFiles, volume_names: VolumeNames) -> None:
        self.files = files
        self.steps: list[BuildStep] = []
        self.mounted: list[tuple[str, LocalTree]] = []
        self.trees: list[LocalTree] = []
        self._volume_names = volume_names

    def add(self, step: ImageStep) -> None:
        if is_mounting(step):
            self.mounted += LOCAL_FILES[step.method](self, step)
        elif step.method in LOCAL_FILES:
            for directory, tree in LOCAL_FILES[step.method](self, step):
                self.operation("copy", step, tree=self.tree(tree), path=directory)
        else:
            METHODS[step.method](self, step)

    def operation(
        self, operation: str, step: ImageStep, /, *, about: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        options = step.options
        named = [secret.name for secret in options.get("secrets", ()) if secret.name is not None]
        given: dict[str, str] = {}
        for secret in options.get("secrets", ()):
            given.update(secret.variables if secret.name is None else {})
        self.steps.append(
            BuildStep(
                operation,
                {
                    key: _plain(value)
                    for key, value in fields.items()
                    if value not in (None, "", (), [], {}, False)
                },
                text=shown_step(step),
                variables=dict(options.get("env", {})),
                secrets=tuple(named),
                secret_variables=given,
                gpu=options.get("gpu", ""),
                force=bool(options.get("force_build")),
                source=about or {},
            )
        )

    def tree(self, tree: LocalTree) -> str:
        """Take a tree along; its digest."""
        self.trees.append(tree)
        return tree.tree.digest

    def volumes(self, mounted: dict[str, VolumeDefinition]) -> list[dict[str, Any]]:
        return [
            {"name": self._volume_names(volume, path), "mount_path": path, "read_only": volume.read_only}
            for path, volume in mounted.items()
        ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _only_named(volume: VolumeDefinition, path: str) -> str:
    if volume.name is None:
        raise InvalidError(
            f"Image: the volume at {path} has no name, so it belongs to an app. Name it by "
            'Volume.from_name("..."), or give the app: image.build(app).'
        )
    return volume.name


MAX_SHOWN = 200


def shown_step(step: ImageStep) -> str:
    """A step as it was written, for progress and errors, without the options that every step has."""
    parts = [_shown_value(argument) for argument in step.arguments]
    parts += [
        f"{name}={_shown_value(value)}"
        for name, value in step.options.items()
        if name not in ("env", "secrets", "gpu", "force_build")
    ]
    text = f"{step.method}({', '.join(parts)})".replace("\n", " ")
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 2] + "…)"


def _shown_value(value: Any) -> str:
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, str) and '"' not in value and "\\" not in repr(value):
        return f'"{value}"'
    return repr(value)


def check_by_value(name: str, steps: Sequence[BuildStep]) -> None:
    """Raise ``InvalidError`` when a function that is sent by value meets another Python in an image."""
    base = steps[0].fields if steps else {}
    version = base.get("add_python") or base.get("python_version") or python_here()
    if ".".join(version.split(".")[:2]) != python_here():
        raise InvalidError(
            f"{name} is sent by value, as serialized=True and inner functions are, which only the same "
            f"Python can read: the image has {version}, this is {python_here()}. Define it at the top of a "
            f'module, or give the image python_version="{python_here()}".'
        )


def python_here() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


# bases


def _debian_slim(t: _Translation, step: ImageStep) -> None:
    version = step.options.get("python_version") or python_here()
    t.operation("base", step, kind="debian_slim", python_version=version)


def _micromamba(t: _Translation, step: ImageStep) -> None:
    version = step.options.get("python_version") or python_here()
    t.operation("base", step, kind="micromamba", python_version=version)


def _scratch(t: _Translation, step: ImageStep) -> None:
    t.operation("base", step, kind="scratch")


def _registry(t: _Translation, step: ImageStep) -> None:
    options, tag = step.options, step.arguments[0]
    common = {"registry": options.get("registry"), "add_python": options.get("add_python")}
    commands = options.get("setup_dockerfile_commands")
    if not commands:
        t.operation("base", step, kind="registry", tag=tag, **common)
        return
    tree = context_tree(step.method, commands, options, t.files)
    t.operation(
        "base",
        step,
        kind="dockerfile",
        text="\n".join([f"FROM {tag}", *commands]) + "\n",
        build_args=options.get("build_args"),
        tree=t.tree(tree) if tree.tree.entries else None,
        **common,
    )


def _dockerfile(t: _Translation, step: ImageStep) -> None:
    options, path = step.options, step.arguments[0]
    text = t.files.text("Image.from_dockerfile", path)
    tree = context_tree(step.method, [text], options, t.files, dockerfile=path)
    t.operation(
        "base",
        step,
        kind="dockerfile",
        text=text,
        build_args=options.get("build_args"),
        tree=t.tree(tree) if tree.tree.entries else None,
        add_python=options.get("add_python"),
    )


# packages


def _pip_options(step: ImageStep) -> dict[str, Any]:
    return {name: step.options.get(name) for name in PIP_OPTIONS}


def _pip_install(t: _Translation, step: ImageStep) -> None:
    t.operation("python_packages", step, packages=step.arguments, installer="pip", **_pip_options(step))


def _uv_pip_install(t: _Translation, step: ImageStep) -> None:
    texts = [
        requirements_text("Image.uv_pip_install", path, t.files)
        for path in step.options.get("requirements", ())
    ]
    t.operation(
        "python_packages",
        step,
        packages=step.arguments,
        requirements=texts,
        installer="uv",
        **_pip_options(step),
    )


def _requirements(t: _Translation, step: ImageStep) -> None:
    text = requirements_text("Image.pip_install_from_requirements", step.arguments[0], t.files)
    t.operation("python_packages", step, requirements=[text], installer="pip", **_pip_options(step))


def _pyproject(t: _Translation, step: ImageStep) -> None:
    extras = step.options.get("optional_dependencies", ())
    packages = pyproject_packages("Image.pip_install_from_pyproject", step.arguments[0], extras, t.files)
    t.operation("python_packages", step, packages=packages, installer="pip", **_pip_options(step))


def _private_repos(t: _Translation, step: ImageStep) -> None:
    secrets = step.options["secrets"]
    wanted = {REPOSITORY_HOSTS[name.split("/")[0]] for name in step.arguments}
    known = {name for secret in secrets for name in (*secret.variables, *secret.required_keys)}
    absent = sorted(wanted - known)
    if absent and all(secret.name is None for secret in secrets):
        raise InvalidError(
            f"Image.pip_install_private_repos: none of its secrets has {' or '.join(absent)}, the token by "
            f"which {step.arguments[0]} is read. Make one of the provider's settings, with read access to "
            "repositories, and give it by Secret.from_name(...) or Secret.from_dict({...})."
        )
    t.operation(
        "private_repos",
        step,
        repositories=step.arguments,
        git_user=step.options["git_user"],
        **_pip_options(step),
    )


def _uv_sync(t: _Translation, step: ImageStep) -> None:
    where, directory, options = "Image.uv_sync", step.arguments[0], step.options
    path = os.path.join(directory, "pyproject.toml")
    pyproject = t.files.text(where, path)
    if "workspace" in read_toml(where, path, pyproject).get("tool", {}).get("uv", {}):
        raise InvalidError(
            f"{where}: {shown(path)} is a workspace, whose members do not travel. Export the packages by "
            "`uv export --no-emit-workspace > requirements.txt` and use uv_pip_install(requirements=[...])."
        )
    lock = os.path.join(directory, "uv.lock")
    frozen = not options.get("unfrozen")
    has_lock = os.path.exists(os.path.expanduser(lock))
    if frozen and not has_lock:
        raise NotFoundError(
            f"{missing(where, lock)} Make it by `uv lock`, or give frozen=False to have the versions chosen "
            "while the image is built."
        )
    t.operation(
        "uv_sync",
        step,
        pyproject=pyproject,
        lock=t.files.text(where, lock) if has_lock else None,
        groups=options.get("groups"),
        extras=options.get("extras"),
        frozen=frozen and has_lock,
        extra_options=options.get("extra_options"),
    )


def _poetry(t: _Translation, step: ImageStep) -> None:
    where, path, options = "Image.poetry_install_from_file", step.arguments[0], step.options
    pyproject = t.files.text(where, path)
    tables = read_toml(where, path, pyproject)
    if "poetry" not in tables.get("tool", {}) and "project" not in tables:
        raise InvalidError(f"{where}: {shown(path)} has neither [tool.poetry] nor [project].")
    lock = options.get("poetry_lockfile")
    text = None
    if not options.get("ignore_lockfile"):
        given = lock or os.path.join(os.path.dirname(path), "poetry.lock")
        try:
            text = t.files.text(where, given)
        except NotFoundError as error:
            raise NotFoundError(
                f"{error} Make it by `poetry lock`, or give ignore_lockfile=True to have the versions chosen "
                "while the image is built."
            ) from None
    t.operation(
        "poetry",
        step,
        pyproject=pyproject,
        lock=text,
        version=options.get("poetry_version"),
        without=options.get("without"),
        only=options.get("only"),
        **{"with": options.get("with_")},
    )


def _apt_install(t: _Translation, step: ImageStep) -> None:
    t.operation("apt", step, packages=step.arguments)


def _conda(t: _Translation, step: ImageStep) -> None:
    spec = step.options.get("spec_file")
    t.operation(
        "micromamba",
        step,
        packages=step.arguments,
        channels=step.options.get("channels"),
        spec=t.files.text(f"Image.{step.method}", spec) if spec else None,
    )


def _conda_environment(t: _Translation, step: ImageStep) -> None:
    t.operation("micromamba", step, spec=t.files.text(f"Image.{step.method}", step.arguments[0]))


# commands


def _run_commands(t: _Translation, step: ImageStep) -> None:
    t.operation("run", step, commands=step.arguments, volumes=t.volumes(step.options.get("volumes", {})))


def _run_function(t: _Translation, step: ImageStep) -> None:
    options = step.options
    fields, source = function_fields(step.arguments[0], options.get("args", ()), options.get("kwargs", {}))
    for mount in options.get("mounts", ()):
        mounts, laid, trees = lay_over(t.files.mount(mount))
        t.trees += [LocalTree(trees[each.tree], laid.places) for each in mounts]
        fields.setdefault("mounts", []).extend(each.to_wire() for each in mounts)
    if "serialized" in fields:
        check_by_value(f"Image.run_function: {fields['name']}", t.steps)
    t.operation(
        "run_function",
        step,
        about=source,
        timeout_s=options.get("timeout", DEFAULT_RUN_FUNCTION_TIMEOUT_S),
        volumes=t.volumes(options.get("volumes", {})),
        **fields,
    )


def _dockerfile_commands(t: _Translation, step: ImageStep) -> None:
    tree = context_tree(step.method, step.arguments, step.options, t.files)
    t.operation(
        "dockerfile",
        step,
        commands=step.arguments,
        tree=t.tree(tree) if tree.tree.entries else None,
        build_args=step.options.get("build_args"),
    )


def _env(t: _Translation, step: ImageStep) -> None:
    t.operation("env", step, variables=step.arguments[0])


def _workdir(t: _Translation, step: ImageStep) -> None:
    t.operation("workdir", step, path=step.arguments[0])


def _words(t: _Translation, step: ImageStep) -> None:
    t.operation(step.method, step)
    t.steps[-1].fields["words"] = list(step.arguments[0])  # an empty list too: it takes the base's away


# local files: (directory, what goes into it)


def _add_local_file(t: _Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    local, remote = step.arguments
    directory, _, name = remote.rpartition("/")
    name = name or os.path.basename(os.path.abspath(os.path.expanduser(local)))
    return [(_directory(directory), t.files.file(f"Image.{step.method}", local, name))]


def _copy_local_file(t: _Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    local, remote = step.arguments
    name = os.path.basename(os.path.abspath(os.path.expanduser(local)))
    if remote.endswith("/") or os.path.normpath(remote) in DIRECTORIES:
        directory = remote
    else:
        directory, slash, name = remote.rpartition("/")
        directory = directory or ("/" if slash else ".")
    return [(os.path.normpath(directory), t.files.file(f"Image.{step.method}", local, name))]


def _local_dir(t: _Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    local, remote = step.arguments
    tree = t.files.directory(f"Image.{step.method}", local, step.options.get("ignore"))
    return [(os.path.normpath(remote), tree)]


def _python_source(t: _Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    where, ignore = f"Image.{step.method}", python_source_ignore(step.options.get("ignore"))
    return [(ROOT_DIRECTORY, merge([t.files.module(where, name, ignore) for name in step.arguments]))]


def _copy_mount(t: _Translation, step: ImageStep) -> list[tuple[str, LocalTree]]:
    mount, remote = step.arguments
    trees = [tree.moved(directory.strip("/")) for directory, tree in t.files.mount(mount)]
    return [(os.path.normpath(remote), merge(trees))]


def _directory(path: str) -> str:
    return "/" + path.strip("/")


BASES: dict[str, Callable[[_Translation, ImageStep], None]] = {
    "debian_slim": _debian_slim,
    "from_registry": _registry,
    "from_dockerhub": _registry,
    "from_gcp_artifact_registry": _registry,
    "from_aws_ecr": _registry,
    "from_dockerfile": _dockerfile,
    "from_scratch": _scratch,
    "micromamba": _micromamba,
    "conda": _micromamba,
}
METHODS: dict[str, Callable[[_Translation, ImageStep], None]] = {
    **BASES,
    "pip_install": _pip_install,
    "uv_pip_install": _uv_pip_install,
    "uv_sync": _uv_sync,
    "pip_install_private_repos": _private_repos,
    "pip_install_from_requirements": _requirements,
    "pip_install_from_pyproject": _pyproject,
    "poetry_install_from_file": _poetry,
    "apt_install": _apt_install,
    "micromamba_install": _conda,
    "conda_install": _conda,
    "conda_update_from_environment": _conda_environment,
    "run_commands": _run_commands,
    "run_function": _run_function,
    "dockerfile_commands": _dockerfile_commands,
    "env": _env,
    "workdir": _workdir,
    "cmd": _words,
    "entrypoint": _words,
    "shell": _words,
}
LOCAL_FILES: dict[str, Callable[[_Translation, ImageStep], list[tuple[str, LocalTree]]]] = {
    "add_local_file": _add_local_file,
    "add_local_dir": _local_dir,
    "add_local_python_source": _python_source,
    "copy_local_file": _copy_local_file,
    "copy_local_dir": _local_dir,
    "copy_mount": _copy_mount,
}
