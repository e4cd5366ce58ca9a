"""Files of clients on this node: what they are is checked, and nothing leaves its place."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowplug.images import files as files_module
from glowplug.images.files import ContentFiles
from glowplug.images.trees import Trees, check_tree
from glowplug.model.errors import InvalidError, ResourceExhaustedError
from glowplug.model.files import FileEntry, FileTree


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def send(files: ContentFiles, content: bytes) -> str:
    incoming = files.begin(digest_of(content))
    incoming.write(content)
    incoming.finish()
    return digest_of(content)


@pytest.fixture
def files(tmp_path: Path) -> ContentFiles:
    return ContentFiles(tmp_path / "files")


@pytest.fixture
def trees(tmp_path: Path, files: ContentFiles) -> Trees:
    return Trees(tmp_path / "trees", files)


def leftovers(directory: Path) -> list[str]:
    return [str(path) for path in directory.rglob(".*")]


# contents


def test_what_was_sent_is_kept_once_and_cannot_be_written(files):
    digest = send(files, b"hello")
    assert files.missing([digest, digest_of(b"else"), digest_of(b"else")]) == [digest_of(b"else")]
    assert files.path(digest).read_bytes() == b"hello"
    assert files.path(digest).stat().st_mode & 0o777 == 0o444
    send(files, b"hello")


def test_what_is_not_as_its_digest_says_is_refused(files, tmp_path):
    incoming = files.begin(digest_of(b"one"))
    incoming.write(b"two")
    with pytest.raises(InvalidError, match=f"has the digest {digest_of(b'two')} .3 bytes.*send it again"):
        incoming.finish()
    assert files.missing([digest_of(b"one")]) == [digest_of(b"one")]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "é" * 64])
def test_what_is_no_digest_is_no_path(files, digest):
    with pytest.raises(InvalidError, match="is not a SHA-256 in hex"):
        files.missing([digest])
    with pytest.raises(InvalidError, match="is not a SHA-256 in hex"):
        files.begin(digest)


def test_a_full_disk_is_said_and_leaves_nothing(files, tmp_path, monkeypatch):
    class Full:
        def write(self, part):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        files_module, "open", lambda path, mode: (Path(path).touch(), Full())[1], raising=False
    )
    incoming = files.begin(digest_of(b"big"))
    with pytest.raises(ResourceExhaustedError, match=r"is full .*glowplug image prune"):
        incoming.write(b"big")
    assert leftovers(tmp_path) == []


# trees


def test_a_tree_is_made_of_what_was_sent(files, trees):
    text, program = send(files, b"text"), send(files, b"#!/bin/sh\n")
    tree = FileTree(
        (
            FileEntry("a/text", text, 4, 0o640),
            FileEntry("a/same", text, 4),
            FileEntry("bin/run", program, 10, 0o700),
            FileEntry("link", link="a/text"),
            FileEntry("a/up", link="../bin/run"),
        )
    )
    made = trees.make(tree.digest, tree)
    assert (made / "link").read_bytes() == (made / "a/same").read_bytes() == b"text"
    assert (made / "a/up").resolve() == (made / "bin/run").resolve()
    assert (made / "a/text").stat().st_mode & 0o777 == 0o444
    assert (made / "bin/run").stat().st_mode & 0o777 == 0o555
    assert (made / "a/text").stat().st_ino == files.path(text).stat().st_ino
    assert files.path(program).stat().st_mode & 0o777 == 0o444
    assert trees.make(tree.digest, tree) == made


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([FileEntry("../out")], "cannot be the path"),
        ([FileEntry("/etc/passwd")], "cannot be the path"),
        ([FileEntry("a//b")], "cannot be the path"),
        ([FileEntry("a/./b")], "cannot be the path"),
        ([FileEntry("")], "cannot be the path"),
        ([FileEntry("a\0b")], "cannot be the path"),
        ([FileEntry("n" * 300)], "cannot be the path"),
        ([FileEntry("a"), FileEntry("a")], "is twice"),
        ([FileEntry("a"), FileEntry("a/b")], "'a' is a file and cannot hold 'a/b'"),
        ([FileEntry("a", link="."), FileEntry("a/b")], "'a' is a link and cannot hold 'a/b'"),
        ([FileEntry("a", link="/etc")], "out of its tree"),
        ([FileEntry("a", link="..")], "out of its tree"),
        ([FileEntry("d/a", link="../../x")], "out of its tree"),
        ([FileEntry("d/here", link="."), FileEntry("d/a", link="here/../../x")], "out of its tree"),
        ([FileEntry("x/y/top", link="../.."), FileEntry("a", link="x/y/top/..")], "out of its tree"),
    ],
)
def test_nothing_escapes(trees, tmp_path, entries, said):
    tree = FileTree(tuple(entries))
    with pytest.raises(InvalidError, match=said):
        trees.make(tree.digest, tree)
    assert not (tmp_path / "trees").exists()


def test_links_in_a_circle_and_to_nothing_stay_inside():
    check_tree(FileTree((FileEntry("a", link="b"), FileEntry("b", link="a"), FileEntry("c", link="gone/x"))))


NAMES = st.sampled_from(["a", "b", "..", ".", "", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(st.lists(st.tuples(PATHS, PATHS), max_size=6))
@settings(max_examples=300, deadline=None)
def test_whatever_is_let_through_stays_inside(tmp_path_factory, links):
    tree = FileTree(tuple(FileEntry(path, link=link) for path, link in links if link))
    try:
        check_tree(tree)
    except InvalidError:
        return
    root = tmp_path_factory.mktemp("root") / "tree"
    root.mkdir()
    for entry in tree.entries:
        (root / entry.path).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(entry.link, root / entry.path)
    for entry in tree.entries:
        # A name that is not there, followed by "..", is where the kernel gives up; realpath goes on.
        if os.path.exists(root / entry.path):
            end = os.path.realpath(root / entry.path)
            assert end == str(root) or end.startswith(f"{root}/")


def test_a_tree_is_what_its_digest_says_and_its_files_were_sent(files, trees, tmp_path):
    tree = FileTree((FileEntry("a", digest_of(b"never sent"), 10),))
    with pytest.raises(InvalidError, match="has the digest"):
        trees.make("0" * 64, tree)
    with pytest.raises(InvalidError, match=f"files were not sent, {digest_of(b'never sent')} for one"):
        trees.make(tree.digest, tree)
    assert trees.find("../files") is None
    assert leftovers(tmp_path) == []


def test_what_nobody_uses_goes_and_what_is_needed_stays(files, trees):
    kept = [FileTree((FileEntry(name, send(files, name.encode()), 1),)) for name in "ab"]
    for tree in kept:
        os.utime(trees.make(tree.digest, tree), (1, 1))
    trees.remove_unused(1000.0, {kept[0].digest})
    assert trees.find(kept[0].digest)
    assert trees.find(kept[1].digest) is None
    for content in (b"a", b"b"):
        os.utime(files.path(digest_of(content)), (1, 1))
    files.remove_unused(1000.0)
    assert files.missing([digest_of(b"a"), digest_of(b"b")]) == [digest_of(b"b")]


# damage


def overwrite(path: Path, content: bytes) -> None:
    """In place, as what is damaged by a program is: the same file, for all its names."""
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("mode", [0o644, 0o755])
@pytest.mark.parametrize("whose", ["file", "tree", "both"])
def test_what_was_overwritten_is_asked_for_again_and_made_anew(files, trees, mode, whose):
    digest = send(files, b"print('one')")
    tree = FileTree((FileEntry("code.py", digest, 12, mode), FileEntry("link", link="code.py")))
    made = trees.make(tree.digest, tree)
    inode = made.stat().st_ino
    if whose != "tree":
        overwrite(files.path(digest), b"print('two')")
    if whose != "file":
        overwrite(made / "code.py", b"print('two')")
    damaged = files.path(digest).read_bytes() != b"print('one')"
    assert files.missing([digest]) == ([digest] if damaged else [])
    assert files.path(digest).exists() is not damaged
    send(files, b"print('one')")
    again = trees.make(tree.digest, tree)
    assert again == made
    assert (again / "link").read_bytes() == b"print('one')"
    # What runs keeps the directory it has; those after it are shown another one.
    assert (again.stat().st_ino != inode) == (whose != "file" or mode == 0o644)
    assert trees.make(tree.digest, tree).stat().st_ino == again.stat().st_ino


def test_a_file_that_was_only_touched_stays(files, trees, monkeypatch):
    digest = send(files, b"hello")
    tree = FileTree((FileEntry("a", digest, 5),))
    made = trees.make(tree.digest, tree)
    os.utime(made / "a", ns=(5, 5))
    inode = made.stat().st_ino
    assert files.missing([digest]) == []
    # Its time says again what it has, so nobody reads it a second time.
    monkeypatch.setattr(files_module.hashlib, "file_digest", None)
    assert files.missing([digest]) == []
    assert trees.make(tree.digest, tree).stat().st_ino == inode


def test_a_tree_without_one_of_its_files_is_made_anew(files, trees):
    digest = send(files, b"hello")
    tree = FileTree((FileEntry("a", digest, 5), FileEntry("b", link="a")))
    for name in "ab":
        (trees.make(tree.digest, tree) / name).unlink()
        assert (trees.make(tree.digest, tree) / name).read_bytes() == b"hello"
