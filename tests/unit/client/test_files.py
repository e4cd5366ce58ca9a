"""Trees of local files by content."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowplug.client import files
from glowplug.client.files import HashCache, LocalTree, merge, scan_directory, scan_file
from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.model.files import FileEntry, FileTree

LONG_AGO_NS = 1_600_000_000 * 10**9


def write(path: Path, content: bytes = b"x", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_directory_is_what_is_in_it(tmp_path):
    write(tmp_path / "b" / "c.py", b"c")
    write(tmp_path / "a.sh", b"a", 0o700)
    os.symlink("b/c.py", tmp_path / "link")
    (tmp_path / "empty").mkdir()
    found = scan_directory(str(tmp_path))
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in "ac"}
    assert found.tree.entries == (
        FileEntry("a.sh", digests["a"], 1, 0o755),
        FileEntry("b/c.py", digests["c"], 1, 0o644),
        FileEntry("link", mode=0o777, link="b/c.py"),
    )
    assert found.places == {digests["a"]: str(tmp_path / "a.sh"), digests["c"]: str(tmp_path / "b/c.py")}


def test_the_digest_is_of_the_content_not_of_place_time_or_umask(tmp_path):
    write(tmp_path / "one" / "a", mode=0o600)
    write(tmp_path / "two" / "a", mode=0o664)
    os.utime(tmp_path / "two" / "a", ns=(LONG_AGO_NS, LONG_AGO_NS))
    one, two = (scan_directory(str(tmp_path / name)).tree for name in ("one", "two"))
    assert one.digest == two.digest == "ca9eb14efa598140524222448a31f44ebfd0494d3aa232bc33d367510b35dcc4"
    write(tmp_path / "two" / "a", mode=0o755)
    assert scan_directory(str(tmp_path / "two")).tree.digest != one.digest


def test_links_that_lead_outside_are_refused(tmp_path):
    root = tmp_path / "root"
    write(tmp_path / "secret")
    write(root / "deep" / "dir" / "f")
    good = {"up": "deep/../deep/dir/f", "deep/dir/back": "../..", "dangling": "deep/none"}
    for name, target in good.items():
        os.symlink(target, root / name)
    os.symlink(root / "deep" / "dir" / "f", root / "absolute")
    links = {entry.path: entry.link for entry in scan_directory(str(root)).tree.entries if entry.link}
    assert links == {**good, "absolute": "deep/dir/f"}
    for target in ("../secret", "/etc/passwd", "deep/dir/back/../secret", ".."):
        os.symlink(target, root / "bad")
        with pytest.raises(InvalidError, match=rf"{root}/bad is a link to {target}, which is outside of"):
            scan_directory(str(root))
        assert "bad" not in str(scan_directory(str(root), lambda path: path == "bad").tree)
        (root / "bad").unlink()


def test_links_to_the_directory_and_the_file_themselves_are_followed(tmp_path):
    write(tmp_path / "real" / "f", b"f")
    os.symlink("real", tmp_path / "link")
    os.symlink("real/f", tmp_path / "file")
    assert scan_directory(str(tmp_path / "link")) == scan_directory(str(tmp_path / "real"))
    assert scan_file(str(tmp_path / "file"), "g").tree.entries[0].link == ""


def test_what_has_no_content_is_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path / "f")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    found = scan_directory(str(tmp_path))
    assert found.skipped == (f"{tmp_path}/pipe", f"{tmp_path}/socket")
    assert [entry.path for entry in found.tree.entries] == ["f"]
    with pytest.raises(InvalidError, match="a socket, a pipe or a device"):
        scan_file(str(tmp_path / "pipe"), "p")


def test_what_is_not_there_or_not_that(tmp_path):
    with pytest.raises(NotFoundError, match="there is no directory"):
        scan_directory(str(tmp_path / "none"))
    with pytest.raises(NotFoundError, match="there is no file"):
        scan_file(str(tmp_path / "none"), "n")
    with pytest.raises(InvalidError, match="is a directory"):
        scan_file(str(tmp_path), "n")
    write(tmp_path / os.fsdecode(b"\xff"))
    with pytest.raises(InvalidError, match="is not UTF-8"):
        scan_directory(str(tmp_path))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "growing", b"x" * 10)

    class Growing:
        def sha256(self):
            return self

        def update(self, _):
            with path.open("ab") as file:
                file.write(b"more")

        def hexdigest(self):
            raise AssertionError("not reached")

    monkeypatch.setattr(files, "hashlib", Growing())
    with pytest.raises(InvalidError, match=r"growing changed while it was read"):
        scan_file(str(path), "g")


def test_a_file_is_read_once(tmp_path, monkeypatch):
    root = tmp_path / "root"
    for name in ("a", "b", "c"):
        os.utime(write(root / name, name.encode()), ns=(LONG_AGO_NS, LONG_AGO_NS))
    cache = HashCache(tmp_path / "cache")
    read: list[str] = []
    hash_one = files._hash
    monkeypatch.setattr(files, "_hash", lambda path: read.append(os.path.basename(path)) or hash_one(path))
    monkeypatch.setattr(files, "SETTLED_S", -1e9)  # this file system's change time is now
    first = scan_directory(str(root), cache=cache)
    assert sorted(read) == ["a", "b", "c"]
    assert scan_directory(str(root), cache=cache) == first
    assert len(read) == 3
    write(root / "b", b"B")
    os.utime(root / "b", ns=(LONG_AGO_NS, LONG_AGO_NS))  # size and time as before: the change time tells
    assert scan_directory(str(root), cache=cache) != first
    assert read[3:] == ["b"]


def test_what_was_written_a_moment_ago_is_not_remembered(tmp_path):
    write(tmp_path / "root" / "a")
    cache = HashCache(tmp_path / "cache")
    scan_directory(str(tmp_path / "root"), cache=cache)
    assert [json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*")] in ([], [{}])


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 3}'])
def test_a_damaged_memory_is_read_anew(tmp_path, content):
    write(tmp_path / "root" / "a")
    cache = HashCache(tmp_path / "cache")
    place = cache.of(str(tmp_path / "root"))._path
    write(place, content.encode())
    place.write_text(content.replace("x", str(tmp_path / "root" / "a")))
    assert scan_directory(str(tmp_path / "root"), cache=cache) == scan_directory(str(tmp_path / "root"))


def test_the_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_CACHED_PLACES", 3)
    monkeypatch.setattr(files, "SETTLED_S", -1e9)
    cache = HashCache(tmp_path / "cache")
    for name in "abcdef":
        write(tmp_path / name / "f")
        scan_directory(str(tmp_path / name), cache=cache)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_trees_are_moved_and_merged():
    one = LocalTree(FileTree((FileEntry("a", "1"), FileEntry("b", "2"))), {"1": "/1", "2": "/2"})
    two = LocalTree(FileTree((FileEntry("b", "3"),)), {"3": "/3"})
    merged = merge([one, two])
    assert merged.tree.entries == (FileEntry("a", "1"), FileEntry("b", "3"))
    assert merged.places == {"1": "/1", "3": "/3"}, "nobody uploads what another file covers"
    assert [entry.path for entry in one.moved("x/y").tree.entries] == ["x/y/a", "x/y/b"]
    assert one.moved("") is one


NAMES = st.text("ab.é ", min_size=1, max_size=3).filter(
    lambda name: name.strip(".") != "" and name == name.strip()
)
TREES = st.dictionaries(
    st.tuples(NAMES, NAMES), st.tuples(st.binary(max_size=4), st.booleans()), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=30)
@given(TREES)
def test_equal_trees_have_equal_digests_and_others_do_not(tree):
    with tempfile.TemporaryDirectory() as directory:
        for turn, items in (("one", list(tree.items())), ("two", list(tree.items())[::-1])):
            for (above, name), (content, executable) in items:
                write(Path(directory, turn, above, name), content, 0o755 if executable else 0o644)
        one, two = (scan_directory(os.path.join(directory, turn)) for turn in ("one", "two"))
        assert one.tree == two.tree
        assert FileTree.from_wire(json.loads(json.dumps(one.tree.to_wire()))).digest == one.tree.digest
        (above, name), (content, executable) = next(iter(tree.items()))
        write(Path(directory, "two", above, name), content + b"!", 0o755 if executable else 0o644)
        assert scan_directory(os.path.join(directory, "two")).tree.digest != one.tree.digest
