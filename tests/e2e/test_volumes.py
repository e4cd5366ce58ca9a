"""Volumes between real containers: views of their own, commits, reloads, and what a kill leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import AppStarter, value_of
from e2e.processes import until
from glowplug.model import errors
from glowplug.sdk.network_file_system import NetworkFileSystem
from glowplug.sdk.volume import Volume

SOURCE = """
import os
from glowplug.sdk.volume import Volume
from glowplug.sdk.network_file_system import NetworkFileSystem

vol = Volume("v")


def meet(name):
    open(f"/gate/{name}").read()


def write(given):
    for path, text in given.items():
        os.makedirs(os.path.dirname(f"/v/{path}"), exist_ok=True)
        with open(f"/v/{path}", "w") as file:
            file.write(text)
    return sorted(os.listdir("/v"))


def write_and_commit(given):
    write(given)
    vol.commit()


def read(_):
    found = {}
    for directory, _, names in os.walk("/v"):
        for name in names:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, "/v")] = open(path).read()
    return found


def write_and_wait(given):
    write(given)
    open("/gate/written", "w").close()
    meet("go")
    return os.getpid()


def see_both_times(_):
    before = read(0)
    open("/gate/seen", "w").close()
    meet("go")
    unchanged = read(0)
    vol.reload()
    return before, unchanged, read(0)


def reload_with_an_open_file(_):
    with open("/v/a"):
        open("/gate/seen", "w").close()
        meet("go")
        try:
            vol.reload()
        except RuntimeError as error:
            told = str(error)
    still = read(0)
    vol.reload()
    return told, still, read(0)


def change(_):
    os.remove("/v/gone")
    os.remove("/v/d/x")
    os.rename("/v/a", "/v/b")
    os.symlink("b", "/v/link")
    os.chmod("/v/b", 0o700)
    vol.commit()


def ask_inside(_):
    told = [entry.path for entry in vol.listdir("/", recursive=True)], b"".join(vol.read_file("a"))
    with vol.batch_upload(force=True) as batch:
        batch.put_file(__file__, "/uploaded.py")
    refused = []
    for act in (
        lambda: Volume("other").listdir("/"),
        lambda: Volume.ephemeral().__enter__(),
        lambda: Volume.delete("v"),
        lambda: Volume.rename("v", "w"),
        lambda: NetworkFileSystem("v").listdir("/"),
    ):
        try:
            act()
        except Exception as error:
            refused.append(type(error).__name__)
    vol.reload()
    return told, os.path.exists("/v/uploaded.py"), refused


def try_to_write(_):
    try:
        open("/v/new", "w")
    except OSError as error:
        return error.errno
"""
MOUNT = {"volumes": [{"name": "v", "mount_path": "/v"}]}


@pytest.fixture(params=["private", "shared"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Views of their own, and one directory for all where there can be none."""
    return request.param


@pytest.fixture
def started(start_app: AppStarter, mode: str, monkeypatch: pytest.MonkeyPatch) -> AppStarter:
    if mode == "shared":
        monkeypatch.setenv("GLOWPLUG_VOLUME_VIEWS", "shared")
    return start_app


def functions(*names: str, **volume: Any) -> dict[str, Any]:
    mounted = {**MOUNT["volumes"][0], **volume}
    return {name: {"definition": {"volumes": [mounted]}} for name in names}


def contents(name: str = "v") -> dict[str, bytes]:
    volume = Volume(name)
    return {
        each.path: b"".join(volume.read_file(each.path))
        for each in volume.listdir("/", recursive=True)
        if each.type == 1
    }


def meet(gate: Any, name: str) -> None:
    with open(gate, "w" if name == "go" else "r"):
        pass


def test_what_is_committed_is_there_for_the_next_container_and_outside(started: AppStarter):
    app = started(SOURCE, **functions("write_and_commit", "read"))
    app.remote("write_and_commit", {"a": "1", "d/x": "2"})
    assert app.remote("read", 0) == {"a": "1", "d/x": "2"}
    assert contents() == {"a": b"1", "d/x": b"2"}


def test_another_volume_of_the_name_is_not_taken_for_the_former(started: AppStarter):
    for content in "12":
        app = started(SOURCE, **functions("write_and_commit", "read"))
        app.remote("write_and_commit", {content: content})
        assert app.remote("read", 0) == {content: content}
        app.run.close()
        until(lambda: _deleted("v"), "the end of the containers")


def _deleted(name: str) -> bool:
    try:
        Volume.delete(name)
    except errors.ConflictError:
        return False
    return True


def test_the_end_of_a_container_commits(started: AppStarter):
    app = started(SOURCE, **functions("write"))
    app.remote("write", {"a": "1"})
    app.run.close()
    assert contents() == {"a": b"1"}


def test_so_does_its_kill(started: AppStarter, gate: Any, mode: str):
    written, _ = gate("written"), gate("go")
    app = started(SOURCE, **functions("write_and_wait"))
    app.spawn("write_and_wait", {"a": "1"})
    meet(written, "written")
    app.run.close()
    assert contents() == {"a": b"1"}
    if mode == "private":
        home = Path(os.environ["GLOWPLUG_HOME"])
        assert not list((home / "volumes" / "v" / "mounts").iterdir())


def test_what_a_killed_server_left_is_committed_by_the_next(started: AppStarter, gate: Any):
    written, _ = gate("written"), gate("go")
    app = started(SOURCE, **functions("write_and_wait"))
    app.spawn("write_and_wait", {"a": "1"})
    meet(written, "written")
    server = app.client.server_pid
    descriptor = os.pidfd_open(server)
    app.client.close()
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    # The containers end with their server, and the next one takes over what they wrote.
    assert until(lambda: contents() or None, "the recovered commit") == {"a": b"1"}


def test_a_running_container_commits_by_itself(started: AppStarter, gate: Any):
    written, go = gate("written"), gate("go")
    app = started(SOURCE, **functions("write_and_wait"))
    Volume.lookup("v", create_if_missing=True)
    call = app.spawn("write_and_wait", {"a": "1"})
    meet(written, "written")
    until(lambda: contents() == {"a": b"1"}, "the background commit")
    meet(go, "go")
    assert call.next().status == "success"


def test_a_container_sees_its_own_view_until_it_reloads(start_app: AppStarter, gate: Any):
    seen, go = gate("seen"), gate("go")
    Volume.lookup("v", create_if_missing=True)
    with Volume("v").batch_upload() as batch:
        batch.put_file(__file__, "first.py")
    app = start_app(SOURCE, **functions("see_both_times", "write_and_commit"))
    call = app.spawn("see_both_times", 0)
    meet(seen, "seen")
    app.remote("write_and_commit", {"a": "1"})
    meet(go, "go")
    before, unchanged, after = value(call)
    assert set(before) == set(unchanged) == {"first.py"}
    assert set(after) == {"first.py", "a"}


def test_a_reload_with_open_files_is_refused(start_app: AppStarter, gate: Any):
    seen, go = gate("seen"), gate("go")
    app = start_app(SOURCE, **functions("reload_with_an_open_file", "write_and_commit"))
    app.remote("write_and_commit", {"a": "1"})
    call = app.spawn("reload_with_an_open_file", 0)
    meet(seen, "seen")
    app.remote("write_and_commit", {"b": "2"})
    meet(go, "go")
    told, still, after = value(call)
    assert "open files in /v" in told
    assert still == {"a": "1"}
    assert after == {"a": "1", "b": "2"}


def test_removals_renames_links_and_modes_are_committed(started: AppStarter):
    app = started(SOURCE, **functions("write_and_commit", "change"))
    app.remote("write_and_commit", {"a": "1", "gone": "2", "d/x": "3", "d/y": "4"})
    app.remote("change", 0)
    assert contents() == {"b": b"1", "d/y": b"4"}
    entries = {each.path: each.type for each in Volume("v").listdir("/")}
    assert entries == {"b": 1, "d": 2, "link": 3}


def test_a_volume_is_asked_inside_a_container_too_if_it_is_mounted_there(started: AppStarter, mode: str):
    app = started(SOURCE, **functions("write_and_commit", "ask_inside"))
    app.remote("write_and_commit", {"a": "1"})
    (listed, read), uploaded, refused = app.remote("ask_inside", 0)
    assert listed == ["a"]
    assert read == b"1"
    assert uploaded
    assert refused == ["PermissionDeniedError"] * 5


def test_read_only_is_read_only(start_app: AppStarter):
    app = start_app(
        SOURCE, **functions("write_and_commit"), **functions("try_to_write", "read", read_only=True)
    )
    app.remote("write_and_commit", {"a": "1"})
    assert app.remote("try_to_write", 0) == 30  # EROFS
    assert app.remote("read", 0) == {"a": "1"}


def test_a_part_of_a_volume_is_mounted_and_committed_in_place(started: AppStarter):
    app = started(SOURCE, **functions("write", "read", sub_path="runs/1"))
    assert app.remote("read", 0) == {}
    app.remote("write", {"log": "1"})
    app.run.close()
    assert contents() == {"runs/1/log": b"1"}


def test_what_one_writes_to_a_network_file_system_the_other_sees(start_app: AppStarter, gate: Any):
    written, go = gate("written"), gate("go")
    shared = functions("write_and_wait", "read", kind="shared")
    app = start_app(SOURCE, **shared)
    call = app.spawn("write_and_wait", {"d/a": "1"})
    meet(written, "written")
    assert app.remote("read", 0) == {"d/a": "1"}
    nfs = NetworkFileSystem("v")
    assert [each.path for each in nfs.listdir("/d")] == ["d/a"]
    assert b"".join(nfs.read_file("d/a")) == b"1"
    meet(go, "go")
    assert call.next().status == "success"


def test_links_in_a_network_file_system_lead_nowhere(start_app: AppStarter, tmp_path: Path):
    nfs = NetworkFileSystem.lookup("v", create_if_missing=True)
    (tmp_path / "secret").write_text("secret")
    place = tmp_path / "home" / "network-file-systems" / "v"
    (place / "link").symlink_to(tmp_path / "secret")
    (place / "outside").symlink_to(tmp_path)
    for path in ("link", "outside/secret", "../../../secret"):
        with pytest.raises(errors.Error):
            list(nfs.read_file(path))
    for path in ("outside/new", "../new"):
        with pytest.raises(errors.Error), open(__file__, "rb") as file:
            nfs.write_file(path, file)
    with pytest.raises(errors.Error):
        nfs.remove_file("outside/secret")
    nfs.remove_file("outside")
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "new").exists()


def test_a_volume_that_does_not_exist_is_told_with_what_makes_it(start_app: AppStarter):
    with pytest.raises(errors.NotFoundError, match="glowplug volume create absent"):
        start_app(SOURCE, **functions("read", name="absent", create=False))


def value(call: Any) -> Any:
    return value_of(call.next())
