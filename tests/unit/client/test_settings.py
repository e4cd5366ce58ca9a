"""Where the server of a user is looked for, and whose directories are refused."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from glowplug.client import settings as settings_module
from glowplug.client.settings import make_private_directory, read_settings
from glowplug.model import errors

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's directory")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_of_state(home):
    assert read_settings({}).home == home / ".local/share/glowplug"
    assert read_settings({"XDG_DATA_HOME": "/data"}).home == Path("/data/glowplug")
    assert read_settings({"GLOWPLUG_HOME": "/mine"}).home == Path("/mine")
    assert read_settings({"GLOWPLUG_HOME": "~/mine"}).home == home / "mine"
    assert read_settings({"GLOWPLUG_HOME": "mine"}).home == Path.cwd() / "mine"
    assert read_settings({"GLOWPLUG_HOME": ""}).home == home / ".local/share/glowplug"


def test_every_home_has_its_own_socket_and_lock(home):
    one, other = read_settings({"GLOWPLUG_HOME": "/one"}), read_settings({"GLOWPLUG_HOME": "/other"})
    assert one.socket_path != other.socket_path
    assert one.lock_path != other.lock_path
    assert one.socket_path == read_settings({"GLOWPLUG_HOME": "/one"}).socket_path


def test_another_host_on_the_same_home_has_its_own(home, monkeypatch):
    here = read_settings({}).socket_path
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert read_settings({}).socket_path != here


def test_the_socket_is_in_the_runtime_directory_if_there_is_one(home):
    assert read_settings({"XDG_RUNTIME_DIR": "/tmp"}).runtime_directory == Path("/tmp/glowplug")
    absent = read_settings({"XDG_RUNTIME_DIR": str(home / "absent")})
    assert absent.runtime_directory == Path(tempfile.gettempdir()) / f"glowplug-{os.getuid()}"


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_directory_too_deep_for_a_socket_is_passed_over(home, variable, monkeypatch):
    deep = home / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep) if variable == "TMPDIR" else "/tmp")
    found = read_settings({"XDG_RUNTIME_DIR": str(deep)} if variable == "XDG_RUNTIME_DIR" else {})
    assert found.runtime_directory == Path(f"/tmp/glowplug-{os.getuid()}")


def test_the_longest_socket_path_can_be_bound(home, monkeypatch):
    directory = "/tmp/" + "x" * (settings_module.RUNTIME_PATH_BYTES - len("/tmp/"))
    longest = settings_module.Settings(Path("/h"), Path(directory), {}).socket_path
    assert len(os.fsencode(f"{longest}.{1 << 22}")) < 108  # bound under its server's pid first


def test_a_private_directory_is_made_private(tmp_path):
    path = tmp_path / "a" / "b"
    make_private_directory(path)
    assert path.stat().st_mode & 0o777 == 0o700
    make_private_directory(path)


def test_one_that_was_open_to_others_is_closed(tmp_path):
    path = tmp_path / "open"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    make_private_directory(path)
    assert path.stat().st_mode & 0o777 == 0o700


def refusal(path: Path) -> str:
    with pytest.raises(errors.PermissionDeniedError) as caught:
        make_private_directory(path)
    text = str(caught.value)
    assert str(path) in text
    assert "XDG_RUNTIME_DIR" in text
    return text


@as_root
def test_anothers_directory_is_refused(tmp_path):
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, NOBODY, NOBODY)
    assert f"uid {NOBODY}" in refusal(path)


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_link_is_refused_wherever_it_points(tmp_path, target):
    (tmp_path / "there").mkdir()
    path = tmp_path / "link"
    path.symlink_to(tmp_path / target)
    assert "is a link" in refusal(path)


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert "no directory" in refusal(path)


def test_one_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be made" in refusal(tmp_path / "file" / "below")


def test_the_configuration_is_told_as_a_person_would_write_it(home):
    asked = read_settings({"GLOWPLUG_GPUS": " 2xT4 ", "GLOWPLUG_SANDBOX": "off", "RAY_ADDRESS": " "})
    assert asked.config_text == "GLOWPLUG_GPUS=2xT4 GLOWPLUG_SANDBOX=off"
    assert (
        asked.config_digest
        == read_settings({"GLOWPLUG_GPUS": "2xT4", "GLOWPLUG_SANDBOX": "off"}).config_digest
    )
    assert asked.config_digest != read_settings({"GLOWPLUG_GPUS": "2xT4"}).config_digest


@pytest.mark.parametrize(
    ("variable", "value"), [("GLOWPLUG_SERVER", "ssh://box"), ("GLOWPLUG_BACKEND", "slurm")]
)
def test_what_is_not_carried_out_is_refused_by_name(home, variable, value):
    with pytest.raises(errors.InvalidError, match=value):
        read_settings({variable: value})


def test_a_build_is_known_by_its_files(tmp_path, monkeypatch):
    package = tmp_path / "glowplug"
    (package / "client").mkdir(parents=True)
    monkeypatch.setattr(settings_module, "__file__", str(package / "client" / "settings.py"))
    (package / "client" / "settings.py").write_text("1")
    first = settings_module.build_id()
    assert settings_module.build_id() == first
    (package / "notes.txt").write_text("no code")
    assert settings_module.build_id() == first
    (package / "client" / "more.py").write_text("2")
    assert settings_module.build_id() != first
