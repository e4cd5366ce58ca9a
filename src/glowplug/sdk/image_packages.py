"""What is installed: Python packages, Debian packages, conda packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.model.errors import InvalidError
from glowplug.sdk import image_chain as check
from glowplug.sdk.image_chain import Chain, chained
from glowplug.sdk.notyet import warn_ignored

if TYPE_CHECKING:
    from typing_extensions import Self

REPOSITORY_HOSTS = {"github.com": "GITHUB_TOKEN", "gitlab.com": "GITLAB_TOKEN"}
"""Where private repositories may be, and the variable with the token for each."""


class Packages(Chain):
    """Methods that install packages.

    All take ``env=`` (variables of this step), ``secrets=``, ``gpu=`` (run where there is a card) and
    ``force_build=`` (build this step and those after it anew).
    """

    @chained
    def pip_install(
        self,
        *packages: Any,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """Python packages, as pip names them: strings, or lists of strings. Raises ``InvalidError``.

        >>> image = Image.debian_slim().pip_install("torch==2.4.0", "numpy>=2", pre=True)
        """
        where = "pip_install"
        names = check.packages(where, packages)
        if not names:
            return self
        return self._with(
            where,
            *names,
            **_pip_options(where, find_links, index_url, extra_index_url, pre, extra_options),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def uv_pip_install(
        self,
        *packages: Any,
        requirements: Any = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        uv_version: str | None = None,
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """Python packages, installed by uv. ``requirements``: requirements files, read here. ``uv_version``
        means nothing: the uv of this installation is used.

        >>> image = Image.debian_slim().uv_pip_install("torch", requirements=["requirements.txt"])
        """
        where = "uv_pip_install"
        names = check.packages(where, packages)
        files = check.list_of_strings(where, "requirements", requirements)
        if not names and not files:
            return self
        warn_ignored(f"Image.{where}", uv_version=check.text(where, "uv_version", uv_version))
        return self._with(
            where,
            *names,
            requirements=files,
            **_pip_options(where, find_links, index_url, extra_index_url, pre, extra_options),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def uv_sync(
        self,
        uv_project_dir: Any = "./",
        *,
        force_build: bool = False,
        groups: Any = None,
        extras: Any = None,
        frozen: bool = True,
        extra_options: str = "",
        uv_version: str | None = None,
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """The dependencies of a uv project: its pyproject.toml and uv.lock are read here. ``frozen``: take
        the lock as it is.

        >>> image = Image.debian_slim().uv_sync(groups=["serve"])
        """
        where = "uv_sync"
        warn_ignored(f"Image.{where}", uv_version=check.text(where, "uv_version", uv_version))
        return self._with(
            where,
            check.path(where, "uv_project_dir", uv_project_dir),
            groups=check.list_of_strings(where, "groups", groups),
            extras=check.list_of_strings(where, "extras", extras),
            unfrozen=not check.flag(where, "frozen", frozen),
            extra_options=check.text(where, "extra_options", extra_options),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def pip_install_private_repos(
        self,
        *repositories: str,
        git_user: str = "",
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        gpu: Any = None,
        env: Any = None,
        secrets: Any = None,
        force_build: bool = False,
    ) -> Self:
        """Python packages of private repositories, "github.com/owner/name@ref". The secret has GITHUB_TOKEN
        (gitlab.com: GITLAB_TOKEN); ``git_user`` is whose token that is.

        >>> image = Image.debian_slim().pip_install_private_repos(
        ...     "github.com/acme/models@v2", git_user="ada", secrets=[Secret.from_name("github")]
        ... )
        """
        where = "pip_install_private_repos"
        names = check.packages(where, repositories)
        for name in names:
            if name.split("/")[0] not in REPOSITORY_HOSTS or name.count("/") < 2:
                raise InvalidError(
                    f'Image.{where}: {name!r} is not a repository such as "github.com/owner/name@ref" or '
                    '"gitlab.com/owner/name".'
                )
        if not names:
            return self
        if not isinstance(git_user, str) or not git_user:
            raise InvalidError(f'Image.{where}: give git_user="...", the owner of the token.')
        options = check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build)
        if not options["secrets"]:
            raise InvalidError(
                f"Image.{where}: give secrets=[Secret.from_name(...)] with "
                f"{' and '.join(sorted({REPOSITORY_HOSTS[name.split('/')[0]] for name in names}))}; "
                "private repositories cannot be read without."
            )
        return self._with(
            where,
            *names,
            git_user=git_user,
            **_pip_options(where, find_links, index_url, extra_index_url, pre, extra_options),
            **options,
        )

    @chained
    def pip_install_from_requirements(
        self,
        requirements_txt: Any,
        find_links: str | None = None,
        force_build: bool = False,
        *,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """The packages of a requirements file, and of those it includes; the path is relative to the working
        directory. Raises ``NotFoundError`` when the app starts and there is no such file.

        >>> image = Image.debian_slim().pip_install_from_requirements("requirements.txt")
        """
        where = "pip_install_from_requirements"
        return self._with(
            where,
            check.path(where, "requirements_txt", requirements_txt),
            **_pip_options(where, find_links, index_url, extra_index_url, pre, extra_options),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def pip_install_from_pyproject(
        self,
        pyproject_toml: Any,
        optional_dependencies: Any = (),
        force_build: bool = False,
        *,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """The dependencies that a pyproject.toml declares, with those of ``optional_dependencies``.

        >>> image = Image.debian_slim().pip_install_from_pyproject("pyproject.toml", ["train"])
        """
        where = "pip_install_from_pyproject"
        return self._with(
            where,
            check.path(where, "pyproject_toml", pyproject_toml),
            optional_dependencies=check.list_of_strings(
                where, "optional_dependencies", optional_dependencies
            ),
            **_pip_options(where, find_links, index_url, extra_index_url, pre, extra_options),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def poetry_install_from_file(
        self,
        poetry_pyproject_toml: Any,
        poetry_lockfile: Any = None,
        ignore_lockfile: bool = False,
        old_installer: bool = False,
        force_build: bool = False,
        with_: Any = (),
        without: Any = (),
        only: Any = (),
        *,
        poetry_version: str | None = "latest",
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """The locked dependencies of a Poetry project, not the project itself. The lock file is by default
        the poetry.lock beside the pyproject.toml.

        >>> image = Image.debian_slim().poetry_install_from_file("pyproject.toml", without=["dev"])
        """
        where = "poetry_install_from_file"
        warn_ignored(f"Image.{where}", old_installer=check.flag(where, "old_installer", old_installer))
        version = check.text(where, "poetry_version", poetry_version)
        return self._with(
            where,
            check.path(where, "poetry_pyproject_toml", poetry_pyproject_toml),
            poetry_lockfile=(
                None if poetry_lockfile is None else check.path(where, "poetry_lockfile", poetry_lockfile)
            ),
            ignore_lockfile=check.flag(where, "ignore_lockfile", ignore_lockfile),
            with_=check.list_of_strings(where, "with_", with_),
            without=check.list_of_strings(where, "without", without),
            only=check.list_of_strings(where, "only", only),
            poetry_version=None if version == "latest" else version,
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    @chained
    def apt_install(
        self, *packages: Any, force_build: bool = False, env: Any = None, secrets: Any = None, gpu: Any = None
    ) -> Self:
        """Debian packages.

        >>> image = Image.debian_slim().apt_install("git", "ffmpeg")
        """
        where = "apt_install"
        names = check.packages(where, packages)
        if not names:
            return self
        options = check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build)
        return self._with(where, *names, **options)

    @chained
    def micromamba_install(
        self,
        *packages: Any,
        spec_file: Any = None,
        channels: Any = (),
        force_build: bool = False,
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """Conda packages. ``spec_file``: an environment file, read here. ``channels``: searched in this
        order.

        >>> image = Image.micromamba().micromamba_install("rdkit", channels=["conda-forge"])
        """
        return self._conda(
            "micromamba_install", packages, spec_file, channels, force_build, env, secrets, gpu
        )

    @chained
    def conda_install(
        self,
        *packages: Any,
        channels: Any = (),
        force_build: bool = False,
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """As in 2023; the same as ``micromamba_install`` here."""
        return self._conda("conda_install", packages, None, channels, force_build, env, secrets, gpu)

    @chained
    def conda_update_from_environment(
        self,
        environment_yml: Any,
        force_build: bool = False,
        *,
        env: Any = None,
        secrets: Any = None,
        gpu: Any = None,
    ) -> Self:
        """The packages of a conda environment file, read here."""
        where = "conda_update_from_environment"
        return self._with(
            where,
            check.path(where, "environment_yml", environment_yml),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )

    def _conda(
        self,
        where: str,
        packages: Any,
        spec_file: Any,
        channels: Any,
        force_build: Any,
        env: Any,
        secrets: Any,
        gpu: Any,
    ) -> Self:
        names = check.packages(where, packages)
        if not names and spec_file is None:
            return self
        return self._with(
            where,
            *names,
            spec_file=None if spec_file is None else check.path(where, "spec_file", spec_file),
            channels=check.list_of_strings(where, "channels", channels),
            **check.step_options(where, env=env, secrets=secrets, gpu=gpu, force_build=force_build),
        )


def _pip_options(
    where: str, find_links: Any, index_url: Any, extra_index_url: Any, pre: Any, extra_options: Any
) -> dict[str, Any]:
    return {
        "find_links": check.text(where, "find_links", find_links),
        "index_url": check.text(where, "index_url", index_url),
        "extra_index_url": check.text(where, "extra_index_url", extra_index_url),
        "pre": check.flag(where, "pre", pre),
        "extra_options": check.text(where, "extra_options", extra_options),
    }
