"""What a function runs in: its client's interpreter or an image's, and which files are laid over its root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glowplug.backends.local.bubblewrap import Bubblewrap
from glowplug.backends.local.environments import (
    HOME,
    INSIDE,
    Environments,
    FilesBind,
    link_files,
    linked_runtime,
    runtime_directory,
)
from glowplug.backends.local.sandbox import ZYGOTE_FILES, NodeEnvironment, make_root_plan
from glowplug.model.errors import InvalidError, NotFoundError
from glowplug.ports.images import BuiltImage

APP = {
    "executable": sys.executable,
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "sys_path": ["/app"],
}
BWRAP = Bubblewrap("/usr/bin/bwrap", (0, 11), supports_overlay=True)


class Images:
    """One image and the trees in a directory."""

    def __init__(self, directory: Path, **image: Any) -> None:
        self.directory = directory
        self.image = BuiltImage("im-1", "/venv/bin/python", "3.11", sys_path=("/venv/lib",), **image)

    def built(self, image_id: str) -> BuiltImage | None:
        return self.image if image_id == self.image.image_id else None

    def tree(self, digest: str) -> Path | None:
        return self.directory / digest if (self.directory / digest).is_dir() else None


def environments(directory: Path, sandboxed: bool = True, **image: Any) -> Environments:
    return Environments(runtime_directory(), "/alias", directory, Images(directory, **image), sandboxed)


def of(found: Environments, image_id: str = "im-1", **mounts: str) -> Any:
    wanted = [{"path": path, "tree": tree} for tree, path in mounts.items()]
    return found.of({"image": {"image_id": image_id, "mounts": wanted}}, APP)


def tree(directory: Path, name: str, *files: str) -> Path:
    for each in files:
        path = directory / name / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return directory / name


def sources(directory: str) -> dict[str, bytes]:
    found = Path(directory).rglob("*.py")
    return {str(each.relative_to(directory)): each.read_bytes() for each in found}


def test_without_an_image_it_is_the_clients(tmp_path):
    found = environments(tmp_path).of({"image": None}, APP)
    assert (found.executable, found.runtime, found.files) == (sys.executable, runtime_directory(), ())


def test_an_image_brings_everything_and_is_shown_two_packages_of_ours(tmp_path):
    found = of(
        environments(tmp_path, variables={"A": "1", "PATH": "/opt/bin", "PYTHONPATH": "/mine"}, workdir="/w")
    )
    base = NodeEnvironment.read({}).base(found)
    assert base["A"] == "1"
    assert base["PATH"].split(":")[0] == "/venv/bin"
    assert base["PATH"].split(":")[-1] == "/opt/bin"
    assert base["PYTHONPATH"].split(":") == [f"{INSIDE}/glowplug/sdk/alias", INSIDE, "/mine"]
    plan = make_root_plan(found, {"directory": None}, [], [])
    shown = {path: source for source, path, _ in plan.binds}
    assert {path for path in shown if path.startswith("/.glowplug")} == {
        f"{INSIDE}/glowplug",
        f"{INSIDE}/cloudpickle",
    }
    assert plan.for_container([])["directories"] == ["/w"]
    arguments = plan.bubblewrap_arguments(BWRAP)
    at = arguments.index(f"{INSIDE}/glowplug")
    assert arguments[at - 2 : at] == ["--ro-bind", shown[f"{INSIDE}/glowplug"]]
    assert sources(shown[f"{INSIDE}/glowplug"]) == sources(os.path.join(runtime_directory(), "glowplug"))


def test_what_is_gone_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="image im-2 is not on this machine any more"):
        of(environments(tmp_path), "im-2")
    with pytest.raises(NotFoundError, match="the files for /data are not on this machine any more"):
        of(environments(tmp_path), gone="/data")


def test_files_are_relative_to_the_working_directory_and_come_after_those_of_the_image(tmp_path):
    tree(tmp_path, "one", "a")
    found = of(environments(tmp_path, workdir="/w", files=(("/copied", "/data"),)), one="sub")
    assert found.files == (FilesBind("/copied", "/data"), FilesBind(str(tmp_path / "one"), "/w/sub"))
    assert found.sys_path[0] == HOME
    assert of(environments(tmp_path), one=".").files == (FilesBind(str(tmp_path / "one"), HOME),)


def test_an_app_without_an_image_may_have_files(tmp_path):
    tree(tmp_path, "one", "a")
    found = of(environments(tmp_path), "", one="/data")
    assert (found.executable, [each.path for each in found.files]) == (sys.executable, ["/data"])


def test_files_are_laid_over_the_root_of_containers_and_seen_by_imports(tmp_path):
    tree(tmp_path, "one", "mod.py", "etc-like/x")
    tree(tmp_path, "two", "mod.py")
    plan = make_root_plan(of(environments(tmp_path), one="/root", two="/usr/share/nothing-here"), {}, [], [])
    laid = [bind for bind in plan.for_container([])["binds"] if bind[2] == "files"]
    assert laid == [
        [f"{ZYGOTE_FILES}/0", "/root", "files"],
        [f"{ZYGOTE_FILES}/1", "/usr/share/nothing-here", "files"],
    ]
    modes = {path: mode for _, path, mode in plan.for_container([])["binds"]}
    assert modes["/usr"] == "overlay"  # for the directory to be made in it
    arguments = plan.bubblewrap_arguments(BWRAP)
    assert "/root/mod.py" in arguments
    assert "/root/etc-like" in arguments
    assert "/usr/share/nothing-here/mod.py" not in arguments  # bubblewrap could not make it there


def test_plans_differ_by_their_files(tmp_path):
    tree(tmp_path, "one", "a")
    tree(tmp_path, "two", "a")
    plans = [
        make_root_plan(of(environments(tmp_path), **mounts), {}, [], [])
        for mounts in ({}, {"one": "/d"}, {"two": "/d"}, {"one": "/e"})
    ]
    assert len({plan.digest for plan in plans}) == 4


def test_a_root_of_an_images_own_is_shown_without_what_containers_have_themselves(tmp_path):
    root = tmp_path / "root"
    for name in ("usr/bin", "etc", "proc", "dev", "tmp", "opt"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    plan = make_root_plan(of(environments(tmp_path, root=str(root))), {}, [], [])
    shown = {path: (source, mode) for source, path, mode in plan.binds}
    assert shown["/usr"] == (str(root / "usr"), "overlay")
    assert ("/bin", "usr/bin") in plan.links
    assert not {"/proc", "/dev", "/tmp"} & set(shown)


# without a sandbox


def test_the_runtime_holds_glowplug_alone(tmp_path):
    directory = linked_runtime(tmp_path / "runtime")
    assert sorted(os.listdir(directory)) == ["cloudpickle", "glowplug"]
    assert linked_runtime(tmp_path / "runtime") == directory
    code = "import glowplug.container.zygote, glowplug.sdk, cloudpickle; print(glowplug.__file__)"
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-c", code],
        env={"PYTHONPATH": directory, "PYTHONNOUSERSITE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().startswith(directory)


def test_files_are_links_where_nothing_else_is(tmp_path):
    source = tree(tmp_path, "trees/one", "a", "b/c")
    link_files([FilesBind(str(source), str(tmp_path / "data"))])
    assert (tmp_path / "data/b/c").read_text() == "trees/one"
    newer = tree(tmp_path, "trees/two", "a")
    link_files([FilesBind(str(newer), str(tmp_path / "data"))])
    assert (tmp_path / "data/a").read_text() == "trees/two"
    (tmp_path / "data/b").unlink()
    (tmp_path / "data/b").touch()
    with pytest.raises(
        InvalidError, match=r"data/b cannot be shown to containers without a sandbox: something is"
    ):
        link_files([FilesBind(str(source), str(tmp_path / "data"))])


def test_modules_in_the_home_directory_are_found_without_links(tmp_path):
    source = tree(tmp_path, "one", "mod.py")
    found = of(environments(tmp_path, sandboxed=False), one=HOME)
    assert found.sys_path[0] == str(source)
    assert not os.path.lexists(f"{HOME}/mod.py")


def test_links_go_with_the_server(tmp_path):
    tree(tmp_path, "one", "a")
    found = environments(tmp_path, sandboxed=False)
    of(found, one=str(tmp_path / "data"))
    assert (tmp_path / "data/a").read_text() == "one"
    found.close()
    assert os.listdir(tmp_path / "data") == []
