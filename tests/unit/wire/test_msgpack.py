"""The plain codec and msgspec say the same of every value, and neither is upset by rubbish."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glowplug.wire import plain_msgpack

INTEGERS = st.integers(-(1 << 63), (1 << 64) - 1)
SCALARS = (
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text() | st.binary(max_size=300)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=40,
)

EDGES = [0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]
NEGATIVE_EDGES = [-1, -32, -33, -128, -129, -32768, -32769, -(1 << 31), -(1 << 31) - 1, -(1 << 63)]
SIZES = [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536]


@given(VALUES)
def test_both_read_what_either_wrote(value):
    ours, theirs = plain_msgpack.encode(value), msgspec.msgpack.encode(value)
    assert ours == theirs
    assert plain_msgpack.decode(theirs) == value
    assert msgspec.msgpack.decode(ours) == value


@pytest.mark.parametrize("number", EDGES + NEGATIVE_EDGES)
def test_integers_at_their_edges(number):
    raw = plain_msgpack.encode(number)
    assert raw == msgspec.msgpack.encode(number)
    assert plain_msgpack.decode(raw) == number


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [str, bytes, list, dict], ids=["text", "bytes", "list", "dict"])
def test_heads_at_their_edges(size, make):
    value = {
        str: lambda: "x" * size,
        bytes: lambda: b"x" * size,
        list: lambda: [None] * size,
        dict: lambda: {str(number): number for number in range(size)},
    }[make]()
    raw = plain_msgpack.encode(value)
    assert raw == msgspec.msgpack.encode(value)
    assert plain_msgpack.decode(raw) == value


def test_nan_stays_nan():
    assert math.isnan(plain_msgpack.decode(msgspec.msgpack.encode(math.nan)))
    assert math.isnan(msgspec.msgpack.decode(plain_msgpack.encode(math.nan)))


def test_half_sized_floats_are_read():
    assert plain_msgpack.decode(b"\xca\x3f\x80\x00\x00") == 1.0


def test_tuples_become_lists_and_buffers_bytes():
    value = (1, bytearray(b"ab"), memoryview(b"cd"))
    assert plain_msgpack.decode(plain_msgpack.encode(value)) == [1, b"ab", b"cd"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value)) == [1, b"ab", b"cd"]


def test_a_buffer_of_wide_elements_counts_its_bytes():
    import array

    wide = memoryview(array.array("i", [1, 2, 3]))
    assert plain_msgpack.decode(plain_msgpack.encode(wide)) == wide.tobytes()


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1])
def test_larger_integers_are_refused(value):
    with pytest.raises(OverflowError):
        plain_msgpack.encode(value)
    with pytest.raises(OverflowError):
        msgspec.msgpack.encode(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError):
        plain_msgpack.encode(value)


@given(st.binary(max_size=200))
@example(b"\x81\x90\x01")  # a map whose key is a list
@example(b"\x81\x80\x01")  # a map whose key is a map
@example(b"\xdd\xff\xff\xff\xff")  # four thousand million items announced, none there
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\xa1\xff")  # not UTF-8
@example(b"\xc1")  # no msgpack type at all
def test_rubbish_is_a_value_error_or_a_value(raw):
    try:
        value = plain_msgpack.decode(raw)
    except ValueError:
        return
    assert (
        plain_msgpack.decode(plain_msgpack.encode(value)) == value or value != value or "nan" in repr(value)
    )


@given(VALUES, st.data())
def test_a_cut_value_is_refused(value, data):
    raw = plain_msgpack.encode(value)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(ValueError, match=r"truncated|cut|utf-8|bytes"):
        plain_msgpack.decode(raw[:cut])
    with pytest.raises(msgspec.DecodeError):
        msgspec.msgpack.decode(raw[:cut])


@given(VALUES, st.binary(min_size=1, max_size=3))
def test_what_follows_a_value_is_refused(value, rest):
    with pytest.raises(ValueError, match="after the value"):
        plain_msgpack.decode(plain_msgpack.encode(value) + rest)


@pytest.mark.parametrize("decode", [plain_msgpack.decode, msgspec.msgpack.decode], ids=["plain", "msgspec"])
@pytest.mark.parametrize("raw", [b"\x91" * 100_000 + b"\x01", b"\x81\xa0" * 100_000 + b"\x01"])
def test_endless_nesting_does_not_crash(decode, raw):
    with pytest.raises((ValueError, RecursionError)):
        decode(raw)
