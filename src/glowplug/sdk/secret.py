"""Secrets: environment variables for containers, written down, taken from here, or stored on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glowplug.client.context import is_local
from glowplug.client.settings import read_settings
from glowplug.model.checks import check_variable
from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.model.secret import SecretDefinition
from glowplug.model.volume import check_name
from glowplug.sdk.dotenv import find_upwards, read_dotenv
from glowplug.sdk.notyet import not_yet, warn_ignored


class Secret(SecretDefinition):
    """Environment variables for containers: ``@app.function(secrets=[secret])``.

    >>> secret = Secret.from_dict({"HF_TOKEN": "..."})
    """

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
        """The secret stored on this machine under ``name``, looked up when an app that uses it starts.

        It is the file ``secrets/<name>.env`` in the home of Glowplug, one ``NAME=value`` a line. The start of
        the app raises ``NotFoundError`` when the file or one of ``required_keys`` is missing.
        """
        check_name(name, "Secret")
        warn_ignored(f"Secret.from_name({name!r})", environment_name=environment_name)
        secret = cls()
        secret.name = name
        secret.required_keys = tuple(required_keys)
        return secret

    lookup: Any = not_yet("use from_name()")
    update: Any = not_yet("edit its file under secrets/ in the home of Glowplug")
    info: Any = not_yet("it is a file under secrets/ in the home of Glowplug")


def variables_of(secret: SecretDefinition, used_by: str) -> dict[str, str]:
    """What a secret puts into the environment; ``used_by`` names the function in errors."""
    if secret.name is None:
        return secret.variables
    path = stored_secret_path(secret.name)
    try:
        variables = read_dotenv(path)
    except FileNotFoundError:
        raise NotFoundError(
            f"the secret {secret.name!r} of {used_by} is not stored on this machine. Write its variables, "
            f"one NAME=value a line, to {path} (and keep it to yourself: chmod 600), "
            "or give them in the script by Secret.from_local_environ([...]) or Secret.from_dict({...})."
        ) from None
    except OSError as error:
        raise NotFoundError(f"the secret {secret.name!r} of {used_by} cannot be read: {error}.") from None
    absent = [key for key in secret.required_keys if key not in variables]
    if absent:
        raise NotFoundError(
            f"the secret {secret.name!r} of {used_by} lacks {', '.join(absent)}. Add it to {path}."
        )
    return variables


def stored_secret_path(name: str) -> Path:
    """Where the variables of a named secret are."""
    return read_settings().home / "secrets" / f"{name}.env"


def _checked(where: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise InvalidError(f"{where} give a dict of variable names to strings, not {type(given).__name__}.")
    for name, text in given.items():
        check_variable(where, name, text)
    return {name: text for name, text in given.items() if text is not None}
