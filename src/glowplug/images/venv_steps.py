"""How each step of a virtual environment is carried out by uv: arguments, variables, files it reads.

Addresses with credentials and tokens go through variables and files of this user alone, never through a
command line, which every user of the machine can read.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glowplug.images.uv import NO_INDEX, uv_path
from glowplug.images.venv_plan import Layer, copied_source
from glowplug.model import errors
from glowplug.model.image_spec import BuildStep

ASKPASS = """#!/bin/sh
case "$1" in
    Username*) printf '%s\\n' "$GLOWPLUG_GIT_USER" ;;
    *gitlab*) printf '%s\\n' "${GITLAB_TOKEN:-$GITHUB_TOKEN}" ;;
    *) printf '%s\\n' "${GITHUB_TOKEN:-$GITLAB_TOKEN}" ;;
esac
"""
GIT_TOKENS = ("GITHUB_TOKEN", "GITLAB_TOKEN")


@dataclass
class Command:
    """A program of a build; ``shown``: as it is told to the user."""

    arguments: list[str]
    shown: str
    variables: dict[str, str] = field(default_factory=dict[str, str])
    directory: Path | None = None


def commands_of(
    layer: Layer,
    venv: Path,
    work: Path,
    variables: dict[str, str],
    trees: Callable[[str], Path],
) -> list[Command]:
    """What to run for a layer other than the base. ``work``: a directory of this build alone;
    ``variables``: of the step and its secrets. Raises ``ImageBuildError`` where something is missing."""
    step = layer.step
    if step.operation == "python_packages":
        return [_install(step, venv, work, variables, _packages(layer, work, trees))]
    if step.operation == "private_repos":
        return [_private_repositories(step, venv, work, variables)]
    if step.operation == "uv_sync":
        return [_uv_sync(step, venv, work, variables)]
    return _poetry(step, venv, work, variables)


def _install(step: BuildStep, venv: Path, work: Path, given: dict[str, str], packages: list[str]) -> Command:
    fields = step.fields
    shown = ["uv", "pip", "install", *fields.get("packages", ())]
    words = _without_index(given)
    variables: dict[str, str] = {}
    for number, text in enumerate(fields.get("requirements", ())):
        path = _private_file(work / f"requirements-{number + 1}.txt", text)
        words += ["--requirement", str(path)]
        shown += ["-r", path.name]
    if fields.get("index_url"):
        variables["UV_DEFAULT_INDEX"] = fields["index_url"]
    if fields.get("extra_index_url"):
        variables["UV_INDEX"] = _joined(fields["extra_index_url"], " ")
    if fields.get("find_links"):
        variables["UV_FIND_LINKS"] = _joined(fields["find_links"], ",")
    if fields.get("installer", "pip") == "pip" and fields.get("extra_index_url"):
        # As pip does it: the best version of all of them, not the first index that has the name.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    options = ["--prerelease=allow"] if fields.get("pre") else []
    options += shlex.split(fields.get("extra_options") or "")
    words += options
    shown += options
    command = [uv_path(), "pip", "install", "--no-config", "--python", str(venv / "bin/python"), *words]
    if packages:
        command += ["--", *packages]
    return Command(command, shlex.join(shown), variables, work)


def _packages(layer: Layer, work: Path, trees: Callable[[str], Path]) -> list[str]:
    """The packages, those among the copied files as directories of this build, which it may write to."""
    found: list[str] = []
    for number, name in enumerate(layer.step.fields.get("packages", ())):
        source = copied_source(name, layer.sources) if name.startswith("/") else None
        if source is None:
            found.append(name)
            continue
        tree, below = source
        place = work / f"source-{number + 1}"
        origin = trees(tree) / below
        if origin.is_file():
            place = place / origin.name
            place.parent.mkdir()
            shutil.copyfile(origin, place)
        else:
            shutil.copytree(origin, place, symlinks=True, copy_function=shutil.copyfile)
        found.append(str(place))
    return found


def _private_repositories(step: BuildStep, venv: Path, work: Path, variables: dict[str, str]) -> Command:
    tokens = [name for name in GIT_TOKENS if variables.get(name)]
    if not tokens:
        raise errors.ImageBuildError(
            f"{' and '.join(GIT_TOKENS)} are in no secret of this step, and git needs one to read private "
            "repositories: secrets=[Secret.from_name(...)] with a secret that has it, or "
            'Secret.from_dict({"GITHUB_TOKEN": os.environ["GITHUB_TOKEN"]})'
        )
    askpass = _private_file(work / "askpass", ASKPASS)
    askpass.chmod(0o700)
    repositories = [f"git+https://{_without_scheme(each)}" for each in step.fields["repositories"]]
    command = _install(step, venv, work, variables, repositories)
    command.variables |= {
        "GIT_ASKPASS": str(askpass),
        "GIT_TERMINAL_PROMPT": "0",
        "GLOWPLUG_GIT_USER": step.fields.get("git_user") or "git",
        # A credential that this machine remembers is not the step's.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": "",
    }
    command.shown = shlex.join(["uv", "pip", "install", *repositories])
    return command


def _uv_sync(step: BuildStep, venv: Path, work: Path, given: dict[str, str]) -> Command:
    fields = step.fields
    project = _project(fields, work, "uv.lock")
    words = ["sync", "--inexact", "--no-install-workspace"]
    if fields.get("lock") and fields.get("frozen", True):
        words.append("--frozen")
    for name in fields.get("groups") or ():
        words += ["--group", name]
    for name in fields.get("extras") or ():
        words += ["--extra", name]
    words += shlex.split(fields.get("extra_options") or "")
    return Command(
        [
            uv_path(),
            *words,
            *_without_index(given),
            "--project",
            str(project),
            "--python",
            str(venv / "bin/python"),
        ],
        shlex.join(["uv", *words]),
        {"UV_PROJECT_ENVIRONMENT": str(venv)},
        project,
    )


def _poetry(step: BuildStep, venv: Path, work: Path, given: dict[str, str]) -> list[Command]:
    """Poetry, run as a tool of uv's, says which versions its lock file means, and chooses them where there is
    none; uv installs those."""
    fields = step.fields
    project = _project(fields, work, "poetry.lock")
    exported = work / "requirements-poetry.txt"
    version = fields.get("version")
    package = f"poetry=={version}" if version and version != "latest" else "poetry"
    poetry = [uv_path(), "tool", "run", "--from", package, "--with", "poetry-plugin-export", "poetry"]
    words = ["export", "--format", "requirements.txt", "--without-hashes"]
    for option in ("with", "without", "only"):
        if fields.get(option):
            words += [f"--{option}", _joined(fields[option], ",")]
    commands = [] if fields.get("lock") else [Command([*poetry, "lock"], "poetry lock", {}, project)]
    shown = shlex.join(["poetry", *words])
    commands.append(Command([*poetry, *words, "--output", str(exported)], shown, {}, project))
    install = Command(
        [uv_path(), "pip", "install", "--no-config", *_without_index(given), "--python",
         str(venv / "bin/python"), "--requirement", str(exported)],
        "uv pip install -r requirements-poetry.txt",
        {},
        work,
    )  # fmt: skip
    return [*commands, install]


def _without_index(variables: dict[str, str]) -> list[str]:
    """uv has an option for it and no variable."""
    return ["--no-index"] if variables.get(NO_INDEX) else []


def _project(fields: dict[str, Any], work: Path, lock: str) -> Path:
    project = work / "project"
    project.mkdir(mode=0o700)
    _private_file(project / "pyproject.toml", fields["pyproject"])
    if fields.get("lock"):
        _private_file(project / lock, fields["lock"])
    return project


def _private_file(path: Path, text: str) -> Path:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _joined(value: Any, separator: str) -> str:
    return value if isinstance(value, str) else separator.join(value)


def _without_scheme(repository: str) -> str:
    for scheme in ("git+https://", "https://"):
        repository = repository.removeprefix(scheme)
    return repository
