"""The key stored secrets are encrypted with: the user's own, kept apart from the home that backups copy.

``GLOWPLUG_SECRETS_KEY`` is the key itself, ``GLOWPLUG_SECRETS_KEY_FILE`` a file with it; else it is
``secrets.key`` in the user's configuration directory, made with the first secret, readable by its user only.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from glowplug.client.config import config_directory
from glowplug.model import errors

KEY_VARIABLE = "GLOWPLUG_SECRETS_KEY"
KEY_FILE_VARIABLE = "GLOWPLUG_SECRETS_KEY_FILE"
KEY_NAME = "secrets.key"
MAKE_A_KEY = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


class SecretsKey:
    """Where the key comes from; read when it is used, so that it can be put back while a server runs."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._text = environ.get(KEY_VARIABLE, "").strip()
        named = environ.get(KEY_FILE_VARIABLE, "").strip()
        self._is_named = bool(named)
        self.path = Path(named).expanduser() if named else config_directory(dict(environ)) / KEY_NAME

    @property
    def place(self) -> str:
        """For messages."""
        return KEY_VARIABLE if self._text else str(self.path)

    def read(self) -> str | None:
        """The key, None when its file is absent. Raises ``AuthError`` for one that is no key or that others
        can read."""
        if self._text:
            return self._checked(self._text)
        try:
            with open(self.path, encoding="ascii", errors="replace") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(1024).strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.AuthError(
                f"the key of stored secrets cannot be read: {self.path}: {error.strerror}. Mend that, or "
                f"give the key by {KEY_VARIABLE}."
            ) from None
        if stat.S_IMODE(mode) & 0o077:
            raise errors.AuthError(
                f"the key of stored secrets, {self.path}, can be read by others (mode "
                f"{stat.S_IMODE(mode):04o}): chmod 600 {self.path}"
            )
        return self._checked(text)

    def make(self) -> str:
        """The key, made if there is none. Raises ``AuthError``."""
        found = self.read()
        if found is not None:
            return found
        if self._is_named:
            raise errors.AuthError(
                f"{KEY_FILE_VARIABLE} names {self.path}, and there is no such file. Make it: "
                f"(umask 077; {MAKE_A_KEY} > {self.path})"
            )
        from cryptography.fernet import Fernet

        temporary = self.path.with_name(f".{KEY_NAME}.{os.urandom(4).hex()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(temporary, "xb", opener=_private) as file:
                file.write(Fernet.generate_key() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, self.path)  # and never over the key another server has just made
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        except OSError as error:
            raise errors.AuthError(
                f"a key for stored secrets cannot be written to {self.path}: {error.strerror}. Give one by "
                f"{KEY_VARIABLE} or {KEY_FILE_VARIABLE}."
            ) from None
        made = self.read()
        assert made is not None
        return made

    def _checked(self, text: str) -> str:
        from cryptography.fernet import Fernet

        try:
            Fernet(text)
        except ValueError:
            raise errors.AuthError(
                f"{self.place} is no key for stored secrets: 44 characters are expected, as from {MAKE_A_KEY}"
            ) from None
        return text


def key_id(key: str) -> str:
    """Tells keys apart without telling them."""
    return hashlib.sha256(b"glowplug secrets key\0" + key.encode()).hexdigest()[:8]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
