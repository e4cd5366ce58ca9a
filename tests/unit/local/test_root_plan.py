"""What of a machine the root of a container shows: what an interpreter and a script need, and no more."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from glowplug.backends.local import sandbox
from glowplug.backends.local.bubblewrap import Bubblewrap
from glowplug.backends.local.environments import Environments, runtime_directory
from glowplug.backends.local.sandbox import RootPlan, VolumeMount, make_root_plan
from glowplug.ports.volumes import View

RUNTIME = runtime_directory()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path))


def interpreter(prefix: Path, target: Path | str = "/usr/bin/python3") -> dict[str, Any]:
    """An environment whose interpreter lies in ``prefix``."""
    (prefix / "bin").mkdir(parents=True, exist_ok=True)
    executable = prefix / "bin" / "python"
    if not executable.is_symlink():
        executable.symlink_to(target)
    return {"executable": str(executable), "prefix": str(prefix), "base_prefix": "/usr", "sys_path": []}


def plan(
    environment: dict[str, Any] | None = None,
    directory: Path | str | None = None,
    script: str | None = None,
    volumes: list[VolumeMount] | None = None,
    sys_path: list[str] | None = None,
) -> RootPlan:
    environment = environment or {"executable": "/usr/bin/python3", "prefix": "/usr", "base_prefix": "/usr"}
    environment = {**environment, "sys_path": sys_path or environment.get("sys_path", [])}
    source = {"directory": None if directory is None else str(directory), "script": script}
    of_app = Environments(RUNTIME, "/alias", Path("/nowhere"), None, sandboxed=True).of_app(environment)
    return make_root_plan(of_app, source, volumes or [], [])


def shown(made: RootPlan) -> dict[str, str]:
    return {path: mode for _, path, mode in made.binds}


def is_visible(made: RootPlan, path: Path | str) -> bool:
    return any(str(path) == bound or str(path).startswith(bound + "/") for bound in shown(made))


def test_nothing_of_the_users_is_shown_unasked(place):
    (place / "secret").mkdir()
    made = plan(interpreter(place / "venv"))
    assert is_visible(made, place / "venv")
    assert not is_visible(made, place / "secret")
    assert not is_visible(made, Path.home())
    assert "/home" not in shown(made)
    assert "/var" not in shown(made)


def test_parents_come_before_what_lies_in_them(place):
    made = plan(interpreter(place / "a" / "venv"), place / "a", sys_path=[str(place), RUNTIME])
    paths = [path for _, path, _ in made.binds]
    assert len(set(paths)) == len(paths)
    for number, path in enumerate(paths):
        assert not any(later != path and path.startswith(later + "/") for later in paths[number:])


@pytest.mark.parametrize("where", ["beside", "script in venv", "venv in script's"])
def test_the_scripts_directory_is_writable_wherever_it_lies(place, where):
    venv, directory = {
        "beside": (place / "venv", place / "script"),
        "script in venv": (place / "venv", place / "venv" / "share" / "script"),
        "venv in script's": (place / "script" / ".venv", place / "script"),
    }[where]
    environment = interpreter(venv)
    directory.mkdir(parents=True, exist_ok=True)
    made = plan(environment, directory)
    assert shown(made)[str(directory)] == "overlay"
    assert is_visible(made, environment["executable"])


def test_system_directories_may_hold_the_script():
    assert shown(plan(directory="/usr/share"))["/usr/share"] == "overlay"
    assert shown(plan(directory="/usr/share"))["/usr"] == "ro"


def test_a_script_in_the_root_directory_is_shown_alone():
    made = plan(directory="/", script="/etc/hostname")
    assert "/" not in shown(made)
    assert is_visible(made, "/etc/hostname")
    lonely = plan(directory="/", script="/glowplug-script.py")
    assert shown(lonely)["/glowplug-script.py"] == "ro"


@pytest.mark.parametrize("directory", ["/tmp", "/root"])
def test_private_directories_are_shown_only_when_the_script_is_in_them(directory):
    if not os.access(directory, os.R_OK):
        pytest.skip(f"{directory} is another user's here")
    assert shown(plan(directory=directory))[directory] == "overlay"
    assert directory not in shown(plan(sys_path=[directory, "/"]))


def test_a_link_to_the_scripts_directory_keeps_its_name(place):
    (place / "real").mkdir()
    (place / "link").symlink_to(place / "real")
    assert shown(plan(directory=place / "link"))[str(place / "link")] == "overlay"


def test_every_link_on_the_way_to_the_interpreter_is_there(place):
    """As uv makes them: the venv's python leads over a link named by minor version to the real one."""
    real = interpreter(place / "pythons" / "3.11.7")
    (place / "minor").mkdir()
    (place / "minor" / "python3.11").symlink_to(real["executable"])
    (place / "names").mkdir()
    (place / "names" / "python").symlink_to("../minor/python3.11")
    environment = interpreter(place / "venv", place / "names" / "python")
    made = plan(environment)
    for hop in ("venv/bin/python", "names/python", "minor/python3.11", "pythons/3.11.7/bin/python"):
        assert is_visible(made, place / hop), hop


def test_links_in_a_circle_end(place):
    (place / "a").symlink_to(place / "b")
    (place / "b").symlink_to(place / "a")
    plan({"executable": str(place / "a"), "prefix": "/usr", "base_prefix": "/usr"})


def test_modules_of_every_kind_are_there(place):
    (place / "package").mkdir()
    (place / "zipped.zip").touch()
    made = plan(sys_path=[str(place / "package"), str(place / "zipped.zip"), str(place / "absent"), ""])
    assert shown(made)[str(place / "package")] == "ro"
    assert shown(made)[str(place / "zipped.zip")] == "ro"
    assert not is_visible(made, place / "absent")


def test_a_linked_module_directory_is_there_under_both_names(place):
    (place / "real").mkdir()
    (place / "link").symlink_to(place / "real")
    made = plan(sys_path=[str(place / "link")])
    assert is_visible(made, place / "link")
    assert is_visible(made, place / "real")


def test_what_is_mounted_inside_the_scripts_directory_is_shown_when_needed(place, monkeypatch):
    """An overlay shows one file system; a venv on another disk would be an empty directory."""
    environment = interpreter(place / "script" / "venv")
    stat = os.stat

    class OnAnotherDisk:
        st_dev = -1
        st_ino = 1

    monkeypatch.setattr(
        sandbox.os, "stat", lambda path, **more: OnAnotherDisk if "venv" in str(path) else stat(path, **more)
    )
    assert shown(plan(environment, place / "script"))[str(place / "script" / "venv")] == "ro"


# volumes


def view_of(volume: VolumeMount) -> View:
    return View(volume.path, volume.source)


def container_binds(made: RootPlan) -> list[tuple[str, str]]:
    return [(path, mode) for _, path, mode in made.for_container([])["binds"]]


def test_a_volume_below_a_read_only_path_makes_that_an_overlay():
    made = plan(volumes=[VolumeMount("/v", "/usr/share/glowplug-x/deep"), VolumeMount("/w", "/data/deep")])
    modes = dict(container_binds(made))
    assert modes["/usr"] == "overlay"
    assert modes["/etc"] == "ro"
    shown = made.for_container([], views=[view_of(each) for each in made.volumes])["volumes"]
    assert [path for path, *_ in shown] == ["/data/deep", "/usr/share/glowplug-x/deep"]


def test_one_on_a_directory_that_is_there_needs_none():
    assert dict(container_binds(plan(volumes=[VolumeMount("/v", "/usr/share")])))["/usr"] == "ro"


@pytest.mark.parametrize("inner_first", [True, False])
def test_a_volume_in_a_volume_is_bound_after_it(inner_first):
    volumes = [VolumeMount("/outer", "/data"), VolumeMount("/inner", "/data/cache")]
    made = plan(volumes=volumes[::-1] if inner_first else volumes)
    bound = made.for_container([], views=[view_of(each) for each in made.volumes])["volumes"]
    assert [path for path, *_ in bound] == ["/data", "/data/cache"]
    sources = {f"{sandbox.ZYGOTE_VOLUMES}/{n}": each.source for n, each in enumerate(made.volumes)}
    assert [sources[source] for _, source, *_ in bound] == ["/outer", "/inner"]


def test_a_container_writes_above_a_commit_that_it_cannot_write():
    made = plan(volumes=[VolumeMount("/home/user/v", "/data", layered=True)])
    arguments = made.bubblewrap_arguments(Bubblewrap("/usr/bin/bwrap", (0, 11), supports_overlay=True))
    place = f"{sandbox.ZYGOTE_VOLUMES}/0"
    assert arguments[arguments.index(f"{place}/trees") - 2 :][:2] == ["--ro-bind", "/home/user/v/trees"]
    assert arguments[arguments.index(f"{place}/mounts") - 2 :][:2] == ["--bind", "/home/user/v/mounts"]
    view = View(
        "/data", "/home/user/v/trees/3", "/home/user/v/mounts/c/1/upper", "/home/user/v/mounts/c/1/work"
    )
    assert made.for_container([], views=[view])["volumes"] == [
        ["/data", f"{place}/trees/3", f"{place}/mounts/c/1/upper", f"{place}/mounts/c/1/work"]
    ]


def test_read_only_volumes_are_so_from_the_zygote_on():
    made = plan(volumes=[VolumeMount("/v", "/a", read_only=True), VolumeMount("/w", "/b")])
    arguments = made.bubblewrap_arguments(Bubblewrap("/usr/bin/bwrap", (0, 11), supports_overlay=True))
    at = arguments.index(f"{sandbox.ZYGOTE_VOLUMES}/0")
    assert arguments[at - 2] == "--ro-bind"
    assert arguments[arguments.index(f"{sandbox.ZYGOTE_VOLUMES}/1") - 2] == "--bind"


# what tells plans apart


def test_plans_of_the_same_kind_share_their_zygote(place):
    assert plan(directory=place).digest == plan(directory=place).digest
    assert plan(directory=place).digest != plan(directory=place.parent).digest
    assert plan(volumes=[VolumeMount("/v", "/a")]).digest != plan(volumes=[VolumeMount("/v", "/b")]).digest


def test_this_interpreter_can_be_shown():
    environment = {
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "sys_path": [path for path in sys.path if path],
    }
    made = plan(environment, directory=Path(__file__).parent)
    for path in (sys.executable, os.path.realpath(sys.executable), os.__file__, __file__):
        assert is_visible(made, path), path


def test_a_directory_made_anew_is_another_plan_because_zygotes_show_the_old_one(place):
    venv = place / "venv"
    before = plan(interpreter(venv)).digest
    assert plan(interpreter(venv)).digest == before
    venv.rename(place / "damaged")
    assert plan(interpreter(venv)).digest != before
