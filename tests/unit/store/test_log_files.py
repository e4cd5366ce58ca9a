"""Lines of apps on disk: kept in order, within a limit, for a while; a full disk stops nobody."""

from __future__ import annotations

import os

import pytest

from glowplug.client.session import LogLine
from glowplug.ports.logs import LOG_RETENTION_S
from glowplug.store import log_files
from glowplug.store.log_files import LogFiles

TIMEOUT_S = 30.0


@pytest.fixture
def told():
    return []


@pytest.fixture
def logs(tmp_path, told):
    made = LogFiles(tmp_path, told.append, limit_bytes=4000)
    yield made
    made.close()


def line(text, function="f", container_id="ct-1"):
    return LogLine(function, "in-1", container_id, "stdout", text, 1.5)


def texts(logs, *arguments, **options):
    return [each.text for each in logs.read(*arguments, **options).result(TIMEOUT_S)]


def test_lines_are_read_back_as_they_were_by_the_next_server_too(logs, tmp_path):
    written = [line("one"), line("zwei ü\udcff\n"), line("", function="g", container_id="ct-2")]
    logs.write("ap-1", written[:1])
    logs.write("ap-1", written[1:])
    logs.write("ap-2", [line("of another")])
    assert logs.read("ap-1", 10).result(TIMEOUT_S)[0] == written[0]
    assert texts(logs, "ap-1", 10, function="g") == [""]
    assert texts(logs, "ap-1", 10, container_id="ct-1") == ["one", "zwei ü\udcff\n"]
    assert len(texts(logs, "ap-1", 2)) == 2
    assert texts(logs, "ap-9", 10) == []
    logs.close()
    again = LogFiles(tmp_path, lambda text: None)
    assert texts(again, "ap-1", 1) == [""]
    again.close()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "logs").iterdir()} == {0o600}


def test_the_oldest_go_when_an_app_has_its_limit(logs, tmp_path):
    for number in range(500):
        logs.write("ap-1", [line(f"line {number}")])
        if number % 50 == 0:
            logs.read("ap-1", 1).result(TIMEOUT_S)
    kept = texts(logs, "ap-1", 1000)
    assert kept[-1] == "line 499"
    assert 0 < len(kept) < 500
    assert kept == [f"line {number}" for number in range(500 - len(kept), 500)]
    assert len(list((tmp_path / "logs").iterdir())) <= 2


def test_what_passed_its_retention_is_removed(logs, tmp_path):
    logs.write("ap-old", [line("old")])
    logs.write("ap-new", [line("new")])
    assert texts(logs, "ap-old", 1) == ["old"]
    now = (tmp_path / "logs" / "ap-new.jsonl").stat().st_mtime
    os.utime(tmp_path / "logs" / "ap-old.jsonl", (now - LOG_RETENTION_S - 1,) * 2)
    logs.forget_old(now)
    assert texts(logs, "ap-old", 1) == []
    assert texts(logs, "ap-new", 1) == ["new"]


def test_a_line_that_a_crash_has_cut_is_left_out(logs, tmp_path):
    logs.write("ap-1", [line("whole")])
    assert texts(logs, "ap-1", 1) == ["whole"]
    with open(tmp_path / "logs" / "ap-1.jsonl", "a") as file:
        file.write('["f", "in-1", "ct')
    assert texts(logs, "ap-1", 10) == ["whole"]


def test_an_id_leads_nowhere_else(logs, tmp_path):
    logs.write("../escaped", [line("out")])
    assert texts(logs, "../escaped", 1) == []
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_full_disk_is_told_once(logs, told, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log_files, "_private", full)
    for _ in range(3):
        logs.write("ap-1", [line("lost")])
        assert texts(logs, "ap-2", 1) == []
    monkeypatch.undo()
    logs.write("ap-1", [line("kept")])
    assert texts(logs, "ap-1", 9) == ["kept"]
    assert [text.count("No space left on device") for text in told] == [1]
