"""Spawned calls asked for by id: by another client, after their run, after their server, and too late."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading

import numpy
import pytest

from e2e.conftest import Sink, value_of
from glowplug.client.http import request, stream
from glowplug.client.session import Client, Run
from glowplug.client.settings import read_settings
from glowplug.model.errors import ExecutionError, NotFoundError, OutputExpiredError
from glowplug.wire.payload import INLINE_LIMIT_BYTES

SOURCE = """
def double(x):
    return x * 2

def fails(x):
    raise KeyError(x)

def large(x):
    import numpy
    return numpy.full(x, 7, dtype="u1")

def waits(x):
    open("/gate/begun", "w").close()
    return open("/gate/go").read() + str(x)
"""
LIMITED = """
import runpy
from glowplug.store import schema

connect = schema._connect

def small(path):
    connection = connect(path)
    connection.execute("PRAGMA max_page_count = 24")
    return connection

schema._connect = small
runpy.run_module("glowplug.assembly.local_server", run_name="__main__")
"""
"""A server whose journal may grow to some kilobytes: as if its disk were full."""
TIMEOUT_S = 60.0


@pytest.fixture
def another_client(start_app):
    """A second connection, as another process would have; use after ``start_app``."""
    clients: list[Client] = []

    def connect() -> Run:
        clients.append(Client.connect())
        return Run(clients[-1], "", None, {}, Sink())

    yield connect
    for client in clients:
        client.close()


def results(call, count):
    outputs = sorted((call.next(TIMEOUT_S) for _ in range(count)), key=lambda output: output.index)
    return [value_of(output) for output in outputs]


def test_another_client_gets_what_is_done_and_what_comes(start_app, another_client, gate):
    begun, go = gate("begun"), gate("go")
    app = start_app(SOURCE, waits={}, double={})
    done, call = app.spawn("double", 1, 2, 3), app.spawn("waits", "!")
    assert results(done, 3) == [2, 4, 6]
    begun.open().close()
    other = another_client()
    assert results(other.attach_call(done.call_id), 3) == [2, 4, 6]
    seen = other.attach_call(call.call_id)
    assert seen.added == 1
    with pytest.raises(TimeoutError):
        seen.next(0)
    go.write_text("went")
    assert results(seen, 1) == ["went!"]
    assert results(call, 1) == ["went!"]


def test_after_the_run_everything_is_still_there(start_app, another_client):
    app = start_app(SOURCE, double={}, fails={}, large={})
    calls = [app.spawn("double", 4, 5), app.spawn("fails", "key"), app.spawn("large", INLINE_LIMIT_BYTES + 1)]
    assert results(calls[0], 2) == [8, 10]
    for call in calls[1:]:
        call.next(TIMEOUT_S)
    app.run.close()
    other = another_client()
    assert results(other.attach_call(calls[0].call_id), 2) == [8, 10]
    with pytest.raises(KeyError, match="key"):
        value_of(other.attach_call(calls[1].call_id).next(TIMEOUT_S))
    array = value_of(other.attach_call(calls[2].call_id).next(TIMEOUT_S))
    assert numpy.array_equal(array, numpy.full(INLINE_LIMIT_BYTES + 1, 7, dtype="u1"))
    array[0] = 1  # what was read is the reader's own
    explained = request("GET", f"/v1/explain/{calls[0].call_id}")
    assert explained["now"] == "a spawned call of double of toy: 2 of 2 outputs kept; its run ended"


def test_after_the_server_as_well(start_app, another_client):
    app = start_app(SOURCE, double={})
    call = app.spawn("double", 4)
    assert results(call, 1) == [8]
    app.run.close()
    first = app.client.server_pid
    app.client.close()
    end_server(first, signal.SIGTERM)
    other = another_client()
    assert other.client.server_pid != first
    assert results(other.attach_call(call.call_id), 1) == [8]


def test_a_call_nobody_made_is_not_found(start_app, another_client):
    start_app(SOURCE, double={})
    with pytest.raises(NotFoundError, match="no call 'fc-0123456789abcdef' is known here"):
        another_client().attach_call("fc-0123456789abcdef")


def test_results_are_gone_after_their_time_and_the_error_says_so(start_app, another_client, server_env):
    app = start_app(SOURCE, double={})
    call = app.spawn("double", 4)
    results(call, 1)
    app.run.close()
    app.client.close()
    end_server(app.client.server_pid, signal.SIGTERM)
    with sqlite3.connect(read_settings(server_env).home / "journal.sqlite3") as connection:
        connection.execute("UPDATE outputs SET at = at - 8 * 86400")
        connection.execute("UPDATE runs SET ended_at = ended_at - 8 * 86400")
    connection.close()
    with pytest.raises(OutputExpiredError, match=rf"{call.call_id} \(double of toy\) were kept for 7 days"):
        another_client().attach_call(call.call_id)


def test_a_call_of_remote_is_not_kept(start_app, another_client):
    app = start_app(SOURCE, double={})
    call = app.run.call(app.run.function_ids["double"])
    assert app.remote("double", 1) == 2
    request("GET", "/v1/apps?ended=1")  # answered once everything before it is written
    assert rows("SELECT count(*) FROM calls") == [(0,)]
    with pytest.raises(NotFoundError):
        another_client().attach_call(call.call_id)


def test_a_killed_server_loses_no_result_of_a_living_client(start_app, gate):
    begun, go = gate("begun"), gate("go")
    app = start_app(SOURCE, waits={}, double={})
    done = app.spawn("double", 21)
    assert results(done, 1) == [42]
    call = app.spawn("waits", "!")
    begun.open().close()
    first = app.client.server_pid
    end_server(first, signal.SIGKILL)
    answers = []
    reader = threading.Thread(target=lambda: answers.append(value_of(call.next(TIMEOUT_S))))
    reader.start()  # it finds the connection lost, starts a server and sends the input again
    begun.open().close()
    go.write_text("went")
    reader.join()
    assert answers == ["went!"]
    assert app.client.server_pid != first
    (run,) = request("GET", "/v1/apps")["apps"]
    assert (run["app_id"], run["state"]) == (app.run.app_id, "running")


def test_a_run_that_died_with_its_server_is_told_as_ended(start_app, another_client, gate, server_env):
    begun = gate("begun")
    gate("go")
    app = start_app(SOURCE, waits={"gpu": ()}, double={})
    call, done = app.spawn("waits", "!"), app.spawn("double", 1)
    results(done, 1)
    begun.open().close()
    request("GET", "/v1/apps?ended=1")  # answered once everything before it is on disk
    pid = app.client.server_pid
    os.kill(pid, signal.SIGSTOP)  # it does not hear that its client leaves, and nobody sends anything again
    app.client.close()
    end_server(pid, signal.SIGKILL)
    other = another_client()
    seen = other.attach_call(call.call_id).next(TIMEOUT_S)
    with pytest.raises(ExecutionError, match=r"the run of toy ended \(.*\) before waits had this result"):
        value_of(seen)
    assert results(other.attach_call(done.call_id), 1) == [2]
    (ended,) = request("GET", "/v1/apps?ended=1")["apps"]
    assert (ended["app_id"], ended["state"]) == (app.run.app_id, "ended")
    log = read_settings(server_env).server_log_path.read_text()
    assert f"ended with the server before (pid {pid}): toy ({app.run.app_id}), " in log


def test_a_detached_run_ends_with_its_last_call(start_app, another_client, gate):
    begun, go = gate("begun"), gate("go")
    app = start_app(SOURCE, detach=True, waits={})
    call = app.spawn("waits", "!")
    begun.open().close()
    app.run.close()
    ((level, told),) = app.sink.notices
    assert level == "info"
    assert told.startswith("1 spawned input goes on without this command")
    (row,) = request("GET", "/v1/apps")["apps"]
    assert (row["detached"], row["connected"], row["running"]) == (True, False, 1)
    app.client.close()
    other = another_client()
    seen = other.attach_call(call.call_id)
    go.write_text("went")
    assert results(seen, 1) == ["went!"]
    assert list(log_lines(app.run.app_id)) == []  # follows to the end of the run
    (ended,) = request("GET", "/v1/apps?ended=1")["apps"]
    assert ended["reason"] == "its client has left and its calls are done"


def test_a_detached_run_goes_on_in_the_next_server(start_app, another_client, gate):
    begun, go = gate("begun"), gate("go")
    app = start_app(SOURCE, detach=True, waits={}, double={})
    call = app.spawn("waits", "!")
    begun.open().close()
    app.client.close()
    end_server(app.client.server_pid, signal.SIGKILL)
    other = another_client()
    seen = other.attach_call(call.call_id)
    begun.open().close()
    go.write_text("went")
    assert results(seen, 1) == ["went!"]


def test_a_full_disk_costs_durability_and_nothing_else(start_app, another_client, server_env, tmp_path):
    limited = tmp_path / "limited.py"
    limited.write_text(LIMITED)
    settings = read_settings(server_env)
    settings.home.mkdir(exist_ok=True)
    heard, told = os.pipe()
    with open(settings.server_log_path, "w") as log:
        command = [sys.executable, str(limited), "--ready-fd", str(told)]
        subprocess.run(command, env=server_env, stdout=log, stderr=log, pass_fds=[told], check=True)
    os.close(told)
    with open(heard) as pipe:
        assert pipe.read() == "ready"
    app = start_app(SOURCE, double={})
    text = "x" * 200_000
    calls = [app.spawn("double", text + str(n)) for n in range(3)]
    for n, call in enumerate(calls):
        assert results(call, 1) == [(text + str(n)) * 2]
    other = another_client()
    assert results(other.attach_call(calls[1].call_id), 1) == [(text + "1") * 2]
    app.run.close()
    assert results(another_client().attach_call(calls[2].call_id), 1) == [(text + "2") * 2]
    warnings = [each for level, each in app.sink.notices if level == "warning"]
    assert len(warnings) == 1
    assert "the journal cannot be written" in warnings[0]
    assert settings.server_log_path.read_text().count("the journal cannot be written") == 1


def test_a_damaged_journal_is_replaced_and_the_next_run_hears_of_it(start_app, server_env):
    settings = read_settings(server_env)
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "journal.sqlite3").write_bytes(b"no database" * 1000)
    app = start_app(SOURCE, double={})
    assert results(app.spawn("double", 1), 1) == [2]
    ((level, told),) = app.sink.notices
    assert level == "warning"
    assert "is damaged" in told
    assert [path.name for path in settings.home.iterdir() if "damaged" in path.name]


def end_server(pid: int, number: int) -> None:
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, number)
    poll = select.poll()  # it is not our child: its descriptor becomes readable
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(TIMEOUT_S * 1000)
    os.close(descriptor)


def log_lines(app_id):
    return stream(f"/v1/apps/{app_id}/logs?follow=1")


def rows(sql):
    with sqlite3.connect(read_settings().home / "journal.sqlite3") as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return found
