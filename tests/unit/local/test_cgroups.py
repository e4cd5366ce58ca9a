"""Control groups, on trees of plain files that stand for either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from glowplug.backends.local.cgroups import ControlGroups, Hierarchy, find
from glowplug.backends.local.limits import Limits

V1_MOUNTS = """\
31 24 0:27 / {root}/memory rw - cgroup cgroup rw,memory
32 24 0:28 / {root}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 / {root}/pids rw - cgroup cgroup rw,pids
34 24 0:30 / {root}/unified rw - cgroup2 cgroup2 rw
"""
V1_OWN = "4:memory:/own\n8:pids:/\n3:cpu,cpuacct:/\n0::/\n"
BOUNDED = Limits(cpu_request=2, cpu_limit=4, memory_request_mib=64, memory_limit_mib=128, processes=100)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories in which the kernel's files appear by being written."""
    from glowplug.backends.local import cgroups

    monkeypatch.setattr(cgroups, "_write", lambda path, text: path.write_text(text))
    return tmp_path


def found_in(place: Path, own: str, mounts: str) -> tuple[list[Hierarchy], str]:
    (place / "own").write_text(own)
    (place / "mounts").write_text(mounts.format(root=place))
    return find(place / "own", place / "mounts")


def test_first_version_below_what_this_process_is_in(place: Path):
    for name in ("memory/own", "pids", "cpu,cpuacct"):
        (place / name).mkdir(parents=True)
    hierarchies, refusal = found_in(place, V1_OWN, V1_MOUNTS)
    assert refusal == ""
    assert [(each.base.relative_to(place), each.controllers) for each in hierarchies] == [
        (Path("pids"), ("pids",)),
        (Path("memory/own"), ("memory",)),
        (Path("cpu,cpuacct"), ("cpu",)),
    ]


def test_without_memory_or_processes_there_is_none_and_it_says_why(place: Path):
    (place / "cpu,cpuacct").mkdir()
    hierarchies, refusal = found_in(place, V1_OWN, V1_MOUNTS)
    assert hierarchies == []
    assert "No such file or directory" in refusal
    assert found_in(place, "", "")[1] == "no control groups for memory and processes are mounted"


def v2(directory: Path, enabled: str = "") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file in ("cgroup.procs", "cgroup.subtree_control"):
        (directory / file).write_text(enabled if file == "cgroup.subtree_control" else "")


def test_second_version_uses_the_highest_group_that_is_ours(place: Path):
    """As for a user's service: the tree above is root's, what was delegated is the user's."""
    top = place / "top"
    delegated = top / "user.slice" / "user@1000.service"
    for directory in (delegated, delegated / "app.slice", delegated / "app.slice" / "terminal.scope"):
        v2(directory, "cpu memory pids")
    top.joinpath("cgroup.procs").mkdir()  # no group of ours: its files are missing
    own = "0::/user.slice/user@1000.service/app.slice/terminal.scope\n"
    hierarchies, refusal = found_in(place, own, "30 24 0:26 / {root}/top rw - cgroup2 cgroup2 rw\n")
    assert refusal == ""
    assert hierarchies == [Hierarchy(delegated, 2, ("memory", "pids", "cpu"))]


def test_second_version_where_nothing_is_ours(place: Path):
    (place / "top").mkdir()
    hierarchies, refusal = found_in(place, "0::/\n", "30 24 0:26 / {root}/top ro - cgroup2 cgroup2 ro\n")
    assert hierarchies == []
    assert "no part of the tree is ours" in refusal


def test_limits_as_the_first_version_writes_them(place: Path):
    tree = [Hierarchy(place / name, 1, (name,)) for name in ("pids", "memory", "cpu")]
    for each in tree:
        each.base.mkdir()
    groups = ControlGroups(tree, place, cores=2, memory_mib=1000)
    groups.make("ct-1", BOUNDED)
    written = {
        str(path.relative_to(path.parents[1])): path.read_text() for path in place.glob("*/glowplug-*/ct-1/*")
    }
    assert written == {
        "ct-1/memory.limit_in_bytes": str(128 << 20),
        "ct-1/memory.memsw.limit_in_bytes": str(128 << 20),
        "ct-1/pids.max": "100",
        "ct-1/cpu.shares": "2048",
        "ct-1/cpu.cfs_quota_us": "400000",
    }
    (shared,) = place.glob("memory/glowplug-*/memory.limit_in_bytes")
    assert shared.read_text() == str(1000 << 20)


def test_limits_as_the_second_version_writes_them(place: Path):
    groups = ControlGroups([Hierarchy(place, 2, ("memory", "pids", "cpu"))], place, cores=2, memory_mib=1000)
    groups.make("ct-1", BOUNDED)
    written = {path.name: path.read_text() for path in place.glob("glowplug-*/ct-1/*")}
    assert written == {
        "memory.max": str(128 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "100",
        "cpu.weight": "79",
        "cpu.max": "400000 100000",
    }


def test_a_container_without_limits_costs_no_group_for_cores(place: Path):
    tree = [Hierarchy(place / name, 1, (name,)) for name in ("pids", "memory", "cpu")]
    for each in tree:
        each.base.mkdir()
    ControlGroups(tree, place, cores=2, memory_mib=1000).make("ct-1", Limits(processes=100))
    assert sorted(path.parts[-3] for path in place.glob("*/glowplug-*/ct-1")) == ["memory", "pids"]


@pytest.mark.parametrize(("version", "file"), [(1, "memory.oom_control"), (2, "memory.events")])
def test_who_ran_out_of_memory(place: Path, version: int, file: str):
    groups = ControlGroups([Hierarchy(place, version, ("memory", "pids"))], place, cores=2, memory_mib=1000)
    group = groups.make("ct-1", BOUNDED)
    (directory,) = place.glob("glowplug-*/ct-1")
    (directory / file).write_text("under_oom 0\noom_kill 0\noom_kill_disable 0\n")
    assert not group.was_out_of_memory()
    (directory / file).write_text("under_oom 0\noom_kill 2\n")
    assert group.was_out_of_memory()
