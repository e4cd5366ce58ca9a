"""Local files of images and mounts: found, read, told to the server."""

from __future__ import annotations

import os
import sys

import pytest

import glowplug
from glowplug.model.errors import InvalidError, NotCarriedOutWarning, NotFoundError
from glowplug.sdk.image_places import lay_over
from glowplug.sdk.image_translation import translate
from glowplug.sdk.local_files import LocalFiles
from unit.sdk.fake_client import FakeClient

Image, Mount, Matcher = glowplug.Image, glowplug.Mount, glowplug.FilePatternMatcher
DEBIAN = Image.debian_slim()

PYPROJECT = """
[project]
name = "p"
dependencies = ["numpy>=2", "requests"]
[project.optional-dependencies]
train = ["torch"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOWPLUG_HOME", str(tmp_path / ".home"))
    return tmp_path


def write(root, **texts):
    for name, text in texts.items():
        path = root / name.replace("__", ".").replace("_S_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files(root, names):
    for name in names.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def last(image):
    return translate(image, LocalFiles()).spec.steps[-1]


def mounted(image, *mounts):
    """(directory, names of files) of what is laid over an image."""
    reader = LocalFiles()
    places = [*translate(image, reader).mounted, *(each for mount in mounts for each in reader.mount(mount))]
    found, _, trees = lay_over(places)
    return {mount.path: [entry.path for entry in trees[mount.tree].entries] for mount in found}


def copied(image):
    """(directory, names of files) of the last step."""
    spec = translate(image, LocalFiles()).spec
    fields = spec.steps[-1].fields
    return fields.get("path"), [entry.path for entry in spec.trees[fields["tree"]].entries]


# texts that travel


def test_requirements(here):
    write(
        here,
        reqs__txt="numpy==2.1  # why\n\n# nothing\n-r d/more.txt\n--extra-index-url https://x\na \\\n  ; b\n",
    )
    write(here, d_S_more__txt="more\r\n--requirement=deep.txt\n", d_S_deep__txt="deep\n")
    step = last(DEBIAN.pip_install_from_requirements("reqs.txt", extra_index_url="e"))
    text = "numpy==2.1\nmore\ndeep\n--extra-index-url https://x\na ; b\n"
    assert (step.operation, step.fields) == (
        "python_packages",
        {"requirements": [text], "installer": "pip", "extra_index_url": "e"},
    )
    assert last(DEBIAN.dockerfile_commands("RUN true")).text == 'dockerfile_commands("RUN true")'
    assert step.text == 'pip_install_from_requirements("reqs.txt", extra_index_url="e")'
    both = last(DEBIAN.uv_pip_install("a", requirements=["reqs.txt", str(here / "d/deep.txt")])).fields
    assert both == {"packages": ["a"], "requirements": [text, "deep\n"], "installer": "uv"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-c constraints.txt", "names a file that does not travel"),
        ("-e .", "is a local package"),
        ("./wheels/a.whl", "is a local package"),
        ("/abs/a.whl", "is a local package"),
        ("a @ file:///x", "is a local package"),
        ("-r r.txt", "includes itself"),
    ],
)
def test_requirements_that_need_more_files(here, text, message):
    write(here, r__txt=text + "\n")
    with pytest.raises(InvalidError, match=rf"pip_install_from_requirements: r.txt \(.*{message}|{message}"):
        last(DEBIAN.pip_install_from_requirements("r.txt"))


def test_urls_are_no_local_packages(here):
    write(here, r__txt="a @ https://x/a.whl\ngit+https://x/y\n.5\n")
    assert last(DEBIAN.pip_install_from_requirements("r.txt")).fields["requirements"]


def test_pyproject(here):
    write(here, pyproject__toml=PYPROJECT, other__toml="[tool.poetry]\n", bad__toml="[")
    step = last(DEBIAN.pip_install_from_pyproject("pyproject.toml", ["train"], pre=True))
    packages = ["numpy>=2", "requests", "torch"]
    assert step.fields == {"packages": packages, "installer": "pip", "pre": True}
    with pytest.raises(InvalidError, match="no optional dependencies 'x'; it has: train"):
        last(DEBIAN.pip_install_from_pyproject("pyproject.toml", ["x"]))
    with pytest.raises(InvalidError, match="has no \\[project\\] with dependencies"):
        last(DEBIAN.pip_install_from_pyproject("other.toml"))
    with pytest.raises(InvalidError, match=r"bad.toml \(/.*is not valid"):
        last(DEBIAN.pip_install_from_pyproject("bad.toml"))


def test_uv_sync(here):
    write(here, p_S_pyproject__toml=PYPROJECT)
    with pytest.raises(NotFoundError, match=r"there is no file p/uv.lock .*uv lock.*frozen=False"):
        last(DEBIAN.uv_sync("p"))
    assert "frozen" not in last(DEBIAN.uv_sync("p", frozen=False)).fields
    write(here, p_S_uv__lock="lock")
    assert last(DEBIAN.uv_sync("p", groups=["g"], extras=["e"], extra_options="--no-dev")).fields == {
        "pyproject": PYPROJECT,
        "lock": "lock",
        "groups": ["g"],
        "extras": ["e"],
        "frozen": True,
        "extra_options": "--no-dev",
    }
    write(here, w_S_pyproject__toml="[tool.uv.workspace]\nmembers = ['x']\n")
    with pytest.raises(InvalidError, match="is a workspace"):
        last(DEBIAN.uv_sync("w"))
    with pytest.raises(NotFoundError, match=r"there is no file \./pyproject.toml"):
        last(DEBIAN.uv_sync())


def test_poetry(here):
    write(here, p_S_pyproject__toml="[tool.poetry]\n", p_S_poetry__lock="lock", mine__lock="mine")
    image = DEBIAN.poetry_install_from_file("p/pyproject.toml", with_=["a"], without=["b"], only=["c"])
    assert last(image).fields == {
        "pyproject": "[tool.poetry]\n",
        "lock": "lock",
        "with": ["a"],
        "without": ["b"],
        "only": ["c"],
    }
    named = DEBIAN.poetry_install_from_file("p/pyproject.toml", "mine.lock", poetry_version="1.8")
    assert (last(named).fields["lock"], last(named).fields["version"]) == ("mine", "1.8")
    assert (
        "lock" not in last(DEBIAN.poetry_install_from_file("p/pyproject.toml", ignore_lockfile=True)).fields
    )
    (here / "p" / "poetry.lock").unlink()
    with pytest.raises(NotFoundError, match=r"poetry lock.*ignore_lockfile=True"):
        last(DEBIAN.poetry_install_from_file("p/pyproject.toml"))


def test_conda_files(here):
    write(here, environment__yml="dependencies: [x]\n")
    assert last(Image.conda().conda_update_from_environment("environment.yml")).fields == {
        "spec": "dependencies: [x]\n"
    }
    assert last(Image.micromamba().micromamba_install("a", spec_file="environment.yml")).fields == {
        "packages": ["a"],
        "spec": "dependencies: [x]\n",
    }


def test_private_repositories_need_the_token(here):
    image = DEBIAN.pip_install_private_repos(
        "gitlab.com/a/b", git_user="x", secrets=[glowplug.Secret.from_dict({"GITHUB_TOKEN": "t"})]
    )
    with pytest.raises(InvalidError, match="none of its secrets has GITLAB_TOKEN"):
        last(image)
    stored = glowplug.Secret.from_name("tokens")
    named = DEBIAN.pip_install_private_repos("gitlab.com/a/b", git_user="x", secrets=[stored])
    assert last(named).secrets == ("tokens",), "the server knows whether it has the token"


# Dockerfiles


def test_only_what_a_dockerfile_copies_travels(here):
    files(here, "a.py src/b.py src/c.pyc data/big .git/x")
    write(here, __dockerignore="*.log\n**/*.pyc\n")
    write(
        here,
        Dockerfile="FROM x AS build\n# COPY data /data\nCOPY --chown=1 a.py \\\n  src /app/\n"
        'COPY --from=build /out /out\nADD ["https://x/y", "/y"]\nRUN <<EOF\nCOPY data /data\nEOF\n',
    )
    (step,) = translate(Image.from_dockerfile("Dockerfile", build_args={"A": "1"}), LocalFiles()).spec.steps
    assert step.fields["text"].startswith("FROM x AS build")
    assert (step.fields["kind"], step.fields["build_args"]) == ("dockerfile", {"A": "1"})
    assert copied(Image.from_dockerfile("Dockerfile"))[1] == ["a.py", "src/b.py"]
    own = Image.from_dockerfile("Dockerfile", ignore=["a.py"])
    assert copied(own)[1] == ["src/b.py", "src/c.pyc"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("COPY . /x", ["Dockerfile", "a.py", "d/b.py"]),
        ("COPY ./d/ /x", ["d/b.py"]),
        ("COPY /d/*.py /x", ["d/b.py"]),
        ("copy ['a.py'] /x", None),
        ("ADD $WHAT /x", ["Dockerfile", "a.py", "d/b.py"]),
        ("RUN true", None),
        ("COPY <<EOF /x\nCOPY . .\nEOF", None),
        ("COPY d/../a.py /x", ["a.py"]),
    ],
)
def test_lines_that_copy(here, line, names):
    files(here, "a.py d/b.py Dockerfile")
    tree = last(DEBIAN.dockerfile_commands(line)).fields.get("tree")
    assert (copied(DEBIAN.dockerfile_commands(line))[1] if tree else None) == names


def test_a_context_of_another_directory_and_files_by_other_names(here):
    files(here, "ctx/a ctx/b settings.toml one two")
    assert copied(DEBIAN.dockerfile_commands("COPY a /a", context_dir="ctx"))[1] == ["a"]
    image = DEBIAN.dockerfile_commands(
        ["COPY x/settings /s", "COPY one /"], context_files={"/x/settings": "settings.toml"}
    )
    assert copied(image)[1] == ["one", "x/settings"]
    image = DEBIAN.dockerfile_commands("COPY . /", context_mount=Mount.from_local_file("two", "/d/two"))
    assert copied(image)[1] == ["d/two"]
    with pytest.raises(InvalidError, match=r"`COPY ../one /` copies ../one, which is outside of the context"):
        last(DEBIAN.dockerfile_commands("COPY ../one /", context_dir="ctx"))
    with pytest.raises(NotFoundError, match="there is no directory none"):
        last(DEBIAN.dockerfile_commands("COPY a /", context_dir="none"))
    with pytest.raises(NotFoundError, match=r"from_dockerfile: there is no file No \(/"):
        last(Image.from_dockerfile("No"))


# files laid over, and files copied


def test_files_that_are_laid_over(here):
    files(here, "f d/a.py d/b.txt d/c/e")
    assert mounted(DEBIAN.add_local_file("f", "/root/g")) == {"/root": ["g"]}
    assert mounted(DEBIAN.add_local_file("f", "/data/")) == {"/data": ["f"]}
    assert mounted(DEBIAN.add_local_dir("d", "/x")) == {"/x": ["a.py", "b.txt", "c/e"]}
    assert mounted(DEBIAN.add_local_dir("d", "/x", ignore=["c", "*.txt"])) == {"/x": ["a.py"]}
    assert mounted(DEBIAN.add_local_dir("d", "/x", ignore=lambda path: path.suffix == ".py")) == {
        "/x": ["b.txt", "c/e"]
    }
    assert mounted(DEBIAN.add_local_dir("d", "/x", ignore=~Matcher("**/*.py"))) == {"/x": ["a.py"]}
    assert (
        translate(DEBIAN.add_local_dir("d", "/x"), LocalFiles()).spec.steps
        == translate(DEBIAN, LocalFiles()).spec.steps
    ), "they are no part of what is built"


def test_files_that_are_copied(here):
    files(here, "f d/a")
    assert last(DEBIAN.add_local_file("f", "/x/g", copy=True)).operation == "copy"
    assert copied(DEBIAN.add_local_file("f", "/x/g", copy=True)) == ("/x", ["g"])
    assert copied(DEBIAN.add_local_dir("d", "/x", copy=True)) == ("/x", ["a"])
    assert copied(DEBIAN.copy_local_file("f")) == (".", ["f"])
    assert copied(DEBIAN.copy_local_file("f", "sub/g")) == ("sub", ["g"])
    assert copied(DEBIAN.copy_local_file("f", "/g")) == ("/", ["g"])
    assert copied(DEBIAN.copy_local_file("f", "/root")) == ("/root", ["f"])
    assert copied(DEBIAN.copy_local_file("f", "/new/")) == ("/new", ["f"])
    assert copied(DEBIAN.copy_local_dir("d", "x")) == ("x", ["a"])
    mount = Mount.from_local_dir("d", remote_path="/r").add_local_file("f")
    assert copied(DEBIAN.copy_mount(mount, "/m")) == ("/m", ["f", "r/a"])
    assert copied(DEBIAN.copy(mount)) == (".", ["f", "r/a"])


def test_python_source(here, monkeypatch):
    files(here, "pkg/__init__.py pkg/sub/mod.py pkg/data.json pkg/__pycache__/x.pyc single.py")
    monkeypatch.syspath_prepend(str(here))
    image = DEBIAN.add_local_python_source("pkg", "single")
    assert mounted(image) == {"/root": ["pkg/__init__.py", "pkg/sub/mod.py", "single.py"]}
    everything = DEBIAN.add_local_python_source("pkg", ignore=["**/*.pyc"])
    assert mounted(everything) == {"/root": ["pkg/__init__.py", "pkg/data.json", "pkg/sub/mod.py"]}
    for mount in (Mount.from_local_python_packages("pkg"), *glowplug.create_package_mounts(["pkg"])):
        assert mounted(DEBIAN, mount) == {"/root": ["pkg/__init__.py", "pkg/data.json", "pkg/sub/mod.py"]}
    with pytest.raises(NotFoundError, match="there is no module 'absent_module' here"):
        translate(DEBIAN.add_local_python_source("absent_module"), LocalFiles())
    with pytest.raises(InvalidError, match="'sys' is built into Python"):
        translate(DEBIAN.add_local_python_source("sys"), LocalFiles())
    for name in ("pkg", "single"):
        sys.modules.pop(name, None)


def test_mounts_of_old_scripts(here):
    files(here, "f d/a d/b.pyc d/c/e")
    assert mounted(DEBIAN, Mount.from_local_dir("d")) == {"/d": ["a", "b.pyc", "c/e"]}
    assert mounted(DEBIAN, Mount.from_local_file("f")) == {"/": ["f"]}
    assert mounted(DEBIAN, Mount.from_local_file("f", "/x/g")) == {"/x": ["g"]}
    assert mounted(DEBIAN, Mount("/x", local_dir="d", recursive=False)) == {"/x": ["a", "b.pyc"]}
    assert mounted(DEBIAN, Mount("/x", local_file="f")) == {"/x": ["f"]}
    seen = []
    mount = Mount.from_local_dir("d", condition=lambda path: seen.append(path) or path.endswith("/a"))
    assert mounted(DEBIAN, mount) == {"/d": ["a"]}
    assert str(here / "d" / "c" / "e") in seen
    assert repr(Mount.from_local_dir("d").add_local_file("f")) == "<Mount of d, f>"
    for wrong in (lambda: Mount.from_local_dir(3), lambda: Mount.from_local_file("f", "/a/../b")):
        with pytest.raises(InvalidError, match="Mount: "):
            wrong()
    with pytest.raises(NotFoundError, match=r"Mount: there is no directory none \(/.*working directory"):
        mounted(DEBIAN, Mount.from_local_dir("none"))


def test_nothing_is_laid_below_what_another_shows(here):
    files(here, "f d/sub/a e/b")
    both = DEBIAN.add_local_dir("d", "/x").add_local_dir("e", "/x/sub").add_local_file("f", "/x/sub/deep/g")
    assert mounted(both) == {"/x": ["sub/a", "sub/b", "sub/deep/g"]}
    beside = DEBIAN.add_local_dir("d", "/x").add_local_dir("e", "/x/other")
    assert mounted(beside) == {"/x": ["sub/a"], "/x/other": ["b"]}
    at_root = DEBIAN.add_local_dir("d", "/").add_local_file("f", "/sub/g")
    assert mounted(at_root) == {"/": ["sub/a", "sub/g"]}
    later = DEBIAN.add_local_file("f", "/x/n").add_local_file("e/b", "/x/n")
    reader = LocalFiles()
    (mount,), laid, _ = lay_over(translate(later, reader).mounted)
    assert mount.path == "/x"
    assert list(laid.places.values()) == [str(here / "e" / "b")], "the later one wins"


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (
            DEBIAN.add_local_file("none", "/x"),
            r"add_local_file: there is no file none \(/.*\). Paths are relat",
        ),
        (DEBIAN.add_local_file("/none", "/x"), r"add_local_file: there is no file /none\."),
        (DEBIAN.add_local_dir("none", "/x"), "add_local_dir: there is no directory none"),
        (DEBIAN.copy_local_file("none"), "copy_local_file: there is no file none"),
        (DEBIAN.uv_pip_install(requirements=["none"]), "uv_pip_install: there is no file none"),
    ],
)
def test_files_that_are_not_there(image, text):
    with pytest.raises(NotFoundError, match=text):
        translate(image, LocalFiles())


def test_files_that_are_not_what_they_should_be(here):
    files(here, "d/f")
    (here / "latin").write_bytes(b"\xff\xfe\xff")
    os.symlink("/etc/passwd", here / "d" / "link")
    with pytest.raises(InvalidError, match=r"add_local_file: .*d is a directory"):
        translate(DEBIAN.add_local_file("d", "/x"), LocalFiles())
    with pytest.raises(InvalidError, match=r"add_local_dir: latin \(.*is a file, not a directory"):
        translate(DEBIAN.add_local_dir("latin", "/x"), LocalFiles())
    with pytest.raises(
        InvalidError, match=r"add_local_dir: .*d/link is a link to /etc/passwd, which is outside"
    ):
        translate(DEBIAN.add_local_dir("d", "/x"), LocalFiles())
    with pytest.raises(InvalidError, match=r"latin .* is not a text in UTF-8"):
        translate(DEBIAN.pip_install_from_requirements("latin"), LocalFiles())


def test_home_directory(here, monkeypatch):
    files(here, "f")
    monkeypatch.setenv("HOME", str(here))
    assert mounted(DEBIAN.add_local_file("~/f", "/x/f")) == {"/x": ["f"]}


# the matcher


def test_file_pattern_matcher(here):
    matcher = Matcher("*.csv", "!keep.csv")
    assert [name for name in ("a.csv", "keep.csv", "b") if matcher(name)] == ["a.csv"]
    assert [name for name in ("a.csv", "keep.csv", "b") if (~matcher)(name)] == ["keep.csv", "b"]
    assert ~~matcher is matcher
    assert matcher.patterns == (~matcher).patterns == ["*.csv", "!keep.csv"]
    assert Matcher("a").can_prune_directories()
    assert not matcher.can_prune_directories()
    assert not (~Matcher("a")).can_prune_directories()
    assert repr(~matcher) == "~FilePatternMatcher('*.csv', '!keep.csv')"
    read = Matcher.from_file("ignore")
    with pytest.raises(NotFoundError, match="from_file: there is no ignore"):
        read("a")
    (here / "ignore").write_text("# no\na\n")
    assert read("a/b")
    assert read.can_prune_directories()


# what an app tells of its functions


def run(app):
    client = FakeClient(app)
    with app.run(client=client):
        pass
    return client, {each["name"]: each["definition"]["image"] for each in client.specs[0].functions}


def test_each_distinct_image_is_asked_for_once(here):
    files(here, "f g")
    app = glowplug.App("x", image=DEBIAN.add_local_file("f", "/x/f"))
    for name, options in {
        "of-app": {},
        "same": {"image": DEBIAN.add_local_file("f", "/x/f")},
        "other-files": {"image": DEBIAN.add_local_file("g", "/x/f")},
        "other": {"image": DEBIAN.pip_install("a")},
    }.items():
        app.function(serialized=True, name=name, **options)(lambda: 1)
    client, images = run(app)
    assert [request.name for request in client.images] == ["of-app, same and 1 more", "other"]
    ids = {name: image["image_id"] for name, image in images.items()}
    assert ids["of-app"] == ids["same"] == ids["other-files"] != ids["other"]
    assert images["of-app"] == images["same"] != images["other-files"]
    assert images["other"]["mounts"] == []
    first = client.images[0]
    assert {mount.tree for mount in first.spec.mounts} == set(first.spec.trees)
    assert sorted(first.places.values()) == [str(here / "f"), str(here / "g")]


def test_mounts_without_an_image(here):
    files(here, "f g")
    app = glowplug.App("x", mounts=[Mount.from_local_file("f", "/data/f")])
    app.function(serialized=True, name="a", mounts=[Mount.from_local_file("g", "/data/g")])(lambda: 1)
    client, images = run(app)
    (request,) = client.images
    assert (request.spec.steps, images["a"]["image_id"]) == ((), "")
    (mount,) = images["a"]["mounts"]
    assert [entry.path for entry in request.spec.trees[mount["tree"]].entries] == ["f", "g"]


def test_without_images_nothing_is_asked(here):
    app = glowplug.App("x")
    app.function(serialized=True, name="a")(lambda: 1)
    client, images = run(app)
    assert (client.images, images) == ([], {"a": None})


def test_what_fails_starts_nothing(here):
    app = glowplug.App("x", image=DEBIAN.add_local_file("none", "/x"))
    app.function(serialized=True, name="a")(lambda: 1)
    client = FakeClient(app)
    with pytest.raises(NotFoundError, match="none"), app.run(client=client):
        pass
    assert client.specs == []
    assert app.running is None


def test_what_has_no_content_is_said(here):
    files(here, "d/f")
    os.mkfifo(here / "d" / "pipe")
    app = glowplug.App("x", image=DEBIAN.add_local_dir("d", "/d"))
    app.function(serialized=True, name="a")(lambda: 1)
    with pytest.warns(NotCarriedOutWarning, match="d/pipe: sockets, pipes and devices are left out"):
        run(app)


def test_by_value_takes_the_same_python(here):
    app = glowplug.App("x", image=Image.debian_slim("3.9"))
    app.function(serialized=True, name="a")(lambda: 1)
    with pytest.raises(InvalidError, match=r"a is sent by value.*the image has 3\.9, this is 3\."):
        run(app)

    def inner():
        return here

    for image in (Image.debian_slim("3.9.1"), Image.from_registry("x", add_python="3.9")):
        with pytest.raises(InvalidError, match="run_function: inner is sent by value"):
            translate(image.run_function(inner), LocalFiles())
