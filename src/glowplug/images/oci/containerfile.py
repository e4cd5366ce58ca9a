"""What each operation of an image's definition is as lines of a Containerfile. Pure: text in, text out.

One step becomes one build upon the layer before it, so a step that is done is never done again, and what
fails has a name. What a step is shown (files, programs, secrets) lies below ``/.glowplug`` while it runs
and leaves nothing in the image.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glowplug.images.oci.packages import poetry_commands, private_repositories, uv_install, uv_sync_command
from glowplug.images.oci.room import SHOWN_INSIDE
from glowplug.model.errors import ImageBuildError
from glowplug.model.image_spec import BuildStep

ENTER = f". {SHOWN_INSIDE}/env"
"""Gives a command the variables that only this step has."""
UV = "uv"
RUNTIME = "runtime"


@dataclass(frozen=True)
class StepLines:
    """One step as a Containerfile, without its FROM line."""

    lines: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    """What its RUN lines run, in the words of the user."""
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """Shown to it, by name."""
    tree: str = ""
    """Its build context."""
    build_args: dict[str, str] = field(default_factory=dict[str, str])
    tools: frozenset[str] = frozenset()
    """UV, RUNTIME: what else it is shown."""
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """It needs these beside the step's own; never kept."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """Becomes part of the image where a line cannot say it."""
    resumable: bool = False
    """Each line may be kept as a layer: its text says everything that decides the outcome."""


def step_lines(step: BuildStep, secrets: dict[str, str]) -> StepLines:
    """The lines of one step after the first. ``secrets`` are asked for credentials only.

    Raises ``ImageBuildError`` for what cannot be written so.
    """
    fields = step.fields
    match step.operation:
        case "apt":
            packages = shlex.join(fields.get("packages", ()))
            command = f"apt-get update && apt-get install -y {packages} && apt-get clean"
            return _of_commands(
                [command], [f"apt-get install {packages}"], {"DEBIAN_FRONTEND": "noninteractive"}
            )
        case "run":
            return _of_shell_lines(step)
        case "python_packages":
            return with_uv([uv_install(fields)], requirement_files(fields))
        case "private_repos":
            wanted = private_repositories(fields, secrets)
            lines = with_uv([uv_install(wanted.fields)], {})
            ensure_git = "command -v git >/dev/null || { apt-get update && apt-get install -y git; }"
            git = _of_commands([ensure_git], ["apt-get install git"], {})
            return StepLines(
                (*git.lines, *lines.lines),
                (*git.commands, *lines.commands),
                tools=lines.tools,
                variables={**wanted.variables, "DEBIAN_FRONTEND": "noninteractive"},
            )
        case "uv_sync":
            return _uv_sync(fields)
        case "poetry":
            files = {"pyproject.toml": fields["pyproject"].encode()}
            if fields.get("lock"):
                files["poetry.lock"] = fields["lock"].encode()
            return with_uv(poetry_commands(fields), files)
        case "micromamba":
            return _micromamba(fields)
        case "run_function":
            return _run_function(step)
        case "dockerfile":
            return _dockerfile(step)
        case "copy":
            return StepLines((f"COPY {_json(['.', fields['path'].rstrip('/') + '/'])}",), tree=fields["tree"])
        case "env":
            return _environment(fields.get("variables", {}))
        case "workdir":
            return StepLines((f"WORKDIR {_quoted(fields['path'])}",))
        case "entrypoint" | "cmd" | "shell":
            return StepLines((f"{step.operation.upper()} {_json(fields.get('words', ()))}",))
        case _:
            raise ImageBuildError(f"{step.text or step.operation}: it cannot be built here")


def _of_commands(
    commands: Sequence[str], texts: Sequence[str], variables: dict[str, str], resumable: bool = False
) -> StepLines:
    """Our own commands: always run by sh, whatever shell the image has."""
    lines = tuple(f"RUN {_json(['/bin/sh', '-c', f'{ENTER}; {command}'])}" for command in commands)
    return StepLines(lines, tuple(texts), variables=variables, resumable=resumable)


def _of_shell_lines(step: BuildStep) -> StepLines:
    commands = [str(command) for command in step.fields.get("commands", ())]
    return StepLines(
        tuple(_run_line(command, has_variables(step)) for command in commands),
        tuple(commands),
        resumable=not step.fields.get("volumes"),
    )


def _run_line(command: str, enters: bool) -> str:
    """A RUN line of the user: its flags stay first, and the image's own shell runs it."""
    flags, rest = _split_flags(command)
    text = f"{ENTER}; {rest}" if enters else rest
    # A line that goes on in the next one is how Dockerfiles are written; any other newline would end it.
    if "\n" in rest.replace("\\\n", ""):
        return " ".join(["RUN", *flags, _json(["/bin/sh", "-c", text])])
    return " ".join(["RUN", *flags, text])


def _split_flags(text: str) -> tuple[list[str], str]:
    flags = []
    rest = text.strip()
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        flags.append(flag)
        rest = rest.lstrip()
    return flags, rest


def has_variables(step: BuildStep) -> bool:
    return bool(step.variables or step.secrets or step.secret_variables or step.gpu)


def requirement_files(fields: dict[str, Any]) -> dict[str, bytes]:
    return {f"requirements-{n}.txt": text.encode() for n, text in enumerate(fields.get("requirements", ()))}


def with_uv(commands: Sequence[str], files: dict[str, bytes]) -> StepLines:
    """Commands that use uv on the image's own interpreter."""
    texts = [
        command.replace(f"{SHOWN_INSIDE}/", "").replace(' --python "$GLOWPLUG_PYTHON"', "")
        for command in commands
    ]
    find = 'GLOWPLUG_PYTHON="$(command -v python || command -v python3)"'
    missing = '{ echo "this image has no Python; start from one that has, or use add_python=" >&2; exit 1; }'
    made = _of_commands(
        [f"{find} || {missing}; export GLOWPLUG_PYTHON; {each}" for each in commands], texts, {}
    )
    return StepLines(made.lines, made.commands, files, tools=frozenset({UV}))


def _uv_sync(fields: dict[str, Any]) -> StepLines:
    files = {"pyproject.toml": fields["pyproject"].encode()}
    if fields.get("lock"):
        files["uv.lock"] = fields["lock"].encode()
    made = with_uv([uv_sync_command(fields)], files)
    return StepLines(
        (*made.lines, "ENV PATH=/.uv/.venv/bin:$PATH"), made.commands, files, tools=frozenset({UV})
    )


def _micromamba(fields: dict[str, Any]) -> StepLines:
    channels = [word for channel in fields.get("channels", ()) for word in ("-c", channel)]
    words = ["micromamba", "install", "-y", "-n", "base", *channels, *fields.get("packages", ())]
    files = {}
    command = shlex.join(words)
    if fields.get("spec"):
        files["spec.yml"] = fields["spec"].encode()
        command += f" -f {SHOWN_INSIDE}/spec.yml"
    made = _of_commands([f"{command} && micromamba clean -y --all"], [command], {})
    return StepLines(made.lines, made.commands, files)


def _run_function(step: BuildStep) -> StepLines:
    command = (
        'GLOWPLUG_PYTHON="$(command -v python || command -v python3)"; '
        f'export PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{SHOWN_INSIDE}/{RUNTIME}"; '
        f'exec "$GLOWPLUG_PYTHON" -m glowplug.container.build_function {SHOWN_INSIDE}/function'
    )
    name = step.fields.get("name") or step.fields.get("qualname", "function")
    made = _of_commands([command], [f"{name}()"], {})
    return StepLines(made.lines, made.commands, tools=frozenset({RUNTIME}))


def _dockerfile(step: BuildStep) -> StepLines:
    lines = logical_lines("\n".join(step.fields.get("commands", ())))
    return StepLines(
        tuple(enter_lines(lines, has_variables(step))),
        tuple(_command_of(line) for line in lines if _instruction(line) == "RUN"),
        tree=step.fields.get("tree", ""),
        build_args=dict(step.fields.get("build_args") or {}),
        resumable=not any("--mount" in line for line in lines),
    )


def enter_lines(lines: Sequence[str], enters: bool) -> list[str]:
    """A Dockerfile's lines, its RUN lines with the variables of the step."""
    found = []
    for line in lines:
        rest = line.lstrip()
        if enters and _instruction(line) == "RUN":
            flags, command = _split_flags(rest[len("RUN") :])
            if command.startswith("["):
                words = ["/bin/sh", "-c", f'{ENTER}; exec "$0" "$@"', *_words(command)]
                command = _json(words)
            else:
                command = f"{ENTER}; {command}"
            line = " ".join(["RUN", *flags, command])
        found.append(line)
    return found


def _words(command: str) -> list[str]:
    try:
        words = json.loads(command)
    except ValueError as error:
        raise ImageBuildError(f"RUN {command}: it is no list of words in JSON ({error})") from None
    return [str(word) for word in words]


def logical_lines(text: str) -> list[str]:
    """Lines that go on in the next one put together; comments between them dropped."""
    found: list[str] = []
    going_on = False
    for line in text.splitlines():
        if going_on and line.lstrip().startswith("#"):
            continue
        if going_on:
            found[-1] += "\n" + line
        else:
            found.append(line)
        going_on = line.rstrip().endswith("\\")
    return [line for line in found if line.strip()]


def _instruction(line: str) -> str:
    words = line.split(None, 1)
    return words[0].upper() if words else ""


def _command_of(line: str) -> str:
    return line.strip()[len("RUN") :].strip()


def _environment(variables: dict[str, str]) -> StepLines:
    plain = {name: value for name, value in variables.items() if "\n" not in value}
    lines = tuple(f"ENV {name}={_quoted(value)}" for name, value in plain.items())
    return StepLines(lines, environment={k: v for k, v in variables.items() if k not in plain})


def _quoted(value: str) -> str:
    """As one literal word: nothing in it is replaced."""
    return "'" + value.replace("'", "'\"'\"'") + "'"


def _json(words: Any) -> str:
    return json.dumps(list(words), ensure_ascii=False)
