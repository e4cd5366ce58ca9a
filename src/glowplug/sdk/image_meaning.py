"""What each method of a chain means to a server, save those that bring local files along."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from glowplug.client.files import LocalTree
from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.model.image import ImageStep
from glowplug.model.image_spec import BuildStep
from glowplug.sdk.built_function import function_fields
from glowplug.sdk.dockerfile import context_tree
from glowplug.sdk.image_commands import DEFAULT_RUN_FUNCTION_TIMEOUT_S
from glowplug.sdk.image_packages import REPOSITORY_HOSTS
from glowplug.sdk.image_places import lay_over
from glowplug.sdk.local_files import missing, shown
from glowplug.sdk.project_files import pyproject_packages, read_toml, requirements_text

if TYPE_CHECKING:
    from glowplug.sdk.image_translation import Translation

PIP_OPTIONS = ("find_links", "index_url", "extra_index_url", "pre", "extra_options")


def python_here() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


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


# bases


def _debian_slim(t: Translation, step: ImageStep) -> None:
    version = step.options.get("python_version") or python_here()
    t.operation("base", step, kind="debian_slim", python_version=version)


def _micromamba(t: Translation, step: ImageStep) -> None:
    version = step.options.get("python_version") or python_here()
    t.operation("base", step, kind="micromamba", python_version=version)


def _scratch(t: Translation, step: ImageStep) -> None:
    t.operation("base", step, kind="scratch")


def _registry(t: Translation, step: ImageStep) -> None:
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


def _dockerfile(t: Translation, step: ImageStep) -> None:
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


def _pip_install(t: Translation, step: ImageStep) -> None:
    t.operation("python_packages", step, packages=step.arguments, installer="pip", **_pip_options(step))


def _uv_pip_install(t: Translation, step: ImageStep) -> None:
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


def _requirements(t: Translation, step: ImageStep) -> None:
    text = requirements_text("Image.pip_install_from_requirements", step.arguments[0], t.files)
    t.operation("python_packages", step, requirements=[text], installer="pip", **_pip_options(step))


def _pyproject(t: Translation, step: ImageStep) -> None:
    extras = step.options.get("optional_dependencies", ())
    packages = pyproject_packages("Image.pip_install_from_pyproject", step.arguments[0], extras, t.files)
    t.operation("python_packages", step, packages=packages, installer="pip", **_pip_options(step))


def _private_repos(t: Translation, step: ImageStep) -> None:
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


def _uv_sync(t: Translation, step: ImageStep) -> None:
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


def _poetry(t: Translation, step: ImageStep) -> None:
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


def _apt_install(t: Translation, step: ImageStep) -> None:
    t.operation("apt", step, packages=step.arguments)


def _conda(t: Translation, step: ImageStep) -> None:
    spec = step.options.get("spec_file")
    t.operation(
        "micromamba",
        step,
        packages=step.arguments,
        channels=step.options.get("channels"),
        spec=t.files.text(f"Image.{step.method}", spec) if spec else None,
    )


def _conda_environment(t: Translation, step: ImageStep) -> None:
    t.operation("micromamba", step, spec=t.files.text(f"Image.{step.method}", step.arguments[0]))


# commands


def _run_commands(t: Translation, step: ImageStep) -> None:
    t.operation("run", step, commands=step.arguments, volumes=t.volumes(step.options.get("volumes", {})))


def _run_function(t: Translation, step: ImageStep) -> None:
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


def _dockerfile_commands(t: Translation, step: ImageStep) -> None:
    tree = context_tree(step.method, step.arguments, step.options, t.files)
    t.operation(
        "dockerfile",
        step,
        commands=step.arguments,
        tree=t.tree(tree) if tree.tree.entries else None,
        build_args=step.options.get("build_args"),
    )


def _env(t: Translation, step: ImageStep) -> None:
    t.operation("env", step, variables=step.arguments[0])


def _workdir(t: Translation, step: ImageStep) -> None:
    t.operation("workdir", step, path=step.arguments[0])


def _words(t: Translation, step: ImageStep) -> None:
    t.operation(step.method, step)
    t.steps[-1].fields["words"] = list(step.arguments[0])  # an empty list too: it takes the base's away


BASES: dict[str, Callable[[Translation, ImageStep], None]] = {
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
METHODS: dict[str, Callable[[Translation, ImageStep], None]] = {
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
