"""Images as declared in any version, and what each method means to a server."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import glowplug
from glowplug.model.errors import InvalidError, NotCarriedOutWarning, NotFoundError, SerializationError
from glowplug.model.image_spec import OPERATIONS, BuildStep, ImageSpec
from glowplug.sdk.image_meaning import BASES, METHODS, python_here
from glowplug.sdk.image_places import LOCAL_FILES
from glowplug.sdk.image_translation import translate
from glowplug.sdk.local_files import LocalFiles

Image, Mount, Secret = glowplug.Image, glowplug.Mount, glowplug.Secret
DEBIAN = Image.debian_slim("3.11")
SOURCE_DIRECTORY = str(Path(glowplug.__file__).parents[1])


def steps(image: Image) -> list[BuildStep]:
    return list(translate(image, LocalFiles()).spec.steps)


def last(image: Image) -> BuildStep:
    return steps(image)[-1]


def meaning(image: Image) -> tuple[str, dict]:
    return last(image).operation, last(image).fields


def test_images_record_their_steps_and_never_change():
    base = Image.debian_slim(python_version="3.11")
    torch = base.apt_install("git").pip_install("torch", ["numpy"], pre=True).env({"A": "1"})
    assert len(base.steps) == 1
    assert [str(step) for step in torch.steps[1:]] == [
        "apt_install('git')",
        "pip_install('torch', 'numpy', pre=True)",
        "env({'A': '1'})",
    ]
    assert torch.pipe(lambda image, name: image.pip_install(name), "x").steps[-1].arguments == ("x",)


def test_imports_that_only_the_container_needs():
    image = Image.debian_slim()
    with image.imports():
        import module_that_does_not_exist  # noqa: F401
    with image.run_inside():
        import json  # noqa: F401
    assert [type(error) for error in image.inside_exceptions] == [ModuleNotFoundError]
    with pytest.raises(ValueError, match="not an import"), image.imports():
        raise ValueError("not an import")


# What needs no file: the chain, the operation, its fields.
PLAIN = [
    (Image.debian_slim(), "base", {"kind": "debian_slim", "python_version": python_here()}),
    (Image.debian_slim("3.12.4"), "base", {"kind": "debian_slim", "python_version": "3.12.4"}),
    (Image.from_registry(" ubuntu:22.04 "), "base", {"kind": "registry", "tag": "ubuntu:22.04"}),
    (
        Image.from_registry("cuda", add_python="3.11"),
        "base",
        {"kind": "registry", "tag": "cuda", "add_python": "3.11"},
    ),
    (Image.from_dockerhub("x/y"), "base", {"kind": "registry", "tag": "x/y"}),
    (
        Image.from_registry("x", setup_dockerfile_commands=["RUN a"], add_python="3.10"),
        "base",
        {"kind": "dockerfile", "text": "FROM x\nRUN a\n", "add_python": "3.10"},
    ),
    (
        Image.from_dockerhub("x", setup_commands=["a", "b"]),
        "base",
        {"kind": "dockerfile", "text": "FROM x\nRUN a\nRUN b\n"},
    ),
    (Image.from_aws_ecr("x"), "base", {"kind": "registry", "tag": "x", "registry": "aws_ecr"}),
    (
        Image.from_gcp_artifact_registry("x"),
        "base",
        {"kind": "registry", "tag": "x", "registry": "gcp_artifact_registry"},
    ),
    (Image.from_scratch(), "base", {"kind": "scratch"}),
    (Image.micromamba("3.10"), "base", {"kind": "micromamba", "python_version": "3.10"}),
    (Image.conda("3.10"), "base", {"kind": "micromamba", "python_version": "3.10"}),
    (
        DEBIAN.pip_install("b", ["a"], "b"),
        "python_packages",
        {"packages": ["b", "a", "b"], "installer": "pip"},
    ),
    (
        DEBIAN.pip_install(
            "a", find_links="f", index_url="i", extra_index_url="e", pre=True, extra_options="--no-deps"
        ),
        "python_packages",
        {
            "packages": ["a"],
            "installer": "pip",
            "find_links": "f",
            "index_url": "i",
            "extra_index_url": "e",
            "pre": True,
            "extra_options": "--no-deps",
        },
    ),
    (DEBIAN.uv_pip_install("a"), "python_packages", {"packages": ["a"], "installer": "uv"}),
    (DEBIAN.apt_install("git", ["ffmpeg"]), "apt", {"packages": ["git", "ffmpeg"]}),
    (
        Image.micromamba().micromamba_install("a", channels=["c", "d"]),
        "micromamba",
        {"packages": ["a"], "channels": ["c", "d"]},
    ),
    (Image.conda().conda_install(["a"]), "micromamba", {"packages": ["a"]}),
    (DEBIAN.run_commands("a", ["b", "c"]), "run", {"commands": ["a", "b", "c"]}),
    (DEBIAN.dockerfile_commands(["RUN a"]), "dockerfile", {"commands": ["RUN a"]}),
    (DEBIAN.dockerfile_commands("RUN a", "RUN b"), "dockerfile", {"commands": ["RUN a", "RUN b"]}),
    (
        DEBIAN.dockerfile_commands("RUN a", build_args={"V": "1"}),
        "dockerfile",
        {"commands": ["RUN a"], "build_args": {"V": "1"}},
    ),
    (DEBIAN.extend(dockerfile_commands=["RUN a"]), "dockerfile", {"commands": ["RUN a"]}),
    (DEBIAN.env({"A": ""}), "env", {"variables": {"A": ""}}),
    (DEBIAN.workdir(Path("/srv")), "workdir", {"path": "/srv"}),
    (DEBIAN.cmd(["a", "b"]), "cmd", {"words": ["a", "b"]}),
    (DEBIAN.entrypoint([]), "entrypoint", {"words": []}),
    (DEBIAN.shell(["/bin/bash", "-c"]), "shell", {"words": ["/bin/bash", "-c"]}),
    (
        DEBIAN.pip_install_private_repos(
            "github.com/a/b@v1", git_user="ada", secrets=[Secret.from_dict({"GITHUB_TOKEN": "t"})]
        ),
        "private_repos",
        {"repositories": ["github.com/a/b@v1"], "git_user": "ada"},
    ),
    (
        DEBIAN.run_commands("a", volumes={"/v": glowplug.Volume.from_name("data")}),
        "run",
        {"commands": ["a"], "volumes": [{"name": "data", "mount_path": "/v", "read_only": False}]},
    ),
]


@pytest.mark.parametrize(("image", "operation", "fields"), PLAIN, ids=lambda value: str(value)[:60])
def test_what_a_method_means(image, operation, fields):
    assert meaning(image) == (operation, fields)
    assert operation in OPERATIONS
    assert len(steps(image)) == len(image.steps)


def test_every_method_of_the_chain_is_translated():
    public = {
        name
        for name, value in inspect.getmembers(Image)
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.ismethod(value))
    }
    others = {"copy", "extend", "imports", "pipe", "run_inside"}
    assert public - others == {*METHODS, *LOCAL_FILES}
    assert set(BASES) <= set(METHODS)


def test_a_chain_without_a_base_is_debian():
    first, second = steps(Image().pip_install("numpy"))
    assert first.fields == {"kind": "debian_slim", "python_version": python_here()}
    assert second.operation == "python_packages"


def test_methods_that_are_given_nothing_add_nothing():
    assert DEBIAN.pip_install() is DEBIAN.pip_install([]) is DEBIAN.apt_install() is DEBIAN
    assert DEBIAN.run_commands() is DEBIAN.dockerfile_commands() is DEBIAN.uv_pip_install() is DEBIAN
    assert DEBIAN.env({}) is DEBIAN.extend() is DEBIAN.micromamba_install() is DEBIAN
    assert DEBIAN.pip_install_private_repos() is DEBIAN.add_local_python_source() is DEBIAN


def test_what_every_step_takes():
    stored = Secret.from_name("stored")
    image = DEBIAN.run_commands(
        "make",
        env={"A": "1", "B": None},
        secrets=[stored, Secret.from_dict({"TOKEN": "secret-value"})],
        gpu="A100-80GB:2",
        force_build=True,
    )
    step = last(image)
    assert (step.variables, step.secrets, step.secret_variables) == (
        {"A": "1"},
        ("stored",),
        {"TOKEN": "secret-value"},
    )
    assert (step.gpu, step.force, step.text) == ("A100-80GB:2", True, 'run_commands("make")')
    assert image.force_build
    assert not DEBIAN.force_build
    assert "secret-value" not in repr(image) + step.text + translate(image, LocalFiles()).spec.digest
    assert last(DEBIAN.run_commands("a", gpu="T4")).gpu == "T4"
    assert last(DEBIAN.pip_install("a", gpu=["H100", "T4"])).gpu == "H100,T4"


def test_the_value_of_a_secret_is_not_in_the_digest_but_its_name_is():
    def digest(**variables: str) -> str:
        image = DEBIAN.run_commands("a", secrets=[Secret.from_dict(variables)])
        return translate(image, LocalFiles()).spec.digest

    assert digest(A="1") == digest(A="2")
    assert digest(A="1") != digest(B="1")


def digest(image: Image) -> str:
    return translate(image, LocalFiles()).spec.digest


def test_same_meaning_same_digest():
    assert digest(DEBIAN.pip_install("a", "b")) == digest(DEBIAN.pip_install(["a", "b"], pre=False))
    assert digest(DEBIAN.pip_install("a", "b")) != digest(DEBIAN.pip_install("b", "a"))
    assert digest(Image.from_registry("x")) == digest(Image.from_dockerhub("x"))
    assert digest(Image.conda("3.11").conda_install("a")) == digest(
        Image.micromamba("3.11").micromamba_install("a")
    )
    assert digest(DEBIAN.apt_install("a")) == digest(DEBIAN.apt_install("a", force_build=True))
    assert digest(Image().env({"A": "1"})) == digest(Image.debian_slim(python_here()).env({"A": "1"}))
    assert digest(DEBIAN.env({"A": "1", "B": "2"})) == digest(DEBIAN.env({"B": "2", "A": "1"}))


def test_a_spec_travels_whole():
    image = DEBIAN.run_function(download, args=(1,)).pip_install("a")
    spec = translate(image, LocalFiles()).spec
    assert ImageSpec.from_wire(spec.to_wire()) == spec


def test_golden_digests():
    """Changing these builds everybody's images anew."""
    image = DEBIAN.apt_install("git").pip_install("numpy==2.1", "x[y]>=1", pre=True).env({"B": "2", "A": "1"})
    image = image.run_commands("echo 'a b'", env={"C": "3"}).workdir("/srv")
    assert digest(DEBIAN) == "9c7911a95a117ea4833e6d3b8d6fbe8bb9d4113deca57fa77311de4842b78ced"
    assert digest(image) == "89841288bcf0f78c2c445ab6ac0ec5be544e0ea2a227f06f130163753a618a3a"


LIMIT = {"b", "a", "c", "d"}
NAMES = {"z": (1, 2.5), "y": [None, True]}


def helper() -> str:
    return "helped"


def download(count: int = 1) -> object:
    return [helper() for _ in range(count)], LIMIT, NAMES


def test_a_function_travels_by_name_with_its_source_for_the_cache():
    step = last(DEBIAN.run_function(download, args=(3,), kwargs={"a": 1}, timeout=60, secret=Secret()))
    fields = step.fields
    assert (fields["module"], fields["qualname"], fields["name"]) == (__name__, "download", "download")
    assert "serialized" not in fields
    assert fields["timeout_s"] == 60
    for part in ("def download", "def helper", "LIMIT = {'a', 'b', 'c', 'd'}", "NAMES = {'z': (1, 2.5)"):
        assert part in fields["source"]
    assert step.source["script"] == __file__
    plain = last(DEBIAN.run_function(download)).fields
    assert "arguments" not in plain
    assert plain["timeout_s"] == 3600


def test_a_function_without_a_name_travels_by_value_and_its_digest_is_its_source():
    def inner() -> int:
        return offset + 1

    offset = 1
    here = Image.debian_slim()
    one = last(here.run_function(inner))
    assert one.fields["serialized"]
    assert "offset = 1" in one.fields["source"]
    spec = ImageSpec((one,))
    again = ImageSpec((BuildStep(one.operation, {**one.fields, "serialized": b"other"}, source={"x": 1}),))
    assert spec.digest == again.digest
    offset = 2
    assert ImageSpec((last(here.run_function(inner)),)).digest != spec.digest
    lock = sys._getframe()

    def inner_lock() -> object:
        return lock

    with pytest.raises(SerializationError, match="inner_lock cannot be sent by value"):
        steps(here.run_function(inner_lock))


def test_functions_of_what_is_installed_are_the_images_own():
    step = last(DEBIAN.run_function(os.path.basename, args=("a",)))
    assert step.source == {}
    app = glowplug.App()
    declared = app.function(serialized=True)(download)
    assert last(DEBIAN.run_function(declared)).fields["qualname"] == "download"


def test_volumes_of_a_function():
    named = glowplug.Volume.from_name("models")
    step = last(
        DEBIAN.run_function(
            download,
            volumes={"/m": named},
            network_file_systems={"/n": glowplug.NetworkFileSystem("nfs")},
            shared_volumes={"/s": glowplug.SharedVolume("old")},
        )
    )
    assert [(each["name"], each["mount_path"]) for each in step.fields["volumes"]] == [
        ("old", "/s"),
        ("nfs", "/n"),
        ("models", "/m"),
    ]
    with pytest.raises(InvalidError, match="the volume at /v has no name"):
        steps(DEBIAN.run_function(download, volumes={"/v": glowplug.Volume()}))


WRONG = [
    (lambda: Image.debian_slim(3.11), r'debian_slim: quote the version: python_version="3.11"'),
    (lambda: Image.debian_slim(3.1), r'quote the version: python_version="3.1" \(as a number 3.10 is 3.1'),
    (lambda: Image.debian_slim("3"), r"python_version='3' is not a version such as"),
    (lambda: Image.debian_slim("latest"), "is not a version"),
    (lambda: Image.micromamba("3.x"), "micromamba: python_version='3.x'"),
    (
        lambda: Image.debian_slim(pythn_version="3.11"),
        r"pythn_version=...\): there is no such option. Did you mean",
    ),
    (lambda: Image.from_registry("a b"), "'a b' is not an image"),
    (lambda: Image.from_registry("x", add_python=3.11), 'quote the version: add_python="3.11"'),
    (lambda: Image.from_registry("x", tags=1), r"tags=...\): there is no such option"),
    (lambda: Image.from_registry("x", setup_dockerfile_commands="RUN a"), "is a list of strings, not str"),
    (
        lambda: DEBIAN.pip_install("a", indexurl="x"),
        r"pip_install\(indexurl=...\).*Did you mean index_url=\?",
    ),
    (lambda: DEBIAN.pip_install("a", colour="x"), r"pip_install\(colour=...\).*It takes find_links=, "),
    (lambda: DEBIAN.pip_install(3), r"pip_install: a package is a string, not int 3"),
    (lambda: DEBIAN.pip_install([["a"]]), "a package is a string, not list"),
    (lambda: DEBIAN.pip_install(" "), "' ' is not the name of a package"),
    (lambda: DEBIAN.pip_install("a", pre="yes"), "pre is True or False, not str 'yes'"),
    (lambda: DEBIAN.pip_install("a", index_url=3), "index_url is a string"),
    (lambda: DEBIAN.pip_install("a", force_build=1), "force_build is True or False"),
    (lambda: DEBIAN.pip_install("a", secrets=["x"]), "pip_install: secrets=: str is not a Secret"),
    (lambda: DEBIAN.pip_install("a", env={"A": 1}), "pip_install: env= the value of A must be a string"),
    (lambda: DEBIAN.pip_install("a", gpu="H1OO"), 'pip_install: .*"H1OO"'),
    (lambda: DEBIAN.apt_install({"git"}), "a package is a string, not set"),
    (
        lambda: DEBIAN.uv_pip_install(requirements="r.txt"),
        "requirements is a list of strings, not str 'r.txt'",
    ),
    (lambda: DEBIAN.uv_sync(3), "uv_project_dir is a path, not int 3"),
    (lambda: DEBIAN.uv_sync(groups="dev"), "groups is a list of strings"),
    (lambda: DEBIAN.pip_install_private_repos("a/b", git_user="x"), "'a/b' is not a repository such as"),
    (lambda: DEBIAN.pip_install_private_repos("github.com/a/b"), 'give git_user="..."'),
    (
        lambda: DEBIAN.pip_install_private_repos("github.com/a/b", git_user="x"),
        "give secrets=.* with GITHUB_TOKEN",
    ),
    (lambda: DEBIAN.run_commands(3), "a command is a string"),
    (lambda: DEBIAN.run_commands("a", volumes=[3]), "run_commands: volumes="),
    (lambda: DEBIAN.run_function("f"), "give the function itself"),
    (lambda: DEBIAN.run_function(lambda: 1), "a lambda has no name"),
    (lambda: DEBIAN.run_function(download, args="ab"), "args= is a list"),
    (lambda: DEBIAN.run_function(download, kwargs=[1]), "kwargs= is a dict"),
    (lambda: DEBIAN.run_function(download, timeout=0), "timeout=0"),
    (lambda: DEBIAN.run_function(), "run_function.*raw_f"),
    (lambda: DEBIAN.env({"A": 1}), "vars: 'A': 1 is not a string"),
    (lambda: DEBIAN.env("A=1"), "vars is a dict of strings, not str"),
    (lambda: DEBIAN.env({"A=B": "1"}), "'A=B' is not a name"),
    (lambda: DEBIAN.workdir(3), "path is a path"),
    (lambda: DEBIAN.workdir(""), "path is empty"),
    (lambda: DEBIAN.cmd("sh"), "cmd is a list of strings, not str 'sh'"),
    (lambda: DEBIAN.shell([]), "give the shell"),
    (lambda: DEBIAN.extend(base_images={}), r"base_images=...\): it takes"),
    (lambda: DEBIAN.pipe(3), "give a function"),
    (lambda: DEBIAN.pipe(lambda image: None), "returned None, not an Image"),
    (lambda: DEBIAN.add_local_file("a", "b"), "remote_path 'b' must be absolute.*\"/root/b\""),
    (lambda: DEBIAN.add_local_dir("a", "/b/../c"), "must be absolute"),
    (lambda: DEBIAN.add_local_dir("a", "/b", ignore="*.py"), "ignore is a list of strings"),
    (lambda: DEBIAN.add_local_python_source("a-b"), "'a-b' is not the name of a module"),
    (lambda: DEBIAN.copy_mount("x"), "'x' is not a Mount"),
]


@pytest.mark.parametrize(("declare", "text"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_what_is_wrong_is_said_where_it_is_written(declare, text):
    with pytest.raises(InvalidError, match=text):
        declare()


@pytest.mark.parametrize(
    "mounted",
    [
        DEBIAN.add_local_file("f", "/x"),
        DEBIAN.add_local_dir("d", "/x"),
        DEBIAN.add_local_python_source("m"),
    ],
)
def test_a_build_step_after_files_that_are_laid_over_is_refused(mounted):
    with pytest.raises(InvalidError, match=r"pip_install.*after add_local_.*copy=True"):
        mounted.pip_install("a")
    with pytest.raises(InvalidError, match=r"env\(\.\.\.\) is a build step"):
        mounted.env({"A": "1"})
    with pytest.raises(InvalidError, match="copy=True"):
        mounted.add_local_file("g", "/y", copy=True)
    assert len(mounted.add_local_file("g", "/y").steps) == 3
    assert len(DEBIAN.add_local_file("f", "/x", copy=True).pip_install("a").steps) == 3


def test_what_means_nothing_says_so():
    with pytest.warns(NotCarriedOutWarning, match="uv_version= means nothing"):
        DEBIAN.uv_pip_install("a", uv_version="0.5")
    with pytest.warns(NotCarriedOutWarning, match="old_installer= means nothing"):
        DEBIAN.poetry_install_from_file("pyproject.toml", old_installer=True)
    with pytest.warns(NotCarriedOutWarning, match="region= mean"):
        DEBIAN.run_function(download, cloud="aws", region="x")


def test_nothing_is_read_while_a_chain_is_written(tmp_path, monkeypatch):
    """Containers import the module too, and have none of these files."""
    monkeypatch.chdir(tmp_path)
    image = DEBIAN.pip_install_from_requirements("absent.txt").add_local_python_source("absent")
    with pytest.raises(
        NotFoundError, match=r"pip_install_from_requirements: there is no file absent.txt \(/"
    ):
        steps(image)


def test_digests_do_not_depend_on_the_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from unit.sdk import test_image as t\n"
        "print(t.digest(t.DEBIAN.run_function(t.download, args=(1, 'a')).pip_install('b')))\n"
    )
    tests = str(Path(__file__).parents[2])
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, tests],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": SOURCE_DIRECTORY},
            cwd="/",
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop().strip()) == 64
