"""The store of volumes against a model: whatever is committed is there, whatever ends the process."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowplug.model import errors
from glowplug.ports.volumes import VolumeUse
from glowplug.store.buckets.buckets import Buckets
from glowplug.store.volumes import blocks as blocks_module
from glowplug.store.volumes import deposit as deposit_module
from glowplug.store.volumes import disk
from glowplug.store.volumes import manifest as manifest_module
from glowplug.store.volumes.deposit import Deposit
from glowplug.store.volumes.manifest import DIRECTORY, FILE, Change, Entries, Entry, Manifest, clean_path
from glowplug.store.volumes.mounts import Mount, recover
from glowplug.store.volumes.stored import Stored
from glowplug.store.volumes.views import Views
from glowplug.store.volumes.volume import About, Volume
from glowplug.store.volumes.volumes import Volumes

SMALL_BLOCK = 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few hundred bytes are large ones here."""
    for module in (manifest_module, blocks_module, deposit_module):
        monkeypatch.setattr(module, "BLOCK_BYTES", SMALL_BLOCK)
    # Every thread keeps a buffer of the size a block had when it was made.
    monkeypatch.setattr(deposit_module, "_buffers", __import__("threading").local())


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "models", "models", About("vo-1", 0.0))


def put(volume: Volume, **files: bytes) -> int:
    """Commit these files; returns how many bytes that stored."""

    def find(deposit: Deposit, latest: Manifest) -> list[Change]:
        return [Change(name, _stored(deposit, content)) for name, content in files.items()]

    return volume.commit(find).stored_bytes


def _stored(deposit: Deposit, content: bytes) -> Entry:
    fd = os.memfd_create("content")
    try:
        os.write(fd, content)
        return deposit.file(fd, len(content), 0o644, 10**18)
    finally:
        os.close(fd)


def files_of(volume: Volume, entries: Entries | None = None) -> dict[str, bytes]:
    entries = volume.head.entries if entries is None else entries
    return {
        path: b"".join(volume.blocks.contents(entry, path))
        for path, entry in entries.items()
        if entry.kind == FILE
    }


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def reopened(volume: Volume) -> Volume:
    return Volume(volume.directory, volume.name)


# what is committed is there

names = st.sampled_from(["a", "b", "d/x", "d/y", "d/e/z", "d", "d/e"])
contents = st.binary(max_size=40) | st.integers(1, 255).map(lambda number: bytes([number]) * 300)
operations = st.lists(st.tuples(names, st.none() | contents), max_size=6)


@settings(max_examples=30)
@given(st.lists(operations, max_size=5))
def test_any_commits_hold_what_a_dict_holds(tmp_path_factory: pytest.TempPathFactory, commits: list):
    directory = tmp_path_factory.mktemp("v")
    volume = Volume.create(directory / "v", "v", About("vo-1", 0.0))
    model: dict[str, bytes] = {}
    for commit in commits:

        def find(deposit: Deposit, latest: Manifest, commit: list = commit) -> list[Change]:
            changes = []
            for path, content in commit:
                entry = None if content is None else _stored(deposit, content)
                changes.append(Change(path, entry))
            return changes

        # One commit changes a path once; a later change of its own would be on top of what it has not seen.
        commit = list({path: (path, content) for path, content in commit}.values())
        volume.commit(lambda deposit, latest, commit=commit: find(deposit, latest, commit))
        before = dict(model)
        for path, content in commit:
            if content is None:
                for each in [each for each in before if each == path or each.startswith(f"{path}/")]:
                    model.pop(each, None)
                if path not in before:
                    model.pop(path, None)
            else:
                for each in [each for each in model if each.startswith(f"{path}/")]:
                    del model[each]
                for above in manifest_module.parents(path):
                    model.pop(above, None)
                model[path] = content
    assert files_of(volume) == model
    assert files_below(volume.trees.path(volume.head)) == model
    assert files_of(reopened(volume)) == model


def test_a_commit_after_one_byte_stores_the_one_block(volume: Volume):
    content = bytearray(os.urandom(10 * SMALL_BLOCK))
    other = os.urandom(50)
    assert put(volume, big=bytes(content), other=other) == len(content) + len(other)
    content[3 * SMALL_BLOCK + 5] ^= 1
    assert put(volume, big=bytes(content), other=other) == SMALL_BLOCK
    assert files_of(volume) == {"big": bytes(content), "other": other}
    assert files_below(volume.trees.path(volume.head)) == {"big": bytes(content), "other": other}


def test_the_same_bytes_are_stored_once(volume: Volume):
    content = os.urandom(5 * SMALL_BLOCK)
    assert put(volume, a=content) == len(content)
    assert put(volume, b=content, c=content[:SMALL_BLOCK]) == 0
    assert files_below(volume.trees.path(volume.head)) == {
        "a": content,
        "b": content,
        "c": content[:SMALL_BLOCK],
    }


def test_a_commit_of_nothing_is_none(volume: Volume):
    put(volume, a=b"1")
    number = volume.head.number
    assert put(volume, a=b"1") == 0
    assert volume.head.number == number


def test_what_nothing_refers_to_is_removed(volume: Volume):
    put(volume, a=os.urandom(500), b=b"kept")
    volume.commit(lambda deposit, latest: [Change("a", None)])
    assert volume.collect() >= 500
    assert files_of(reopened(volume)) == {"b": b"kept"}


def test_a_reader_keeps_what_it_reads(volume: Volume):
    content = os.urandom(500)
    put(volume, a=content)
    with volume.pinned() as manifest:
        volume.commit(lambda deposit, latest: [Change("a", None)])
        volume.collect()
        assert files_of(volume, manifest.entries) == {"a": content}
    assert volume.collect() >= 500


@pytest.mark.parametrize("name", ["HEAD", "volume.json"])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"{")], ids=["gone", "garbage"])
def test_a_volume_that_cannot_be_opened_loses_nothing_and_can_be_deleted(
    tmp_path: Path, name: str, harm: Callable[[Path], object]
):
    volumes = Volumes(tmp_path)
    volume = volumes.create("models")
    volumes.create("whole")
    put(volume, a=b"x")
    before = sorted((volume.directory / "blocks").rglob("*"))
    harm(volume.directory / name)
    volumes = Volumes(tmp_path)
    if (volume.directory / "volume.json").exists():
        with pytest.raises(
            errors.DataLossError, match=f"{name} is missing or damaged.* volume delete models"
        ):
            volumes.find("models")
        rows = Stored(volumes).list("volume")
        assert [(row["name"], bool(row.get("problem"))) for row in rows] == [
            ("models", True),
            ("whole", False),
        ]
        assert sorted((volume.directory / "blocks").rglob("*")) == before
        volumes.delete("models")
    assert [row["name"] for row in Stored(volumes).list("volume")] == ["whole"]


def test_a_damaged_block_is_told_by_file_and_volume(volume: Volume):
    put(volume, weights=b"x" * 40, other=b"y")
    path = volume.blocks.path(volume.head.entries["weights"].digests[0])
    path.chmod(0o600)
    path.write_bytes(b"z" * 40)
    with pytest.raises(errors.DataLossError, match=r"volume 'models', file 'weights'.* is damaged"):
        list(volume.blocks.contents(volume.head.entries["weights"], "volume 'models', file 'weights'"))
    assert list(volume.blocks.contents(volume.head.entries["other"], "")) == [b"y"]
    path.write_bytes(b"z")
    with pytest.raises(errors.DataLossError, match=r"volume 'models', file 'weights'.*40"):
        volume.trees.path(volume.head)


@pytest.mark.parametrize("size", [40, 3 * SMALL_BLOCK + 5])
@pytest.mark.parametrize("seen_before", [False, True])
def test_what_was_altered_at_its_size_is_not_shown_and_can_be_put_again(volume, size, seen_before):
    put(volume, weights=os.urandom(size), other=b"y")
    content = files_of(volume)["weights"]
    if seen_before:
        volume.trees.path(volume.head)
    entry = volume.head.entries["weights"]
    path = Path(volume.blocks.whole(entry, "")[0])
    path.chmod(0o600)
    path.write_bytes(b"z" * size)
    with pytest.raises(errors.DataLossError, match=r"volume 'models', file 'weights': block \w+ is damaged"):
        volume.trees.path(volume.head)
    assert list(volume.blocks.contents(volume.head.entries["other"], "")) == [b"y"]
    blocks = [content[at : at + SMALL_BLOCK] for at in range(0, size, SMALL_BLOCK)]
    while missing := volume.missing(entry.digests):  # each that is found damaged is asked for
        volume.put_blocks([memoryview(blocks[entry.digests.index(each)]) for each in missing])
        with contextlib.suppress(errors.DataLossError):
            volume.trees.path(volume.head)
    assert files_below(volume.trees.path(volume.head)) == {"weights": content, "other": b"y"}
    volume.collect()
    assert files_below(volume.trees.path(volume.head))["weights"] == content


def test_a_file_altered_in_a_tree_alone_is_put_there_anew(volume):
    put(volume, weights=b"x" * 40, other=b"y")
    place = volume.trees.path(volume.head)
    (place / "weights").unlink()
    (place / "weights").write_bytes(b"z" * 40)
    (place / "other").unlink()
    assert files_below(volume.trees.path(volume.head)) == {"weights": b"x" * 40, "other": b"y"}


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a/..", "x\0y", "a/" + "n" * 256])
def test_a_path_out_of_the_volume_is_refused(path: str):
    with pytest.raises(errors.InvalidError, match="volume 'models'"):
        clean_path(path, "volume 'models'")


# crashes and full disks

STEPS = ("write_file", "write_all", "rename", "sync", "sync_one")


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``fail_at(n)``: what is asked of the disk for the n-th time from now fails, as when it is full."""
    left = [0]

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(*args)

        return call

    for name in STEPS:
        monkeypatch.setattr(disk, name, failing(getattr(disk, name)))
    return lambda number: left.__setitem__(0, number)


def test_a_full_disk_at_any_step_leaves_the_previous_commit(volume: Volume, fail_at: Callable[[int], None]):
    before = {"a": b"old", "big": os.urandom(300)}
    put(volume, **before)
    after = {
        **before,
        "a": b"new",
        "b": b"more",
        "big": before["big"][:100] + b"!" * 200,
        "new": os.urandom(400),
    }
    for number in range(1, 100):
        fail_at(number)
        told = refusal_of(lambda: put(volume, **after))
        if not told:
            break
        assert "'models'" in told
        assert "the disk is full" in told
        # The last step of all syncs what is already true.
        assert files_of(volume) in (before, after)
        assert files_of(volume) == files_of(reopened(volume))
        if files_of(volume) == after:
            volume.commit(lambda deposit, latest: [Change(path, None) for path in after])
            put(volume, **before)
    fail_at(0)
    assert number > 10
    assert files_of(reopened(volume)) == after
    assert not list(volume.directory.rglob("*.new"))


def refusal_of(act: Callable[[], object]) -> str:
    try:
        act()
    except errors.ResourceExhaustedError as error:
        return str(error)
    return ""


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from glowplug.store.volumes import blocks, deposit, disk, manifest
    for module in (blocks, deposit, manifest):
        module.BLOCK_BYTES = 64
    from glowplug.store.volumes.mounts import Mount
    from glowplug.store.volumes.volume import Volume

    left = int(sys.argv[2])

    def dying(real):
        def call(*args):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)
        return call

    volume = Volume(Path(sys.argv[1]), "models")
    mount = Mount.make(volume, "ct-1", 1, "")
    (mount.upper / "a").write_bytes(b"new")
    (mount.upper / "big").write_bytes(b"new" * 100)
    (mount.upper / "d").mkdir()
    (mount.upper / "d" / "b").write_bytes(b"more")
    for name in ("write_file", "write_all", "rename", "sync", "sync_one", "remove_tree"):
        setattr(disk, name, dying(getattr(disk, name)))
    mount.commit()
    (mount.upper / "later").write_bytes(b"later")
    mount.commit()
    mount.remove()
"""


def test_a_kill_at_any_step_leaves_a_whole_commit_and_what_was_written_is_recovered(tmp_path: Path):
    before = {"a": b"old", "big": b"o" * 300, "kept": b"kept"}
    first = {**before, "a": b"new", "big": b"new" * 100, "d/b": b"more"}
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(KILLED))
    seen = []
    for number in range(1, 100):
        volume = Volume.create(tmp_path / f"v{number}", "models", About("vo-1", 0.0))
        put(volume, **before)
        ended = subprocess.run([sys.executable, program, volume.directory, str(number)], check=False)
        volume = reopened(volume)
        found = files_of(volume)
        assert found in (before, first, {**first, "later": b"later"})
        seen.append(found)
        recover(volume)
        assert not list((volume.directory / "mounts").iterdir())
        left = files_of(volume)
        assert left in (first, {**first, "later": b"later"})
        assert len(left) >= len(found)
        assert files_of(reopened(volume)) == left == files_below(volume.trees.path(volume.head))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert number > 10
    assert before in seen
    assert first in seen


# what a container has written


def test_the_last_writer_of_a_file_wins_and_of_no_other(volume: Volume):
    put(volume, shared=b"0", mine=b"0", yours=b"0")
    mine, yours = Mount.make(volume, "ct-1", 1, ""), Mount.make(volume, "ct-2", 1, "")
    (mine.upper / "shared").write_bytes(b"mine")
    (mine.upper / "mine").write_bytes(b"mine")
    mine.commit()
    (yours.upper / "shared").write_bytes(b"yours")
    (yours.upper / "yours").write_bytes(b"yours")
    yours.commit()
    (mine.upper / "later").write_bytes(b"mine")  # what it committed before is not written again
    mine.commit()
    expected = {"shared": b"yours", "mine": b"mine", "yours": b"yours", "later": b"mine"}
    assert files_of(volume) == expected


def test_what_is_removed_above_and_below_is_removed(volume: Volume):
    put(volume, **{"d/x": b"1", "d/y": b"2", "keep": b"3"})
    mount, other = Mount.make(volume, "ct-1", 1, ""), Mount.make(volume, "ct-2", 1, "")
    (mount.upper / "new").write_bytes(b"4")
    mount.commit()
    (other.upper / "d").mkdir()
    (other.upper / "d" / "z").write_bytes(b"from the other")
    other.commit()
    (mount.upper / "new").unlink()
    try:
        os.mknod(mount.upper / "d", stat.S_IFCHR, 0)  # how an overlay marks what was removed
    except PermissionError:
        pytest.skip("this kernel lets only root make whiteouts")
    mount.commit()
    assert files_of(volume) == {"keep": b"3", "d/z": b"from the other"}


def test_a_directory_made_anew_shows_nothing_of_the_old_one(volume: Volume):
    put(volume, **{"d/x": b"1", "d/y": b"2"})
    mount = Mount.make(volume, "ct-1", 1, "")
    (mount.upper / "d").mkdir()
    os.setxattr(mount.upper / "d", "user.overlay.opaque", b"y")
    (mount.upper / "d" / "y").write_bytes(b"new")
    mount.commit()
    assert files_of(volume) == {"d/y": b"new"}
    mount.commit()
    assert files_of(volume) == {"d/y": b"new"}


def test_a_part_of_a_volume_is_committed_at_its_place(volume: Volume):
    put(volume, **{"runs/1/log": b"1", "top": b"2"})
    mount = Mount.make(volume, "ct-1", 1, "runs/1")
    assert files_below(mount.lower) == {"log": b"1"}
    (mount.upper / "more").write_bytes(b"3")
    mount.commit()
    assert files_of(volume) == {"runs/1/log": b"1", "top": b"2", "runs/1/more": b"3"}


def test_modes_links_and_times_are_kept(volume: Volume):
    mount = Mount.make(volume, "ct-1", 1, "")
    (mount.upper / "run.sh").write_bytes(b"#!/bin/sh")
    (mount.upper / "run.sh").chmod(0o755)
    os.utime(mount.upper / "run.sh", ns=(0, 123456789))
    (mount.upper / "copy.sh").write_bytes(b"#!/bin/sh")
    (mount.upper / "link").symlink_to("/etc/passwd")
    (mount.upper / "private").mkdir(mode=0o700)
    mount.commit()
    tree = volume.trees.path(volume.head)
    assert stat.S_IMODE((tree / "run.sh").stat().st_mode) == 0o755
    assert (tree / "run.sh").stat().st_mtime_ns == 123456789
    assert stat.S_IMODE((tree / "copy.sh").stat().st_mode) != 0o755
    assert os.readlink(tree / "link") == "/etc/passwd"
    assert stat.S_IMODE((tree / "private").stat().st_mode) == 0o700
    assert volume.head.entries["private"].kind == DIRECTORY


def test_files_somebody_writes_wait_for_the_next_commit(volume: Volume):
    mount = Mount.make(volume, "ct-1", 1, "")
    (mount.upper / "done").write_bytes(b"1")
    with open(mount.upper / "being", "wb") as file:
        file.write(b"half")
        file.flush()
        mount.commit(only_settled=True)
        assert files_of(volume) == {"done": b"1"}
        file.write(b" and half")
    mount.commit(only_settled=True)
    assert files_of(volume) == {"done": b"1", "being": b"half and half"}


def test_pipes_and_sockets_stay_behind(volume: Volume):
    mount = Mount.make(volume, "ct-1", 1, "")
    os.mkfifo(mount.upper / "pipe")
    (mount.upper / "file").write_bytes(b"1")
    mount.commit()
    assert list(volume.head.entries) == ["file"]
    assert mount.skipped == ["pipe"]


def test_what_a_zygote_holds_before_a_volume_is_opened_is_what_is_filled_then(tmp_path: Path):
    for private, name in ((True, "trees"), (False, "live")):
        Volumes(tmp_path).create(name)
        views = Views(Volumes(tmp_path), Buckets(tmp_path))
        use = VolumeUse(name, "/v")
        place = Path(views.place(use, private))
        held = place / "trees" if private else place
        before = held.stat().st_ino
        (view,) = views.open("ct-1", [use], private)
        assert Path(view.source).is_relative_to(held)
        assert held.stat().st_ino == before
        views.close("ct-1")


def test_views_of_other_commits_are_left_alone(volume: Volume):
    put(volume, a=b"1", b=b"same")
    view = Mount.make(volume, "ct-1", 1, "")
    assert files_below(view.lower) == {"a": b"1", "b": b"same"}
    put(volume, a=b"2", c=b"3")
    put(volume, a=b"4")
    newer = volume.trees.path(volume.head)
    assert files_below(newer) == {"a": b"4", "b": b"same", "c": b"3"}
    assert files_below(view.lower) == {"a": b"1", "b": b"same"}
    view.remove()
    put(volume, a=b"5")
    assert files_below(volume.trees.path(volume.head)) == {"a": b"5", "b": b"same", "c": b"3"}
    put(volume, a=b"6")
    volume.trees.path(volume.head)
    # "empty" is for parts that do not exist yet.
    assert len(list(volume.trees.directory.iterdir())) <= 3
