"""Patterns of a .dockerignore, held against a second, slow reading of the same rules."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowplug.client.ignore import IgnorePatterns, read_patterns
from glowplug.model.errors import InvalidError


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        (["*.pyc"], ["a.pyc", ".pyc"], ["d/a.pyc", "a.py"]),
        (["**/*.pyc"], ["a.pyc", "d/a.pyc", "d/e/a.pyc", "d/a.pyc/x"], ["a.pyco"]),
        (["data"], ["data", "data/x", "data/d/y"], ["data2", "d/data", "my/data/x"]),
        (["/data/"], ["data/x"], ["x/data"]),
        (["**/data"], ["data", "x/data/y"], ["x/datas"]),
        (["a/**/z"], ["a/z", "a/b/z", "a/b/c/z"], ["az", "b/a/z"]),
        (["a/**"], ["a/b", "a/b/c"], ["b"]),
        (["**"], ["a", "a/b"], []),
        (["."], ["a", "a/b"], []),
        (["?.t"], ["a.t"], ["ab.t", "/.t"]),
        (["[a-c].t", "[^x]y"], ["b.t", "zy"], ["d.t", "xy"]),
        (["*.md", "!README.md"], ["a.md"], ["README.md"]),
        (["*.md", "!README.md", "R*"], ["README.md"], ["b"]),
        (["docs", "!docs/keep"], ["docs/x"], ["docs/keep", "docs/keep/y"]),
        (["a\\*b"], ["a*b"], ["axb"]),
        (["a.b"], ["a.b"], ["axb"]),
        ([" x ", "", "! "], ["x"], []),
    ],
)
def test_patterns(patterns, ignored, kept):
    if patterns[-1] == "! ":
        with pytest.raises(InvalidError, match="names no file"):
            IgnorePatterns(patterns)
        patterns = patterns[:-1]
    matcher = IgnorePatterns(patterns)
    assert [path for path in ignored if not matcher.matches(path)] == []
    assert [path for path in kept if matcher.matches(path)] == []


def test_whole_directories_can_be_left_out_unless_something_is_brought_back():
    assert IgnorePatterns(["a", "**/b"]).prunable
    assert not IgnorePatterns(["a", "!a/b"]).prunable


@pytest.mark.parametrize("pattern", ["[", "[z-a]", 3])
def test_what_cannot_be_read_is_refused(pattern):
    with pytest.raises(InvalidError, match=r"cannot be read|is a string"):
        IgnorePatterns([pattern])


def test_files_of_patterns():
    assert read_patterns("\ufeff# no\n a \n\n!b\n#c\n") == ["a", "!b"]


NAMES = st.sampled_from(["a", "b", "ab", "a.b", "c*"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PARTS = st.sampled_from(["a", "b", "*", "**", "?", "a*", "*b", "a.?"])
PATTERNS = st.lists(
    st.tuples(st.booleans(), st.lists(PARTS, min_size=1, max_size=4).map("/".join)), max_size=4
)


@settings(deadline=None)
@given(PATTERNS, PATHS)
def test_the_last_pattern_that_matches_decides(patterns, path):
    expected = False
    for kept, pattern in patterns:
        if _matches_it_or_above(pattern.split("/"), path.split("/")):
            expected = not kept
    written = [("!" if kept else "") + pattern for kept, pattern in patterns]
    assert IgnorePatterns(written).matches(path) == expected


def _matches_it_or_above(pattern, path):
    return any(_matches(tuple(pattern), tuple(path[:count])) for count in range(1, len(path) + 1))


def _matches(pattern, path):
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(_matches(pattern[1:], path[skipped:]) for skipped in range(len(path) + 1))
    return bool(path) and _part(pattern[0], path[0]) and _matches(pattern[1:], path[1:])


@functools.cache
def _part(pattern, name):
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_part(pattern[1:], name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and _part(pattern[1:], name[1:])
