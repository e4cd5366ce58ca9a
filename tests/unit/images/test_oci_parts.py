"""The parts of the OCI builder that need no buildah: output, roots out of layers, names of registries."""

import json
import os
import subprocess
import sys

import pytest

from glowplug.images.oci import export, registries, room
from glowplug.images.oci.debian import DebianBase
from glowplug.images.oci.interpreter import _checked
from glowplug.images.oci.output import BuildOutput
from glowplug.model.errors import ImageBuildError


class Lines:
    def __init__(self):
        self.lines = []

    def step(self, number, count, text, cached):
        raise AssertionError("steps are told by the builder")

    def line(self, text):
        self.lines.append(text)


def read(*lines, commands=("make all",), secrets=()):
    log = Lines()
    output = BuildOutput(log, commands, secrets)
    for line in lines:
        output.line(line)
    return output, log.lines


def test_an_unknown_instruction_is_told_without_buildahs_inner_values():
    output, shown = read(
        'time="2026-01-01" level=error msg="+(UNHANDLED LOGLEVEL) &imagebuilder.Step{Env:[]string{}',
        'Error: building at STEP "RNU ": Build error: Unknown instruction: "RNU" &imagebuilder.Step{'
        'Env:[]string{"PATH=/bin"}, Command:"rnu", Original:"RNU echo hi"}',
    )
    assert shown == []
    assert output.error == 'building at STEP "RNU ": Build error: Unknown instruction: "RNU"'


@pytest.mark.parametrize(
    ("copy", "said", "told"),
    [
        ("no.txt /x", 'copier: stat: "/no.txt"', "there is no 'no.txt' in its context"),
        (
            "sub/*.txt /x",
            'Rel: can\'t make  relative to /h/trees/ab; copier: stat: ["/sub/*.txt"]',
            "there is no 'sub/*.txt' in its context",
        ),
        ("--from=made no /x", 'copier: stat: "/no"', "there is no 'no' in what --from names"),
    ],
)
def test_a_file_to_copy_that_is_not_there_is_told_by_its_own_name(copy, said, told):
    output, _ = read(
        f'Error: building at STEP "COPY {copy}": checking on sources under "/h/trees/ab": {said}: '
        "no such file or directory"
    )
    assert output.error.startswith(f'building at STEP "COPY {copy}": {told}')
    assert "/h/trees" not in output.error


def test_rooms_whose_server_was_killed_leave_no_directories(tmp_path):
    try:
        room.require_room()
    except ImageBuildError as error:
        pytest.skip(str(error))
    code = "from glowplug.images.oci.room import Room; Room(environ={'PATH': '/usr/bin:/bin'}).run("
    code += "lambda stage: ['sh', '-c', 'echo up; exec sleep 1000'], lambda line: print(line, flush=True))"
    for _ in range(2):
        server = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        with server:
            assert server.stdout is not None
            assert server.stdout.readline() == "up\n"
            server.kill()
    (left,) = tmp_path.iterdir()
    assert list(left.iterdir()) == []


def test_output_names_the_command_and_how_it_ended():
    output, shown = read(
        "STEP 1/2: FROM localhost/glowplug:abc",
        'STEP 2/2: RUN ["/bin/sh", "-c", ". /.glowplug/env; make all"]',
        "cc a.c",
        "a.c:1: error",
        "subprocess exited with status 2",
        'Error: building at STEP "RUN make all": exit status 2',
    )
    assert shown == ["→ make all", "cc a.c", "a.c:1: error"]
    assert output.command == "make all"
    assert output.exit_code == 2
    assert list(output.last) == ["cc a.c", "a.c:1: error"]


def test_output_tells_nothing_of_the_storage():
    _, shown = read(
        "COMMIT localhost/glowplug:x",
        "--> 805cdc187cf",
        "Successfully tagged localhost/glowplug:x",
        "a" * 64,
        "Getting image source signatures",
        "Copying blob sha256:89",
        "Writing manifest to image destination",
        "Storing signatures",
        "hello",
    )
    assert shown == ["hello"]


def test_output_hides_the_values_of_secrets():
    output, shown = read("token=hunter22 and more", secrets=["hunter22", "hunter", "ab"])
    assert shown == ["token=*** and more"]
    assert list(output.last) == shown


def test_a_line_shows_what_a_progress_bar_showed_last():
    from glowplug.images.oci.room import _last_shown

    assert _last_shown(b"10%\r50%\r100% done\r") == "100% done"


def make_tree(root, **files):
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_root_is_the_union_of_its_layers(tmp_path):
    bottom = make_tree(tmp_path / "1", etc__a="1", etc__b="1", opt__x__y="1", srv__deep__z="1", tmp__f="1")
    top = make_tree(tmp_path / "2", etc__b="2", new="2", opt__only="2")
    (top / "etc" / ".wh.a").touch()
    (top / "opt" / ".wh..wh..opq").touch()
    (top / "tmp").symlink_to("srv")
    (top / ".wh.srv").touch()
    os.chmod(top / "etc", 0o750)
    export.export(str(tmp_path / "root"), [str(top), str(bottom)])
    root = tmp_path / "root"
    found = {str(path.relative_to(root)) for path in root.rglob("*")}
    own = {"etc/resolv.conf", "etc/hosts"}  # where the node shows its own
    assert found == {"etc", "etc/b", "new", "opt", "opt/only", "tmp", *own}
    assert (root / "etc/b").read_text() == "2"
    assert (root / "tmp").is_symlink()
    assert (root / "etc").stat().st_mode & 0o777 == 0o750
    assert (root / "new").stat().st_ino == (top / "new").stat().st_ino


def test_a_directory_over_a_file_and_a_file_over_a_directory(tmp_path):
    bottom = make_tree(tmp_path / "1", a="file", b__c="1")
    top = make_tree(tmp_path / "2", a__inside="2", b="file")
    export.export(str(tmp_path / "root"), [str(top), str(bottom)])
    assert (tmp_path / "root/a/inside").read_text() == "2"
    assert (tmp_path / "root/b").read_text() == "file"


def test_a_link_out_of_a_layer_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    bottom = tmp_path / "1"
    bottom.mkdir()
    (bottom / "etc").symlink_to(outside)
    top = make_tree(tmp_path / "2", etc__passwd="theirs")
    export.export(str(tmp_path / "root"), [str(top), str(bottom)])
    assert list(outside.iterdir()) == []
    assert (tmp_path / "root/etc/passwd").read_text() == "theirs"


def test_a_missing_entry_is_noticed(tmp_path):
    layer = make_tree(tmp_path / "1", a="1", b__c="1")
    program = [sys.executable, "-I", export.__file__]
    root = str(tmp_path / "root")
    made = json.loads(subprocess.check_output([*program, root, str(layer)]))
    assert json.loads(subprocess.check_output([*program, "--check", root]))[str(root)] == made
    (tmp_path / "root/b/c").unlink()
    assert json.loads(subprocess.check_output([*program, "--check", root]))[str(root)] != made


@pytest.mark.parametrize(
    ("tag", "full", "host"),
    [
        ("python:3.11", "docker.io/library/python:3.11", "registry-1.docker.io"),
        ("nvidia/cuda:12.4.1", "docker.io/nvidia/cuda:12.4.1", "registry-1.docker.io"),
        ("ghcr.io/a/b", "ghcr.io/a/b", "ghcr.io"),
        ("localhost/a", "localhost/a", "localhost"),
        ("docker://box:5000/a:1", "box:5000/a:1", "box:5000"),
    ],
)  # fmt: skip
def test_names_of_registries(tag, full, host):
    assert registries.full_name(tag) == full
    assert registries.host_of(tag) == host


def test_reach_remembers(tmp_path, monkeypatch):
    asked = []

    def answer(host):
        asked.append(host)
        return "no route"

    monkeypatch.setattr(registries, "_try", answer)
    reach = registries.Reach(tmp_path / "reached.json")
    assert reach.refusal("example.org") == "no route"
    assert registries.Reach(tmp_path / "reached.json").refusal("example.org") == "no route"
    assert asked == ["example.org"]


def test_a_registry_that_refuses_is_out_of_reach(tmp_path):
    assert "refused" in registries.Reach(tmp_path / "reached.json").refusal("127.0.0.1:1")


def test_logins():
    plain = registries.login("ghcr.io/a/b", "", {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"})
    assert json.loads(plain) == {"auths": {"ghcr.io": {"auth": "dTpw"}}}
    assert registries.login("ghcr.io/a/b", "", {}) == b""
    with pytest.raises(ImageBuildError, match="SERVICE_ACCOUNT_JSON"):
        registries.login("eu-docker.pkg.dev/a/b", "gcp_artifact_registry", {})
    with pytest.raises(ImageBuildError, match="AWS_ECR_PASSWORD"):
        registries.login("1.dkr.ecr.eu-west-1.amazonaws.com/a", "aws_ecr", {})


def test_a_python_that_is_too_old():
    with pytest.raises(ImageBuildError, match=r"3\.8\.10 .*3\.9 or newer"):
        _checked(["/usr/bin/python3", [3, 8, 10], "/usr", "/usr", []])


def test_bases_of_different_suites_and_mirrors_have_different_names():
    tags = {
        DebianBase("bookworm", "3.11").tag,
        DebianBase("bookworm", "").tag,
        DebianBase("bullseye", "3.9").tag,
        DebianBase("bookworm", "3.11", "http://mirror.example.org/debian").tag,
    }
    assert len(tags) == 4
