"""The functions every contestant runs, in a module of its own: all of them import the same one by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

PAGE_BYTES = 4096


def noop(x: int) -> int:
    return x


def touch(array: numpy.ndarray) -> float:
    """Read every page once, so that nobody wins by handing over memory that nobody looked at."""
    return float(array[:: PAGE_BYTES // array.itemsize].sum())


def echo(array: numpy.ndarray) -> numpy.ndarray:
    touch(array)
    return array
