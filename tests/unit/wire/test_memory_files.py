"""Memory files: used again when nobody reads them, and only then."""

from __future__ import annotations

import os
import socket

import pytest

from glowplug.wire import memory_files as module
from glowplug.wire.memory_files import KEPT_BYTES, KEPT_FILES, KEPT_FROM_BYTES, MemoryFiles
from glowplug.wire.payload import Payload

SIZE = KEPT_FROM_BYTES


@pytest.fixture
def files():
    made = MemoryFiles()
    yield made
    made.forget()


def send(files: MemoryFiles, content: bytes, size: int = SIZE) -> Payload:
    part = memoryview(content.ljust(size, b"."))
    return Payload(None, files.write([part], [0], size), [size])


def inode(payload: Payload) -> int:
    assert payload.fd is not None
    return os.fstat(payload.fd).st_ino


def text(payload: Payload) -> bytes:
    (part,) = payload.parts()
    return bytes(part).rstrip(b".")


def test_a_file_is_used_again_once_its_payload_is_gone(files):
    first = send(files, b"one")
    used = inode(first)
    first.close()
    for content in (b"two", b"three"):  # written, then mapped, then found mapped
        again = send(files, content)
        assert inode(again) == used
        assert text(again) == content
        again.close()


def test_not_while_its_payload_is_held(files):
    first, second = send(files, b"one"), send(files, b"two")
    assert inode(first) != inode(second)
    assert (text(first), text(second)) == (b"one", b"two")


def test_not_while_its_bytes_are_looked_at(files):
    first = send(files, b"one")
    (part,) = first.parts()
    first.close()
    second = send(files, b"two")
    assert bytes(part[:3]) == b"one"
    used = inode(second)
    second.close()
    del part
    held = [send(files, b"x"), send(files, b"y")]
    assert len({used, *map(inode, held)}) == 2


def test_not_while_it_is_on_its_way(files):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        first = send(files, b"one")
        socket.send_fds(ours, [b"x"], [first.fd])
        first.close()
        send(files, b"two")
        _, (fd,), _, _ = socket.recv_fds(theirs, 1, 1)
    assert text(Payload(None, fd, [SIZE])) == b"one"


def test_not_while_another_process_has_it(files):
    first = send(files, b"one")
    used = inode(first)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
    first.close()
    try:
        other = send(files, b"two")
        assert inode(other) != used
    finally:
        os.close(theirs)
        os.waitpid(pid, 0)
        os.close(ours)
    assert used in {inode(each) for each in (send(files, b"x"), send(files, b"y"))}


def test_a_reader_cannot_write(files):
    sent = send(files, b"one")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(sent.fd, b"x", 0)


def test_a_file_much_too_large_is_left_for_others(files):
    large = send(files, b"one", 16 * SIZE)
    used = inode(large)
    large.close()
    assert inode(send(files, b"two")) != used


@pytest.mark.parametrize("size", [KEPT_FROM_BYTES - 1, KEPT_BYTES + 1])
def test_small_and_huge_ones_are_not_kept(files, size, monkeypatch):
    monkeypatch.setattr(module, "_new_file", lambda parts, offsets, size: os.memfd_create("x"))
    os.close(files.write([], [], size))
    assert not files._kept


def test_no_more_are_kept_than_the_limits_allow(files, monkeypatch):
    before = len(os.listdir("/proc/self/fd"))
    held = [send(files, b"x") for _ in range(KEPT_FILES + 3)]
    assert len(files._kept) == KEPT_FILES
    monkeypatch.setattr(module, "KEPT_BYTES", 3 * SIZE)
    held.append(send(files, b"x"))
    assert len(files._kept) == 3
    held.clear()
    assert len(os.listdir("/proc/self/fd")) == before + 3


def test_a_forked_child_keeps_nothing_of_its_parent():
    sent = send(module.memory_files, b"one")
    used = inode(sent)
    sent.close()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(inode(send(module.memory_files, b"two"))).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    assert int(os.read(read, 100)) != used
    os.close(read)
    module.memory_files.forget()
