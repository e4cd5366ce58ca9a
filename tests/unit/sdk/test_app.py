"""Declaring apps and functions, in the forms of every era, and running them."""

from __future__ import annotations

import inspect
import warnings

import pytest

import glowplug
from glowplug.model.declared import options_of
from glowplug.model.errors import (
    ConnectionError,
    DeprecationError,
    ExecutionError,
    InvalidError,
    NotCarriedOutWarning,
)
from glowplug.model.options import FunctionOptions
from glowplug.sdk.running import defaults, start
from unit.sdk.fake_client import FakeClient

app = glowplug.App("example", secrets=[glowplug.Secret.from_dict({"A": "1"})])


@app.function(gpu="T4", timeout=60)
def square(x: int) -> int:
    return x * x


@app.function
def plain(x: int) -> int:
    return x + 1


@app.local_entrypoint
def main(n: int = 3) -> int:
    return n


@app.local_entrypoint(name="other")
async def asynchronous() -> None:
    pass


def test_the_signature_is_the_table_of_options():
    signature = inspect.signature(glowplug.App.function)
    leading, keywords = list(signature.parameters.values())[:2], list(signature.parameters.values())[2:]
    assert [each.name for each in leading] == ["self", "raw_f"]
    assert {each.name: each.default for each in keywords} == {
        name: option.default for name, option in options_of(FunctionOptions).items()
    }
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in keywords)


def test_functions_and_entrypoints_are_registered_by_name():
    assert app.registered_functions == {"square": square, "plain": plain}
    assert set(app.registered_entrypoints) == {"main", "other"}
    assert app.registered_entrypoints["other"] is asynchronous
    assert main(4) == 4
    assert square.__name__ == "square"
    assert inspect.signature(square) == inspect.signature(square.raw_f)
    assert app["square"] is square
    assert app.square is square
    assert repr(square) == "<Function square of app 'example'>"


def test_running_and_ending():
    client = FakeClient(app)
    assert app.app_id is None
    with app.run(client=client) as running:
        assert running is app
        assert app.app_id == "ap-1"
        assert square.remote(3) == 9
        assert square.object_id == "fu-0"
    assert app.app_id is None
    assert client.runs == []
    with app.run(client=client):  # and again
        assert plain.remote(3) == 4


def test_a_run_ends_when_its_block_fails():
    client = FakeClient(app)
    with pytest.raises(KeyError), app.run(client=client):
        raise KeyError("mine")
    assert client.runs == []
    with pytest.raises(ExecutionError):
        square.remote(1)


def test_an_app_that_could_not_start_can_be_started_again():
    client = FakeClient(app)
    client.refuse = ConnectionError("no server")
    with pytest.raises(ConnectionError), app.run(client=client):
        pass
    client.refuse = None
    with app.run(client=client):
        assert square.remote(2) == 4


def test_runs_are_not_nested():
    with app.run(client=FakeClient(app)):
        with pytest.raises(InvalidError, match=r"app 'example' runs already; app.run\(\) cannot be nested"):
            app.run(client=FakeClient(app)).__enter__()
        assert square.remote(2) == 4


def test_calling_without_a_run_says_how():
    with pytest.raises(
        ExecutionError, match=r"square cannot be called: app 'example' does not run.*glowplug run"
    ):
        square.remote(1)
    with pytest.raises(ExecutionError, match="plain cannot be called"):
        list(plain.map([1]))


def test_arguments_of_run_of_older_versions():
    client = FakeClient(app)
    with pytest.warns(NotCarriedOutWarning, match=r"environment_name= means nothing"):
        run = app.run(client, None, True, True, environment_name="dev")
    with run:
        assert client.specs[0].detach is True


def test_what_a_command_line_asks_of_every_run(monkeypatch):
    ended = []
    monkeypatch.setenv("GLOWPLUG_GPU_MAP", "T4=RTX-4090,A10G=L4")
    monkeypatch.setattr(defaults, "gpu_map", {"A10G": "RTX-3090"})
    monkeypatch.setattr(defaults, "on_end", lambda app, summary: ended.append((app, summary.inputs)))
    client = FakeClient(app)
    running = start(app, client=client)
    square.remote(1)
    assert running.close().inputs == 1
    assert running.close().inputs == 1, "closing again changes nothing"
    assert ended == [(app, 1)]
    assert client.specs[0].gpu_map == {"T4": "RTX-4090", "A10G": "RTX-3090"}
    assert client.specs[0].functions[0]["gpu_map"] == client.specs[0].gpu_map


async def _asynchronously(client):
    async with app.run(client=client):
        first = await square.remote.aio(3)
    async with app.run.aio(client=client):
        return first, await square.remote.aio(4)


def test_running_asynchronously():
    import asyncio

    client = FakeClient(app)
    assert asyncio.run(_asynchronously(client)) == (9, 16)
    assert client.runs == []


def test_included_functions_run_with_the_app():
    one, two = glowplug.App("one"), glowplug.App("two")

    @two.function(serialized=True)
    def second(x):
        return x + 2

    assert one.include(two) is one
    client = FakeClient(one)
    with one.run(client=client):
        assert second.remote(1) == 3
    assert [function["name"] for function in client.specs[0].functions] == ["second"]


def test_a_second_function_of_a_name_replaces_the_first_with_one_warning():
    app = glowplug.App("twice")

    @app.function(serialized=True)
    def f():
        return 1

    with pytest.warns(
        UserWarning, match=r"app 'twice' has two functions called f: the one at .*replaces"
    ) as warned:

        @app.function(serialized=True)
        def f():
            return 2

    assert len(warned) == 1
    assert warned[0].filename == __file__
    with app.run(client=FakeClient(app)):
        assert f.remote() == 2
    assert list(app.registered_functions) == ["f"]


def test_declaring_the_same_line_again_is_silent():
    app = glowplug.App("notebook")
    for _ in range(2):

        @app.function(serialized=True)
        def cell():
            pass

    assert app.registered_functions["cell"] is cell


def test_warnings_name_function_and_option_once_at_the_users_line():
    app = glowplug.App("x")

    def f():
        pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app.function(serialized=True, keep_warm=1, concurrency_limit=3, interactive=True, i6pn=True)(f)
    assert [each.category for each in caught] == [DeprecationError, NotCarriedOutWarning]
    old, ignored = (str(each.message) for each in caught)
    assert old.startswith("@app.function of test_warnings_name_function")
    assert "keep_warm= is now called min_containers=; concurrency_limit= is now called max_containers=" in old
    assert "interactive= is not carried out yet: " in ignored
    assert "i6pn= means nothing on owned machines: " in ignored
    assert {each.filename for each in caught} == {__file__}


def nested():
    app = glowplug.App("x")

    def inner():
        pass

    return app, inner


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (lambda app, f: app.function()(f), r"not at the top level.*serialized=True"),
        (lambda app, f: app.function()(lambda: 1), "serialized=True"),
        (lambda app, f: app.function(gpus=1)(f), "gpus= is not a known option. Did you mean gpu="),
        (lambda app, f: app.function(gpu="H1OO")(f), 'no GPU type is called "H1OO"'),
        (lambda app, f: app.function(timeout=0)(f), r"@app.function of nested.<locals>.inner: timeout=0"),
        (lambda app, f: app.function()(int), "it is a class"),
        (lambda app, f: app.function()(3), "it is not a function but int"),
        (lambda app, f: app.function("T4"), "it is not a function but str"),
        (lambda app, f: app.function()(square), "function of an app already"),
        (lambda app, f: app.local_entrypoint()(3), "3 is not a function"),
        (lambda app, f: app.function(serialized=True, retries=1)(_yielding), "generator function"),
    ],
)
def test_misuse_is_refused_where_it_is_written(declare, text):
    app, inner = nested()
    with pytest.raises(InvalidError, match=text):
        declare(app, inner)
    assert app.registered_functions == {}


def _yielding():
    yield 1


def test_names_of_apps():
    with pytest.raises(InvalidError, match="App name 'a b'"):
        glowplug.App("a b")
    with pytest.raises(InvalidError, match="mounts=: object is not a Mount"):
        glowplug.App("x", mounts=[object()])


def test_stub_is_app():
    with pytest.warns(DeprecationError, match=r"glowplug\.Stub is now glowplug\.App") as warned:
        stub = glowplug.Stub("old", volume=glowplug.SharedVolume())
    assert type(stub) is glowplug.App
    assert warned[0].filename == __file__
    stub["other"] = 3
    assert isinstance(stub["volume"], glowplug.SharedVolume)
    assert stub.other == 3
    stub["image"] = glowplug.Image.debian_slim()
    assert stub.image.steps[0].method == "debian_slim"
    with pytest.raises(InvalidError, match=r"App\(imgae='x'\): there is no such argument"):
        glowplug.App("x", imgae="x")
    assert stub.is_inside() is False
    assert stub.registered_web_endpoints == []
    with pytest.raises(KeyError, match="app 'old' has no 'absent'"):
        stub["absent"]
    with pytest.raises(AttributeError, match="'old' has no attribute or function 'absent'"):
        _ = stub.absent


def test_generators_of_2023():
    app = glowplug.App("x")
    items = app.generator(serialized=True)(_yielding)
    assert items.is_generator


def test_what_comes_later_says_so():
    with pytest.raises(AttributeError, match=r"App.cls is not in Glowplug .* yet: classes come later"):
        app.cls()
    assert not hasattr(app, "deploy")
    with pytest.raises(AttributeError, match="deployed apps come later"):
        glowplug.App.lookup("x")
    with pytest.raises(AttributeError, match=r"Function\.from_name is not in Glowplug"):
        glowplug.Function.from_name("x", "y")
