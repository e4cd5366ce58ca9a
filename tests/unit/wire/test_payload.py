"""Payloads: inline or in a memory file, writable by the receiver, never changed by it."""

from __future__ import annotations

import ctypes
import os

import pytest

from glowplug.wire import memory_files
from glowplug.wire.payload import INLINE_LIMIT_BYTES, Payload, from_wire, make_payload


def arrive(sent: Payload) -> Payload:
    """As the other process gets it."""
    fds = [] if sent.fd is None else [os.dup(sent.fd)]
    received = from_wire(sent.to_wire(), fds)
    assert fds == []
    return received


def test_small_ones_stand_in_their_frame():
    sent = make_payload(b"pickle")
    assert (sent.body, sent.fd) == (b"pickle", None)
    assert sent.size_bytes == 6
    assert arrive(sent).parts() == [b"pickle"]


@pytest.mark.parametrize("size", [INLINE_LIMIT_BYTES, INLINE_LIMIT_BYTES + 1])
def test_the_limit(size):
    sent = make_payload(b"x" * size)
    assert (sent.fd is None) == (size <= INLINE_LIMIT_BYTES)
    assert sent.size_bytes == size
    assert [bytes(part) for part in arrive(sent).parts()] == [b"x" * size]


def test_a_receiver_writes_into_its_own_copy():
    sent = make_payload(b"pickle", [b"a" * 5000, bytearray(b"b" * 3000)])
    first, second = arrive(sent), arrive(sent)
    parts = first.parts()
    parts[1][:4] = b"ZZZZ"
    assert bytes(parts[1][:5]) == b"ZZZZa"
    for other in (second, sent, first):  # a retry reads what was sent, also from the same payload
        assert [bytes(part) for part in other.parts()] == [b"pickle", b"a" * 5000, b"b" * 3000]


def test_parts_outlive_the_payload():
    received = arrive(make_payload(b"pickle", [b"a" * 5000]))
    parts = received.parts()
    received.close()
    assert bytes(parts[1]) == b"a" * 5000


def test_zero_sized_buffers():
    sent = make_payload(b"pickle", [b"", b"x", b""])
    assert [bytes(part) for part in arrive(sent).parts()] == [b"pickle", b"", b"x", b""]


def test_nothing_at_all():
    sent = make_payload(b"", [b""])
    assert [bytes(part) for part in arrive(sent).parts()] == [b"", b""]


def test_a_closed_payload_says_so():
    sent = make_payload(b"pickle", [b"x"])
    fd = sent.fd
    sent.close()
    sent.close()
    with pytest.raises(ValueError, match="closed"):
        sent.parts()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_descriptors_go_with_their_last_holder():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        arrive(make_payload(b"pickle", [b"x"])).parts()
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_are_not_inherited():
    assert not os.get_inheritable(make_payload(b"pickle", [b"x"]).fd)


def test_wide_buffers_count_bytes():
    import array

    wide = array.array("d", range(1000))
    received = arrive(make_payload(b"pickle", [memoryview(wide)]))
    assert bytes(received.parts()[1]) == wide.tobytes()


def test_when_memory_is_short_nothing_is_left_open(monkeypatch):
    def refuse(fd, part, offset):
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(memory_files.os, "pwrite", refuse)
    with pytest.raises(OSError, match="No space"):
        make_payload(b"pickle", [b"x"])
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_size_that_was_not_sent_is_no_crash():
    """Reading beyond the end of a mapped file kills a process; the sizes are another's word."""
    sent = make_payload(b"pickle", [b"x" * 100])
    lying = Payload(None, os.dup(sent.fd), [6, 1 << 20])
    with pytest.raises(ValueError, match="greater than file size"):
        lying.parts()


def test_a_large_field_without_its_descriptor_is_an_error():
    with pytest.raises(ValueError, match="descriptor"):
        from_wire([10], [])


def test_buffers_are_aligned_for_what_reads_them():
    parts = arrive(make_payload(b"odd", [b"a" * 5, b"", b"b" * 7, b"c"])).parts()
    assert [bytes(part) for part in parts] == [b"odd", b"a" * 5, b"", b"b" * 7, b"c"]
    addresses = [ctypes.addressof(ctypes.c_char.from_buffer(part)) for part in parts if len(part)]
    assert [address % 64 for address in addresses] == [0, 0, 0, 0]
