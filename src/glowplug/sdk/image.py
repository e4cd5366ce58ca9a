"""Images as scripts of every era declare them: a chain of steps, recorded; building them comes later.

Every method returns a new ``Image``. Until images are built, functions run in the Python environment of the
client, and an app whose functions have images says so once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from glowplug.model.errors import InvalidError
from glowplug.model.image import ImageDefinition, ImageStep
from glowplug.sdk.notyet import not_yet


class Image(ImageDefinition):
    """The environment a function runs in.

    >>> image = Image.debian_slim().apt_install("ffmpeg").pip_install("torch", "transformers")
    >>> @app.function(image=image)
    ... def transcribe(url): ...
    """

    def __init__(self, steps: tuple[ImageStep, ...] = ()) -> None:
        super().__init__(steps)
        self.inside_exceptions: list[BaseException] = []
        """What went wrong in this image's ``imports()`` blocks in this process."""

    def _with(self, method: str, *arguments: Any, **options: Any) -> Image:
        return Image((*self.steps, ImageStep(method, arguments, options)))

    # what it starts from

    @staticmethod
    def debian_slim(python_version: str | None = None, force_build: bool = False) -> Image:
        """Debian with a Python of its own, such as ``python_version="3.11"``."""
        return Image()._with("debian_slim", python_version=python_version, force_build=force_build)

    @staticmethod
    def from_registry(tag: str, *arguments: Any, **options: Any) -> Image:
        """An image of a registry, such as "nvidia/cuda:12.4.1-devel-ubuntu22.04"."""
        return Image()._with("from_registry", tag, *arguments, **options)

    @staticmethod
    def from_dockerhub(tag: str, *arguments: Any, **options: Any) -> Image:
        """Older name of ``from_registry``."""
        return Image.from_registry(tag, *arguments, **options)

    @staticmethod
    def from_gcp_artifact_registry(tag: str, *arguments: Any, **options: Any) -> Image:
        """An image of a Google registry."""
        return Image()._with("from_gcp_artifact_registry", tag, *arguments, **options)

    @staticmethod
    def from_aws_ecr(tag: str, *arguments: Any, **options: Any) -> Image:
        """An image of an AWS registry."""
        return Image()._with("from_aws_ecr", tag, *arguments, **options)

    @staticmethod
    def from_dockerfile(path: Any, *arguments: Any, **options: Any) -> Image:
        """What a Dockerfile describes."""
        return Image()._with("from_dockerfile", path, *arguments, **options)

    @staticmethod
    def from_scratch(force_build: bool = False) -> Image:
        """Nothing at all."""
        return Image()._with("from_scratch", force_build=force_build)

    @staticmethod
    def micromamba(python_version: str | None = None, force_build: bool = False) -> Image:
        """A micromamba environment."""
        return Image()._with("micromamba", python_version=python_version, force_build=force_build)

    @staticmethod
    def conda(python_version: str | None = None, force_build: bool = False) -> Image:
        """A conda environment."""
        return Image()._with("conda", python_version=python_version, force_build=force_build)

    # packages

    def pip_install(self, *packages: Any, **options: Any) -> Image:
        """Python packages, as pip names them."""
        return self._with("pip_install", *_packages("pip_install", packages), **options)

    def uv_pip_install(self, *packages: Any, **options: Any) -> Image:
        """Python packages, installed by uv."""
        return self._with("uv_pip_install", *_packages("uv_pip_install", packages), **options)

    def uv_sync(self, *arguments: Any, **options: Any) -> Image:
        """The locked dependencies of a uv project."""
        return self._with("uv_sync", *arguments, **options)

    def pip_install_private_repos(self, *repositories: str, **options: Any) -> Image:
        """Python packages of private repositories."""
        return self._with("pip_install_private_repos", *repositories, **options)

    def pip_install_from_requirements(self, requirements_txt: Any, *arguments: Any, **options: Any) -> Image:
        """The packages of a requirements file."""
        return self._with("pip_install_from_requirements", requirements_txt, *arguments, **options)

    def pip_install_from_pyproject(self, pyproject_toml: Any, *arguments: Any, **options: Any) -> Image:
        """The dependencies of a pyproject.toml."""
        return self._with("pip_install_from_pyproject", pyproject_toml, *arguments, **options)

    def poetry_install_from_file(self, poetry_pyproject_toml: Any, *arguments: Any, **options: Any) -> Image:
        """The locked dependencies of a Poetry project."""
        return self._with("poetry_install_from_file", poetry_pyproject_toml, *arguments, **options)

    def apt_install(self, *packages: Any, **options: Any) -> Image:
        """Debian packages."""
        return self._with("apt_install", *_packages("apt_install", packages), **options)

    def conda_install(self, *packages: Any, **options: Any) -> Image:
        """Conda packages."""
        return self._with("conda_install", *_packages("conda_install", packages), **options)

    def conda_update_from_environment(self, environment_yml: Any, *arguments: Any, **options: Any) -> Image:
        """The packages of a conda environment file."""
        return self._with("conda_update_from_environment", environment_yml, *arguments, **options)

    def micromamba_install(self, *packages: Any, **options: Any) -> Image:
        """Conda packages, installed by micromamba."""
        return self._with("micromamba_install", *_packages("micromamba_install", packages), **options)

    # steps

    def run_commands(self, *commands: Any, **options: Any) -> Image:
        """Shell commands."""
        return self._with("run_commands", *commands, **options)

    def run_function(self, raw_f: Callable[..., Any], *arguments: Any, **options: Any) -> Image:
        """A Python function, run while the image is built."""
        if not callable(raw_f):
            raise InvalidError(f"Image.run_function({raw_f!r}): give the function itself.")
        return self._with("run_function", raw_f, *arguments, **options)

    def dockerfile_commands(self, *commands: Any, **options: Any) -> Image:
        """Lines of a Dockerfile."""
        return self._with("dockerfile_commands", *commands, **options)

    def env(self, vars: dict[str, str]) -> Image:
        """Environment variables."""
        return self._with("env", vars)

    def workdir(self, path: Any) -> Image:
        """The working directory."""
        return self._with("workdir", path)

    def cmd(self, cmd: list[str]) -> Image:
        """The default command."""
        return self._with("cmd", cmd)

    def entrypoint(self, entrypoint_commands: list[str]) -> Image:
        """The command every process is started through."""
        return self._with("entrypoint", entrypoint_commands)

    def shell(self, shell_commands: list[str]) -> Image:
        """The shell of ``run_commands``."""
        return self._with("shell", shell_commands)

    # local files

    def add_local_file(self, local_path: Any, remote_path: str, *, copy: bool = False) -> Image:
        """A local file, at ``remote_path``."""
        return self._with("add_local_file", local_path, remote_path, copy=copy)

    def add_local_dir(self, local_path: Any, remote_path: str, **options: Any) -> Image:
        """A local directory, at ``remote_path``."""
        return self._with("add_local_dir", local_path, remote_path, **options)

    def add_local_python_source(self, *modules: str, **options: Any) -> Image:
        """Local Python modules."""
        return self._with("add_local_python_source", *modules, **options)

    def copy_mount(self, mount: Any, remote_path: Any = ".") -> Image:
        """The files of a mount (until 2025)."""
        return self._with("copy_mount", mount, remote_path)

    def copy(self, mount: Any, remote_path: Any = ".") -> Image:
        """Older name of ``copy_mount``."""
        return self.copy_mount(mount, remote_path)

    def copy_local_file(self, local_path: Any, remote_path: Any = "./") -> Image:
        """A local file (until 2025)."""
        return self._with("copy_local_file", local_path, remote_path)

    def copy_local_dir(self, local_path: Any, remote_path: Any = ".", **options: Any) -> Image:
        """A local directory (until 2025)."""
        return self._with("copy_local_dir", local_path, remote_path, **options)

    # the chain itself

    def extend(self, **options: Any) -> Image:
        """This image and further build arguments (2023)."""
        return self._with("extend", **options)

    def pipe(self, func: Callable[..., Image], *args: Any, **kwargs: Any) -> Image:
        """``func(image, *args, **kwargs)``, so that own steps read like methods of the chain."""
        return func(self, *args, **kwargs)

    # what is only there inside

    @contextmanager
    def imports(self) -> Iterator[None]:
        """A block of imports that only the container needs to have.

        An ``ImportError`` in it is kept, here as in the container; a function that uses this image raises
        it when its container loads it.

        >>> with image.imports():
        ...     import torch
        """
        try:
            yield
        except ImportError as error:
            self.inside_exceptions.append(error)

    def run_inside(self) -> Any:
        """Older name of ``imports``."""
        return self.imports()

    build: Any = not_yet("images are not built yet; functions run in the client's Python environment")
    publish: Any = not_yet("images are not built yet")
    from_id: Any = not_yet("images are not built yet")
    from_name: Any = not_yet("images are not built yet")


def _packages(method: str, packages: tuple[Any, ...]) -> list[str]:
    """Package names, one list deep. Raises ``InvalidError`` for anything else."""
    names: list[str] = []
    for package in packages:
        for name in package if isinstance(package, (list, tuple)) else [package]:
            if not isinstance(name, str):
                raise InvalidError(f"Image.{method}: a package is a string, not {name!r}.")
            names.append(name)
    return names
