"""The journal's tables, and the opening of its file: private, synced at every commit, renewed when
damaged."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from glowplug.model import errors
from glowplug.store.group_commit import is_damage

VERSION = 1
BUSY_TIMEOUT_S = 5.0
"""Only the server writes; somebody may look at the file with another program."""
TABLES = """
CREATE TABLE runs (
    app_id TEXT PRIMARY KEY, name TEXT NOT NULL, started_at REAL NOT NULL, server_pid INTEGER NOT NULL,
    detach INTEGER NOT NULL, spec BLOB NOT NULL, usage TEXT NOT NULL, ended_at REAL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_started ON runs (started_at);
CREATE TABLE containers (
    container_id TEXT PRIMARY KEY, app_id TEXT NOT NULL, function_id TEXT NOT NULL, node_id TEXT NOT NULL,
    gpu_type TEXT NOT NULL, gpu_uuids TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL, reason TEXT NOT
    NULL
) WITHOUT ROWID;
CREATE INDEX containers_open ON containers (container_id) WHERE ended_at IS NULL;
CREATE TABLE calls (
    call_id TEXT PRIMARY KEY, app_id TEXT NOT NULL, function_id TEXT NOT NULL, function_name TEXT NOT NULL,
    accepted_at REAL NOT NULL, inputs INTEGER NOT NULL, expired INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX calls_app ON calls (app_id);
CREATE TABLE inputs (
    number INTEGER PRIMARY KEY, input_id TEXT NOT NULL UNIQUE, call_id TEXT NOT NULL,
    body BLOB, blob TEXT, sizes TEXT
);
CREATE INDEX inputs_call ON inputs (call_id);
CREATE TABLE outputs (
    number INTEGER PRIMARY KEY, input_id TEXT NOT NULL UNIQUE, call_id TEXT NOT NULL, status TEXT NOT NULL,
    error TEXT NOT NULL, message TEXT NOT NULL, at REAL NOT NULL, body BLOB, blob TEXT, sizes TEXT
);
CREATE INDEX outputs_call ON outputs (call_id);
CREATE INDEX outputs_at ON outputs (at);
"""


def open_journal(
    path: Path, damage: sqlite3.DatabaseError | None, on_trouble: Callable[[str], None]
) -> sqlite3.Connection:
    """A connection to the journal at ``path``, made if it is not there. ``damage``: what was found wrong with
    it.

    A damaged file is moved aside and a new one begun. Raises ``VersionError`` for a journal of a newer
    version, ``OSError`` when the disk is full.
    """
    if damage is None:
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise OSError(
                    f"the journal {path} cannot be opened: {error}. Make room on its disk, or set "
                    "GLOWPLUG_HOME to a directory on another one."
                ) from error
            damage = error
    moved = _move_aside(path)
    on_trouble(
        f"the journal {path} is damaged ({damage}) and was moved to {moved.name}; a new one was begun. "
        "Running calls are not touched; results of earlier spawned calls can no longer be asked for."
    )
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    # Made before SQLite would make it, because results are nobody else's business. Its side files follow its
    # mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what a run kept secret is overwritten with it
        _make_tables(path, connection)
        _touch_every_table(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise errors.VersionError(
            f"the journal {path} was written by a newer Glowplug (form {version}, this one knows {VERSION}). "
            "Use the newer Glowplug, or set another GLOWPLUG_HOME."
        )
    if version == 0:
        connection.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def _touch_every_table(connection: sqlite3.Connection) -> None:
    """A file can be damaged and still open; better to learn it now than with a result in hand."""
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        connection.execute(f'SELECT * FROM "{table}" LIMIT 1').fetchall()


def _move_aside(path: Path) -> Path:
    moved = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        try:
            os.rename(f"{path}{suffix}", f"{moved}{suffix}")
        except FileNotFoundError:
            pass
    return moved
