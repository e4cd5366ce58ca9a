"""Python values to payloads and back, the same on both ends.

Plain pickle first, cloudpickle when it fails (lambdas, local classes) or when the other side could not follow
it (classes typed into a notebook). Buffers of 256 KiB and more (arrays) leave the pickle by protocol 5 and
are neither copied into it nor out of it.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

from glowplug.model import errors
from glowplug.wire.payload import Payload, make_payload

OUT_OF_BAND_BYTES = 256 << 10
MAX_PAYLOAD_BYTES = 8 << 30
"""One argument tuple or one result. More belongs in a volume."""


def pack(value: Any, what: str = "the value") -> Payload:
    """Serialize ``value``; ``what`` names it in errors ("the result of f").

    Raises ``SerializationError`` when neither pickle nor cloudpickle can, ``RequestSizeError`` above
    ``MAX_PAYLOAD_BYTES``.
    """
    buffers: list[pickle.PickleBuffer] = []

    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            if buffer.raw().nbytes < OUT_OF_BAND_BYTES:
                return True
        except BufferError:  # not contiguous
            return True
        buffers.append(buffer)
        return False

    try:
        pickled = pickle.dumps(value, 5, buffer_callback=keep_in_band)
        if file_of("__main__") is None and b"__main__" in pickled:
            raise pickle.PicklingError("it is defined where no other process can import it")
    except Exception as first:
        buffers.clear()
        pickled = _cloudpickled(value, keep_in_band, what, first)
    if not buffers:
        if len(pickled) > MAX_PAYLOAD_BYTES:
            raise _too_large(what, len(pickled))
        return make_payload(pickled)
    views = [buffer.raw() for buffer in buffers]
    total = len(pickled) + sum(view.nbytes for view in views)
    if total > MAX_PAYLOAD_BYTES:
        raise _too_large(what, total)
    return make_payload(pickled, views)


def file_of(module: str) -> str | None:
    """The file ``module`` was loaded from. None for what was typed into a notebook, an interpreter or a pipe:
    no other process can import that."""
    path: str | None = getattr(sys.modules.get(module), "__file__", None)
    return None if path is None or path.startswith("<") else path  # "<stdin>"


def unpack(payload: Payload) -> Any:
    """The value again. Raises ``DeserializationError`` naming what was missing."""
    try:
        pickled, *buffers = payload.parts()
        return pickle.loads(pickled, buffers=buffers)
    except Exception as error:
        if isinstance(error, TypeError) and "code" in str(error):
            # cloudpickle's way of sending functions and classes without a module.
            raise errors.DeserializationError(
                "a value arrived that holds a function or class by value (a lambda, or something of a "
                "notebook or of __main__), made by another version of Python than the "
                f"{sys.version_info[0]}.{sys.version_info[1]} here ({error}). Define it in a module that "
                "both sides import, or give the image the client's version of Python."
            ) from error
        raise errors.DeserializationError(
            f"a value arrived that cannot be rebuilt here: {type(error).__name__}: {error}. "
            "The module that defines its class must be importable on both sides, in the same version."
        ) from error


def pack_exception(error: BaseException) -> Payload:
    """An exception with its traceback as text; the exception itself only if it survives the journey."""
    import traceback

    return make_payload(
        pickle.dumps(
            {
                "exception": _dump_exception(error),
                "type": f"{type(error).__module__}.{type(error).__qualname__}",
                "message": _text_of(error),
                "traceback": "".join(traceback.format_exception(type(error), error, _user_frames(error))),
            },
            5,
        )
    )


def unpack_exception(payload: Payload) -> BaseException:
    """The exception to raise here: the same type where it can be rebuilt, with the remote traceback as its
    cause; else an ``ExecutionError`` that carries type, message and traceback as text."""
    facts = unpack(payload)
    if facts["exception"] is not None:
        try:
            error = pickle.loads(facts["exception"])
        except Exception as broken:
            reason = f"it cannot be rebuilt here: {type(broken).__name__}: {broken}"
        else:
            if isinstance(error, BaseException):
                error.__cause__ = RemoteTraceback(facts["traceback"])
                return error
            reason = "it is no exception once rebuilt"
    else:
        reason = "it cannot be pickled"
    return errors.ExecutionError(
        f"the function raised {facts['type']}: {facts['message']}\n"
        f"({reason}; its traceback there:)\n{facts['traceback']}"
    )


class RemoteTraceback(Exception):
    """Where an exception was raised in the container, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\nin the container:\n{self.text}"


def _user_frames(error: BaseException) -> Any:
    """The traceback without what called the function: the container's own input loop, and asyncio between."""
    first = frames = error.__traceback__
    while frames is not None:
        if frames.tb_frame.f_globals.get("__name__", "").startswith("glowplug.container"):
            first = frames.tb_next
        frames = frames.tb_next
    return first


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # its own code runs here: it may as well exit
        return "<its message cannot be shown>"


def _cloudpickled(value: Any, keep_in_band: Any, what: str, first: Exception) -> bytes:
    try:
        import cloudpickle

        stream = io.BytesIO()
        cloudpickle.CloudPickler(stream, protocol=5, buffer_callback=keep_in_band).dump(value)
        return stream.getvalue()
    except Exception as second:
        kind = type(_culprit(value))
        raise errors.SerializationError(
            f"{what} cannot be pickled ({kind.__module__}.{kind.__qualname__}): "
            f"{second or first}. Pass plain values, arrays or objects of importable classes; open files, "
            "locks, sockets and GPU handles must be made where they are used."
        ) from second


def _culprit(value: Any, depth: int = 8) -> Any:
    """What inside a value cannot be pickled, as far in as it can be seen."""
    import cloudpickle

    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    for part in parts if depth else ():
        try:
            cloudpickle.dumps(part)
        except Exception:
            return _culprit(part, depth - 1)
    return value


def _dump_exception(error: BaseException) -> bytes | None:
    """Bytes that were seen to become a value again; None if there are none."""
    for dump in (_dump_plainly, _dump_by_parts):
        try:
            pickled = dump(error)
            pickle.loads(pickled)
            return pickled
        except Exception:  # its own code runs in both: anything may come
            continue
    return None


def _dump_plainly(error: BaseException) -> bytes:
    if file_of("__main__") is None:
        import cloudpickle

        return cloudpickle.dumps(error, protocol=5)
    try:
        return pickle.dumps(error, 5)
    except Exception:
        import cloudpickle

        return cloudpickle.dumps(error, protocol=5)


def _dump_by_parts(error: BaseException) -> bytes:
    """For classes whose ``__init__`` takes other arguments than it hands on: they pickle, but are not made
    again from ``args``. Their own ``__init__`` is left out."""
    import cloudpickle

    class ByParts(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, BaseException):
                return _exception_of_parts, (type(value), value.args), value.__dict__ or None
            return super().reducer_override(value)

    stream = io.BytesIO()
    ByParts(stream, protocol=5).dump(error)
    return stream.getvalue()


def _exception_of_parts(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = cls.__new__(cls, *args)
    builtin = next(each for each in cls.__mro__ if each.__module__ == "builtins")
    builtin.__init__(error, *args)  # what is kept in C: errno, code, value
    return error


def _too_large(what: str, size: int) -> errors.RequestSizeError:
    return errors.RequestSizeError(
        f"{what} is {size / (1 << 30):.1f} GiB pickled; the limit is {MAX_PAYLOAD_BYTES >> 30} GiB. "
        "Write it to a volume and pass its path."
    )
