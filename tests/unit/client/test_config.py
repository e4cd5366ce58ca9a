"""The operator's file: read strictly, applied where it matters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from glowplug.client.config import Config, parse_config, read_config
from glowplug.client.settings import read_settings
from glowplug.model import errors

FILE = """
gpus = "4xFOO-X99"
sandbox = "off"
[gpu_map]
A10G = "FOO-X99"
[prices]
FOO-X99 = 0.35
[labels]
region = "lab-1"
[types.FOO-X99]
memory_gb = 48
max_count = 16
any = true
"""


@pytest.fixture
def environ(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    return {"GLOWPLUG_CONFIG": str(path), "GLOWPLUG_HOME": str(tmp_path / "home")}


def test_no_file_is_an_empty_config(tmp_path):
    assert read_config({"XDG_CONFIG_HOME": str(tmp_path)}) == Config()


def test_a_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(errors.InvalidError, match="there is no such file"):
        read_config({"GLOWPLUG_CONFIG": str(tmp_path / "none.toml")})


def test_the_file_configures_the_server_and_the_environment_wins(environ):
    settings = read_settings(environ)
    assert settings.config["GLOWPLUG_GPUS"] == "4xFOO-X99"
    assert settings.config["GLOWPLUG_SANDBOX"] == "off"
    assert read_settings({**environ, "GLOWPLUG_GPUS": "2xT4"}).config["GLOWPLUG_GPUS"] == "2xT4"


def test_another_price_is_another_server(environ, tmp_path):
    before = read_settings(environ).config_digest
    (tmp_path / "config.toml").write_text(FILE.replace("0.35", "0.36"))
    assert read_settings(environ).config_digest != before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpu": "T4"}, "unknown key 'gpu'"),
        ({"gpus": 3}, "gpus must be a string"),
        ({"prices": {"T4": -1}}, "prices.T4 must be dollars an hour"),
        ({"prices": {"T4": True}}, "prices.T4 must be dollars an hour"),
        ({"labels": {"planet": "earth"}}, "labels.planet is not known"),
        ({"gpu_map": {"A10G": 5}}, "gpu_map.A10G must be a string"),
        ({"types": {"X": 5}}, "types.X must be a table"),
        ({"types": {"X": {"max_count": 0}}}, "types.X.max_count must be a whole number from 1"),
        ({"types": {"X": {"size": 1}}}, "types.X.size is not known"),
    ],
)
def test_what_is_wrong_is_named(fields, message):
    with pytest.raises(errors.InvalidError, match=message):
        parse_config(fields)


def test_broken_toml_names_the_file(environ, tmp_path):
    (tmp_path / "config.toml").write_text("gpus = ")
    with pytest.raises(errors.InvalidError, match=r"config\.toml: "):
        read_config(environ)


def test_a_declared_type_can_be_asked_for_and_serves_any(environ):
    """In a process of its own: what is declared changes the catalog for good."""
    program = """
from glowplug.client.config import declare_types
from glowplug.model import catalog
from glowplug.model.gpu import GpuRequest, parse_gpu
declare_types()
assert parse_gpu("foo-x99:16") == (GpuRequest("FOO-X99", count=16),), parse_gpu("foo-x99:16")
assert catalog.any_eligible("FOO-X99", 48)
assert catalog.type_from_driver_name("NVIDIA Foo X99") == "FOO-X99"
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**environ, "PYTHONPATH": ":".join(sys.path)}
    )


@pytest.mark.parametrize("variable", ["GLOWPLUG_BACKEND", "GLOWPLUG_SERVER"])
def test_a_server_we_cannot_be_is_refused(variable, environ):
    with pytest.raises(errors.InvalidError, match=f"{variable}='ray'.*unset it"):
        read_settings({**environ, variable: "ray"})
