"""What the server is told of an app."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap

import pytest

import glowplug
from glowplug.model.errors import InvalidError, SerializationError
from glowplug.model.function import FunctionSpec
from glowplug.sdk.source import find_source, local_files
from glowplug.sdk.spec import MAX_SERIALIZED_BYTES, app_spec, function_spec
from unit.sdk.fake_client import FakeClient

app = glowplug.App(
    "specs",
    secrets=[glowplug.Secret.from_dict({"A": "app", "B": "app"})],
    volumes={"/app": glowplug.Volume.from_name("of-app")},
)
unnamed = glowplug.SharedVolume()


@app.function(
    gpu=["H100", "A100-80GB:2"],
    gpu_fallback_after=60,
    cloud="gcp",
    region=["us-east", "us-west"],
    min_containers=1,
    max_containers=3,
    buffer_containers=1,
    scaledown_window=30,
    timeout=20,
    retries=2,
    single_use_containers=True,
    env={"E": "1"},
    secrets=[glowplug.Secret.from_dict({"B": "function"})],
    volumes={"/v": glowplug.Volume.from_name("models").with_mount_options(read_only=True)},
    network_file_systems={"/data/set": unnamed},
    block_network=True,
    name="main-function",
)
def full():
    pass


@app.function(startup_timeout=7, restart_generator=True, network_file_systems={"/elsewhere": unnamed})
async def stream():
    yield 1


def test_everything_that_was_declared_is_told():
    spec = function_spec(full, {"H100": "A100"})
    assert [(request.type, request.count, request.memory_gb) for request in spec.gpu] == [
        ("H100", 1, None),
        ("A100", 2, 80),
    ]
    assert spec.gpu_map == {"H100": "A100"}
    assert (spec.name, spec.cloud, spec.regions) == ("main-function", "gcp", ("us-east", "us-west"))
    assert (spec.min_containers, spec.max_containers, spec.buffer_containers) == (1, 3, 1)
    assert (spec.gpu_fallback_after_s, spec.scaledown_window_s, spec.timeout_s) == (60, 30, 20)
    assert spec.startup_timeout_s == 300, "a short timeout is no reason to hurry imports"
    assert (spec.retries.max_retries, spec.max_inputs) == (2, 1)
    assert (spec.is_generator, spec.restart_generator) == (False, False)
    assert spec.definition == {
        "module": __name__,
        "qualname": "full",
        "serialized": None,
        "serialized_by": "",
        "is_async": False,
        "is_generator": False,
        "volumes": [
            _volume("of-app", "/app", create=False),
            _volume("specs.data-set", "/data/set", kind="shared"),
            _volume("models", "/v", read_only=True, create=False),
        ],
        "env": {"E": "1"},
        "secrets": [{"variables": {"A": "app", "B": "function"}}],
        "bucket_secrets": {},
        "tag": "main-function",
        "block_network": True,
        "image": None,
        "cpu": None,
        "memory": None,
        "ephemeral_disk": None,
        "restrict_modal_access": False,
    }
    assert FunctionSpec.from_wire(spec.to_wire()) == spec


def test_generators_and_unnamed_volumes():
    function_spec(full)
    spec = function_spec(stream)
    assert (spec.is_generator, spec.restart_generator, spec.startup_timeout_s) == (True, True, 7)
    assert spec.definition["is_async"]
    assert spec.definition["volumes"][1]["name"] == "specs.data-set", "one object is one volume"


def test_the_apps_own_spec():
    spec = app_spec(app, detach=True)
    assert spec.name == "specs"
    assert [function["name"] for function in spec.functions] == ["main-function", "stream"]
    assert spec.detach
    assert spec.source["script"] == __file__
    assert spec.environment["executable"] == sys.executable
    assert spec.environment["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert all(os.path.isabs(path) for path in spec.environment["sys_path"])


def test_of_a_named_secret_only_the_name_travels():
    app = glowplug.App("x", secrets=[glowplug.Secret.from_dict({"A": "1"})])
    named = glowplug.Secret.from_name("token", required_keys=["KEY"])
    after = glowplug.Secret.from_dict({"KEY": "2"})
    app.function(serialized=True, name="f", secrets=[named, after])(lambda: 1)
    (spec,) = app_spec(app).functions
    assert spec["definition"]["secrets"] == [
        {"variables": {"A": "1"}},
        {"name": "token", "required_keys": ["KEY"]},
        {"variables": {"KEY": "2"}},
    ]


# by value


def test_functions_whose_name_does_not_lead_to_them_travel_by_value():
    app = glowplug.App("x")
    for number in range(2):
        app.function(serialized=True, name=f"f{number}")(lambda number=number: number * 10)
    specs = app_spec(app).functions
    assert [pickle.loads(spec["definition"]["serialized"])() for spec in specs] == [0, 10]


def test_what_a_function_by_value_uses_goes_with_it():
    app = glowplug.App("x")
    offset = 5

    @app.function(serialized=True)
    def inner(x):
        return x + offset

    @app.function(serialized=True)
    def outer(x):
        return inner.remote(x), app.name

    with app.run(client=FakeClient(app)):
        assert inner.remote(1) == 6
        copy = pickle.loads(app_spec(app).functions[1]["definition"]["serialized"])
        assert copy.__closure__ is not None


def test_what_cannot_travel_by_value_says_so():
    import threading

    app = glowplug.App("x")
    lock, large = threading.Lock(), b"x" * (MAX_SERIALIZED_BYTES + 1)
    app.function(serialized=True, name="locked")(lambda: lock)
    with pytest.raises(SerializationError, match="locked cannot be sent by value"):
        app_spec(app)
    app = glowplug.App("x")
    app.function(serialized=True, name="large")(lambda: large)
    with pytest.raises(InvalidError, match=r"large is 16 MiB by value.*the limit is 16 MiB"):
        app_spec(app)


# where the code is


def run_program(*arguments: str, cwd: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAM = """
    import glowplug
    from glowplug.sdk.spec import app_spec
    import {neighbour}

    app = glowplug.App()

    @app.function()
    def f(): ...

    for_later = []
    for n in range(2):
        @app.function(name=f"g{{n}}")
        def g(n=n): return n

    if __name__ == "__main__":
        spec = app_spec(app)
        print(spec.name, spec.source["module"], spec.source["package"], spec.source["directory"])
        for function in spec.functions:
            found = function["definition"]
            print(function["name"], found["module"], found["qualname"], bool(found["serialized"]))
"""


def test_a_program_is_addressed_by_its_stem(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(PROGRAM.format(neighbour="neighbour")))
    (tmp_path / "neighbour.py").write_text("")
    lines = run_program("script.py", cwd=str(tmp_path)).splitlines()
    assert lines == [
        f"script script False {tmp_path}",
        "f script f False",
        "g0 script g True",  # the name g leads to the second
        "g1 script g False",
    ]


def test_a_program_is_also_a_module_while_its_app_runs(tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            """
            import pickle, sys
            import glowplug
            from unit.sdk.fake_client import FakeClient
            print("executed")
            app = glowplug.App()
            class Mine: ...
            @app.function()
            def f(): ...
            with app.run(client=FakeClient(app)):
                assert pickle.loads(b"cscript\\nMine\\n.") is Mine
            """
        )
    )
    assert run_program("script.py", cwd=str(tmp_path)) == "executed\n"


def test_a_module_of_a_package_keeps_its_dotted_name(tmp_path):
    package = tmp_path / "package" / "sub"
    package.mkdir(parents=True)
    (tmp_path / "package" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "neighbour.py").write_text("")
    (package / "program.py").write_text(textwrap.dedent(PROGRAM.format(neighbour="package.sub.neighbour")))
    lines = run_program("-m", "package.sub.program", cwd=str(tmp_path)).splitlines()
    assert lines[0].split()[1:] == ["package.sub.program", "True", str(tmp_path)]
    assert lines[1] == "f package.sub.program f False"


def test_what_was_typed_in_travels_by_value(tmp_path):
    code = textwrap.dedent(
        """
        import glowplug
        from glowplug.sdk.spec import app_spec
        app = glowplug.App()
        @app.function()
        def f(): ...
        spec = app_spec(app)
        print(bool(spec.functions[0]["definition"]["serialized"]), spec.source["script"])
        """
    )
    assert run_program("-c", code, cwd=str(tmp_path)).split() == ["True", "None"]


def test_the_digest_follows_the_script_and_its_neighbours(tmp_path, monkeypatch):
    script, neighbour = tmp_path / "digested.py", tmp_path / "digested_neighbour.py"
    installed = tmp_path / "lib" / "site-packages" / "digested_installed.py"
    installed.parent.mkdir(parents=True)
    script.write_text("import digested_neighbour, digested_installed")
    neighbour.write_text("")
    installed.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(installed.parent))
    for name in ("digested", "digested_neighbour", "digested_installed"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    __import__("digested")
    assert local_files(str(script), str(tmp_path)) == [str(script), str(neighbour)]
    before = find_source("digested").digest
    assert find_source("digested").digest == before
    installed.write_text("changed = 1")
    assert find_source("digested").digest == before
    neighbour.write_text("changed = 1")
    assert find_source("digested").digest != before


def _volume(name, path, **more):
    plain = {"read_only": False, "sub_path": "", "kind": "volume", "create": True}
    return {"name": name, "mount_path": path, **plain, **more}


def test_a_volume_is_mounted_once():
    app = glowplug.App("twice")
    volume = glowplug.Volume.from_name("models", create_if_missing=True)

    @app.function(volumes={"/a": volume, "/b": volume}, serialized=True)
    def twice():
        pass

    with pytest.raises(InvalidError, match=r"twice mounts volume 'models' twice, at '/a' and '/b'"):
        function_spec(twice)

    with pytest.raises(InvalidError, match="two volumes are to be at '/a'"):
        app.function(volumes={"/a": volume, "/a/": glowplug.Volume.from_name("other")}, serialized=True)(
            lambda: 1
        )
