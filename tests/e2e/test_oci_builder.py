"""Images with a root of their own, built by the real buildah: layers, caches, failures, stops and secrets."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest

from e2e.oci import Log, OciPlace, run, spec_of, step
from glowplug.backends.local.driver import DriverFiles
from glowplug.images.commands import BuildStopped
from glowplug.images.oci.debian import DebianBase, take_in
from glowplug.model.errors import ImageBuildError
from glowplug.model.files import FileTree
from glowplug.model.image_spec import ImageSpec
from wheels import make_wheel

pytestmark = pytest.mark.timeout(600)


def read(image, path: str) -> str:
    return Path(image.root + path).read_text()


def test_a_home_may_lie_anywhere(oci: OciPlace, tmp_path: Path) -> None:
    home = tmp_path / "Ada's HOME_"
    builder = replace(oci, home=home, volatile=tmp_path / "volatile").builder()
    directory = builder.directory / "debian-x_"
    directory.mkdir(parents=True)
    with tarfile.open(directory / "root.tar", "w") as archive:
        archive.add(__file__, "etc/about")
    base = DebianBase("bookworm", "3.11")
    with builder.storage.building():
        take_in(base, directory / "root.tar", builder.storage)
        assert base.tag in builder.storage.images()


def test_a_step_is_a_layer_and_is_done_once(oci: OciPlace) -> None:
    first = run("echo one > /one; date +%s%N > /when")
    image = oci.build(first, run("cat /one > /two"))
    assert read(image, "/two") == "one\n"
    assert image.python_version == "3.11"
    assert "/usr/lib/python3.11" in image.sys_path
    log = Log()
    other = oci.build(first, run("echo other > /two"), log=log)
    assert log.built == [3]
    assert read(other, "/when") == read(image, "/when")
    assert read(image, "/two") == "one\n"


def test_an_image_that_is_there_is_found(oci: OciPlace) -> None:
    spec = spec_of(run("echo found > /found"))
    assert oci.builder().find(spec) is None
    image = oci.build(*spec.steps[1:])
    assert oci.builder().find(spec) == image
    log = Log()
    assert oci.build(*spec.steps[1:], log=log) == image
    assert log.built == []
    assert oci.builder().examine(spec) == {}
    assert oci.builder().size(spec) > 50 << 20


def test_a_damaged_root_is_noticed_and_made_anew(oci: OciPlace) -> None:
    spec = spec_of(run("echo whole > /whole"))
    image = oci.build(*spec.steps[1:])
    os.unlink(image.root + "/whole")
    assert oci.builder().examine(spec)
    oci.builder().remove(image.image_id)
    assert oci.builder().find(spec) is None
    assert read(oci.build(*spec.steps[1:]), "/whole") == "whole\n"


def test_a_file_altered_in_place_has_its_layer_built_anew_and_all_that_stands_on_it(oci: OciPlace) -> None:
    own = "/usr/lib/python3/dist-packages/own"
    below = run("echo whole > /whole", f"mkdir -p {own}", f"echo 1 > {own}/__init__.py")
    spec = spec_of(below, run("echo upper > /upper"))
    image = oci.build(*spec.steps[1:])
    other = oci.build(below, run("echo other > /other"))
    kept = oci.build(run("echo apart > /apart"))
    for path in ("/whole", f"{own}/__init__.py"):  # a telling one among them
        size = os.stat(image.root + path).st_size
        Path(image.root + path).write_text("z" * size)
    held = os.open(image.root, os.O_RDONLY)
    try:
        assert read(other, "/whole") == "zzzzzz"
        assert oci.builder().examine(spec)
        assert oci.builder().find(spec) is None
        log = Log()
        again = oci.build(*spec.steps[1:], log=log)
        assert log.built == [2, 3]
        assert any("changed on the disk" in line for line in log.lines)
        assert read(again, "/whole") == "whole\n"
        assert oci.builder().find(spec) == again
        # Whoever runs in the damaged one keeps it; those after it are shown another directory.
        assert os.fstat(held).st_ino != os.stat(again.root).st_ino
    finally:
        os.close(held)
    log = Log()
    assert read(oci.build(below, run("echo other > /other"), log=log), "/whole") == "whole\n"
    assert log.built == [3]
    log = Log()
    assert oci.build(run("echo apart > /apart"), log=log) == kept
    assert log.built == []


def test_removing_keeps_what_others_stand_on(oci: OciPlace) -> None:
    shared = run("echo shared > /shared")
    kept_spec, gone_spec = spec_of(shared, run("echo kept > /x")), spec_of(shared, run("echo gone > /x"))
    kept, gone = oci.build(*kept_spec.steps[1:]), oci.build(*gone_spec.steps[1:])
    builder = oci.builder()
    builder.remove(gone.image_id)
    gone_tag = builder.layers_of(gone_spec)[-1][0]
    keep = set(builder.storage.images()) - {gone_tag}  # other tests share this home
    builder.remove_layers(keep, {gone.root})
    assert os.path.exists(gone.root)
    builder.remove_layers(keep, ())
    assert not os.path.exists(gone.root)
    assert set(builder.storage.images()) == keep
    log = Log()
    oci.build(*kept_spec.steps[1:], run("echo more > /y"), log=log)
    assert log.built == [4]
    assert read(kept, "/x") == "kept\n"


def test_a_failing_step_says_which_command_and_what_it_said(oci: OciPlace) -> None:
    good = run("echo before > /before")
    bad = run("echo quiet", "echo to be seen; sh -c 'exit 7'", text="run_commands('echo quiet', …)")
    with pytest.raises(ImageBuildError) as caught:
        oci.build(good, bad)
    message = str(caught.value)
    assert "step 3 of 3, run_commands('echo quiet', …)" in message
    assert "`echo to be seen; sh -c 'exit 7'` failed with exit code 7" in message
    assert message.endswith("to be seen")
    assert oci.builder().find(spec_of(good, bad)) is None
    log = Log()
    oci.build(good, run("true"), log=log)
    assert log.built == [3]


def test_force_builds_from_there_on(oci: OciPlace) -> None:
    before, after = run("date +%s%N > /before"), run("date +%s%N > /after")
    first = oci.build(before, run("date +%s%N > /middle"), after)
    log = Log()
    second = oci.build(before, run("date +%s%N > /middle", force=True), after, log=log)
    assert log.built == [3, 4]
    assert read(first, "/before") == read(second, "/before")
    assert read(first, "/middle") != read(second, "/middle")
    assert read(first, "/after") != read(second, "/after")


def test_secrets_and_variables_are_of_their_step_alone(oci: OciPlace) -> None:
    log = Log()
    image = oci.build(
        run(
            'echo "$PLAIN" > /plain; echo "$NAMED/$UNNAMED" | rev > /seen; echo "it is $NAMED"',
            variables={"PLAIN": "it's plain"},
            secrets=("stored",),
            secret_variables={"UNNAMED": "hush-5678"},
        ),
        run('echo "[$PLAIN$NAMED$UNNAMED]" > /later'),
        log=log,
        secrets={"stored": {"NAMED": "hush-1234"}},
    )
    assert read(image, "/plain") == "it's plain\n"
    assert read(image, "/seen") == "8765-hsuh/4321-hsuh\n"
    assert read(image, "/later") == "[]\n"
    assert "it is ***" in log.lines
    found = subprocess.run(
        ["grep", "-rlE", "hush-(1234|5678)", str(oci.home), str(oci.volatile)], capture_output=True, text=True
    )
    assert found.stdout == ""


def test_python_packages_of_the_image(oci: OciPlace) -> None:
    image = oci.build(
        step("python_packages", packages=["six==1.16.0"]), run("python -c 'import six' && pip --version")
    )
    assert Path(image.root, "usr/local/lib/python3.11/dist-packages/six.py").exists()
    with pytest.raises(ImageBuildError, match=r"uv pip install .*no-such-package-of-anybody"):
        oci.build(step("python_packages", packages=["no-such-package-of-anybody"]))


def test_indexes_in_directories_are_not_taken_for_each_other(oci: OciPlace, tmp_path: Path) -> None:
    """As machines without a network have them: pages whose links lead to files beside the index."""
    for which in ("one", "other"):
        index = tmp_path / which
        wheel = make_wheel(index / "files", "alpha", files={"alpha.py": which})
        page = index / "simple" / "alpha" / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<!DOCTYPE html><a href="../../files/{wheel.name}">{wheel.name}</a>')
        address = f"file://{index}/simple"
        environ = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": address, "PIP_CONFIG_FILE": os.devnull}
        builder = oci.builder(environ=environ)
        wanted = spec_of(run(f": {which}"), step("python_packages", packages=["alpha"]))
        image = builder.build(wanted, Path, lambda name: {}, Log(), lambda: False)
        found = Path(image.root, "usr/local/lib/python3.11/dist-packages/alpha.py")
        assert found.read_text() == which


def test_a_step_with_a_card_sees_the_driver_and_the_image_keeps_nothing_of_it(
    oci: OciPlace, tmp_path: Path
) -> None:
    (tmp_path / "libcuda.so.1").write_text("the driver")
    driver = DriverFiles(((str(tmp_path / "libcuda.so.1"), "/.glowplug/driver/lib/libcuda.so.1"),))
    look = 'cat "${LD_LIBRARY_PATH##*:}/libcuda.so.1" > /seen; echo "$LD_LIBRARY_PATH" > /searched'
    wanted = spec_of(step("env", variables={"LD_LIBRARY_PATH": "/own"}), run(look))
    with_card = replace(wanted, steps=(*wanted.steps[:-1], replace(wanted.steps[-1], gpu="T4")))
    builder = oci.builder(driver=lambda: driver)
    image = builder.build(with_card, Path, lambda name: {}, Log(), lambda: False)
    assert read(image, "/seen") == "the driver"
    assert read(image, "/searched") == "/own:/.glowplug/driver/lib\n"
    assert image.variables["LD_LIBRARY_PATH"] == "/own"
    assert not list(Path(image.root).glob(".glowplug/*"))


def test_configuration_of_an_image(oci: OciPlace) -> None:
    image = oci.build(
        step("env", variables={"A": "it's $HOME", "LINES": "1\n2"}),
        step("workdir", path="/my app"),
        step("shell", words=["/bin/bash", "-c"]),
        run("[[ $A == it* ]] && pwd > /pwd"),
        step("dockerfile", commands=["ENV B=2 \\", "  C=3", "RUN echo $B$C > /bc"]),
        step("entrypoint", words=["/entry"]),
    )
    assert read(image, "/pwd") == "/my app\n"
    assert read(image, "/bc") == "23\n"
    assert image.workdir == "/my app"
    assert image.entrypoint == ("/entry",)
    assert image.variables.items() >= {"A": "it's $HOME", "LINES": "1\n2", "B": "2", "C": "3"}.items()
    assert "HOSTNAME" not in image.variables


def test_files_are_copied_by_content(oci: OciPlace, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file.txt").write_text("content")
    tree = FileTree(()).digest
    image = oci.build(
        step("workdir", path="/work"),
        step("copy", tree=tree, path="files"),
        run("cat files/sub/file.txt > /copied"),
        trees=lambda digest: tmp_path,
    )
    assert read(image, "/copied") == "content"


def test_a_function_as_a_step(oci: OciPlace, tmp_path: Path) -> None:
    (tmp_path / "builder_module.py").write_text(
        "import os, pathlib\n"
        "def download(name, suffix=''):\n"
        "    print('downloading', name)\n"
        "    pathlib.Path('/model').write_text(name + suffix + os.environ['TOKEN'][::-1])\n"
        "    pathlib.Path('/shelf/left').write_text('on the volume')\n"
    )
    log = Log()
    shelf = {"name": f"shelf-{time.time_ns()}", "mount_path": "/shelf"}
    image = oci.build(
        step(
            "run_function",
            {"secret_variables": {"TOKEN": "abcdef"}, "source": {"directory": str(tmp_path)}},
            module="builder_module",
            qualname="download",
            name="download",
            source="def download…",
            arguments=pickle.dumps((("bert",), {"suffix": "-large "})),
            volumes=[shelf],
        ),
        step("run", commands=["cat /put/left > /seen"], volumes=[{**shelf, "mount_path": "/put"}]),
        log=log,
    )
    assert read(image, "/seen") == "on the volume"
    assert read(image, "/model") == "bert-large fedcba"
    assert "downloading bert" in log.lines
    assert not Path(image.root + "/shelf/left").exists()


def test_a_function_by_value_that_raises(oci: OciPlace) -> None:
    def fail() -> None:
        raise RuntimeError("no model today")

    failing = step("run_function", name="fail", source="x", serialized=cloudpickle.dumps(fail))
    with pytest.raises(ImageBuildError, match=r"`fail\(\)` failed with exit code 1") as caught:
        oci.build(failing)
    assert "no model today" in str(caught.value)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (step("base", kind="registry", tag="127.0.0.1:1/some/image:1"), "127.0.0.1:1 is not reachable"),
        (step("base", kind="scratch"), "no Python that runs"),
        (step("base", kind="dockerfile", text="RUN true\n"), "no FROM line"),
        (step("base", kind="dockerfile", text="FROM scratch\nRNU x\n"), "RNU"),
        (step("base", kind="debian_slim", python_version="3.99"), "no Python 3.99 for an image here"),
    ],
)
def test_bases_that_cannot_be(oci: OciPlace, base, expected: str) -> None:
    with pytest.raises(ImageBuildError, match=expected):
        oci.build(base=base)


def test_a_build_that_is_stopped_leaves_nothing_running(oci: OciPlace) -> None:
    began: list[str] = []
    log = Log(on_line=lambda text: began.append(text) if text == "began" else None)
    marker = "sleep 987654.25"
    with pytest.raises(BuildStopped):
        oci.build(run(f"echo began; {marker}"), log=log, stopped=lambda: bool(began))
    assert marker not in subprocess.check_output(["ps", "-eo", "args"], text=True)


KILLED = """
import sys
import tarfile
import time
from pathlib import Path
from e2e.oci import Log, OciPlace, run
place = OciPlace(Path(sys.argv[1]), Path(sys.argv[2]))
log = Log(on_line=lambda text: print(text, flush=True))
place.build(run("echo kept > /kept"), run("echo began; sleep 987653.25"), log=log)
"""


def test_a_killed_builder_leaves_a_storage_that_works(oci: OciPlace) -> None:
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(oci.home), str(oci.volatile)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])},
    )
    assert process.stdout is not None
    assert any(line == "began\n" for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    log = Log()
    image = oci.build(run("echo kept > /kept"), run("echo went on > /on"), log=log)
    assert log.built == [3]
    assert read(image, "/on") == "went on\n"
    assert oci.builder().storage._records("containers") == []
    assert "sleep 987653.25" not in subprocess.check_output(["ps", "-eo", "args"], text=True)


def test_a_definition_without_a_base(oci: OciPlace) -> None:
    with pytest.raises(ImageBuildError, match="begins with what it starts from"):
        oci.builder().build(ImageSpec(), Path, lambda name: {}, Log(), lambda: False)


def test_without_buildah(oci: OciPlace, tmp_path: Path) -> None:
    builder = oci.builder(environ={"PATH": str(tmp_path)})
    with pytest.raises(ImageBuildError, match="apt-get install buildah"):
        builder.build(spec_of(run("true # never built")), Path, lambda name: {}, Log(), lambda: False)
