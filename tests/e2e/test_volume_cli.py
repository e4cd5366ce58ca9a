"""``glowplug volume`` and ``glowplug nfs`` as users type them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glowplug.sdk.volume import Volume

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with files to send."""
    (tmp_path / "sent" / "deep").mkdir(parents=True)
    (tmp_path / "sent" / "a.txt").write_text("a")
    (tmp_path / "sent" / "deep" / "big").write_bytes(os.urandom(9 << 20))
    (tmp_path / "sent" / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "sent" / "deep" / "run.sh").chmod(0o755)
    (tmp_path / "secret").write_text("secret")
    return tmp_path


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_files_go_in_and_come_out(cli: Cli, here: Path):
    said(cli("volume", "create", "v"))
    assert "9.0 MiB of it new" in said(cli("volume", "put", "v", "sent", "/x/"))
    assert "all there already" in said(cli("volume", "put", "v", "sent", "/x/", "--force"))
    assert "'x/sent/a.txt'" in refused(cli("volume", "put", "v", "sent", "/x/"))
    listed = json.loads(said(cli("volume", "ls", "v", "/x/sent", "--json")))
    assert [(each["path"], each["type"]) for each in listed] == [
        ("x/sent/a.txt", "file"),
        ("x/sent/deep", "directory"),
    ]
    assert "x/sent/deep/" in said(cli("volume", "ls", "v", "x/sent"))
    said(cli("volume", "get", "v", "/x/sent", "back"))
    for name in ("a.txt", "deep/big", "deep/run.sh"):
        assert (here / "back" / "sent" / name).read_bytes() == (here / "sent" / name).read_bytes()
    assert "--force" in refused(cli("volume", "get", "v", "/x/sent/a.txt", "back/sent/a.txt"))
    assert said(cli("volume", "get", "v", "/x/sent/a.txt", "-")) == "a"
    (row,) = json.loads(said(cli("volume", "list", "--json")))
    assert (row["name"], row["files"]) == ("v", 3)
    assert "9.0 MiB" in said(cli("volume", "list"))


def test_files_are_copied_removed_and_volumes_renamed_and_deleted(cli: Cli, here: Path):
    said(cli("volume", "create", "v"))
    assert "there is a volume 'v' already" in refused(cli("volume", "create", "v"))
    said(cli("volume", "put", "v", "sent/a.txt"))
    said(cli("volume", "cp", "v", "a.txt", "d/"))
    said(cli("volume", "cp", "v", "d", "e", "-r"))
    assert said(cli("volume", "get", "v", "e/a.txt", "-")) == "a"
    assert "is a directory" in refused(cli("volume", "rm", "v", "d"))
    said(cli("volume", "rm", "v", "d", "-r"))
    assert "no 'd'" in refused(cli("volume", "ls", "v", "d"))
    assert cli("volume", "rename", "v", "w").returncode == 130, "nobody said yes"
    said(cli("volume", "rename", "v", "w", "--yes"))
    said(cli("volume", "collect", "w"))
    said(cli("volume", "delete", "w", "-y"))
    assert "there is no volume 'w'" in refused(cli("volume", "delete", "w", "-y"))
    said(cli("volume", "delete", "w", "-y", "--allow-missing"))


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "x" * 65, "ä"])
def test_a_name_that_cannot_be_one_is_refused(cli: Cli, name: str):
    assert "letters, digits, dashes" in refused(cli("volume", "create", name))


@pytest.mark.parametrize("remote", ["../out", "a/../../out", "/.."])
def test_a_path_out_of_the_volume_is_refused(cli: Cli, here: Path, remote: str):
    said(cli("volume", "create", "v"))
    assert "leads out of it" in refused(cli("volume", "put", "v", "sent/a.txt", remote))
    assert "leads out of it" in refused(cli("volume", "get", "v", remote, "-"))


def test_network_file_systems_have_the_same_commands(cli: Cli, here: Path):
    said(cli("nfs", "create", "n"))
    said(cli("nfs", "put", "n", "sent", "/"))
    assert said(cli("nfs", "get", "n", "/sent/a.txt", "-")) == "a"
    assert (here / "home/network-file-systems/n/sent/deep/run.sh").stat().st_mode & 0o777 == 0o755
    assert "n" in said(cli("nfs", "list"))
    said(cli("nfs", "rm", "n", "sent", "-r"))
    assert said(cli("nfs", "ls", "n")) == ""
    said(cli("nfs", "delete", "n", "--yes"))
    assert "there is no network file system 'n'" in refused(cli("nfs", "ls", "n"))


def test_damage_is_told_by_file_and_leaves_no_file_here(cli: Cli, here: Path):
    said(cli("volume", "create", "v"))
    said(cli("volume", "put", "v", "sent/a.txt"))
    (block,) = (here / "home/volumes/v/blocks").glob("*/*")
    block.chmod(0o600)
    block.write_text("b")
    told = refused(cli("volume", "get", "v", "a.txt", "back.txt"))
    assert "volume 'v', file 'a.txt': block " in told
    assert "is damaged" in told
    said(cli("volume", "put", "v", "sent/deep/big"))
    last = hashlib.sha256((here / "sent/deep/big").read_bytes()[8 << 20 :]).hexdigest()
    (block,) = (here / "home/volumes/v/blocks").glob(f"*/{last}")
    block.chmod(0o600)
    block.write_bytes(b"else")
    told = refused(cli("volume", "get", "v", "big", "back.txt"))
    assert "volume 'v', file 'big': block " in told
    assert "broke off" not in told
    assert not (here / "back.txt").exists()
    assert not list(here.glob(".back*"))


@pytest.fixture
def small_disk(tmp_path: Path, server_env: dict[str, str]) -> Iterator[Path]:
    """The home of the server on a disk of 24 MiB."""
    home = tmp_path / "small"
    home.mkdir()
    mounted = os.getuid() == 0 and shutil.which("mount")
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", home]).returncode:
        pytest.skip("only root can make a small disk")
    server_env["GLOWPLUG_HOME"] = str(home)
    yield home
    subprocess.run(["umount", "-l", home], check=True)


def test_a_full_disk_is_told_and_the_last_commit_stays(
    cli: Cli, small_disk: Path, here: Path, server_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    said(cli("volume", "create", "v"))
    said(cli("volume", "put", "v", "sent/a.txt"))
    (here / "large").write_bytes(os.urandom(40 << 20))
    assert "the disk is full" in refused(cli("volume", "put", "v", "large"))
    assert said(cli("volume", "get", "v", "a.txt", "-")) == "a"
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    assert [each.path for each in Volume("v").listdir("/")] == ["a.txt"]
    assert not list((small_disk / "volumes").rglob("*.new"))
    cli("server", "stop", "--force")
