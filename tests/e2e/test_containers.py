"""Containers with real processes: what they see of their machine and how they are heard."""

from __future__ import annotations

import os
import secrets

import pytest

from e2e.apps import call, gate_of, outputs, sandboxed
from e2e.conftest import value_of
from e2e.processes import until
from glowplug.client.serializer import pack
from glowplug.client.volumes import StoredVolume
from glowplug.model import errors
from glowplug.model.gpu import GpuRequest

# what a container sees


@sandboxed
def test_a_container_is_alone_and_without_power(app):
    looked = app(
        """
import os
def look():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "pid": os.getpid(),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
        "powers": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
        "new powers": status["NoNewPrivs"].strip(),
        "root": sorted(os.listdir("/")),
        "devices": sorted(os.listdir("/dev")),
    }
def escape():
    import subprocess
    tries = ["unshare -Ur id", "mount -t tmpfs none /mnt", "mknod /tmp/sda b 8 0", "touch /usr/x"]
    return [each for each in tries if subprocess.run(each, shell=True, capture_output=True).returncode == 0]
""",
        look={},
        escape={},
    )
    seen = looked.remote("look")
    assert seen["pid"] in (2, 3)
    assert len(seen["pids"]) <= 3
    assert set(seen["powers"]) == {"0" * 16}
    assert seen["new powers"] == "1"
    assert not {"boot", "media", "lost+found", ".old"} & set(seen["root"])
    assert not any(name.startswith(("nvidia", "sd", "vd", "mem", "kmsg")) for name in seen["devices"])
    assert looked.remote("escape") == []


@sandboxed
def test_two_containers_at_once_share_nothing_but_volumes(app, start):
    pair = app(
        """
import os, time
def meet(name):
    for place in ("/tmp", "/root", "/var/tmp", "/dev/shm", os.getcwd()):
        with open(f"{place}/mine-{name}", "w") as file:
            file.write(name)
    open(f"/gate/met-{name}", "w").close()
    while len([each for each in os.listdir("/gate") if each.startswith("met-")]) < 2:
        time.sleep(0.005)
    return {
        place: sorted(each for each in os.listdir(place) if each.startswith("mine-"))
        for place in ("/tmp", "/root", "/var/tmp", "/dev/shm", os.getcwd())
    }
""",
        meet={},
    )
    one, other = outputs(call(pair, "meet", "one", "other"), 2)
    assert set(map(str, value_of(one).values())) == {"['mine-one']"}
    assert set(map(str, value_of(other).values())) == {"['mine-other']"}
    assert sorted(each.name for each in gate_of(start, "").iterdir() if each.name.startswith("met")) == [
        "met-one",
        "met-other",
    ]


@sandboxed
def test_the_scripts_directory_may_be_written_and_is_not_changed(app, start):
    beside = start.directory / "script" / "data.txt"
    source = """
import os
def spoil():
    before = open("data.txt").read()
    open("data.txt", "w").write("spoilt")
    open("new.txt", "w").write("new")
    os.remove("toymod.py")
    os.mkdir("made")
    return before, open("data.txt").read(), sorted(os.listdir("."))
"""
    (start.directory / "script").mkdir(exist_ok=True)
    beside.write_text("precious")
    spoiler = app(source, spoil={})
    before = sorted(os.listdir(beside.parent))
    assert spoiler.remote("spoil") == ("precious", "spoilt", ["data.txt", "made", "new.txt"])
    assert beside.read_text() == "precious"
    assert sorted(os.listdir(beside.parent)) == before
    assert (beside.parent / "toymod.py").read_text() == source


@sandboxed
def test_volumes_are_where_the_function_names_them_and_stay(app, start):
    places = ["/vol", "/data/deep/er", "/usr/share/glowplug-test", "/root/cache", "/tmp/cache", "/vol/inner"]
    volumes = [
        {"name": f"v{number}", "mount_path": path} for number, path in reversed(list(enumerate(places)))
    ]
    again = {"name": "v0", "mount_path": "/same", "read_only": True}
    writer = app(
        """
import os
def write(places):
    for place in places:
        with open(f"{place}/file", "w") as file:
            file.write(place)
""",
        write={"definition": {"volumes": volumes}},
    )
    writer.remote("write", places)
    writer.run.close()
    reader = app(
        """
import os
def read(places):
    return [open(f"{place}/file").read() for place in places]
def read_only():
    try:
        open("/same/file", "w")
    except OSError as error:
        return open("/same/file").read(), error.errno
""",
        read={"definition": {"volumes": volumes}},
        read_only={"definition": {"volumes": [again]}},
    )
    found = reader.remote("read", places)
    same, refused = reader.remote("read_only")
    assert found == places
    assert same == "/vol"
    assert refused == 30  # a read-only file system
    for number, place in enumerate(places):
        assert b"".join(StoredVolume(f"v{number}").read("file")).decode() == place


@sandboxed
@pytest.mark.parametrize(
    ("volume", "said"),
    [
        ({"name": "v", "mount_path": "/etc/hostname"}, "/etc/hostname"),
        ({"name": "../../escape", "mount_path": "/v"}, "escape"),
    ],
)
def test_a_volume_that_cannot_be_placed_is_told(app, volume, said):
    with pytest.raises(errors.Error, match=said):
        app("def f(): pass", f={"definition": {"volumes": [volume]}}).remote("f")


@pytest.mark.parametrize("kind", ["own", "of a child", "of every process"])
def test_the_callers_environment_stays_outside(app, secret, kind):
    found = app(
        """
import glob, os, subprocess
def variables(kind):
    if kind == "own":
        return repr(dict(os.environ))
    if kind == "of a child":
        return subprocess.run(["env"], capture_output=True, text=True).stdout
    return repr([open(path, "rb").read() for path in glob.glob("/proc/[0-9]*/environ")])
""",
        variables={},
    ).remote("variables", kind)
    assert secret not in found
    assert "AWS_SECRET" not in found
    assert "GLOWPLUG_HOME" not in found


def test_variables_of_the_function_are_there_and_those_of_the_node_win(app):
    env = {"MINE": "1", "CUDA_VISIBLE_DEVICES": "7", "HOME": "/elsewhere"}
    found = app(
        """
import os
def variables():
    return dict(os.environ)
""",
        variables={
            "definition": {"env": env, "secrets": [{"variables": {"TOKEN": "t"}}]},
            "gpu": (GpuRequest("T4", count=2),),
        },
    ).remote("variables")
    assert found["MINE"] == "1"
    assert found["TOKEN"] == "t"
    assert found["HOME"] == "/elsewhere"
    assert found["CUDA_VISIBLE_DEVICES"].count(",") == 1
    assert found["GLOWPLUG_GPU_TYPE"] == "T4"
    assert found["GLOWPLUG_GPU_COUNT"] == "2"
    assert found["NVIDIA_VISIBLE_DEVICES"] == found["GLOWPLUG_GPU_UUIDS"] == found["CUDA_VISIBLE_DEVICES"]
    assert found["MODAL_IS_REMOTE"] == "1"
    assert found["MODAL_TASK_ID"].startswith("ct-")


def test_a_function_without_a_gpu_is_shown_none(app):
    found = app("import os\ndef variables(): return dict(os.environ)", variables={}).remote("variables")
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert found["GLOWPLUG_GPU_COUNT"] == "0"


# what it says


def test_everything_that_writes_is_heard_and_given_to_its_input(app):
    loud = app(
        """
import ctypes, os, subprocess, sys
def speak(number):
    print("python", number)
    print("python error", number, file=sys.stderr)
    os.write(1, b"descriptor %d\\n" % number)
    subprocess.run(f"echo child {number}; echo child error {number} >&2", shell=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"c %d" % number)
    libc.fflush(None)
    pid = os.fork()
    if pid == 0:
        print("fork", number, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print("unfinished", number, end="")
""",
        speak={"max_containers": 1},
    )
    made = call(loud, "speak", 0, 1, 2)
    ids = [output.input_id for output in outputs(made, 3)]
    kinds = ["python", "python error", "descriptor", "child", "child error", "c", "fork", "unfinished"]
    assert sorted((line.input_id, line.text) for line in loud.sink.lines) == sorted(
        (input_id, f"{kind} {number}") for number, input_id in enumerate(ids) for kind in kinds
    )
    assert {line.function for line in loud.sink.lines} == {"speak"}
    assert {line.stream for line in loud.sink.lines if "error" in line.text} == {"stderr"}
    assert {line.stream for line in loud.sink.lines if "error" not in line.text} == {"stdout"}


def test_what_an_import_prints_is_heard_once(app):
    twice = app('print("imported")\ndef f(x): return x', f={})
    assert [value_of(each) for each in outputs(call(twice, "f", 1, 2, 3), 3)] == [1, 2, 3]
    assert [line.text for line in twice.sink.lines] == ["imported"]


def test_binary_rubbish_and_a_huge_line_are_only_lines(app):
    loud = app(
        """
import os, sys
def speak():
    sys.stdout.buffer.write(bytes(range(256)) * 4000)
    sys.stdout.buffer.flush()
    print()
    print("x" * 10_000_000)
    print("done")
    return "back"
""",
        speak={},
    )
    assert loud.remote("speak") == "back"
    lines = [line.text for line in loud.sink.lines]
    assert lines[-1] == "done"
    assert sum(line.count("x") for line in lines) == 10_000_000 + 4000


def test_a_client_that_does_not_read_loses_lines_and_no_result(app, start):
    count, name = 500_000, secrets.token_hex(4)
    loud = app(
        f"""
import os
def speak():
    block = b"".join(b"a line of ordinary length, number %06d\\n" % number for number in range({count}))
    view = memoryview(block)
    while view:
        view = view[os.write(1, view):]
    open("/gate/{name}", "w").close()
    return "back"
""",
        speak={},
    )
    with loud.client._connection._read_lock:
        made = loud.run.call(loud.run.function_ids["speak"])
        made.add([pack(((), {}))])
        # The server reads on and serves others meanwhile.
        until(gate_of(start, name).exists, "the end of the flood")
        assert app("def f(x): return x", f={}).remote("f", 1) == 1
    assert value_of(made.next(60.0)) == "back"
    loud.run.close()
    lost = sum(int(text.split()[0]) for _, text in loud.sink.notices if "dropped" in text)
    assert len(loud.sink.lines) + lost == count
