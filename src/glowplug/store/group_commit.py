"""One thread owns the database: what is queued while one commit is under way makes up the next.

One commit at a time is as fast as the disk syncs (a few hundred a second); a group is bounded by SQLite
alone. When the disk does not take it, rows wait in memory, one warning is given, and writing is tried again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Change = Callable[[sqlite3.Connection], None]
T = TypeVar("T")

UNWRITTEN_LIMIT = 100_000
"""Changes that wait while the disk does not take them; the oldest are lost above this."""
RETRY_S = 10.0


class GroupCommit:
    """``reopen(error)`` makes the connection, with the error that made the last one unusable or None;
    ``on_trouble(text)`` is called from the thread when writing fails and when it works again."""

    def __init__(
        self,
        reopen: Callable[[sqlite3.DatabaseError | None], sqlite3.Connection],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._reopen = reopen
        self._on_trouble = on_trouble
        self._connection = reopen(None)
        self._changes: list[Change] = []
        self._commits: list[Future[bool]] = []
        self._questions: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]] = []
        self._unwritten: list[Change] = []
        self._troubled = False
        self._closing = False
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="glowplug-journal", daemon=True)
        self._thread.start()

    def write(self, change: Change) -> None:
        with self._turn:
            self._changes.append(change)
            self._turn.notify()

    def committed(self) -> Future[bool]:
        future: Future[bool] = Future()
        with self._turn:
            self._commits.append(future)
            self._turn.notify()
        return future

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Answered after everything written before it, from the same connection."""
        future: Future[T] = Future()
        with self._turn:
            self._questions.append((question, future))
            self._turn.notify()
        return future

    def close(self) -> None:
        """Write what is queued, then end. Blocks."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join()

    # the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._turn:
                if not (self._changes or self._commits or self._questions or self._closing):
                    self._turn.wait(RETRY_S if self._unwritten else None)
                changes, self._changes = self._changes, []
                commits, self._commits = self._commits, []
                questions, self._questions = self._questions, []
                closing = self._closing
            durable = self._commit([*self._unwritten, *changes])
            for future in commits:
                if future.set_running_or_notify_cancel():
                    future.set_result(durable)
            for question, future in questions:
                self._answer(question, future)
        self._connection.close()

    def _commit(self, changes: list[Change]) -> bool:
        if not changes:
            return True
        try:
            self._write_all(changes)
        except (sqlite3.Error, OSError) as error:
            if self._recover(error):
                return self._commit(changes)
            self._unwritten = changes[-UNWRITTEN_LIMIT:]
            if not self._troubled:
                self._troubled = True
                self._on_trouble(
                    f"the journal cannot be written ({error}): runs go on, and the results of spawned calls "
                    "are kept in memory only, until this server ends. It is tried again; free some space on "
                    "its disk."
                )
            return False
        self._unwritten = []
        if self._troubled:
            self._troubled = False
            self._on_trouble("the journal can be written again; nothing is missing in it")
        return True

    def _write_all(self, changes: list[Change]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                change(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _recover(self, error: Exception) -> bool:
        """A damaged file is replaced by a new one, once; anything else is left to be tried again."""
        if not is_damage(error):
            return False
        assert isinstance(error, sqlite3.DatabaseError)
        try:
            self._connection.close()
            self._connection = self._reopen(error)
        except (sqlite3.Error, OSError):
            return False
        return True

    def _answer(self, question: Callable[[sqlite3.Connection], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(question(self._connection))
        except Exception as error:
            future.set_exception(error)


def is_damage(error: Exception) -> bool:
    """Whether the file itself is broken, so that trying again cannot help."""
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )
