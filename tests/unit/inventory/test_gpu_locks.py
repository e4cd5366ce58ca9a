"""GPU locks between processes, users and homes, and against files that are not ours."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from glowplug.backends.local.inventory.locks import GpuLocks, shared_directory

CARD = "GPU-5d8ac9c5-9b2c-4a3c-8a66-1f2f7f3a9d10"
OTHER_CARD = "GPU-11111111-2222-3333-4444-555555555555"
SLICE = "MIG-GPU-5d8ac9c5-9b2c-4a3c-8a66-1f2f7f3a9d10/1/0"
NOBODY = 65534


@pytest.fixture
def shared():
    """A directory like /tmp, reachable for every user (pytest's own is not)."""
    path = Path(tempfile.mkdtemp(prefix="locks-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def locks(shared):
    made = []

    def make(home="/home/a/.local/share/glowplug"):
        made.append(GpuLocks(home, shared))
        return made[-1]

    yield make
    for each in made:
        each.close()


class OtherProcess:
    """Another process, maybe another user, that answers one question and then lives until it is ended."""

    def __init__(self, question: Callable[[], object], uid: int | None = None) -> None:
        answer_read, answer_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                if uid is not None:
                    os.setgroups([])
                    os.setgid(uid)
                    os.setuid(uid)
                answer = repr(question())
            except BaseException as error:
                answer = repr(error)
            os.write(answer_write, answer.encode())
            os.close(answer_write)
            while True:
                signal.pause()
        os.close(answer_write)
        with os.fdopen(answer_read, "rb") as stream:
            self.answer = stream.read().decode()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Keeper:
    """Takes a card's lock and keeps it as long as its process lives."""

    def __init__(self, home: str, directory: Path) -> None:
        self.locks = GpuLocks(home, directory)

    def __call__(self) -> bool:
        return self.locks.try_lock(CARD)


@pytest.fixture
def elsewhere():
    running = []

    def start(body, uid=None):
        running.append(OtherProcess(body, uid))
        return running[-1]

    yield start
    for each in running:
        each.end()


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


def test_one_holder_at_a_time(locks):
    first, second = locks("/homes/one"), locks("/homes/two")
    assert first.try_lock(CARD)
    assert not second.try_lock(CARD)
    assert second.holder(CARD) == f"pid {os.getpid()} of {pwd.getpwuid(os.getuid()).pw_name}, home /homes/one"
    first.release(CARD)
    assert second.holder(CARD) is None
    assert second.try_lock(CARD)


def test_own_lock_is_no_obstacle(locks):
    mine = locks()
    assert mine.try_lock(CARD)
    assert mine.try_lock(CARD)
    assert mine.holder(CARD) is None
    assert mine.held() == {CARD}


def test_cards_and_slices_are_separate(locks):
    first, second = locks(), locks()
    assert first.try_lock(CARD)
    assert first.try_lock(SLICE)
    assert second.try_lock(OTHER_CARD)
    assert not second.try_lock(SLICE)


def test_close_releases_all(locks):
    first, second = locks(), locks()
    first.try_lock(CARD)
    first.try_lock(OTHER_CARD)
    first.close()
    assert second.try_lock(CARD)
    assert second.try_lock(OTHER_CARD)


def test_a_free_card_has_no_holder_and_looking_makes_no_file(locks, shared):
    assert locks().holder(CARD) is None
    assert list(shared.iterdir()) == []


def test_looking_does_not_lock(locks):
    first, second = locks(), locks()
    first.try_lock(CARD)
    first.release(CARD)
    assert second.holder(CARD) is None
    assert first.try_lock(CARD)


def test_lookers_do_not_stop_a_taker(locks):
    """Readers hold a shared lock for an instant; takers must still get through."""
    taker, stop = locks(), threading.Event()
    taker.try_lock(CARD)
    taker.release(CARD)
    reader = locks()
    looking = threading.Thread(target=lambda: [reader.holder(CARD) for _ in iter(stop.is_set, True)])
    looking.start()
    try:
        taken = 0
        for _ in range(200):
            if taker.try_lock(CARD):
                taken += 1
                taker.release(CARD)
    finally:
        stop.set()
        looking.join()
    assert taken > 150


def test_two_homes_in_two_processes(locks, elsewhere, shared):
    other = elsewhere(Keeper("/homes/two", shared))
    assert other.answer == "True"
    mine = locks("/homes/one")
    assert not mine.try_lock(CARD)
    user = pwd.getpwuid(os.getuid()).pw_name
    assert mine.holder(CARD) == f"pid {other.pid} of {user}, home /homes/two"


def test_a_killed_holder_is_no_holder(locks, elsewhere, shared):
    other = elsewhere(Keeper("/homes/two", shared))
    mine = locks()
    assert not mine.try_lock(CARD)
    os.kill(other.pid, signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert mine.holder(CARD) is None
    assert mine.try_lock(CARD)


def test_children_do_not_keep_the_lock(locks):
    first, second = locks(), locks()
    first.try_lock(CARD)
    [descriptor] = first._held.values()
    assert not os.get_inheritable(descriptor)
    first.close()
    assert second.try_lock(CARD)


@as_root
def test_two_users(locks, elsewhere, shared):
    mine = locks("/homes/root")
    assert mine.try_lock(CARD)

    def try_both():
        theirs = GpuLocks("/homes/nobody", shared)
        return theirs.try_lock(CARD), theirs.holder(CARD), theirs.try_lock(OTHER_CARD)

    other = elsewhere(try_both, uid=NOBODY)
    assert other.answer == repr((False, f"pid {os.getpid()} of root, home /homes/root", True))


@as_root
def test_a_card_passes_from_user_to_user(locks, elsewhere, shared):
    """The file stays its first user's; the next must be able to lock and sign it."""
    first = locks("/homes/root")
    assert first.try_lock(CARD)
    first.release(CARD)
    second = elsewhere(Keeper("/homes/nobody", shared), uid=NOBODY)
    assert second.answer == "True"
    assert str(locks().holder(CARD)).endswith("home /homes/nobody")


@as_root
def test_a_read_only_file_of_another_user_still_locks(locks, elsewhere, shared):
    path = locks().path(CARD)
    path.touch(mode=0o644)
    path.chmod(0o644)
    assert elsewhere(Keeper("/homes/nobody", shared), uid=NOBODY).answer == "True"
    assert locks().holder(CARD) == "another server"


def test_files_are_for_everybody_whatever_the_umask(locks):
    before = os.umask(0o077)
    try:
        mine = locks()
        mine.try_lock(CARD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(mine.path(CARD).stat().st_mode) == 0o666


def test_a_symbolic_link_is_refused(locks, shared, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    mine = locks()
    mine.path(CARD).symlink_to(victim)
    assert not mine.try_lock(CARD)
    assert "not a plain file" in str(mine.holder(CARD))
    assert victim.read_text() == "precious"


def test_a_dangling_link_makes_no_file(locks, tmp_path):
    mine = locks()
    mine.path(CARD).symlink_to(tmp_path / "made")
    assert not mine.try_lock(CARD)
    assert not (tmp_path / "made").exists()


def test_a_second_name_of_another_file_is_refused(locks, shared):
    victim = shared / "victim"
    victim.write_text("precious")
    mine = locks()
    os.link(victim, mine.path(CARD))
    assert not mine.try_lock(CARD)
    assert "not a plain file" in str(mine.holder(CARD))
    assert victim.read_text() == "precious"


def test_a_pipe_is_refused_without_waiting(locks):
    mine = locks()
    os.mkfifo(mine.path(CARD))
    assert not mine.try_lock(CARD)


def test_an_unwritable_directory_is_said(tmp_path):
    mine = GpuLocks("/homes/one", tmp_path / "absent")
    assert not mine.try_lock(CARD)
    assert "No such file or directory" in str(mine.holder(CARD))


def test_a_directory_is_refused(locks):
    mine = locks()
    mine.path(CARD).mkdir()
    assert not mine.try_lock(CARD)


def test_a_removed_file_is_not_mistaken_for_a_lock(locks):
    """The file was cleaned away between open and lock: the taker starts over with the file of that name."""
    mine = locks()
    mine.try_lock(CARD)
    mine.release(CARD)
    stale = os.open(mine.path(CARD), os.O_RDWR)
    mine.path(CARD).unlink()
    assert not mine._take(stale, CARD)
    os.close(stale)
    assert mine.try_lock(CARD)
    assert mine.path(CARD).exists()


def test_control_characters_of_others_do_not_reach_a_terminal(locks):
    first, second = locks("/homes/\x1b[31mred\x07\n"), locks()
    first.try_lock(CARD)
    assert str(second.holder(CARD)).endswith("home /homes/[31mred")


@pytest.mark.parametrize("uuid", ["", "../../etc/passwd", "GPU 1", "-x", "a" * 200])
def test_only_uuids_name_files(locks, uuid):
    with pytest.raises(ValueError, match="is not a GPU UUID"):
        locks().try_lock(uuid)


def test_the_shared_directory_is_for_everybody():
    assert stat.S_IMODE(shared_directory().stat().st_mode) == 0o1777
