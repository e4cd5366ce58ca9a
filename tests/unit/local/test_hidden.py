"""What containers must not see of the paths they are shown."""

from __future__ import annotations

import os
from pathlib import Path

from glowplug.backends.local.bubblewrap import Bubblewrap
from glowplug.backends.local.environments import Environments, runtime_directory
from glowplug.backends.local.hidden import KERNEL, HiddenPaths, not_for_others
from glowplug.backends.local.sandbox import RootPlan, make_root_plan

BWRAP = Bubblewrap("/usr/bin/bwrap", (0, 11), supports_overlay=True)


def make(path: Path, mode: int, is_directory: bool = False) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_directory:
        path.mkdir()
    else:
        path.touch()
    path.chmod(mode)
    return str(path)


def test_what_others_may_not_read(tmp_path: Path):
    closed = {
        make(tmp_path / "shadow", 0o640),
        make(tmp_path / "ssl" / "private", 0o710, is_directory=True),
        make(tmp_path / "listed only", 0o744, is_directory=True),
        make(tmp_path / "deep" / "er" / "key", 0o600),
    }
    make(tmp_path / "passwd", 0o644)
    make(tmp_path / "ssl" / "private" / "key", 0o644)
    (tmp_path / "link").symlink_to(tmp_path / "shadow")
    assert set(not_for_others(str(tmp_path))) == closed


def plan(directory: Path, hidden: HiddenPaths, prefix: str = "/usr") -> RootPlan:
    environment = {"executable": "/usr/bin/python3", "prefix": prefix, "base_prefix": "/usr", "sys_path": []}
    of_app = Environments(runtime_directory(), "/alias", Path("/nowhere"), None, sandboxed=True)
    source = {"directory": str(directory), "script": None}
    return make_root_plan(of_app.of_app(environment), source, [], [], hidden)


def test_the_servers_own_places_are_covered_and_what_is_shown_in_them_is_not(tmp_path: Path):
    """A script in somebody's home directory, in which Glowplug's own lies, in which an environment lies."""
    directory = Path(os.path.realpath(tmp_path))
    home = directory / ".local" / "share" / "glowplug"
    environment = make(home / "images" / "venv", 0o755, is_directory=True)
    keys = make(directory / ".ssh", 0o700, is_directory=True)
    made = plan(directory, HiddenPaths([str(home)], directories=[]), environment)
    order = [(path, mode) for _, path, mode in made.binds if path.startswith(str(directory))]
    assert order == [
        (str(directory), "overlay"),
        (keys, "hidden"),
        (str(home), "hidden"),
        (environment, "ro"),
    ]
    bound = [path for _, path, _ in made.for_container([])["binds"]]
    assert bound.index(str(home)) < bound.index(environment), "an overlay does not show what covers it"
    arguments = made.bubblewrap_arguments(BWRAP)
    at = next(
        at for at, each in enumerate(arguments) if arguments[at - 1] == "--remount-ro" and each == str(home)
    )
    assert at > arguments.index(environment), "nothing can be placed in it afterwards"


def test_covers_of_a_read_only_path_come_with_it(tmp_path: Path):
    directory = Path(os.path.realpath(tmp_path))
    (directory / "script").mkdir()
    etc = directory / "etc"
    secret = make(etc / "shadow", 0o640)
    hidden = HiddenPaths([], directories=[str(etc)])
    assert hidden.within({"/etc": str(etc)}, None) == ["/etc/shadow"]
    assert hidden.within({str(etc): str(etc)}, None) == [secret]
    assert hidden.within({"/usr": "/usr"}, None) == []


def test_corners_of_the_kernel():
    made = HiddenPaths([], directories=[]).within({"/sys": "/sys"}, None)
    assert made == sorted(path for path in KERNEL if os.path.isdir(path))
