"""The making of one layer: uv's programs, their lines on the way to whoever waits, what a failure says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from glowplug.images.commands import CommandFailed, run_command
from glowplug.images.disk import full_text, remove_tree
from glowplug.images.pythons import Pythons
from glowplug.images.uv import DISK_FULL, build_variables, condense, hide_credentials, uv_path
from glowplug.images.venv_plan import Layer, python_version
from glowplug.images.venv_steps import Command, commands_of
from glowplug.model import errors
from glowplug.ports.images import BuildLog

LAST_LINES = 20
NOISE = "Using Python "
"""What uv begins with; where the environment lies is nobody's concern."""


class LayerBuild:
    """One layer being made: runs programs, passes their lines on, says what failed."""

    def __init__(
        self,
        layer: Layer,
        count: int,
        directory: Path,
        pythons: Pythons,
        environ: Mapping[str, str],
        trees: Callable[[str], Path],
        secrets: Callable[[str], dict[str, str]],
        log: BuildLog,
        stopped: Callable[[], bool],
    ) -> None:
        self._directory = directory
        self._pythons = pythons
        self._environ = environ
        self._layer = layer
        self._count = count
        self._trees = trees
        self._log = log
        self._stopped = stopped
        step = layer.step
        self._secret: dict[str, str] = dict(step.secret_variables)
        for name in step.secrets:
            self._secret |= secrets(name)

    def say(self, text: str) -> None:
        if not text.startswith(NOISE):
            self._log.line(hide_credentials(text, self._secret.values()))

    def variables(self) -> dict[str, str]:
        own = {**self._layer.variables, **self._layer.step.variables, **self._secret}
        return {**build_variables(self._environ), **own}

    def make_base(self) -> None:
        variables = self.variables()
        wanted = python_version(self._layer.step)
        try:
            python = self._pythons.require(wanted, variables, self.say, self._stopped)
        except errors.ImageBuildError as error:
            raise self.failed(str(error)) from error
        words = ["venv", "--quiet", "--no-config", "--relocatable", "--no-project", "--python", python.path]
        command = [uv_path(), *words, str(self._directory)]
        self.run(Command(command, f"uv venv --python {python.version}"), variables)

    def install(self) -> None:
        directory = self._directory
        variables = self.variables()
        work = directory.with_name(f"{directory.name}.work")
        work.mkdir(mode=0o700)
        try:
            try:
                commands = commands_of(self._layer, directory, work, variables, self._trees)
            except errors.ImageBuildError as error:
                raise self.failed(str(error)) from error
            except ValueError as error:
                raise self.failed(f"its options cannot be read: {error}") from error
            for command in commands:
                self.run(command, {**variables, **command.variables})
        finally:
            remove_tree(work)

    def run(self, command: Command, variables: dict[str, str]) -> None:
        try:
            run_command(command.arguments, variables, self.say, self._stopped, command.directory)
        except CommandFailed as error:
            said = [line for line in error.lines if not line.startswith(NOISE)]
            lines = [hide_credentials(line, self._secret.values()) for line in said]
            why = condense(lines)
            if why == DISK_FULL:
                why = full_text(Path(variables.get("UV_CACHE_DIR") or self._directory))
            raise self.failed(why, command.shown, lines) from error

    def failed(self, why: str, command: str = "", lines: list[str] | None = None) -> errors.ImageBuildError:
        parts = [f"step {self._layer.number} of {self._count}, {self._layer.text}, failed: {why}"]
        if command:
            parts.append(f"  command: {hide_credentials(command, self._secret.values())}")
        if lines:
            parts.append("  its last lines:")
            parts += [f"    {line}" for line in lines[-LAST_LINES:]]
        return errors.ImageBuildError("\n".join(parts))
