"""Containers over the root of an image: what they see, that nothing they write stays, older Pythons."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.conftest import own_server, run_cli
from e2e.oci import OciPlace

pytestmark = pytest.mark.timeout(900)
BUILD_TIMEOUT_S = 600.0
CLIENT = "{}.{}".format(*sys.version_info[:2])

Runner = Callable[..., str]


@pytest.fixture(scope="module")
def run_script(oci: OciPlace) -> Iterator[Runner]:
    """Runs a script with the session's home; what it printed."""
    with (
        tempfile.TemporaryDirectory(prefix="gp-", dir="/tmp") as directory,
        own_server(Path(directory)) as env,
    ):
        env |= {"GLOWPLUG_HOME": str(oci.home), "GLOWPLUG_IMAGE_BASE": "debian"}

        def run(source: str, *words: str, code: int = 0) -> str:
            """``words``: instead of ``run toy.py``."""
            script = Path(directory) / "scripts" / "toy.py"
            script.parent.mkdir(exist_ok=True)
            script.write_text(source)
            command = words or ["run", "toy.py"]
            done = run_cli(command, env, script.parent, timeout_s=BUILD_TIMEOUT_S)
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout + done.stderr

        yield run


INSIDE = """
import glowplug

app = glowplug.App("inside")
image = (
    glowplug.Image.debian_slim(python_version="3.11")
    .run_commands("echo from the build > /built", "mkdir /data && echo 1 > /data/one")
    .env({"FROM_IMAGE": "yes", "PATH": "/opt/tools:/usr/local/bin:/usr/bin:/bin"})
    .workdir("/data")
)
volume = glowplug.Volume.from_name("oci-shelf", create_if_missing=True)


@app.function(image=image, volumes={"/deep/er/shelf": volume}, env={"FROM_FUNCTION": "too"})
def look():
    import os, pathlib, subprocess

    seen = [pathlib.Path("/built").read_text().strip(), os.getcwd(), sorted(os.listdir("/data"))]
    seen += [os.environ["FROM_IMAGE"], os.environ["FROM_FUNCTION"], os.environ["HOME"]]
    seen += [subprocess.check_output(["python", "-c", "import sys; print(sys.prefix)"], text=True).strip()]
    for path in ("/mine", "/data/two", "/usr/lib/mine", "/etc/mine", "/tmp/mine", "/root/mine", "/var/mine"):
        pathlib.Path(path).write_text("thrown away")
    pathlib.Path("/deep/er/shelf/kept").write_text("kept")
    return seen


@app.function(image=image)
def node():
    import os

    resolver = [line for line in open("/etc/resolv.conf") if line.startswith("nameserver")]
    return resolver, "localhost" in open("/etc/hosts").read(), os.path.exists("/.glowplug/certificates.pem")


@app.local_entrypoint()
def main():
    print(look.remote())
    print("node", node.remote())
"""


def test_what_a_container_sees_of_an_image(run_script: Runner, oci: OciPlace) -> None:
    run_script(INSIDE)
    said = run_script(INSIDE)  # containers of another run
    line = "['from the build', '/data', ['one'], 'yes', 'too', '/root', '/usr']"
    assert line in said
    resolver = [
        text + "\n" for text in Path("/etc/resolv.conf").read_text().splitlines() if text[:4] == "name"
    ]
    assert f"node ({resolver!r}, True, " in said
    roots = list((oci.home / "images/oci/roots").glob("*/built"))
    assert roots
    assert {root.read_text() for root in roots} == {"from the build\n"}


EVERYTHING = """
import glowplug

app = glowplug.App("old")
image = glowplug.Image.debian_slim(python_version="{version}").run_commands("true")


class Odd(Exception):
    def __init__(self, code, why):
        super().__init__(why)
        self.code = code


@app.function(image=image)
def version():
    import sys, importlib.util

    return "%d.%d" % sys.version_info[:2], importlib.util.find_spec("msgspec") is None


@app.function(image=image)
def count(n):
    yield from range(n)


@app.function(image=image)
def fail():
    raise Odd(7, "as meant")


@app.function(image=image)
def double(block):
    return block + block


@app.function(image=image)
async def later(n):
    return n + 1


@app.function(image=image, serialized={serialized})
def by_value():
    return "by value"


@app.local_entrypoint()
def main():
    print("version", version.remote())
    print("count", list(count.remote_gen(3)), list(double.map(["a", "b"])), later.remote(1))
    big = b"x" * (8 << 20)
    print("large", double.remote(bytearray(big)) == big + big)
    try:
        fail.remote()
    except Odd as error:
        print("raised", error, error.code)
    print(by_value.remote())
"""


@pytest.mark.parametrize("version", ["3.9"])
def test_an_image_with_an_older_python(run_script: Runner, version: str) -> None:
    said = run_script(EVERYTHING.format(version=version, serialized=False))
    assert f"version ('{version}', True)" in said
    assert "count [0, 1, 2] ['aa', 'bb'] 2" in said
    assert "large True" in said
    assert "raised as meant 7" in said


@pytest.mark.skipif(CLIENT == "3.9", reason="the image has the client's version")
def test_code_by_value_for_another_python_is_refused_clearly(run_script: Runner) -> None:
    said = run_script(EVERYTHING.format(version="3.9", serialized=True), code=1)
    assert "by_value is sent by value" in said
    assert f"the image has 3.9, this is {CLIENT}" in said


def test_a_shell_in_an_image(run_script: Runner) -> None:
    source = EVERYTHING.format(version="3.9", serialized=False)
    command = "python --version; head -1 /etc/os-release; exit 3"
    said = run_script(source, "shell", "toy.py::version", "-c", command, code=3)
    assert "Python 3.9" in said
    assert "Debian GNU/Linux 11" in said


ENTRYPOINT = """
import glowplug

app = glowplug.App("entry")
image = (
    glowplug.Image.debian_slim(python_version="3.11")
    .run_commands(
        "printf '#!/bin/sh\\\\nexport BY_ENTRYPOINT=yes\\\\n{last}\\\\n' > /entry && chmod +x /entry"
    )
    .entrypoint(["/entry"])
)


@app.function(image=image, env={{"OWN": "1"}})
def look():
    import os

    return os.environ.get("BY_ENTRYPOINT"), os.environ["OWN"], "PWD" in os.environ


@app.local_entrypoint()
def main():
    print("entry", look.remote())
"""


def test_an_entrypoint_runs_first_and_its_variables_stay(run_script: Runner) -> None:
    assert "entry ('yes', '1', False)" in run_script(ENTRYPOINT.format(last='exec \\"$@\\"'))


def test_an_entrypoint_that_runs_nothing_is_named(run_script: Runner) -> None:
    said = run_script(ENTRYPOINT.format(last="exit 3"), code=1)
    assert "ENTRYPOINT /entry" in said


GRAPHICS = """
import glowplug

app = glowplug.App("graphics")
image = glowplug.Image.debian_slim(python_version="3.11").apt_install("libegl1", "libgl1-mesa-dri")


@app.function(image=image)
def draw():
    import ctypes

    egl = ctypes.CDLL("libEGL.so.1")
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(address)
    display = get_display(0x31DD, None, None)  # surfaceless, of Mesa
    major, minor = ctypes.c_int(), ctypes.c_int()
    assert egl.eglInitialize(ctypes.c_void_p(display), ctypes.byref(major), ctypes.byref(minor))
    egl.eglQueryString.restype = ctypes.c_char_p
    egl.eglBindAPI(0x30A2)  # OpenGL
    attributes = (ctypes.c_int * 3)(0x3033, 0, 0x3038)
    config, count = ctypes.c_void_p(), ctypes.c_int()
    egl.eglChooseConfig(ctypes.c_void_p(display), attributes, ctypes.byref(config), 1, ctypes.byref(count))
    egl.eglCreateContext.restype = ctypes.c_void_p
    context = egl.eglCreateContext(ctypes.c_void_p(display), config, None, None)
    made = egl.eglMakeCurrent(ctypes.c_void_p(display), None, None, ctypes.c_void_p(context))
    vendor = egl.eglQueryString(ctypes.c_void_p(display), 0x3053).decode()
    return major.value, bool(context), bool(made), vendor


@app.local_entrypoint()
def main():
    print("egl", draw.remote())
"""


def test_graphics_of_mesa_on_the_processor(run_script: Runner) -> None:
    assert "egl (1, True, True, 'Mesa Project')" in run_script(GRAPHICS)


DAMAGED = """
import glowplug

image = glowplug.Image.debian_slim(python_version="3.11").run_commands("echo as built > /content")
app = glowplug.App("damaged", image=image)


@app.function()
def look():
    return open("/content").read()


@app.local_entrypoint()
def main():
    print("found", look.remote())
"""


def test_a_root_altered_in_place_is_mended_by_the_run_that_meets_it(
    run_script: Runner, oci: OciPlace
) -> None:
    assert "found as built\n" in run_script(DAMAGED)
    (content,) = (oci.home / "images/oci/roots").glob("*/content")
    content.write_text("altered!\n")
    told = run_script(DAMAGED)  # the same server, whose zygotes show the damaged root
    assert "found as built\n" in told
    assert "step 2 of 2" in told
