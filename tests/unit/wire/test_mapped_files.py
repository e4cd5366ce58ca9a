"""Mappings: used again for the same file, always showing what was sent, written by nobody else."""

from __future__ import annotations

import os

import pytest

from glowplug.wire import mapped_files as module
from glowplug.wire.mapped_files import KEPT_BYTES, KEPT_FROM_BYTES, KEPT_MAPPINGS, MappedFiles
from glowplug.wire.memory_files import MemoryFiles
from glowplug.wire.payload import make_payload

SIZE = KEPT_FROM_BYTES


@pytest.fixture
def files():
    made = MemoryFiles()
    yield made
    made.forget()


@pytest.fixture
def mapped():
    return MappedFiles()


def send(files: MemoryFiles, letter: bytes, size: int = SIZE) -> int:
    return files.write([memoryview(letter * size)], [0], size)


def receive(mapped: MappedFiles, fd: int, size: int = SIZE) -> memoryview:
    buffer = mapped.map(fd, size)
    os.close(fd)
    return buffer


def test_the_next_payload_in_a_file_is_seen_through_the_same_mapping(files, mapped):
    seen = set()
    for letter in (b"a", b"b", b"c"):
        buffer = receive(mapped, send(files, letter))
        assert bytes(buffer) == letter * SIZE
        del buffer
        seen |= {id(mapping) for mapping in mapped._free.values()}
    assert len(seen) == 1


def test_what_was_written_into_it_is_gone(files, mapped):
    """Pages become private copies when they are written: in part, in full, on either side of what is read."""
    for letter, start, end in ((b"a", 5, 6), (b"b", 0, SIZE), (b"c", SIZE - 1, SIZE), (b"d", 0, 0)):
        buffer = receive(mapped, send(files, letter))
        assert bytes(buffer) == letter * SIZE
        buffer[start:end] = b"!" * (end - start)
        del buffer
    assert bytes(receive(mapped, send(files, b"e"))) == b"e" * SIZE


def test_writing_never_reaches_the_file(files, mapped):
    fd = send(files, b"a")
    buffer = mapped.map(fd, SIZE)
    buffer[:4] = b"mine"
    assert os.pread(fd, 4, 0) == b"aaaa"
    again = mapped.map(fd, SIZE)  # a retry in the same process
    assert bytes(again) == b"a" * SIZE
    assert bytes(buffer[:5]) == b"minea"
    os.close(fd)


def test_a_file_stays_as_it_is_while_a_part_of_it_is_looked_at(files, mapped):
    buffer = receive(mapped, send(files, b"a"))
    part = buffer[10:20]
    del buffer
    other = receive(mapped, send(files, b"b"))
    assert (bytes(part), bytes(other[:1])) == (b"a" * 10, b"b")
    assert len(files._kept) == 2


def test_a_free_mapping_does_not_hold_the_file(files, mapped):
    fds = len(os.listdir("/proc/self/fd"))
    for letter in (b"a", b"b", b"c"):
        receive(mapped, send(files, letter))
    assert len(files._kept) == len(mapped._free) == 1
    assert len(os.listdir("/proc/self/fd")) == fds + 3  # the file's own opening, and one of each mapping


def test_payloads_of_other_sizes_in_one_file(files, mapped):
    for letter, size in ((b"a", 3 * SIZE), (b"b", SIZE), (b"c", 2 * SIZE + 1), (b"d", 3 * SIZE)):
        buffer = receive(mapped, send(files, letter, size), size)
        assert bytes(buffer) == letter * size
        buffer[-1:] = b"!"
        del buffer
    assert len(files._kept) == 1


def test_two_at_once_have_a_mapping_each(files, mapped):
    fd = send(files, b"a")
    one, other = mapped.map(fd, SIZE), mapped.map(fd, SIZE)
    os.close(fd)
    one[:1] = b"1"
    other[:1] = b"2"
    assert bytes(one[:2]) + bytes(other[:2]) == b"1a2a"
    del one, other
    assert bytes(receive(mapped, send(files, b"b"))) == b"b" * SIZE


def test_a_file_shorter_than_what_was_said(files, mapped):
    fd = send(files, b"a")
    try:
        with pytest.raises(ValueError, match="greater than file size"):
            mapped.map(fd, 2 * SIZE)
    finally:
        os.close(fd)


def test_without_the_kernel_s_word_every_page_counts_as_written(files, mapped, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("pagemap")

    monkeypatch.setattr(module, "open", refuse, raising=False)
    for letter in (b"a", b"b"):
        buffer = receive(mapped, send(files, letter))
        assert bytes(buffer) == letter * SIZE
        buffer[:] = b"!" * SIZE
        del buffer


@pytest.mark.parametrize("size", [KEPT_FROM_BYTES - 1, KEPT_BYTES + 1])
def test_small_and_huge_ones_are_not_kept(mapped, size):
    fd = os.memfd_create("payload", os.MFD_CLOEXEC)
    os.truncate(fd, size)
    receive(mapped, fd, size)
    assert not mapped._free


def test_no_more_are_kept_than_the_limits_allow(files, mapped, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", (KEPT_MAPPINGS + 2) * SIZE)
    held = [receive(mapped, send(files, b"x")) for _ in range(KEPT_MAPPINGS + 3)]
    held.clear()
    assert len(mapped._free) == KEPT_MAPPINGS
    monkeypatch.setattr(module, "KEPT_BYTES", 3 * SIZE)
    receive(mapped, send(files, b"y"))
    assert len(mapped._free) <= 3


def test_numpy_s_arrays_hold_their_payload():
    numpy = pytest.importorskip("numpy")
    sent = make_payload(b"pickle", [numpy.arange(200_000.0)])
    array = numpy.frombuffer(sent.parts()[1])
    assert array.flags.writeable
    sent.close()
    others = [make_payload(b"pickle", [numpy.zeros(200_000)]) for _ in range(3)]
    assert array.sum() == sum(range(200_000))
    assert len(others) == 3
