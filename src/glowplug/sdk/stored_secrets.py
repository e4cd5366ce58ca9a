"""The secrets a server keeps, as scripts create, list and delete them: ``Secret.objects``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from glowplug.client.context import is_local
from glowplug.client.http import request
from glowplug.model.errors import AlreadyExistsError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from glowplug.sdk.secret import Secret


@dataclass(frozen=True)
class SecretDetails:
    """What is known of a kept secret, but for its values."""

    name: str
    keys: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None
    created_by: str | None = None


class StoredSecrets:
    """What the server of this user keeps. Not for use inside containers."""

    def create(
        self,
        name: str,
        env_dict: Mapping[str, str],
        *,
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Any = None,
    ) -> None:
        """Store a secret. One of this name stays as it is with ``allow_existing``, else
        ``AlreadyExistsError`` is raised."""
        _outside(f"Secret.objects.create({name!r})")
        try:
            request("POST", "/v1/secrets", {"name": name, "variables": dict(env_dict)}, start=True)
        except AlreadyExistsError:
            if not allow_existing:
                raise

    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: Any = None,
        environment_name: str = "",
        client: Any = None,
    ) -> list[Secret]:
        """Every kept secret, by name."""
        from glowplug.sdk.secret import Secret

        _outside("Secret.objects.list()")
        kept = request("GET", "/v1/secrets", start=True)["secrets"]
        return [Secret.from_name(each["name"]) for each in kept[:max_objects]]

    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Any = None,
    ) -> None:
        """Delete a secret. Raises ``NotFoundError`` when there is none, unless ``allow_missing``."""
        _outside(f"Secret.objects.delete({name!r})")
        try:
            request("DELETE", f"/v1/secrets/{quote(name, safe='')}", start=True)
        except NotFoundError:
            if not allow_missing:
                raise


def show_secret(name: str) -> SecretDetails:
    """Raises ``NotFoundError``."""
    _outside(f"Secret.from_name({name!r}).info()")
    found = request("GET", f"/v1/secrets/{quote(name, safe='')}", start=True)
    used = found["last_used_at"]
    return SecretDetails(
        found["name"],
        tuple(found["keys"]),
        _time(found["created_at"]),
        _time(found["updated_at"]),
        None if used is None else _time(used),
    )


def change_secret(name: str, variables: Mapping[str, str | None]) -> None:
    """Raises ``NotFoundError``, ``InvalidError``."""
    _outside(f"Secret.from_name({name!r}).update()")
    path = f"/v1/secrets/{quote(name, safe='')}/update"
    request("POST", path, {"variables": dict(variables)}, start=True)


def _outside(what: str) -> None:
    if not is_local():
        raise InvalidError(
            f"{what}: containers do not reach the secrets of the server, only what secrets=[...] gives them. "
            "Do it outside of functions."
        )


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)
