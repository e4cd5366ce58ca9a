"""Secrets: environment variables for containers, written down, taken from here, or kept by the server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from glowplug.client.context import is_local
from glowplug.client.dotenv import find_upwards, read_dotenv
from glowplug.model.checks import check_variable
from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.model.secret import SecretDefinition
from glowplug.model.volume import check_name
from glowplug.sdk.dual import dual
from glowplug.sdk.notyet import warn_ignored
from glowplug.sdk.stored_secrets import SecretDetails, StoredSecrets, change_secret, show_secret


class Secret(SecretDefinition):
    """Environment variables for containers: ``@app.function(secrets=[secret])``.

    Printed, a secret shows names only. Values given here travel with the app, in memory; those of
    ``from_name`` never leave the server but for its containers.

    >>> secret = Secret.from_dict({"HF_TOKEN": "..."})
    """

    objects = StoredSecrets()
    """Those the server keeps: ``Secret.objects.create(name, {...})``, ``.list()``, ``.delete(name)``."""

    def __init__(self, env_dict: Mapping[str, str | None] | None = None, template_type: str = "") -> None:
        super().__init__(_checked("Secret(...):", env_dict or {}))

    @classmethod
    def from_dict(cls, env_dict: Mapping[str, str | None] | None = None, template_type: str = "") -> Secret:
        """Exactly these variables; those that are None are left out. Raises ``InvalidError``."""
        return cls(env_dict)

    @classmethod
    def from_local_environ(cls, env_keys: Sequence[str]) -> Secret:
        """These variables, with the values they have here. Raises ``InvalidError`` for one not set."""
        if not is_local():
            return cls()  # the container has them already
        if isinstance(env_keys, str):
            raise InvalidError(f"Secret.from_local_environ({env_keys!r}): give a list of names.")
        absent = [key for key in env_keys if key not in os.environ]
        if absent:
            raise InvalidError(
                f"Secret.from_local_environ: not set here: {', '.join(absent)}. "
                "Set them in the environment before you start the script."
            )
        return cls({key: os.environ[key] for key in env_keys})

    @classmethod
    def from_dotenv(
        cls, path: str | os.PathLike[str] | None = None, *, filename: str = ".env", client: Any = None
    ) -> Secret:
        """The variables of a file: ``path``, or ``filename`` in the directory ``path`` or above it.

        Without ``path`` the search begins in the working directory. Raises ``NotFoundError`` when there is no
        such file, ``InvalidError`` for a line that is not ``NAME=value``.
        """
        if not is_local():
            return cls()  # the container has them already
        start = os.path.abspath(os.fspath(path)) if path is not None else os.getcwd()
        found = start if os.path.isfile(start) else find_upwards(filename, start)
        if found is None:
            raise NotFoundError(f"Secret.from_dotenv: there is no {filename} in {start} or above it.")
        return cls(read_dotenv(found))

    @classmethod
    def from_name(
        cls,
        name: str,
        namespace: Any = None,
        environment_name: str | None = None,
        required_keys: Sequence[str] = (),
        *,
        client: Any = None,
    ) -> Secret:
        """The secret the server keeps under ``name`` (``glowplug secret create``).

        Only the name travels with the app. The server looks when the app starts, and gives each container
        what is stored when that starts: a changed secret reaches the next one. The start raises
        ``NotFoundError`` when the secret or one of ``required_keys`` does not exist.

        >>> secret = Secret.from_name("huggingface", required_keys=["HF_TOKEN"])
        """
        check_name(name, "Secret")
        if isinstance(required_keys, str):
            raise InvalidError(f"Secret.from_name({name!r}): required_keys is a list of names.")
        warn_ignored(f"Secret.from_name({name!r})", environment_name=environment_name)
        secret = cls()
        secret.name = name
        secret.required_keys = tuple(required_keys)
        return secret

    @classmethod
    def lookup(
        cls, label: str, namespace: Any = None, client: Any = None, environment_name: str | None = None
    ) -> Secret:
        """As in 2024: ``from_name``, and the server is asked at once. Raises ``NotFoundError``."""
        secret = cls.from_name(label, namespace, environment_name)
        if is_local():
            show_secret(label)
        return secret

    def _update(self, env_dict: Mapping[str, str | None]) -> None:
        """Set these variables of the kept secret; None removes one. Containers that start later get them.

        Raises ``InvalidError`` for a secret without a name, ``NotFoundError`` for one the server has not.
        """
        change_secret(self._stored_name("update()"), env_dict)

    async def _update_async(self, env_dict: Mapping[str, str | None]) -> None:
        """``update`` without blocking the event loop."""
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self._update, env_dict)

    def _show(self, *, refresh: bool = False) -> SecretDetails:
        """Name, names of variables, when it was stored and last used. Never values. Raises as ``update``."""
        return show_secret(self._stored_name("info()"))

    async def _show_async(self, *, refresh: bool = False) -> SecretDetails:
        """``info`` without blocking the event loop."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, self._show)

    update = dual(_update, _update_async)
    info = dual(_show, _show_async)

    def _stored_name(self, what: str) -> str:
        if self.name is None:
            raise InvalidError(
                f"{self!r}: {what} is for secrets the server keeps; this one exists in the script only. Use "
                "Secret.from_name(...)."
            )
        return self.name


def _checked(where: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise InvalidError(f"{where} give a dict of variable names to strings, not {type(given).__name__}.")
    for name, text in given.items():
        check_variable(where, name, text)
    return {name: text for name, text in given.items() if text is not None}
