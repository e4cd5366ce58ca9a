"""Who counts as a foreign user of a card."""

from __future__ import annotations

import os
import pwd

import pytest

from glowplug.backends.local.inventory.foreign import FOREIGN_MEMORY_LIMIT_MIB, GpuProcess, foreign_uses
from glowplug.model.node import ForeignUse

ME = pwd.getpwuid(os.getuid()).pw_name
LIMIT = FOREIGN_MEMORY_LIMIT_MIB


@pytest.fixture
def proc(tmp_path):
    """/proc with: 100 a container's process, 101 its child, 102 its grandchild, 200 a stranger."""
    for pid, parent in {100: 1, 101: 100, 102: 101, 200: 1, 201: 200}.items():
        directory = tmp_path / str(pid)
        directory.mkdir()
        (directory / "stat").write_text(f"{pid} (we (ird) S) R {parent} 0 0\n")
        (directory / "comm").write_text("train\x1b[2J.py\n")
    return tmp_path


@pytest.fixture
def uses(proc):
    def ask(*processes, used_mib=0, own=(), held=False):
        used_mib = used_mib or sum(process.memory_mib for process in processes)
        return foreign_uses(processes, used_mib, own, held=held, proc=proc)

    return ask


def computing(pid, memory_mib=500):
    return GpuProcess(pid, memory_mib, computes=True, draws=False, command="/opt/elsewhere")


def drawing(pid, memory_mib, computes=False):
    return GpuProcess(pid, memory_mib, computes=computes, draws=True)


def test_nobody(uses):
    assert uses() == ()


def test_a_compute_process_makes_busy_however_small(uses):
    assert uses(computing(200, 1)) == (ForeignUse(200, ME, 1, "train[2J.py"),)


@pytest.mark.parametrize("pid", [100, 101, 102])
def test_our_containers_and_their_descendants_are_not_foreign(uses, pid):
    assert uses(computing(pid), own={100}) == ()


def test_the_servers_own_children_are_not_foreign(uses, proc):
    (proc / "300").mkdir()
    (proc / "300" / "stat").write_text(f"300 (x) S {os.getpid()} 0 0\n")
    assert uses(computing(300)) == ()


def test_both_at_once(uses):
    assert [use.pid for use in uses(computing(101), computing(201), own={100})] == [201]


def test_a_desktop_is_no_reason(uses):
    assert uses(drawing(200, LIMIT - 100)) == ()


def test_a_desktop_that_computes_a_little_is_no_reason(uses):
    assert uses(drawing(200, LIMIT // 2, computes=True)) == ()


def test_drawing_a_lot_is_a_reason(uses):
    assert [use.pid for use in uses(drawing(200, LIMIT + 1))] == [200]


def test_many_small_ones_add_up(uses):
    assert [use.pid for use in uses(drawing(200, 600), drawing(201, 600))] == [200, 201]


def test_memory_of_nobody_visible(uses):
    assert uses(used_mib=30000) == (ForeignUse(0, "unknown", 30000),)
    assert uses(used_mib=LIMIT) == ()


def test_memory_of_nobody_visible_on_our_own_card_is_ours(uses):
    assert uses(used_mib=30000, held=True) == ()


def test_on_our_own_card_a_visible_stranger_still_shows(uses):
    assert [use.pid for use in uses(computing(200), computing(9999), used_mib=30000, held=True)] == [200]


def test_a_process_that_proc_does_not_show_is_foreign_on_a_card_of_nobody(uses):
    assert uses(computing(9999, 77)) == (ForeignUse(9999, "unknown", 77, "elsewhere"),)


def test_a_loop_in_proc_ends(uses, proc):
    (proc / "200" / "stat").write_text("200 (x) S 201 0 0\n")
    assert [use.pid for use in uses(computing(200))] == [200]
