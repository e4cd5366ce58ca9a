"""What is run while an image is built, and what its containers begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from glowplug.model import checks
from glowplug.model.errors import InvalidError
from glowplug.sdk import image_chain as check
from glowplug.sdk.image_bases import AUTODOCKERIGNORE, check_ignore
from glowplug.sdk.image_chain import Chain, chained
from glowplug.sdk.notyet import warn_ignored

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_RUN_FUNCTION_TIMEOUT_S = 3600
EXTEND_OPTIONS = ("dockerfile_commands", "context_files", "context_mount", "secrets", "gpu", "force_build")
"""What ``Image.extend`` of 2023 takes; its other options were internal."""


class Commands(Chain):
    """Methods that run something or set what containers begin with."""

    @chained
    def run_commands(
        self,
        *commands: Any,
        env: Any = None,
        secrets: Any = None,
        volumes: Any = None,
        gpu: Any = None,
        force_build: bool = False,
    ) -> Self:
        """Shell commands, strings or lists of strings. Each line runs on its own; the first that fails fails
        the build. ``volumes``: what they may read and write beside the image.

        >>> image = Image.debian_slim().run_commands("git clone https://example.com/model /model")
        """
        where = "run_commands"
        lines = check.strings(where, "a command", commands)
        if not lines:
            return self
        return self._with(
            where,
            *lines,
            volumes=_volumes(where, volumes),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def run_function(
        self,
        raw_f: Callable[..., Any],
        secrets: Any = (),
        gpu: Any = None,
        mounts: Any = (),
        volumes: Any = None,
        network_file_systems: Any = None,
        cpu: Any = None,
        memory: Any = None,
        timeout: float | None = DEFAULT_RUN_FUNCTION_TIMEOUT_S,
        force_build: bool = False,
        cloud: Any = None,
        region: Any = None,
        args: Any = (),
        kwargs: Any = None,
        *,
        env: Any = None,
        secret: Any = None,
        shared_volumes: Any = None,
        include_source: bool | None = None,
    ) -> Self:
        """A Python function, run once while the image is built: what it leaves on the disk is in the image.

        It runs again when its source changes, what it uses of its module, or its arguments ``args`` and
        ``kwargs``. ``timeout``: seconds it may take, 3600 by default. ``volumes``: by absolute path.
        Raises ``InvalidError``.

        >>> def download():
        ...     import transformers
        ...     transformers.AutoModel.from_pretrained("bert-base-uncased")
        >>> image = Image.debian_slim().pip_install("transformers").run_function(download)
        """
        where = "run_function"
        plain = getattr(raw_f, "plain", raw_f)  # of a function that is decorated already
        if not callable(plain):
            raise InvalidError(f"Image.run_function({raw_f!r}): give the function itself.")
        name = getattr(plain, "__name__", type(plain).__name__)
        if name == "<lambda>":
            raise InvalidError("Image.run_function: a lambda has no name to run it by. Make it a function.")
        if isinstance(args, str) or not isinstance(args, (list, tuple)):
            raise InvalidError(f"Image.run_function: args= is a list of arguments, not {args!r}.")
        if kwargs is not None and not isinstance(kwargs, dict):
            raise InvalidError(f"Image.run_function: kwargs= is a dict of arguments, not {kwargs!r}.")
        warn_ignored("Image.run_function", cloud=cloud, region=region)
        checks.cpu(cpu)
        checks.memory(memory)
        storage = {
            **_volumes(where, shared_volumes),
            **_volumes(where, network_file_systems),
            **_volumes(where, volumes),
        }
        return self._with(
            where,
            plain,
            mounts=list(mounts or ()),
            volumes=storage,
            timeout=None if timeout in (None, DEFAULT_RUN_FUNCTION_TIMEOUT_S) else _seconds(where, timeout),
            args=tuple(args),
            kwargs=dict(kwargs or {}),
            **check.step_options(
                where, env=env, secrets=secrets, secret=secret, gpu=gpu, force_build=force_build
            ),
        )

    @chained
    def dockerfile_commands(
        self,
        *dockerfile_commands: Any,
        context_files: Any = None,
        secrets: Any = None,
        gpu: Any = None,
        context_mount: Any = None,
        force_build: bool = False,
        env: Any = None,
        context_dir: Any = None,
        ignore: Any = AUTODOCKERIGNORE,
        build_args: Any = None,
    ) -> Self:
        """Lines of a Dockerfile, strings or lists of strings. What COPY and ADD name is read below
        ``context_dir``, by default the working directory; ``context_files`` puts local files there under
        other names: ``{"/name/in/context": "local/file"}``.

        >>> image = Image.debian_slim().dockerfile_commands(["RUN apt-get update", "WORKDIR /srv"])
        """
        where = "dockerfile_commands"
        lines = check.strings(where, "a line", dockerfile_commands)
        if not lines:
            return self
        return self._with(
            where,
            *lines,
            context_files=check.mapping(where, "context_files", context_files),
            context_mount=context_mount,
            context_dir=None if context_dir is None else check.path(where, "context_dir", context_dir),
            ignore=check_ignore(where, ignore),
            build_args=check.mapping(where, "build_args", build_args),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def env(self, vars: dict[str, str]) -> Self:
        """Environment variables, for later steps and for containers. Values are strings.

        >>> image = Image.debian_slim().env({"HF_HOME": "/models"})
        """
        variables = check.mapping("env", "vars", vars)
        for name, value in variables.items():
            checks.check_variable("Image.env:", name, value)
        return self._with("env", variables) if variables else self

    @chained
    def workdir(self, path: Any) -> Self:
        """The working directory of later steps and of containers; made if it is not there.

        >>> image = Image.debian_slim().workdir("/srv")
        """
        return self._with("workdir", check.path("workdir", "path", path))

    @chained
    def cmd(self, cmd: list[str]) -> Self:
        """The default command of the image, for programs that start it as a container of their own."""
        return self._with("cmd", list(check.list_of_strings("cmd", "cmd", cmd)))

    @chained
    def entrypoint(self, entrypoint_commands: list[str]) -> Self:
        """The command every container is started through; it must run what it is given at its end.

        >>> image = Image.from_registry("example/app").entrypoint([])
        """
        words = check.list_of_strings("entrypoint", "entrypoint_commands", entrypoint_commands)
        return self._with("entrypoint", list(words))

    @chained
    def shell(self, shell_commands: list[str]) -> Self:
        """The shell of later ``run_commands``.

        >>> image = Image.debian_slim().shell(["/bin/bash", "-c"]).run_commands("source ~/.bashrc")
        """
        words = check.list_of_strings("shell", "shell_commands", shell_commands)
        if not words:
            raise InvalidError('Image.shell: give the shell and its options, such as ["/bin/bash", "-c"].')
        return self._with("shell", list(words))

    def extend(self, **options: Any) -> Self:
        """As in 2023: this image and lines of a Dockerfile, ``dockerfile_commands=[...]``.

        Raises ``InvalidError`` for what was never public.
        """
        unknown = next((name for name in options if name not in EXTEND_OPTIONS), None)
        if unknown is not None:
            raise InvalidError(f"Image.extend({unknown}=...): it takes {', '.join(EXTEND_OPTIONS)}.")
        given = dict(options)
        lines = given.pop("dockerfile_commands", None)
        return self.dockerfile_commands(lines, **given) if lines else self


def _seconds(where: str, timeout: Any) -> float:
    try:
        return checks.seconds("timeout", timeout)
    except InvalidError as error:
        raise InvalidError(f"Image.{where}: {error}") from None


def _volumes(where: str, given: Any) -> dict[str, Any]:
    try:
        volumes = checks.volumes(given)
        for path, volume in volumes.items():
            if volume.kind == "bucket":
                raise InvalidError(f"{path!r} is a bucket: functions mount it, not while an image is built.")
        return volumes
    except InvalidError as error:
        raise InvalidError(f"Image.{where}: {error}") from None
