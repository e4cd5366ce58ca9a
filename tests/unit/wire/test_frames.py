"""Frames come out as they went in, however the bytes were cut, and rubbish ends the connection cleanly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowplug.wire import codec
from glowplug.wire.codec import HEADER_BYTES, MAX_FRAME_BYTES, FrameError, FrameReader, frame

MESSAGES = st.lists(
    st.lists(st.integers(0, 99) | st.text(max_size=20) | st.binary(max_size=400), max_size=5), max_size=12
)


@settings(max_examples=50)
@given(MESSAGES, st.data())
def test_any_chunking_gives_the_same_messages(sent, data):
    raw = b"".join(frame(message) for message in sent)
    reader = FrameReader()
    received = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        received += reader.feed(raw[:size])
        raw = raw[size:]
    assert received == sent


def test_byte_by_byte():
    sent = [[1, "a"], [], [b"x" * 1000]]
    reader = FrameReader()
    received = []
    for byte in b"".join(map(frame, sent)):
        received += reader.feed(bytes([byte]))
    assert received == sent


def test_what_is_received_is_not_kept_by_reference():
    """The reading side uses one buffer over and over."""
    first, second = frame([b"first"]), frame([b"second"])
    buffer = bytearray(first + second[:6])
    reader = FrameReader()
    received = reader.feed(memoryview(buffer))
    buffer[:] = b"\xff" * len(buffer)
    received += reader.feed(second[6:])
    assert received == [[b"first"], [b"second"]]


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, (1 << 32) - 1, int.from_bytes(b"GET ", "big")])
def test_an_absurd_length_is_refused_before_anything_is_kept(size):
    reader = FrameReader()
    with pytest.raises(FrameError, match="limit"):
        reader.feed(size.to_bytes(HEADER_BYTES, "big"))


@pytest.mark.parametrize(
    "body", [b"\xc1", b"", b"\x92\x01", b"\x91" * 100_000, b"\xa1\xff", b"\x01\x01"], ids=range(6)
)
@pytest.mark.parametrize("before", [b"", b"\x00\x00"], ids=["whole", "after-a-part"])
@pytest.mark.parametrize("decode", [codec.decode, codec.plain_msgpack.decode], ids=["msgspec", "plain"])
def test_a_frame_of_rubbish_is_a_frame_error(body, before, decode, monkeypatch):
    monkeypatch.setattr(codec, "decode", decode)
    reader = FrameReader()
    raw = len(body).to_bytes(HEADER_BYTES, "big") + body
    assert reader.feed(before and raw[: len(before)]) == []
    with pytest.raises(FrameError):
        reader.feed(raw[len(before) :])


def test_a_message_too_long_for_a_frame_is_refused_where_it_is_made(monkeypatch):
    monkeypatch.setattr(codec, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(FrameError, match="1000"):
        frame([b"x" * 1001])
