"""Where named secrets are kept, and what seals values that must be written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class StoredSecret(msgspec.Struct, frozen=True):
    """A secret as it may be shown: never its values."""

    name: str
    keys: list[str]
    """Names of its variables; empty with ``problem``."""
    created_at: float
    updated_at: float
    last_used_at: float | None
    """When a container or a build was last given it."""
    problem: str = ""
    """Why it cannot be read; empty when it can."""


class Secrets(Protocol):
    """Every method may wait for a disk. Errors name the secret and what to do, and never contain a value."""

    def create(self, name: str, variables: Mapping[str, str], replace: bool = False) -> StoredSecret:
        """Raises ``AlreadyExistsError`` unless ``replace``, ``InvalidError`` for bad variables."""
        ...

    def update(self, name: str, variables: Mapping[str, str | None]) -> StoredSecret:
        """Set these variables; None removes one. Raises ``NotFoundError``."""
        ...

    def list(self) -> Sequence[StoredSecret]:
        """By name. One that cannot be read is listed with its problem."""
        ...

    def show(self, name: str) -> StoredSecret:
        """Raises ``NotFoundError``, ``AuthError``, ``DataLossError``."""
        ...

    def delete(self, name: str) -> None:
        """Raises ``NotFoundError``. Needs no key."""
        ...

    def variables_of(self, name: str) -> dict[str, str]:
        """Its variables, for a container or a build. Raises ``NotFoundError``, ``AuthError`` (the key),
        ``DataLossError``."""
        ...

    def seal(self, content: bytes) -> bytes:
        """``content`` encrypted with the key of this store. Raises ``AuthError``."""
        ...

    def unseal(self, sealed: bytes) -> bytes:
        """What ``seal`` was given. Raises ``AuthError``, ``DataLossError``."""
        ...
