"""Secrets, dotenv files, volumes and images as declared."""

from __future__ import annotations

import asyncio
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
    assert (volume.name, volume.read_only) == ("models", False)
    assert volume.with_mount_options(read_only=True).read_only
    assert volume.commit() is None
    assert asyncio.run(volume.reload.aio()) is None
    assert pickle.loads(pickle.dumps(volume)).name == "models"
    assert glowplug.NetworkFileSystem.from_name("nfs", create_if_missing=True).name == "nfs"
    assert glowplug.SharedVolume().name is None
    with pytest.warns(DeprecationError, match=r"from_name\('data'\)"):
        assert glowplug.SharedVolume().persist("data").name == "data"
    with pytest.warns(DeprecationError, match=r"from_name\('data'\)"):
        assert glowplug.Volume.persisted("data").name == "data"
    with pytest.warns(NotCarriedOutWarning, match="environment_name= means nothing"):
        glowplug.Volume.from_name("models", environment_name="dev")
    with pytest.raises(AttributeError, match=r"Volume\.listdir is not in Glowplug .*os\.listdir"):
        volume.listdir("/")


def test_images_record_their_steps_and_never_change():
    base = glowplug.Image.debian_slim(python_version="3.11")
    torch = base.apt_install("git").pip_install("torch", ["numpy"], pre=True).env({"A": "1"})
    assert len(base.steps) == 1
    assert [str(step) for step in torch.steps[1:]] == [
        "apt_install('git')",
        "pip_install('torch', 'numpy', pre=True)",
        "env({'A': '1'})",
    ]
    assert torch.pipe(lambda image, name: image.pip_install(name), "x").steps[-1].arguments == ("x",)
    with pytest.raises(InvalidError, match="a package is a string"):
        base.pip_install(3)
    with pytest.raises(InvalidError, match="give the function itself"):
        base.run_function("f")


def test_imports_that_only_the_container_needs():
    image = glowplug.Image.debian_slim()
    with image.imports():
        import module_that_does_not_exist  # noqa: F401
    with image.run_inside():
        import json  # noqa: F401
    assert [type(error) for error in image.inside_exceptions] == [ModuleNotFoundError]
    with pytest.raises(ValueError, match="not an import"), image.imports():
        raise ValueError("not an import")


# Every method an image has had in some version, with arguments it took.
METHODS = {
    "add_local_dir": (".", "/x"),
    "add_local_file": ("f", "/x"),
    "add_local_python_source": ("module",),
    "apt_install": ("git",),
    "cmd": (["x"],),
    "conda_install": ("x",),
    "conda_update_from_environment": ("environment.yml",),
    "copy": (glowplug.Mount(),),
    "copy_local_dir": (".",),
    "copy_local_file": ("f",),
    "copy_mount": (glowplug.Mount(),),
    "dockerfile_commands": ("RUN true",),
    "entrypoint": (["x"],),
    "env": ({"A": "1"},),
    "extend": (),
    "micromamba_install": ("x",),
    "pip_install": ("x",),
    "pip_install_from_pyproject": ("pyproject.toml",),
    "pip_install_from_requirements": ("requirements.txt",),
    "pip_install_private_repos": ("github.com/x/y",),
    "poetry_install_from_file": ("pyproject.toml",),
    "run_commands": ("true",),
    "run_function": (print,),
    "shell": (["/bin/sh"],),
    "uv_pip_install": ("x",),
    "uv_sync": (),
    "workdir": ("/x",),
}
BASES = {
    "conda": (),
    "debian_slim": (),
    "from_aws_ecr": ("x",),
    "from_dockerfile": ("Dockerfile",),
    "from_dockerhub": ("x",),
    "from_gcp_artifact_registry": ("x",),
    "from_registry": ("x",),
    "from_scratch": (),
    "micromamba": (),
}


@pytest.mark.parametrize("name", sorted({*METHODS, *BASES}))
def test_every_method_of_every_version_makes_a_new_image(name):
    base = glowplug.Image()
    arguments = METHODS.get(name, BASES.get(name, ()))
    image = getattr(base, name)(*arguments)
    assert isinstance(image, glowplug.Image)
    assert image is not base
    assert len(image.steps) == 1


def test_mounts_are_recorded():
    mount = glowplug.Mount.from_local_dir(".", remote_path="/x").add_local_file("f")
    assert len(mount.entries) == 2
    assert len(glowplug.create_package_mounts(["a", "b"])[0].entries) == 1
    assert len(glowplug.Mount("/x", local_dir=".").entries) == 1
