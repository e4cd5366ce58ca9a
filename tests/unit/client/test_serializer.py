"""Values and exceptions on their way: what arrives, and what is said when it cannot."""

from __future__ import annotations

import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowplug.client import serializer
from glowplug.client.serializer import (
    OUT_OF_BAND_BYTES,
    RemoteTraceback,
    pack,
    pack_exception,
    unpack,
    unpack_exception,
)
from glowplug.model import errors

# values


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), st.lists, max_leaves=10))
def test_plain_values_come_back(value):
    assert unpack(pack(value)) == value


def test_lambdas_and_local_classes_travel():
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    function, made = unpack(pack((lambda x: x + 1, Local(3))))
    assert function(2) == 3
    assert made.value == 3


@pytest.mark.parametrize("file", [None, "<stdin>"])
def test_a_class_typed_into_a_notebook_travels_by_value(file, monkeypatch):
    notebook = types.ModuleType("__main__")
    notebook.__file__ = file
    exec("class Typed: greeting = 'hello'\nclass Problem(Exception): pass", vars(notebook))
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    value, error = pack(notebook.Typed()), pack_exception(notebook.Problem("typed too"))
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # the container's own
    assert unpack(value).greeting == "hello"
    assert type(unpack_exception(error)).__name__ == "Problem"


@pytest.mark.parametrize("size", [OUT_OF_BAND_BYTES - 8, OUT_OF_BAND_BYTES, 4 << 20])
@pytest.mark.parametrize(
    "through", [pack, lambda value: pack((value, lambda: None))], ids=["pickle", "cloudpickle"]
)
def test_arrays_arrive_equal_writable_and_apart(size, through):
    array = np.arange(size // 8, dtype=np.float64)
    payload = through(array)
    arrived = unpack(payload)
    arrived = arrived[0] if isinstance(arrived, tuple) else arrived
    assert np.array_equal(arrived, array)
    arrived[0] = 99.0
    assert array[0] == 0.0
    again = unpack(payload)
    assert (again[0] if isinstance(again, tuple) else again)[0] == 0.0


def test_large_arrays_are_not_copied_into_the_pickle():
    array = np.zeros(1 << 20)
    payload = pack(array)
    assert payload.fd is not None
    assert payload.sizes[0] < 1000
    assert payload.sizes[1:] == [array.nbytes]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1000, 1000))[:, ::2],
        np.zeros((300, 500), order="F"),
        np.zeros(0),
        np.array(["a", None], object),
    ],
    ids=["strided", "fortran", "empty", "objects"],
)
def test_arrays_of_any_layout(array):
    arrived = unpack(pack(array))
    assert np.array_equal(arrived, array)
    assert arrived.dtype == array.dtype


def test_many_arrays_at_once():
    arrays = [np.full(OUT_OF_BAND_BYTES // 8, number, np.float64) for number in range(20)]
    arrived = unpack(pack({"arrays": arrays, "small": np.arange(3)}))
    assert [array[0] for array in arrived["arrays"]] == list(range(20))
    assert arrived["small"].tolist() == [0, 1, 2]


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("the card's handle cannot leave this process")


@pytest.mark.parametrize(
    ("value", "named"),
    [(threading.Lock(), "lock"), (Unpicklable(), "Unpicklable"), ({"deep": [threading.Lock()]}, "lock")],
)
def test_what_cannot_be_pickled_is_named(value, named):
    with pytest.raises(errors.SerializationError) as caught:
        pack(value, "argument 2 of train")
    assert "argument 2 of train" in str(caught.value)
    assert named in str(caught.value)


def test_a_reason_is_kept():
    with pytest.raises(errors.SerializationError, match="handle cannot leave"):
        pack(Unpicklable())


def test_endless_nesting_is_an_error_of_ours():
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(errors.SerializationError, match="recursion"):
        pack(nested, "the result of f")
    while nested:  # freeing it in one go recurses as well
        nested = nested.pop()


@pytest.mark.parametrize("make", [lambda: b"x" * 2000, lambda: np.zeros(OUT_OF_BAND_BYTES)])
def test_the_size_limit(make, monkeypatch):
    monkeypatch.setattr(serializer, "MAX_PAYLOAD_BYTES", 1000)
    with pytest.raises(errors.RequestSizeError, match=r"the result of f.*volume"):
        pack(make(), "the result of f")


def test_a_class_that_is_missing_here_is_named(foreign):
    payload = pack(foreign.Thing())
    foreign.forget()
    with pytest.raises(errors.DeserializationError, match="thing_of_theirs"):
        unpack(payload)


def test_rubbish_is_an_error_of_ours():
    from glowplug.wire.payload import Payload

    with pytest.raises(errors.DeserializationError):
        unpack(Payload(b"no pickle"))


# exceptions


class Plain(Exception):
    pass


class WithExtra(Exception):
    """The usual trap: __init__ takes other arguments than it hands on, so it pickles and never unpickles."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class UnspeakableForGood(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


def travel(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return unpack_exception(pack_exception(raised))


def test_an_exception_arrives_as_itself_with_the_traceback_of_there():
    arrived = travel(Plain("no", 3))
    assert type(arrived) is Plain
    assert arrived.args == ("no", 3)
    assert isinstance(arrived.__cause__, RemoteTraceback)
    assert "raise error" in str(arrived.__cause__)
    assert "Plain: ('no', 3)" in str(arrived.__cause__)


@pytest.mark.parametrize("error", [KeyboardInterrupt("k"), SystemExit(3), GeneratorExit()], ids=repr)
def test_base_exceptions_travel_too(error):
    assert type(travel(error)) is type(error)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (WithExtra(7, threading.Lock()), "lock"),
        (Plain(threading.Lock()), "lock"),
        (Unspeakable(threading.Lock()), "cannot be shown"),
        (UnspeakableForGood(threading.Lock()), "cannot be shown"),
    ],
    ids=["neither", "pickles-not", "speaks-not", "ends-the-process"],
)
def test_what_cannot_travel_is_told_in_words(error, said):
    arrived = travel(error)
    assert type(arrived) is errors.ExecutionError
    assert type(error).__qualname__ in str(arrived)
    assert said in str(arrived)
    assert "raise error" in str(arrived)  # its traceback there


def test_an_exception_with_an_init_of_its_own_arrives_as_itself():
    arrived = travel(WithExtra(7, "out of cheese"))
    assert type(arrived) is WithExtra
    assert (arrived.args, arrived.code) == (("out of cheese",), 7)
    assert "raise error" in str(arrived.__cause__)


class DiskTrouble(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(28, "no room", path)
        self.path = path


def test_what_a_builtin_keeps_to_itself_arrives_too():
    arrived = travel(DiskTrouble("/scratch"))
    assert type(arrived) is DiskTrouble
    assert (arrived.errno, arrived.strerror, arrived.path) == (28, "no room", "/scratch")
    assert str(arrived).startswith("[Errno 28] no room")


def test_an_exception_that_cannot_be_shown_still_travels():
    assert type(travel(Unspeakable("x"))) is Unspeakable


def test_an_exception_whose_class_is_missing_here(foreign):
    payload = pack_exception(foreign.Problem("over there"))
    foreign.forget()
    arrived = unpack_exception(payload)
    assert type(arrived) is errors.ExecutionError
    assert "thing_of_theirs.Problem: over there" in str(arrived)


def test_a_local_exception_class_travels_by_value():
    class Local(Exception):
        pass

    arrived = travel(Local("mine"))
    assert type(arrived).__name__ == "Local"
    assert arrived.args == ("mine",)


def test_causes_contexts_and_notes_are_in_the_words_of_there():
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise Plain("second") from first
    except Plain as second:
        second.add_note("while loading weights")
        arrived = unpack_exception(pack_exception(second))
    assert arrived.__notes__ == ["while loading weights"]
    told = str(arrived.__cause__)
    assert "KeyError: 'first'" in told
    assert "direct cause" in told
    assert "while loading weights" in told


def test_groups_keep_their_members():
    arrived = travel(ExceptionGroup("several", [Plain("a"), ValueError("b")]))
    assert isinstance(arrived, ExceptionGroup)
    assert [type(each) for each in arrived.exceptions] == [Plain, ValueError]


def test_a_group_with_one_that_cannot_travel_is_told_in_words():
    arrived = travel(ExceptionGroup("several", [Plain("a"), WithExtra(7, threading.Lock())]))
    assert type(arrived) is errors.ExecutionError
    assert "WithExtra" in str(arrived)


def test_a_group_with_one_that_has_an_init_of_its_own_keeps_it():
    arrived = travel(ExceptionGroup("several", [Plain("a"), WithExtra(7, "out of cheese")]))
    assert [type(each) for each in arrived.exceptions] == [Plain, WithExtra]
    assert arrived.exceptions[1].code == 7


def test_deep_recursion_is_told_shortly():
    def deeper(depth: int) -> int:
        return deeper(depth + 1) + 1

    try:
        deeper(0)
    except RecursionError as error:
        payload = pack_exception(error)
    arrived = unpack_exception(payload)
    assert type(arrived) is RecursionError
    assert len(str(arrived.__cause__)) < 5000


def test_the_frames_of_the_container_are_not_shown():
    inner = {"__name__": "glowplug.container.input_loop"}
    exec("def run(function):\n    between(lambda: begin(function))\ndef begin(function): function()", inner)
    inner["between"] = lambda function: function()  # asyncio, say

    def fails() -> None:
        raise Plain("no")

    try:
        inner["run"](fails)
    except Plain as error:
        error.__traceback__ = error.__traceback__.tb_next  # this test's own frame
        told = str(unpack_exception(pack_exception(error)).__cause__)
    assert "fails" in told
    assert "in run" not in told
    assert "in begin" not in told
    assert "lambda" not in told


class Foreign:
    """A module that only the other side has."""

    def __init__(self) -> None:
        self._module = types.ModuleType("thing_of_theirs")
        exec("class Thing: pass\nclass Problem(Exception): pass", vars(self._module))
        for cls in (self._module.Thing, self._module.Problem):
            cls.__module__ = "thing_of_theirs"
        self.Thing, self.Problem = self._module.Thing, self._module.Problem
        sys.modules["thing_of_theirs"] = self._module

    def forget(self) -> None:
        sys.modules.pop("thing_of_theirs", None)


@pytest.fixture
def foreign():
    made = Foreign()
    yield made
    made.forget()


def test_a_pickle_that_is_no_exception_once_rebuilt():
    class Liar(Exception):
        def __reduce__(self) -> Any:
            return int, (3,)

    arrived = travel(Liar("who am I"))
    assert type(arrived) is errors.ExecutionError
    assert "Liar" in str(arrived)
