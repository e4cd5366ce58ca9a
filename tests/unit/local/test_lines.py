"""What a container wrote, as lines of the inputs that wrote them, however the bytes were cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glowplug.backends.local.lines import LINE_LIMIT_BYTES, LineCutter
from glowplug.wire.agreed import MARK_END, MARK_START


def mark(input_id: str) -> bytes:
    return MARK_START + input_id.encode() + MARK_END


def cut(*chunks: bytes, running: str = "in-run-0", done: str | None = "in-run-0") -> list[tuple[str, str]]:
    """(input, line) of all chunks, the unfinished end included."""
    cutter = LineCutter()
    found = []
    for chunk in chunks:
        found += cutter.feed(chunk, running)
    if done is not None:
        found += cutter.finish(done)
    return [(owner, line) for owner, lines in found for line in lines]


def test_unmarked_lines_belong_to_who_is_running():
    assert cut(b"one\ntwo\n") == [("in-run-0", "one"), ("in-run-0", "two")]


def test_marked_lines_belong_to_who_is_named_until_the_next_mark():
    written = mark("in-a-0") + b"1\n" + mark("in-b-1") + b"2\n", b"3\n"
    assert cut(*written) == [("in-a-0", "1"), ("in-b-1", "2"), ("in-b-1", "3")]


def test_an_empty_mark_is_who_is_running():
    assert cut(mark("in-a-0") + b"1\n" + mark("") + b"2\n") == [("in-a-0", "1"), ("in-run-0", "2")]


def test_a_line_that_another_interrupts_is_two():
    assert cut(mark("in-a-0") + b"begun" + mark("in-b-1") + b"2\n") == [("in-a-0", "begun"), ("in-b-1", "2")]


def test_an_unfinished_line_comes_with_the_end_of_its_input():
    cutter = LineCutter()
    assert cutter.feed(mark("in-a-0") + b"no newline", "in-a-0") == []
    assert cutter.finish("in-a-0") == [("in-a-0", ["no newline"])]
    assert cutter.finish("in-a-0") == []
    assert cutter.feed(b"later\n", "in-b-1") == [("in-b-1", ["later"])]


def test_the_end_of_one_input_does_not_cut_the_line_of_the_next():
    """With inputs ahead, the next one writes before the server has heard of the end of this one."""
    cutter = LineCutter()
    cutter.feed(mark("in-a-0") + b"a\n" + mark("in-b-1") + b"half", "in-a-0")
    assert cutter.finish("in-a-0") == []
    assert cutter.feed(b" and half\n", "in-b-1") == [("in-b-1", ["half and half"])]


def test_windows_lines_and_empty_ones():
    assert cut(b"a\r\n\n\r\nb") == [("in-run-0", each) for each in ("a", "", "", "b")]


def test_invalid_text_is_replaced_not_refused():
    assert cut(b"caf\xe9 \xff\xfe\n") == [("in-run-0", "caf� ��")]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["in-a-0", "in-b-1", "in-1f97fde70c1a883-12"]),
            st.lists(
                st.text(st.characters(exclude_characters="\n\r\x1e\x1f", codec="utf-8"), max_size=8),
                min_size=1,
            ),
        ),
        max_size=6,
    ),
    st.data(),
)
def test_any_chunking_gives_the_same_lines(written, data):
    raw = b"".join(mark(owner) + "".join(f"{line}\n" for line in lines).encode() for owner, lines in written)
    expected = [(owner, line) for owner, lines in written for line in lines]
    chunks = []
    while raw:
        size = data.draw(st.integers(1, len(raw)))
        chunks.append(raw[:size])
        raw = raw[size:]
    assert cut(*chunks, done=None) == expected


@given(st.lists(st.text("ab0- \n\x1e\x1f", max_size=30), max_size=6))
@example(['\x1e{"json": 1}\n\x1e{"json": 2}\n'])  # JSON text sequences begin so
@example(["\x1e" * 300, "\n"])
@example(["\x1ein-", "a-0 is no mark\n"])
@example(["\x1f\x1f\n\x1e\x1f\n"])
@example(["\x1e" + "a" * 100])
def test_nothing_but_whole_marks_is_taken_out(chunks):
    cutter = LineCutter()
    found = [part for chunk in chunks for part in cutter.feed(chunk.encode(), "")]
    found += cutter.finish(cutter._input_id)
    left = re.sub("\x1e[A-Za-z0-9-]{0,80}\x1f", "", "".join(chunks))
    left = left.removesuffix(cutter._partial.decode())  # what may still become a mark
    assert len(cutter._partial) <= 81
    assert "".join(line for _, lines in found for line in lines) == left.replace("\n", "")


@pytest.mark.parametrize("chunk_bytes", [1000, LINE_LIMIT_BYTES, 10 * LINE_LIMIT_BYTES])
def test_a_huge_line_comes_in_pieces_and_is_never_held(chunk_bytes):
    line = b"0123456789abcdef" * (20 * LINE_LIMIT_BYTES // 16)
    cutter = LineCutter()
    pieces = []
    for start in range(0, len(line), chunk_bytes):
        for _, lines in cutter.feed(line[start : start + chunk_bytes], ""):
            pieces += lines
        assert len(cutter._partial) <= LINE_LIMIT_BYTES
    pieces += [line for _, lines in cutter.feed(b"\n", "") for line in lines]
    assert "".join(pieces).encode() == line
    assert max(map(len, pieces)) <= LINE_LIMIT_BYTES + chunk_bytes


@pytest.mark.parametrize("character", ["é", "€", "🔥"])
def test_a_huge_line_is_not_cut_inside_a_character(character):
    raw = (character * LINE_LIMIT_BYTES).encode()
    for offset in range(4):
        text = "x" * offset
        lines = cut(text.encode() + raw[: LINE_LIMIT_BYTES + 7], raw[LINE_LIMIT_BYTES + 7 :], b"\n")
        assert "".join(line for _, line in lines) == text + character * LINE_LIMIT_BYTES


def test_rubbish_without_a_newline_is_not_held_for_a_character():
    assert [len(line) for _, line in cut(b"\x80" * (LINE_LIMIT_BYTES + 1), done=None)] == [
        LINE_LIMIT_BYTES + 1
    ]
