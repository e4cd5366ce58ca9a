"""Where things are and what was asked for: homes, sockets and the GLOWPLUG_* variables, read in one place."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from glowplug.client.config import read_config
from glowplug.model import errors

SERVER_CONFIG_VARIABLES = (
    "GLOWPLUG_GPUS", "GLOWPLUG_BACKEND", "RAY_ADDRESS", "GLOWPLUG_SANDBOX", "GLOWPLUG_PROCESSES",
    "GLOWPLUG_SHARED_IMPORTS", "GLOWPLUG_IMAGE_BASE",
)  # fmt: skip
"""What a running server was configured with; a command that wants it otherwise gets another server."""

RUNTIME_PATH_BYTES = 72
"""A socket's path holds 108 bytes with its end; the rest is for its name and the server's pid."""


@dataclass(frozen=True)
class Settings:
    """One command's view of its environment."""

    home: Path
    """State: journal, volumes, server log."""
    runtime_directory: Path
    """Socket and lock; 0700, ours."""
    config: dict[str, str]
    """The server configuration asked for."""

    @property
    def socket_path(self) -> Path:
        return self.runtime_directory / f"{self._name()}.sock"

    @property
    def lock_path(self) -> Path:
        return self.runtime_directory / f"{self._name()}.lock"

    @property
    def server_log_path(self) -> Path:
        return self.home / "server.log"

    @property
    def config_digest(self) -> str:
        return hashlib.sha256(self.config_text.encode()).hexdigest()[:16]

    @property
    def config_text(self) -> str:
        """The configuration as a person would write it; empty when nothing is set."""
        return " ".join(f"{name}={value}" for name, value in sorted(self.config.items()))

    def _name(self) -> str:
        """A short name for (home, host): a socket path holds 108 bytes."""
        identity = f"{self.home}\0{socket.gethostname()}"
        return "glowplug-" + hashlib.sha256(identity.encode()).hexdigest()[:12]


def read_settings(environ: dict[str, str] | None = None) -> Settings:
    """The settings of this process. Raises ``InvalidError`` for a server address it cannot serve."""
    env = dict(os.environ) if environ is None else environ
    server = env.get("GLOWPLUG_SERVER", "")
    if server:
        raise errors.InvalidError(
            f"GLOWPLUG_SERVER={server!r}: servers on other machines are not carried out yet; "
            "unset it to use the local server of this user."
        )
    backend = env.get("GLOWPLUG_BACKEND", "").strip()
    if backend not in ("", "local"):
        raise errors.InvalidError(
            f"GLOWPLUG_BACKEND={backend!r}: only `local` is carried out yet; unset it to use this machine."
        )
    file = read_config(env)
    config = {"GLOWPLUG_GPUS": file.gpus, "GLOWPLUG_SANDBOX": file.sandbox}
    config.update((name, env[name].strip()) for name in SERVER_CONFIG_VARIABLES if env.get(name, "").strip())
    config["config file"] = file.digest
    config = {name: value for name, value in config.items() if value}
    return Settings(home=_home(env), runtime_directory=_runtime_directory(env), config=config)


def _home(env: dict[str, str]) -> Path:
    if env.get("GLOWPLUG_HOME"):
        return Path(env["GLOWPLUG_HOME"]).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "glowplug"
    base = env.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "glowplug"


def _runtime_directory(env: dict[str, str]) -> Path:
    """``$XDG_RUNTIME_DIR/glowplug``, else a directory of this user in the temp directory; in ``/tmp`` where
    these are too deep for a socket."""
    candidates = [
        Path(tempfile.gettempdir()) / f"glowplug-{os.getuid()}",
        Path(f"/tmp/glowplug-{os.getuid()}"),
    ]
    runtime = env.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        candidates.insert(0, Path(runtime) / "glowplug")
    fitting = (each for each in candidates if len(os.fsencode(each)) <= RUNTIME_PATH_BYTES)
    return next(fitting, candidates[-1])


def make_private_directory(path: Path) -> None:
    """Make ``path`` with mode 0700, or check that it is ours alone.

    Raises ``PermissionDeniedError`` when it is another's, a link or no directory, or cannot be made.
    """
    hint = "Set XDG_RUNTIME_DIR to a directory of your own."
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise errors.PermissionDeniedError(
            f"the directory {path} for the server's socket cannot be made: {error.strerror}. {hint}"
        ) from error
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        raise errors.PermissionDeniedError(
            f"{path} is a link to {os.readlink(path)}; the directory of the server's socket must be no link, "
            f"because its target may be changed by others. {hint}"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise errors.PermissionDeniedError(
            f"{path} is no directory, so the server's socket cannot be in it. {hint}"
        )
    if status.st_uid != os.getuid():
        raise errors.PermissionDeniedError(
            f"{path} belongs to uid {status.st_uid}, not to you (uid {os.getuid()}). {hint}"
        )
    if status.st_mode & 0o077:
        os.chmod(path, 0o700)


def build_id() -> str:
    """A digest of the installed code: a server of older code is replaced."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for file in sorted(files):
            if file.endswith(".py"):
                status = os.stat(os.path.join(directory, file))
                digest.update(f"{directory}/{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
