"""The journal in SQLite: rows as ports/journal.py names them, large payloads as files beside it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from glowplug.ports.journal import (
    HISTORY_RETENTION_S,
    RESULT_RETENTION_S,
    TAKEN_OVER_CALLS,
    CallFact,
    JournaledCall,
    JournaledContainer,
    JournaledOutput,
    JournaledRun,
    Predecessor,
)
from glowplug.store.blobs import BlobFiles
from glowplug.store.disk import require_local_disk
from glowplug.store.group_commit import GroupCommit
from glowplug.store.schema import open_journal
from glowplug.wire.payload import Payload

FILE_NAME = "journal.sqlite3"
BLOBS_NAME = "blobs"
NO_END = "the server ended without ending it"
_RUN_COLUMNS = "app_id, name, started_at, server_pid, detach, usage, ended_at, reason"


class SqliteJournal:
    """Implements ``ports.journal.Journal`` in ``home``. ``on_trouble(text)`` may be called from another
    thread.

    Raises ``InvalidError`` for a home on a network, ``VersionError`` for a journal of a newer version.
    """

    def __init__(self, home: Path, on_trouble: Callable[[str], None]) -> None:
        require_local_disk(home)
        path = home / FILE_NAME
        self._blobs = BlobFiles(home / BLOBS_NAME)
        self._commits = GroupCommit(lambda damage: open_journal(path, damage, on_trouble), on_trouble)

    # lives

    def take_over(self, at: float) -> Predecessor:
        found: list[Predecessor] = []

        def change(connection: sqlite3.Connection) -> None:
            found.clear()
            runs = [
                _run(row[:-1], msgspec.msgpack.decode(row[-1]))
                for row in connection.execute(
                    f"SELECT {_RUN_COLUMNS}, spec FROM runs WHERE ended_at IS NULL ORDER BY started_at"
                )
            ]
            containers = [
                JournaledContainer(*row[:5], gpu_uuids=tuple(json.loads(row[5])), started_at=row[6])
                for row in connection.execute(
                    "SELECT container_id, app_id, function_id, node_id, gpu_type, gpu_uuids, started_at"
                    " FROM containers WHERE ended_at IS NULL ORDER BY started_at, container_id"
                )
            ]
            calls = [
                self._call(connection, call_id, with_results=False)
                for run in runs
                for (call_id,) in connection.execute(
                    "SELECT call_id FROM calls WHERE app_id = ? ORDER BY"
                    " call_id IN (SELECT call_id FROM inputs) DESC, accepted_at DESC, call_id LIMIT ?",
                    (run.app_id, TAKEN_OVER_CALLS),
                ).fetchall()
            ]
            for table in ("runs", "containers"):
                connection.execute(
                    f"UPDATE {table} SET ended_at = ?, reason = ? WHERE ended_at IS NULL", (at, NO_END)
                )
            found.append(Predecessor(tuple(runs), tuple(containers), tuple(filter(None, calls))))

        self._commits.write(change)
        self._commits.committed().result()
        self._commits.ask(self._sweep)
        return found[0] if found else Predecessor()

    def forget_old(self, at: float) -> None:
        def change(connection: sqlite3.Connection) -> None:
            results, history = at - RESULT_RETENTION_S, at - HISTORY_RETENTION_S
            over = "SELECT app_id FROM runs WHERE ended_at < ?"
            connection.execute(
                f"UPDATE calls SET expired = 1 WHERE expired = 0 AND (app_id IN ({over}) OR call_id IN ("
                "SELECT call_id FROM outputs GROUP BY call_id HAVING max(at) < ?"
                " AND call_id NOT IN (SELECT call_id FROM inputs)))",
                (results, results),
            )
            for table in ("outputs", "inputs"):
                connection.execute(
                    f"DELETE FROM {table} WHERE call_id IN (SELECT call_id FROM calls WHERE expired = 1)"
                )
            connection.execute(f"DELETE FROM calls WHERE app_id IN ({over})", (history,))
            connection.execute("DELETE FROM containers WHERE ended_at < ?", (results,))
            connection.execute("DELETE FROM runs WHERE ended_at < ?", (history,))

        self._commits.write(change)
        self._commits.ask(self._sweep)

    def close(self) -> None:
        self._commits.close()

    # writing

    def run_started(self, run: JournaledRun) -> None:
        row = (
            run.app_id, run.name, run.started_at, run.server_pid, run.detach,
            msgspec.msgpack.encode(run.spec), json.dumps(run.usage), run.ended_at, run.reason,
        )  # fmt: skip
        self._write(
            "INSERT INTO runs (app_id, name, started_at, server_pid, detach, spec, usage, ended_at, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (app_id) DO UPDATE SET"
            " server_pid = excluded.server_pid, ended_at = excluded.ended_at, reason = excluded.reason",
            row,
        )

    def run_used(self, app_id: str, usage: dict[str, Any]) -> None:
        self._write("UPDATE runs SET usage = ? WHERE app_id = ?", (json.dumps(usage), app_id))

    def run_ended(self, app_id: str, at: float, reason: str, usage: dict[str, Any]) -> None:
        # The spec of a detached run holds its secrets; nobody takes up a run that has ended.
        self._write(
            "UPDATE runs SET ended_at = ?, reason = ?, usage = ?, spec = ? WHERE app_id = ?",
            (at, reason, json.dumps(usage), msgspec.msgpack.encode({}), app_id),
        )

    def container_started(self, container: JournaledContainer) -> None:
        each = container
        self._write(
            "INSERT OR IGNORE INTO containers VALUES (?, ?, ?, ?, ?, ?, ?, NULL, '')",
            (
                each.container_id, each.app_id, each.function_id, each.node_id, each.gpu_type,
                json.dumps(each.gpu_uuids), each.started_at,
            ),
        )  # fmt: skip

    def container_ended(self, container_id: str, at: float, reason: str) -> None:
        self._write(
            "UPDATE containers SET ended_at = ?, reason = ? WHERE container_id = ?",
            (at, reason, container_id),
        )

    def inputs_accepted(self, call: CallFact, inputs: Sequence[tuple[str, Payload]]) -> None:
        inputs = tuple(inputs)

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, 0, 0)",
                (call.call_id, call.app_id, call.function_id, call.function_name, call.accepted_at),
            )
            new = 0
            for input_id, payload in inputs:
                if not _is_known(connection, input_id):
                    connection.execute(
                        "INSERT INTO inputs (input_id, call_id, body, blob, sizes) VALUES (?, ?, ?, ?, ?)",
                        (input_id, call.call_id, *self._fields(f"input {input_id}", payload)),
                    )
                    new += 1
            connection.execute("UPDATE calls SET inputs = inputs + ? WHERE call_id = ?", (new, call.call_id))

        self._commits.write(change)

    def output_recorded(self, call_id: str, output: JournaledOutput) -> None:
        def change(connection: sqlite3.Connection) -> None:
            if _has_output(connection, output.input_id):
                return
            connection.execute(
                "INSERT INTO outputs (input_id, call_id, status, error, message, at, body, blob, sizes)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    output.input_id, call_id, output.status, output.error, output.message, output.at,
                    *self._fields(f"output {output.input_id}", output.payload),
                ),
            )  # fmt: skip
            # Nobody runs it again. A file of it goes with the next sweep, when this is surely on disk.
            connection.execute("DELETE FROM inputs WHERE input_id = ?", (output.input_id,))

        self._commits.write(change)

    def committed(self) -> Future[bool]:
        return self._commits.committed()

    # reading

    def read_runs(self, limit: int) -> Future[list[JournaledRun]]:
        def question(connection: sqlite3.Connection) -> list[JournaledRun]:
            rows = connection.execute(
                f"SELECT {_RUN_COLUMNS} FROM runs ORDER BY started_at DESC, app_id LIMIT ?", (limit,)
            )
            return [_run(row) for row in rows]

        return self._commits.ask(question)

    def read_run(self, app_id: str) -> Future[JournaledRun | None]:
        def question(connection: sqlite3.Connection) -> JournaledRun | None:
            row = connection.execute(
                f"SELECT {_RUN_COLUMNS} FROM runs WHERE app_id = ?", (app_id,)
            ).fetchone()
            return None if row is None else _run(row)

        return self._commits.ask(question)

    def read_call(self, call_id: str) -> Future[JournaledCall | None]:
        return self._commits.ask(lambda connection: self._call(connection, call_id))

    def _call(
        self, connection: sqlite3.Connection, call_id: str, with_results: bool = True
    ) -> JournaledCall | None:
        found = connection.execute(
            "SELECT call_id, app_id, function_id, function_name, accepted_at, inputs, expired"
            " FROM calls WHERE call_id = ?",
            (call_id,),
        ).fetchone()
        if found is None:
            return None
        outputs = connection.execute(
            f"SELECT input_id, status, {'body, blob, sizes' if with_results else 'NULL, NULL, NULL'},"
            " error, message, at FROM outputs WHERE call_id = ? ORDER BY number",
            (call_id,),
        )
        inputs = connection.execute(
            "SELECT input_id, body, blob, sizes FROM inputs WHERE call_id = ? ORDER BY number", (call_id,)
        )
        return JournaledCall(
            fact=CallFact(*found[:5]),
            inputs=found[5],
            expired=bool(found[6]),
            outputs=tuple(self._output(row) for row in outputs.fetchall()),
            open_inputs=tuple(
                (row[0], payload)
                for row in inputs.fetchall()
                if (payload := self._payload(*row[1:])) is not None
            ),
        )

    def _output(self, row: tuple[Any, ...]) -> JournaledOutput:
        input_id, status, body, blob, sizes, error, message, at = row
        payload = self._payload(body, blob, sizes)
        if blob is not None and payload is None:
            status, error = "error", "DataLossError"
            message = f"the result of {input_id} was kept in a file of its own, which is missing or cut short"
        return JournaledOutput(input_id, status, payload, error, message, at)

    # payloads

    def _fields(self, key: str, payload: Payload | None) -> tuple[bytes | None, str | None, str | None]:
        if payload is None:
            return None, None, None
        if payload.body is not None:
            return payload.body, None, None
        return None, self._blobs.write(key, payload), json.dumps(list(payload.sizes))

    def _payload(self, body: bytes | None, blob: str | None, sizes: str | None) -> Payload | None:
        if blob is not None and sizes is not None:
            return self._blobs.open(blob, json.loads(sizes))
        return None if body is None else Payload(body)

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """Remove files whose rows are gone or were never written; only after the commit that says so."""
        used = connection.execute(
            "SELECT blob FROM inputs WHERE blob IS NOT NULL UNION SELECT blob FROM outputs WHERE blob IS NOT "
            "NULL"
        )
        self._blobs.sweep({name for (name,) in used})

    def _write(self, sql: str, row: tuple[Any, ...]) -> None:
        def change(connection: sqlite3.Connection) -> None:
            connection.execute(sql, row)

        self._commits.write(change)


def _run(row: Sequence[Any], spec: dict[str, Any] | None = None) -> JournaledRun:
    app_id, name, started_at, server_pid, detach, usage, ended_at, reason = row
    return JournaledRun(
        app_id, name, started_at, server_pid, bool(detach), spec or {}, json.loads(usage), ended_at, reason
    )


def _is_known(connection: sqlite3.Connection, input_id: str) -> bool:
    found = connection.execute("SELECT 1 FROM inputs WHERE input_id = ?", (input_id,)).fetchone()
    return found is not None or _has_output(connection, input_id)


def _has_output(connection: sqlite3.Connection, input_id: str) -> bool:
    return connection.execute("SELECT 1 FROM outputs WHERE input_id = ?", (input_id,)).fetchone() is not None
