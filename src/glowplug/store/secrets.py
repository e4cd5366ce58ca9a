"""Named secrets, each a small file in the home, encrypted as a whole: names of variables as well as values.

A file is replaced at once or not at all. What can be seen without the key: that a secret of this name exists,
when it was written and when it was last used.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glowplug.client.dotenv import read_dotenv
from glowplug.model import errors
from glowplug.model.checks import check_variable
from glowplug.model.volume import check_name
from glowplug.ports.secrets import StoredSecret
from glowplug.store.secrets_key import SecretsKey, key_id

DIRECTORY = "secrets"
SUFFIX, USED_SUFFIX, OLD_SUFFIX = ".secret", ".used", ".env"
FORMAT = 1
MAX_VALUE_BYTES = 120 << 10
"""The system passes no longer variable to a program."""
MAX_SECRET_BYTES = 512 << 10
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretStore:
    """Implements ``ports.secrets.Secrets`` in ``home``. Called from several threads."""

    def __init__(self, home: Path, key: SecretsKey, now: Callable[[], float] = time.time) -> None:
        self._directory = home / DIRECTORY
        self._key = key
        self._now = now
        self._writing = threading.Lock()

    # what is kept

    def create(self, name: str, variables: Mapping[str, str], replace: bool = False) -> StoredSecret:
        check_name(name, "Secret")
        check_variables(name, variables)
        with self._writing:
            created_at = None
            if self._path(name).exists():
                if not replace:
                    raise errors.AlreadyExistsError(
                        f"there is a secret {name!r} already. `glowplug secret create {name} … --force` "
                        "replaces it."
                    )
                created_at = self._header(name, or_else={}).get("created_at")
            self._write(name, dict(variables), created_at)
        return self._shown(name)

    def update(self, name: str, variables: Mapping[str, str | None]) -> StoredSecret:
        check_name(name, "Secret")
        with self._writing:
            header, current = self._read(name)
            merged = {**current, **variables}
            kept = {key: value for key, value in merged.items() if value is not None}
            check_variables(name, kept)
            self._write(name, kept, header["created_at"])
        return self._shown(name)

    def list(self) -> Sequence[StoredSecret]:
        try:
            names = sorted(path.stem for path in self._directory.glob(f"*{SUFFIX}"))
        except OSError:
            names = []
        return [self._shown(name) for name in names]

    def show(self, name: str) -> StoredSecret:
        check_name(name, "Secret")
        self._read(name)
        return self._shown(name)

    def delete(self, name: str) -> None:
        check_name(name, "Secret")
        with self._writing:
            try:
                self._path(name).unlink()
            except FileNotFoundError:
                raise self._not_found(name) from None
            self._path(name, USED_SUFFIX).unlink(missing_ok=True)

    def variables_of(self, name: str) -> dict[str, str]:
        check_name(name, "Secret")
        variables = self._read(name)[1]
        used = self._path(name, USED_SUFFIX)
        try:
            used.touch(mode=0o600)
            os.utime(used, (self._now(), self._now()))
        except OSError:
            pass  # a full disk is no reason to withhold it
        return variables

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._directory.glob(f"*{SUFFIX}"))

    # what others write down

    def seal(self, content: bytes) -> bytes:
        from cryptography.fernet import Fernet

        return Fernet(self._key.make()).encrypt(content)

    def unseal(self, sealed: bytes) -> bytes:
        from cryptography.fernet import Fernet, InvalidToken

        key = self._key.read()
        if key is None:
            raise errors.AuthError(f"the key of stored secrets, {self._key.place}, is gone; put it back")
        try:
            return Fernet(key).decrypt(sealed)
        except InvalidToken:
            raise errors.DataLossError(
                f"what was sealed with the key of stored secrets cannot be opened with {self._key.place}: it "
                "is another key, or what was written is damaged"
            ) from None

    # taking over

    def take_over_files(self) -> list[str]:
        """``NAME.env`` files of earlier versions become secrets, and go. Returns what is to be told."""
        told: list[str] = []
        for path in sorted(self._directory.glob(f"*{OLD_SUFFIX}")):
            name = path.name[: -len(OLD_SUFFIX)]
            if self._path(name).exists():
                told.append(f"{path} is not read any more: the secret {name!r} is stored; remove the file")
                continue
            try:
                variables = read_dotenv(path)
                self.create(name, variables)
                if self._read(name)[1] == variables:
                    path.unlink()
                told.append(f"the secret {name!r} is stored encrypted now, and {path} is gone")
            except (errors.Error, OSError, UnicodeDecodeError) as error:
                why = "it is no text" if isinstance(error, UnicodeDecodeError) else str(error)
                told.append(f"{path} could not be taken over as the secret {name!r} and is not read: {why}")
        return told

    # files

    def _path(self, name: str, suffix: str = SUFFIX) -> Path:
        return self._directory / f"{name}{suffix}"

    def _write(self, name: str, variables: dict[str, str], created_at: float | None) -> None:
        key = self._key_for_writing(name)
        at = self._now()
        from cryptography.fernet import Fernet

        content = json.dumps({"name": name, "variables": variables}).encode()
        record = {
            "format": FORMAT,
            "created_at": at if created_at is None else created_at,
            "updated_at": at,
            "key_id": key_id(key),
            "sealed": Fernet(key).encrypt(content).decode(),
        }
        path = self._path(name)
        temporary = path.with_name(f".{name}.new")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with open(temporary, "x", opener=_private) as file:
                json.dump(record, file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise errors.ResourceExhaustedError(
                f"the secret {name!r} could not be written to {self._directory}: {error.strerror}. What was "
                "stored before is unchanged."
            ) from None

    def _key_for_writing(self, name: str) -> str:
        """Never a new key beside secrets that need a lost one."""
        key = self._key.read()
        if key is not None:
            return key
        others = [each for each in self.names() if each != name]
        if others:
            raise self._key_is_gone(others[0])
        return self._key.make()

    def _key_is_gone(self, name: str) -> errors.AuthError:
        return errors.AuthError(
            f"the secret {name!r} cannot be read: its key, {self._key.place}, is gone. Put it back, or give "
            "it by GLOWPLUG_SECRETS_KEY. If it is lost, so are the values: `glowplug secret delete` each "
            "stored secret (`glowplug secret list`), then create them anew."
        )

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, str]]:
        header = self._header(name)
        key = self._key.read()
        if key is None:
            raise self._key_is_gone(name)
        if header["key_id"] != key_id(key):
            raise errors.AuthError(
                f"the secret {name!r} was stored with another key ({header['key_id']}) than that in "
                f"{self._key.place} ({key_id(key)}). Give the right one by GLOWPLUG_SECRETS_KEY_FILE, or "
                f"store it anew: `glowplug secret create {name} … --force`."
            )
        from cryptography.fernet import Fernet, InvalidToken

        try:
            content = json.loads(Fernet(key).decrypt(header["sealed"].encode()))
            if content["name"] != name:  # somebody renamed the file
                raise ValueError
            return header, dict(content["variables"])
        except (InvalidToken, ValueError, LookupError, TypeError):
            raise self._damaged(name) from None

    def _header(self, name: str, or_else: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            header = json.loads(self._path(name).read_bytes())
            if not (
                header["format"] == FORMAT
                and isinstance(header["sealed"], str)
                and isinstance(header["key_id"], str)
                and isinstance(header["created_at"], (int, float))
                and isinstance(header["updated_at"], (int, float))
            ):
                raise ValueError
            return header
        except FileNotFoundError:
            raise self._not_found(name) from None
        except (ValueError, LookupError, TypeError, OSError):
            if or_else is not None:
                return or_else
            raise self._damaged(name) from None

    def _damaged(self, name: str) -> errors.DataLossError:
        return errors.DataLossError(
            f"the secret {name!r} is damaged on disk ({self._path(name)}) and cannot be read. Store it anew: "
            f"`glowplug secret create {name} … --force`."
        )

    def _not_found(self, name: str) -> errors.NotFoundError:
        return errors.NotFoundError(
            f"there is no secret {name!r}. `glowplug secret list` shows those that are stored; "
            f"`glowplug secret create {name} KEY=VALUE` stores it."
        )

    def _shown(self, name: str) -> StoredSecret:
        header: dict[str, Any] = {}
        keys: list[str] = []
        problem = ""
        try:
            header = self._header(name)
            keys = list(self._read(name)[1])
        except errors.Error as error:
            problem = str(error)
        try:
            used_at = self._path(name, USED_SUFFIX).stat().st_mtime
        except OSError:
            used_at = None
        return StoredSecret(
            name, keys, header.get("created_at", 0.0), header.get("updated_at", 0.0), used_at, problem
        )


def check_variables(name: str, variables: Mapping[str, str]) -> None:
    """Raises ``InvalidError`` for what no environment can hold; the message has no value in it."""
    where = f"secret {name!r}:"
    if not variables:
        raise errors.InvalidError(f"{where} give at least one variable, KEY=VALUE")
    size = 0
    for key, value in variables.items():
        check_variable(where, key, value)
        if not _NAME.fullmatch(key):
            raise errors.InvalidError(
                f"{where} {key!r} is not a name for a variable: letters, digits and underscores only, "
                "no digit first"
            )
        size += len(key) + len(value.encode("utf-8", "surrogateescape")) + 2
        if len(value.encode("utf-8", "surrogateescape")) + len(key) > MAX_VALUE_BYTES:
            raise errors.InvalidError(
                f"{where} the value of {key} is over {MAX_VALUE_BYTES >> 10} KiB, more than a program can be "
                "given in a variable; use a volume"
            )
    if size > MAX_SECRET_BYTES:
        raise errors.InvalidError(
            f"{where} its variables have {size >> 10} KiB together; the limit is {MAX_SECRET_BYTES >> 10}"
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
