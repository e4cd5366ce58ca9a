"""A detached run's spec carries its secrets: on disk while the run may be taken up, no longer."""

from __future__ import annotations

from glowplug.ports.journal import JournaledRun
from glowplug.store.sqlite_journal import SqliteJournal

SECRET = b"hunter2-of-the-run"


def test_an_ended_run_leaves_no_secret(tmp_path):
    journal = SqliteJournal(tmp_path, lambda trouble: None)
    journal.run_started(JournaledRun("ap-1", "train", 1.0, 7, detach=True, spec={"secrets": SECRET}))
    journal.run_ended("ap-1", 2.0, "done", {})
    journal.close()
    journal = SqliteJournal(tmp_path, lambda trouble: None)
    journal.close()
    assert not any(SECRET in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
