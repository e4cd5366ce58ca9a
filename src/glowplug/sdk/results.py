"""From what came back for an input to a value or an exception of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.client.serializer import unpack, unpack_exception
from glowplug.model.errors import error_from_wire

if TYPE_CHECKING:
    from glowplug.client.session import Output


def value_of(output: Output) -> Any:
    """The function's result, or an item it yielded. Raises what it raised, or what went wrong around it."""
    if output.status == "success" or output.status == "item":
        return None if output.payload is None else unpack(output.payload)
    raise exception_of(output)


def exception_of(output: Output) -> BaseException:
    """What an output that is no success stands for."""
    if output.status == "failure" and output.payload is not None:
        return unpack_exception(output.payload)
    return error_from_wire(output.error, output.message)
