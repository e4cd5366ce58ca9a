"""The command line an entrypoint's signature makes."""

from __future__ import annotations

import datetime
import inspect
from typing import Any, Literal, Optional

import click
import pytest

import glowplug
from glowplug.model.errors import InvalidError, NoParserAvailable
from glowplug.sdk.entrypoint import entrypoint_command
from unit.sdk.fake_client import FakeClient

app = glowplug.App("commands")


@app.local_entrypoint()
def everything(
    text: str,
    flag: bool,
    some_count: int = 3,
    ratio: float = 0.5,
    when: datetime.datetime = datetime.datetime(2020, 1, 1),
    maybe: Optional[int] = None,  # noqa: UP045
    kind: Literal["fast", "slow"] = "fast",
    level: Literal[1, 2] = 1,
    anything: Any = None,
    bare=7,
    on: bool = True,
):
    """What it does."""
    return locals()


def run(target, *arguments):
    command = entrypoint_command(target)
    return command.invoke(command.make_context("script.py", list(arguments)))


def test_defaults_are_passed_as_they_are():
    assert run(everything, "--text", "a", "--flag") == {
        "text": "a",
        "flag": True,
        "some_count": 3,
        "ratio": 0.5,
        "when": datetime.datetime(2020, 1, 1),
        "maybe": None,
        "kind": "fast",
        "level": 1,
        "anything": None,
        "bare": 7,
        "on": True,
    }


def test_options_are_converted():
    words = "--text b --no-flag --some-count 4 --ratio 2 --when 2024-02-03T04:05:06 --maybe 5 --kind slow"
    words += " --level 2 --anything x --bare 8 --no-on"
    assert run(everything, *words.split()) == {
        "text": "b",
        "flag": False,
        "some_count": 4,
        "ratio": 2.0,
        "when": datetime.datetime(2024, 2, 3, 4, 5, 6),
        "maybe": 5,
        "kind": "slow",
        "level": 2,
        "anything": "x",
        "bare": 8,
        "on": False,
    }


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--flag", "Missing option '--text'"),
        ("--text a", "Missing option '--flag'"),
        ("--text a --flag --some-count x", "'x' is not a valid integer"),
        ("--text a --flag --level 3", "3 is not one of 1, 2"),
        ("--text a --flag --kind none", "is not one of 'fast', 'slow'"),
        ("--text a --flag --when tomorrow", "does not match the formats"),
        ("--text a --flag --unknown 1", "No such option"),
        ("--text a --flag stray", "unexpected extra argument"),
    ],
)
def test_bad_words_are_refused_before_anything_starts(words, text):
    with pytest.raises(click.UsageError) as raised:
        entrypoint_command(everything).make_context("script.py", words.split())
    assert text in raised.value.format_message()


def test_help_shows_docstring_options_and_defaults():
    command = entrypoint_command(everything)
    shown = command.get_help(click.Context(command))
    for text in (
        "What it does.",
        "--flag / --no-flag",
        "--some-count INTEGER",
        "[default: 3]",
        "[required]",
        "[1|2]",
    ):
        assert text in shown


def test_annotations_that_are_strings_and_unions():
    app = glowplug.App("x")

    @app.local_entrypoint()
    def main(count: int | None = None, name: str | None = "x"):
        return count, name

    assert run(main, "--count", "3") == (3, "x")


def test_words_as_they_are():
    app = glowplug.App("x")

    @app.local_entrypoint()
    def main(*words: str):
        return words

    assert run(main, "a", "--b", "-c", "3") == ("a", "--b", "-c", "3")
    assert run(main) == ()


def test_async_entrypoints_run():
    app = glowplug.App("x")

    @app.local_entrypoint()
    async def main(x: int = 1):
        return x + 1

    assert run(main, "--x", "2") == 3


def test_functions_run_in_a_container():
    app = glowplug.App("x")

    @app.function(serialized=True)
    def double(x: int):
        return 2 * x

    with app.run(client=FakeClient(app)):
        assert run(double, "--x", "4") == 8


def declared(source: str):
    app = glowplug.App("x")
    names: dict[str, Any] = {}
    exec(source, {"Literal": Literal, "datetime": datetime}, names)
    return app.local_entrypoint()(names["f"])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "def f(x: list): ...",
            r"f: the parameter 'x' has the type list, which has no form on a command line",
        ),
        ("def f(x: dict = {}): ...", "has the type dict"),
        ("def f(x: 'int | str'): ...", "int | str"),
        ("def f(x: Literal[1, 'a']): ...", "strings or whole numbers"),
        ("def f(x: Literal[True]): ...", "strings or whole numbers"),
        ("def f(**x): ...", "takes any keyword"),
        ("def f(x, /): ...", "positional only"),
        ("def f(*x: int): ...", r"declare \*x: str"),
        ("def f(x: 'Nowhere'): ...", "cannot be evaluated"),
    ],
)
def test_types_without_a_form_are_refused(source, text):
    with pytest.raises(NoParserAvailable, match=text):
        entrypoint_command(declared(source))


def test_words_stand_alone():
    with pytest.raises(InvalidError, match=r"\*x takes all words"):
        entrypoint_command(declared("def f(y: int, *x): ..."))


def test_generators_cannot_be_run_by_name():
    app = glowplug.App("x")

    @app.function(serialized=True)
    def items():
        yield 1

    with pytest.raises(InvalidError, match=r"loops over items\.remote_gen"):
        entrypoint_command(items)


def test_the_signature_is_read_through_the_decorator():
    assert list(inspect.signature(everything).parameters)[:2] == ["text", "flag"]
