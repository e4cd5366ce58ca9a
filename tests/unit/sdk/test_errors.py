"""The exception tree: names scripts catch, and travel by name."""

from __future__ import annotations

import builtins
import pickle

import pytest

from glowplug.model import errors


@pytest.mark.parametrize("name", sorted(errors.BY_NAME))
def test_every_class_survives_the_wire_by_name(name):
    raised = errors.error_from_wire(name, "f: why")
    assert type(raised) is errors.BY_NAME[name] is errors.error_class(name)
    assert "f: why" in str(raised)


@pytest.mark.parametrize("name", sorted(errors.BY_NAME))
def test_every_class_can_be_pickled(name):
    copy = pickle.loads(pickle.dumps(errors.BY_NAME[name]("why")))
    assert type(copy) is errors.BY_NAME[name]
    assert copy.args == ("why",)


def test_unknown_names_keep_their_name_in_the_text():
    raised = errors.error_from_wire("FutureError", "why")
    assert isinstance(raised, errors.RemoteError)
    assert str(raised) == "FutureError: why"
    assert errors.error_class("KeyError") is errors.RemoteError


def test_timeouts_are_not_the_builtin_so_polling_loops_end():
    assert not issubclass(errors.FunctionTimeoutError, builtins.TimeoutError)
    assert issubclass(errors.FunctionTimeoutError, errors.TimeoutError)
    assert issubclass(errors.OutputExpiredError, errors.TimeoutError)


def test_warnings_can_be_raised_and_cancellation_passes_except_exception():
    assert issubclass(errors.DeprecationError, UserWarning)
    with pytest.raises(errors.DeprecationError):
        raise errors.DeprecationError("old")
    assert not issubclass(errors.InputCancellation, Exception)


def test_the_drawn_tree_names_every_class():
    drawn = errors.__doc__ or ""
    missing = [
        name for name in errors.BY_NAME if name not in drawn and not name.startswith("SandboxFilesystem")
    ]
    assert missing == []
