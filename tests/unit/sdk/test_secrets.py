"""Secrets, dotenv files and volumes as declared."""

from __future__ import annotations

import pickle

import pytest

import glowplug
from glowplug.client import context
from glowplug.client.dotenv import read_dotenv
from glowplug.model.errors import DeprecationError, InvalidError, NotCarriedOutWarning, NotFoundError

DOTENV = r"""
# a comment
PLAIN=value # and a comment
 SPACED = two words
export EXPORTED=x=y
EMPTY=
SINGLE='a "b" \n $c # d'  # after
DOUBLE="a\nb \"c\" # d" # after
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOWPLUG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_dictionaries():
    assert glowplug.Secret.from_dict({"A": "1", "B": None}).variables == {"A": "1"}
    assert glowplug.Secret({"A": "1"}).variables == {"A": "1"}
    assert glowplug.Secret.from_dict().variables == {}
    assert "hunter2" not in repr(glowplug.Secret.from_dict({"PASSWORD": "hunter2"}))
    with pytest.raises(InvalidError, match="A must be a string, not int"):
        glowplug.Secret.from_dict({"A": 1})
    with pytest.raises(InvalidError, match="give a dict"):
        glowplug.Secret.from_dict(["A"])


def test_local_variables(monkeypatch):
    monkeypatch.setenv("HERE", "1")
    monkeypatch.delenv("ABSENT", raising=False)
    assert glowplug.Secret.from_local_environ(["HERE"]).variables == {"HERE": "1"}
    with pytest.raises(InvalidError, match="not set here: ABSENT"):
        glowplug.Secret.from_local_environ(["HERE", "ABSENT"])
    with pytest.raises(InvalidError, match="list of names"):
        glowplug.Secret.from_local_environ("HERE")


def test_declarations_run_again_in_containers_where_their_sources_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(context, "_container", object())
    assert glowplug.Secret.from_local_environ(["ABSENT"]).variables == {}
    assert glowplug.Secret.from_dotenv(tmp_path / "absent").variables == {}


def test_dotenv_files(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(DOTENV)
    expected = {
        "PLAIN": "value",
        "SPACED": "two words",
        "EXPORTED": "x=y",
        "EMPTY": "",
        "SINGLE": r'a "b" \n $c # d',
        "DOUBLE": 'a\nb "c" # d',
    }
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    for path in (tmp_path / ".env", tmp_path, below):
        assert glowplug.Secret.from_dotenv(path).variables == expected
    monkeypatch.chdir(below)
    assert glowplug.Secret.from_dotenv().variables == expected
    with pytest.raises(NotFoundError, match=r"there is no \.absent"):
        glowplug.Secret.from_dotenv(filename=".absent")
    (tmp_path / ".env").write_text("A=1\nnonsense\n")
    with pytest.raises(InvalidError, match=r"\.env, line 2: expected NAME=value"):
        read_dotenv(tmp_path / ".env")


def test_a_line_that_cannot_be_read_is_not_shown(tmp_path):
    (tmp_path / ".env").write_text("A=1\nhunter2\n")
    with pytest.raises(InvalidError) as caught:
        glowplug.Secret.from_dotenv(tmp_path)
    assert "hunter2" not in str(caught.value)


def test_named_secrets():
    secret = glowplug.Secret.from_name("token", required_keys=["KEY"])
    assert (secret.name, secret.required_keys, secret.variables) == ("token", ("KEY",), {})
    assert repr(secret) == "<Secret token>"
    with pytest.raises(InvalidError, match="Secret name"):
        glowplug.Secret.from_name("../token")
    with pytest.raises(InvalidError, match="list of names"):
        glowplug.Secret.from_name("token", required_keys="KEY")
    with pytest.raises(InvalidError, match=r"update\(\) is for secrets the server keeps.*from_name"):
        glowplug.Secret.from_dict({"A": "1"}).update({"B": "2"})


def test_containers_do_not_reach_stored_secrets(monkeypatch):
    monkeypatch.setattr(context, "_container", object())
    with pytest.raises(InvalidError, match="containers do not reach"):
        glowplug.Secret.objects.list()
    assert glowplug.Secret.lookup("token").name == "token"


def test_volumes_of_every_era():
    volume = glowplug.Volume.from_name("models", create_if_missing=True)
    assert (volume.name, volume.is_read_only) == ("models", False)
    assert volume.with_mount_options(read_only=True).is_read_only
    assert volume.read_only().is_read_only
    assert volume.create
    assert not glowplug.Volume.from_name("models").create
    assert glowplug.SharedVolume().create
    with pytest.raises(InvalidError, match=r"commit\(\) of volume 'models': it is for a container"):
        volume.commit()
    with pytest.raises(InvalidError, match="within the volume"):
        volume.with_mount_options(sub_path="../other")
    assert pickle.loads(pickle.dumps(volume)).name == "models"
    assert glowplug.NetworkFileSystem.from_name("nfs", create_if_missing=True).name == "nfs"
    assert glowplug.SharedVolume().name is None
    with pytest.warns(DeprecationError, match=r"from_name\('data', create_if_missing=True\)"):
        assert glowplug.SharedVolume().persist("data").name == "data"
    with pytest.warns(DeprecationError, match=r"from_name\('data', create_if_missing=True\)"):
        assert glowplug.Volume.persisted("data").name == "data"
    with pytest.warns(NotCarriedOutWarning, match="environment_name= means nothing"):
        glowplug.Volume.from_name("models", environment_name="dev")
    with pytest.raises(AttributeError, match=r"Volume\.from_id is not in Glowplug .*from_name"):
        volume.from_id("vo-1")
