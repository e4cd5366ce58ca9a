"""What everything that builds images promises, whatever it makes of a definition."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.oci import OciPlace
from glowplug.images.bytecode import BytecodeCompiler
from glowplug.images.commands import BuildStopped
from glowplug.images.oci.debian import SUITES
from glowplug.images.oci.room import Room
from glowplug.images.venv import VenvBuilder
from glowplug.model.errors import ImageBuildError
from glowplug.model.image_spec import BuildStep, ImageSpec
from glowplug.ports.images import BuiltImage, ImageBuilder
from wheels import make_wheel, offline

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = BuildStep("base", {"kind": "debian_slim", "python_version": PYTHON}, "debian_slim()")


@dataclass
class Log:
    """What a build said."""

    steps: list[tuple[int, int, str, bool]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def step(self, number: int, count: int, text: str, cached: bool) -> None:
        self.steps.append((number, count, text, cached))

    def line(self, text: str) -> None:
        self.lines.append(text)

    @property
    def cached(self) -> list[bool]:
        return [cached for *_, cached in self.steps]


class Place:
    """A directory with builders, wheels and trees; each ``builder()`` is that of another server."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.wheels = directory / "wheels"
        self.trees = directory / "trees"
        self.variables = {"PATH": os.environ["PATH"], "HOME": str(directory)}
        self.variables |= offline(self.wheels, directory / "cache")
        self._compilers: list[BytecodeCompiler] = []
        make_wheel(self.wheels, "alpha")
        make_wheel(self.wheels, "beta", requires=["alpha"])

    def builder(self) -> ImageBuilder:
        self._compilers.append(BytecodeCompiler())
        return VenvBuilder(self.directory / "venv", self.trees, self.variables, self._compilers[-1])

    def build(
        self,
        spec: ImageSpec,
        log: Log | None = None,
        stopped: Callable[[], bool] = lambda: False,
        secrets: Callable[[str], dict[str, str]] = lambda name: {},
        builder: ImageBuilder | None = None,
    ) -> BuiltImage:
        builder = builder or self.builder()
        return builder.build(spec, lambda digest: self.trees / digest, secrets, log or Log(), stopped)

    def unfinished(self) -> list[str]:
        """What lies in the builder's directory and belongs to no finished layer."""
        layers = self.directory / "venv" / "layers"
        named = [json.loads(path.read_text())["directory"] for path in layers.glob("*.json")]
        return [path.name for path in layers.iterdir() if path.is_dir() and path.name not in named]

    def close(self) -> None:
        for compiler in self._compilers:
            compiler.close()


class RootPlace(Place):
    """The same upon the session's home of images with a root."""

    def __init__(self, directory: Path, oci: OciPlace) -> None:
        super().__init__("oci", directory)
        self._oci = oci

    def builder(self) -> ImageBuilder:
        return self._oci.builder(environ=self.variables)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place("venv", tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["venv", pytest.param("oci", marks=pytest.mark.timeout(600))])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Of every builder. The layers of a root cost seconds each, so only what may differ is asked of both."""
    if request.param == "oci":
        if PYTHON not in SUITES:
            pytest.skip(f"no Debian has Python {PYTHON}")
        return RootPlace(tmp_path, request.getfixturevalue("oci"))
    return request.getfixturevalue("place")


def packages(*names: str, **more: object) -> BuildStep:
    shown = ", ".join(repr(name) for name in names)
    return BuildStep("python_packages", {"packages": list(names)}, f"pip_install({shown})", **more)  # type: ignore[arg-type]


def spec(*steps: BuildStep) -> ImageSpec:
    return ImageSpec((BASE, *steps))


def run(image: BuiltImage, code: str) -> str:
    """What the image's interpreter prints."""
    command = [image.executable, "-I", "-c", code]
    if image.root:
        lines: list[str] = []
        assert Room(environ={}).run(lambda _: ["chroot", image.root, *command], lines.append).code == 0, lines
        return "\n".join(lines)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    return done.stdout.strip()


# what is built


def test_what_was_asked_for_is_there(any_place):
    image = any_place.build(spec(packages("beta==1.0")))
    assert run(image, "import alpha, beta; print(alpha.VERSION, beta.VERSION)") == "1.0 1.0"
    assert image.python_version == PYTHON == run(image, "import sys; print('%d.%d' % sys.version_info[:2])")
    assert list(image.sys_path) == json.loads(run(image, "import json, sys; print(json.dumps(sys.path))"))
    assert image.image_id == "im-" + spec(packages("beta==1.0")).digest[:16]


def test_nothing_is_there_before_and_everything_for_the_next_server(any_place):
    wanted = spec(packages("alpha"))
    assert any_place.builder().find(wanted) is None
    image = any_place.build(wanted)
    assert any_place.builder().find(wanted) == image


def test_variables_and_the_working_directory_come_along(any_place):
    image = any_place.build(
        spec(
            BuildStep("env", {"variables": {"A": "1", "B": "2"}}),
            BuildStep("workdir", {"path": "/place"}),
            BuildStep("env", {"variables": {"B": "3"}}),
            BuildStep("workdir", {"path": "deeper"}),
        )
    )
    assert image.variables.items() >= {"A": "1", "B": "3"}.items()
    assert image.workdir == "/place/deeper"


def test_every_step_is_told_with_its_number(any_place):
    log = Log()
    any_place.build(spec(packages("alpha"), BuildStep("env", {"variables": {}}, "env({})")), log)
    assert [each[:3] for each in log.steps] == [
        (1, 3, "debian_slim()"),
        (2, 3, "pip_install('alpha')"),
        (3, 3, "env({})"),
    ]


def test_requirements_are_read(place):
    step = BuildStep("python_packages", {"requirements": ["alpha==1.0\n", "# none\n"]}, "requirements")
    assert run(place.build(spec(step)), "import alpha; print(alpha.VERSION)") == "1.0"


def test_what_was_copied_can_be_installed_and_comes_along(place):
    tree = "7" * 64
    wheel = make_wheel(place.trees / tree, "delta")
    copy = BuildStep("copy", {"tree": tree, "path": "wheels"}, "add_local_dir(...)")
    step = packages(f"/root/wheels/{wheel.name}")
    image = place.build(spec(copy, step))
    assert run(image, "import delta; print(delta.VERSION)") == "1.0"
    assert image.files == ((str(place.trees / tree), "/root/wheels"),)
    other = BuildStep("copy", {"tree": "8" * 64, "path": "wheels"}, "add_local_dir(...)")
    assert place.builder().find(spec(other, step)) is None


# layers


def test_a_common_beginning_is_built_once(any_place):
    any_place.build(spec(packages("alpha")))
    log = Log()
    image = any_place.build(spec(packages("alpha"), packages("beta")), log)
    assert log.cached == [True, True, False]
    assert run(image, "import alpha, beta; print(beta.VERSION)") == "1.0"


def test_a_failure_says_where_and_leaves_what_was_good(place):
    log = Log()
    with pytest.raises(ImageBuildError) as failed:
        place.build(spec(packages("alpha"), packages("gamma-is-not-there")), log)
    message = str(failed.value)
    assert message.startswith("step 3 of 3, pip_install('gamma-is-not-there'), failed: there is no package")
    assert "command: uv pip install gamma-is-not-there" in message
    assert "its last lines:" in message
    assert str(place.directory) not in message
    assert place.unfinished() == []
    assert place.builder().find(spec(packages("alpha"), packages("gamma-is-not-there"))) is None

    make_wheel(place.wheels, "gamma_is_not_there")
    again = Log()
    place.build(spec(packages("alpha"), packages("gamma-is-not-there")), again)
    assert again.cached == [True, True, False]


def test_packages_that_do_not_fit_together(place):
    make_wheel(place.wheels, "needy", requires=["alpha>=2"])
    with pytest.raises(ImageBuildError, match=r"pip_install\('needy'\), failed: .*alpha>=2"):
        place.build(spec(packages("needy")))


def test_a_step_by_force_and_those_after_it_are_built_anew(place):
    first = place.build(spec(packages("alpha"), packages("beta")))
    log = Log()
    second = place.build(spec(packages("alpha", force=True), packages("beta")), log)
    assert log.cached == [True, False, False]
    assert second.image_id == first.image_id
    assert second.executable != first.executable
    assert os.path.exists(first.executable)  # containers may still run on it
    assert place.builder().find(spec(packages("alpha"), packages("beta"))) == second


def test_two_servers_build_one_image_once(place):
    logs = [Log(), Log()]
    images: list[BuiltImage] = []
    threads = [
        threading.Thread(target=lambda log=log: images.append(place.build(spec(packages("beta")), log)))
        for log in logs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images[0] == images[1]
    for mine, theirs in zip(logs[0].cached, logs[1].cached, strict=True):
        assert mine != theirs


# odd ends


def test_a_build_that_nobody_wants_ends_and_leaves_nothing(place):
    log = Log()
    with pytest.raises(BuildStopped):
        place.build(spec(packages("beta")), log, stopped=lambda: len(log.steps) > 1)
    assert place.unfinished() == []
    assert place.builder().find(spec(packages("beta"))) is None


@pytest.mark.parametrize("harm", ["truncated", "removed", "written over"])
def test_damage_is_seen_and_mended(place, harm):
    wanted = spec(packages("alpha"))
    image = place.build(wanted)
    path = Path(run(image, "import alpha; print(alpha.__file__)"))
    if harm == "removed":
        path.unlink()
    else:  # in place, and so in the cache too that the file comes from
        path.write_text("" if harm == "truncated" else path.read_text().replace("1.0", "6.6"))
    assert place.builder().find(wanted) is None
    log = Log()
    mended = place.build(wanted, log)
    assert log.cached == [True, False]
    assert run(mended, "import alpha; print(alpha.VERSION)") == "1.0"


def test_what_a_killed_server_was_making_is_swept(place):
    image = place.build(spec(packages("alpha")))
    layers = Path(image.prefix).parent
    half = layers / f"{Path(image.prefix).name.split('-')[0]}-0badf00d"
    (half / "lib").mkdir(parents=True)
    (half / "lib" / "half.py").touch()
    place.builder().sweep()
    assert place.unfinished() == []
    assert place.builder().find(spec(packages("alpha"))) == image


def test_a_record_that_is_garbage_counts_as_none(place):
    wanted = spec(packages("alpha"))
    image = place.build(wanted)
    for record in Path(image.prefix).parent.glob("*.json"):
        record.write_text("{")
    assert place.builder().find(wanted) is None
    assert run(place.build(wanted), "import alpha; print(alpha.VERSION)") == "1.0"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("2.7", "is no version of Python: write '3.12'"),
        ("three", "is no version of Python: write '3.12'"),
        ("3.6", "is too old: functions run on Python 3.9 or newer"),
        ("3.99", r"there is no Python 3.99 on this machine, .* It has .*3\."),
    ],
)
def test_a_python_that_cannot_be(place, version, said):
    base = BuildStep("base", {"kind": "debian_slim", "python_version": version}, "debian_slim()")
    with pytest.raises(ImageBuildError, match=said):
        place.build(ImageSpec((base,)))
    assert not (place.directory / "venv" / "layers").exists() or place.unfinished() == []


# secrets


def private(**more: object) -> BuildStep:
    fields = {"repositories": ["git.invalid/ann/secret@main"], "git_user": "ann"}
    return BuildStep("private_repos", fields, "pip_install_private_repos(...)", **more)  # type: ignore[arg-type]


def test_private_repositories_need_a_token(place):
    with pytest.raises(ImageBuildError, match="GITHUB_TOKEN and GITLAB_TOKEN are in no secret of this step"):
        place.build(spec(private()))


@pytest.mark.parametrize("where", ["stored", "given"])
def test_tokens_reach_git_and_nothing_that_is_shown_or_kept(place, where, tmp_path):
    token = "ghp_0123456789abcdef"
    seen = tmp_path / "seen"
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(
        f'#!/bin/sh\n"$GIT_ASKPASS" Password >> {seen}\necho "with $GITHUB_TOKEN $*" >&2\nexit 128\n'
    )
    git.chmod(0o755)
    place.variables["PATH"] = f"{git.parent}:{place.variables['PATH']}"
    step = (
        private(secrets=("git",)) if where == "stored" else private(secret_variables={"GITHUB_TOKEN": token})
    )
    log = Log()
    with pytest.raises(ImageBuildError) as failed:
        place.build(spec(step), log, secrets=lambda name: {"GITHUB_TOKEN": token})
    assert set(seen.read_text().split()) == {token}
    assert token not in str(failed.value) + "".join(log.lines)
    kept = [path for path in (place.directory / "venv").rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in kept)
