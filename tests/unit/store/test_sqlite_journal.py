"""The journal on a disk that is full, damaged, remote or written by others; and its group commits."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading

import pytest

from glowplug.model.errors import InvalidError, VersionError
from glowplug.ports.journal import RESULT_RETENTION_S, CallFact, JournaledOutput, JournaledRun
from glowplug.store import group_commit
from glowplug.store.blobs import BlobFiles
from glowplug.store.disk import file_system_of, require_local_disk
from glowplug.store.group_commit import GroupCommit
from glowplug.store.sqlite_journal import SqliteJournal
from glowplug.wire.payload import INLINE_LIMIT_BYTES, Payload, make_payload

CALL = CallFact("fc-1", "ap-1", "fu-1-0", "f", 1.0)
TIMEOUT_S = 30.0
MOUNTS = """\
22 1 0:20 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:30 / /home rw - nfs4 filer:/export/home rw
31 30 0:31 / /home/ann/scratch\\040disk rw - xfs /dev/nvme0n1 rw
40 22 0:40 / /mnt/box rw shared:4 master:1 - fuse.sshfs ann@box:/srv rw
"""


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
def journal(tmp_path, troubles):
    journal = SqliteJournal(tmp_path, troubles.append)
    yield journal
    journal.close()


def test_what_is_kept_is_private(tmp_path, journal):
    journal.inputs_accepted(CALL, [("in-1-0", make_payload(b"x" * (INLINE_LIMIT_BYTES + 1)))])
    assert journal.committed().result(TIMEOUT_S)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name.split(".")[0] for path in kept} > {"journal"}
    assert len([path for path in kept if path.parent.name == "blobs"]) == 1
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)


def test_an_id_cannot_lead_out_of_the_blobs(tmp_path, journal):
    outside = "in-1-0/../../../outside"
    journal.inputs_accepted(CALL, [(outside, make_payload(b"x" * (INLINE_LIMIT_BYTES + 1)))])
    assert journal.committed().result(TIMEOUT_S)
    names = {path.name for path in tmp_path.parent.rglob("*") if path.is_file()}
    assert not any("outside" in name for name in names)


def test_files_go_with_their_rows(tmp_path, journal):
    large = make_payload(b"x" * (INLINE_LIMIT_BYTES + 1))
    journal.run_started(JournaledRun("ap-1", "x", 1.0, 7))
    journal.inputs_accepted(CALL, [("in-1-0", large)])
    journal.output_recorded("fc-1", JournaledOutput("in-1-0", "success", large, "", "", 2.0))
    journal.forget_old(3.0)
    assert (
        journal.read_call("fc-1").result(TIMEOUT_S).outputs
    )  # a question is answered after the sweep before it
    assert len(list((tmp_path / "blobs").iterdir())) == 1
    journal.forget_old(3.0 + RESULT_RETENTION_S)
    journal.read_call("fc-1").result(TIMEOUT_S)
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_result_whose_file_is_gone_says_so(tmp_path, journal):
    large = make_payload(b"x" * (INLINE_LIMIT_BYTES + 1))
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b""))])
    journal.output_recorded("fc-1", JournaledOutput("in-1-0", "success", large, "", "", 2.0))
    assert journal.committed().result(TIMEOUT_S)
    (file,) = (tmp_path / "blobs").iterdir()
    os.truncate(file, 10)
    (only,) = journal.read_call("fc-1").result(TIMEOUT_S).outputs
    assert (only.status, only.error) == ("error", "DataLossError")
    assert "in-1-0" in only.message


@pytest.mark.parametrize("damage", [b"not a database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_damaged_file_is_moved_aside(tmp_path, troubles, damage):
    (tmp_path / "journal.sqlite3").write_bytes(damage)
    journal = SqliteJournal(tmp_path, troubles.append)
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    assert journal.read_call("fc-1").result(TIMEOUT_S).inputs == 1
    journal.close()
    (moved,) = [path for path in tmp_path.iterdir() if ".damaged-" in path.name]
    assert moved.read_bytes() == damage
    (told,) = troubles
    assert str(tmp_path / "journal.sqlite3") in told
    assert moved.name in told


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path, troubles):
    SqliteJournal(tmp_path, troubles.append).close()
    with sqlite3.connect(tmp_path / "journal.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(VersionError, match=r"newer Glowplug \(form 99"):
        SqliteJournal(tmp_path, troubles.append)
    assert troubles == []


def test_a_full_disk_is_told_once_and_nothing_is_missing_afterwards(tmp_path, troubles, monkeypatch):
    monkeypatch.setattr(group_commit, "RETRY_S", 0.01)
    journal = SqliteJournal(tmp_path, troubles.append)
    journal._commits._connection.execute("PRAGMA max_page_count = 40")
    for number in range(3):
        journal.inputs_accepted(CALL, [(f"in-1-{number}", Payload(b"x" * 300_000))])
        assert journal.committed().result(TIMEOUT_S) is False
    assert len(troubles) == 1
    assert "disk is full" in troubles[0]
    journal.run_started(JournaledRun("ap-1", "x", 1.0, 7))
    journal._commits.ask(lambda connection: connection.execute("PRAGMA max_page_count = 100000")).result(
        TIMEOUT_S
    )
    assert journal.committed().result(TIMEOUT_S) is True
    assert journal.read_call("fc-1").result(TIMEOUT_S).inputs == 3
    assert len(troubles) == 2
    assert "again" in troubles[1]
    journal.close()


def test_a_blob_that_does_not_fit_fails_like_a_row(tmp_path, troubles, monkeypatch):
    def full(self, key, payload):
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = SqliteJournal(tmp_path, troubles.append)
    monkeypatch.setattr(BlobFiles, "write", full)
    journal.inputs_accepted(CALL, [("in-1-0", make_payload(b"x" * (INLINE_LIMIT_BYTES + 1)))])
    assert journal.committed().result(TIMEOUT_S) is False
    assert "No space left" in troubles[0]
    monkeypatch.undo()
    assert journal.committed().result(TIMEOUT_S) is True
    assert journal.read_call("fc-1").result(TIMEOUT_S).inputs == 1
    journal.close()


def test_a_file_damaged_while_it_is_used_is_replaced(tmp_path, troubles):
    journal = SqliteJournal(tmp_path, troubles.append)
    journal.inputs_accepted(CALL, [("in-1-0", Payload(b"a"))])
    assert journal.committed().result(TIMEOUT_S)
    journal._commits.ask(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")).result(
        TIMEOUT_S
    )
    with open(tmp_path / "journal.sqlite3", "r+b") as file:
        file.write(b"\xff" * 65536)
    journal._commits.ask(lambda connection: connection.execute("PRAGMA shrink_memory")).result(TIMEOUT_S)
    journal.inputs_accepted(CALL, [("in-1-1", Payload(b"b"))])
    assert journal.committed().result(TIMEOUT_S) is True
    assert "damaged" in troubles[0]
    assert [input_id for input_id, _ in journal.read_call("fc-1").result(TIMEOUT_S).open_inputs] == ["in-1-1"]
    journal.close()


def test_a_full_disk_at_the_start_does_not_end_what_starts_later(tmp_path, troubles):
    SqliteJournal(tmp_path, troubles.append).close()
    journal = SqliteJournal(tmp_path, troubles.append)
    ask = journal._commits.ask
    ask(lambda connection: connection.execute("PRAGMA query_only = ON")).result(TIMEOUT_S)
    assert journal.take_over(1.0).runs == ()
    journal.run_started(JournaledRun("ap-1", "x", 2.0, 7))
    assert journal.committed().result(TIMEOUT_S) is False
    ask(lambda connection: connection.execute("PRAGMA query_only = OFF")).result(TIMEOUT_S)
    assert journal.committed().result(TIMEOUT_S) is True
    assert journal.read_run("ap-1").result(TIMEOUT_S).ended_at is None
    journal.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann/glowplug", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/ann", "ext4"),
        ("/home/ann/scratch disk/glowplug", "xfs"),
        ("/mnt/box/x", "fuse.sshfs"),
        ("/var/lib", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(path, kind):
    assert file_system_of(path, MOUNTS)[0] == kind


def test_a_home_on_the_network_is_refused_with_a_way_out(tmp_path):
    mounts = MOUNTS.replace(" /home rw", f" {tmp_path} rw")
    with pytest.raises(InvalidError) as refused:
        require_local_disk(tmp_path, mounts)
    assert "nfs4, filer:/export/home" in str(refused.value)
    assert "GLOWPLUG_HOME" in str(refused.value)
    require_local_disk(tmp_path)


def test_changes_that_come_during_a_commit_share_the_next_one():
    committed: list[list[str]] = []
    in_commit, go_on = threading.Event(), threading.Event()

    class Recording(GroupCommit):
        def _write_all(self, changes):
            names: list[str] = []
            for change in changes:
                change(names)
            committed.append(names)
            in_commit.set()
            assert go_on.wait(TIMEOUT_S)

    commits = Recording(
        lambda damage: sqlite3.connect(":memory:", check_same_thread=False), lambda text: None
    )
    commits.write(lambda names: names.append("first"))
    assert in_commit.wait(TIMEOUT_S)
    for name in ("second", "third", "fourth"):
        commits.write(lambda names, name=name: names.append(name))
    done = commits.committed()
    assert not done.done()
    go_on.set()
    assert done.result(TIMEOUT_S)
    commits.close()
    assert committed == [["first"], ["second", "third", "fourth"]]


def test_an_asker_who_left_does_not_stop_the_journal(journal):
    for future in (journal.committed(), journal.read_call("fc-1")):
        future.cancel()
    assert journal.committed().result(TIMEOUT_S) is True
