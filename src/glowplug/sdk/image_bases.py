"""What an image starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.model.errors import InvalidError
from glowplug.sdk import image_chain as check
from glowplug.sdk.image_chain import Chain, chained

if TYPE_CHECKING:
    from typing_extensions import Self

AUTODOCKERIGNORE: Any = "AUTODOCKERIGNORE"
"""``ignore=`` of a Dockerfile's context: what the .dockerignore beside it says, if there is one."""


class Bases(Chain):
    """Methods that begin a chain."""

    @classmethod
    @chained
    def debian_slim(cls, python_version: str | None = None, force_build: bool = False) -> Self:
        """Debian with a Python of its own. ``python_version``: "3.11" or "3.11.4"; by default the version
        that runs the script. ``force_build``: build it, and what follows, anew.

        >>> image = Image.debian_slim(python_version="3.11").pip_install("numpy")
        """
        return cls()._with(
            "debian_slim",
            python_version=check.python_version("debian_slim", python_version),
            force_build=check.flag("debian_slim", "force_build", force_build),
        )

    @classmethod
    @chained
    def from_registry(
        cls,
        tag: str,
        secret: Any = None,
        *,
        setup_dockerfile_commands: Any = (),
        force_build: bool = False,
        add_python: str | None = None,
        setup_commands: Any = (),
        secrets: Any = None,
        env: Any = None,
        gpu: Any = None,
        **options: Any,
    ) -> Self:
        """An image of a registry, such as "nvidia/cuda:12.4.1-devel-ubuntu22.04".

        ``add_python="3.11"``: for one that has no Python. ``setup_dockerfile_commands``: lines of a
        Dockerfile that run first, if it needs them to become usable. ``secret``: REGISTRY_USERNAME and
        REGISTRY_PASSWORD for a registry that asks. Further options are those of ``dockerfile_commands``.

        >>> image = Image.from_registry("pytorch/pytorch:2.4.0-cuda12.4-cudnn9-devel", add_python="3.11")
        """
        return _from_registry(cls, "from_registry", locals())

    @classmethod
    @chained
    def from_dockerhub(
        cls,
        tag: str,
        setup_dockerfile_commands: Any = (),
        setup_commands: Any = (),
        force_build: bool = False,
        *,
        secret: Any = None,
        add_python: str | None = None,
        secrets: Any = None,
        env: Any = None,
        gpu: Any = None,
        **options: Any,
    ) -> Self:
        """Older name of ``from_registry``. ``setup_commands`` are shell commands, as in early 2023."""
        return _from_registry(cls, "from_dockerhub", locals())

    @classmethod
    @chained
    def from_gcp_artifact_registry(
        cls,
        tag: str,
        secret: Any = None,
        setup_dockerfile_commands: Any = (),
        force_build: bool = False,
        *,
        add_python: str | None = None,
        setup_commands: Any = (),
        secrets: Any = None,
        env: Any = None,
        gpu: Any = None,
        **options: Any,
    ) -> Self:
        """An image of Google's artifact registry; ``secret`` has SERVICE_ACCOUNT_JSON."""
        return _from_registry(cls, "from_gcp_artifact_registry", locals(), "gcp_artifact_registry")

    @classmethod
    @chained
    def from_aws_ecr(
        cls,
        tag: str,
        secret: Any = None,
        setup_dockerfile_commands: Any = (),
        setup_commands: Any = (),
        force_build: bool = False,
        *,
        add_python: str | None = None,
        secrets: Any = None,
        env: Any = None,
        gpu: Any = None,
        **options: Any,
    ) -> Self:
        """An image of Amazon's registry; ``secret`` has AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
        AWS_REGION."""
        return _from_registry(cls, "from_aws_ecr", locals(), "aws_ecr")

    @classmethod
    @chained
    def from_dockerfile(
        cls,
        path: Any,
        context_mount: Any = None,
        force_build: bool = False,
        *,
        context_dir: Any = None,
        ignore: Any = AUTODOCKERIGNORE,
        build_args: Any = None,
        registry_secret: Any = None,
        secrets: Any = None,
        env: Any = None,
        gpu: Any = None,
        add_python: str | None = None,
    ) -> Self:
        """What a Dockerfile describes. ``context_dir``: the directory its COPY reads from, by default the
        working directory; of it only the files that COPY and ADD name travel, without those that ``ignore``
        (patterns, or a callable on a relative path) leaves out, by default the .dockerignore.

        >>> image = Image.from_dockerfile("Dockerfile", build_args={"VERSION": "2"})
        """
        where = "from_dockerfile"
        return cls()._with(
            where,
            check.path(where, "path", path),
            context_mount=context_mount,
            context_dir=None if context_dir is None else check.path(where, "context_dir", context_dir),
            ignore=check_ignore(where, ignore),
            build_args=check.mapping(where, "build_args", build_args),
            add_python=check.python_version(where, add_python, name="add_python"),
            **check.step_options(
                where, env=env, secrets=secrets, secret=registry_secret, gpu=gpu, force_build=force_build
            ),
        )

    @classmethod
    @chained
    def from_scratch(cls, force_build: bool = False) -> Self:
        """Nothing at all: for images whose files and Python come from ``copy=True`` steps."""
        return cls()._with("from_scratch", force_build=check.flag("from_scratch", "force_build", force_build))

    @classmethod
    @chained
    def micromamba(cls, python_version: str | None = None, force_build: bool = False) -> Self:
        """Debian with micromamba and a Python from conda-forge.

        >>> image = Image.micromamba().micromamba_install("cudatoolkit=11.8", channels=["conda-forge"])
        """
        return cls()._with(
            "micromamba",
            python_version=check.python_version("micromamba", python_version),
            force_build=check.flag("micromamba", "force_build", force_build),
        )

    @classmethod
    @chained
    def conda(cls, python_version: str | None = None, force_build: bool = False) -> Self:
        """As in 2023; the same as ``micromamba`` here."""
        return cls()._with(
            "conda",
            python_version=check.python_version("conda", python_version),
            force_build=check.flag("conda", "force_build", force_build),
        )


CONTEXT_OPTIONS = (
    "context_files",
    "context_mount",
    "context_dir",
    "ignore",
    "build_args",
    "dockerfile_commands",
)
"""What older versions passed on from a base to the commands after it."""


def _from_registry(cls: Any, where: str, given: dict[str, Any], registry: str = "") -> Any:
    tag = given["tag"]
    if not isinstance(tag, str) or not tag.strip() or any(letter.isspace() for letter in tag.strip()):
        raise InvalidError(f'Image.{where}: {tag!r} is not an image such as "ubuntu:22.04".')
    unknown = next((name for name in given["options"] if name not in CONTEXT_OPTIONS), None)
    if unknown is not None:
        raise InvalidError(
            f"Image.{where}({unknown}=...): there is no such option. It takes secret=, add_python=, "
            f"setup_dockerfile_commands=, secrets=, env=, gpu=, force_build=, {'=, '.join(CONTEXT_OPTIONS)}=."
        )
    options = {name: value for name, value in given["options"].items() if name != "dockerfile_commands"}
    commands = [
        *check.list_of_strings(where, "setup_dockerfile_commands", given["setup_dockerfile_commands"]),
        *(f"RUN {line}" for line in check.list_of_strings(where, "setup_commands", given["setup_commands"])),
        *check.strings(where, "a command", [given["options"].get("dockerfile_commands", ())]),
    ]
    return cls()._with(
        where,
        tag.strip(),
        registry=registry,
        setup_dockerfile_commands=commands,
        add_python=check.python_version(where, given["add_python"], name="add_python"),
        **options,
        **check.step_options(
            where,
            env=given["env"],
            secrets=given["secrets"],
            secret=given["secret"],
            gpu=given["gpu"],
            force_build=given["force_build"],
        ),
    )


def check_ignore(where: str, ignore: Any) -> Any:
    """``ignore=``: patterns, a callable, or ``AUTODOCKERIGNORE``."""
    if ignore is AUTODOCKERIGNORE:
        return AUTODOCKERIGNORE
    if ignore is None or callable(ignore):
        return ignore
    return list(check.list_of_strings(where, "ignore", ignore))
