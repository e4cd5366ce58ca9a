"""What the examples share: arrays on a card, and one process a card.

On a virtual fleet, or without CuPy, the arrays are NumPy's and everything runs on the CPU.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from multiprocessing.connection import Connection
from typing import Any


def arrays() -> Any:
    """CuPy where it is installed and finds a card, else NumPy. Call it inside a function, never at import:
    a process that has touched a card cannot be forked."""
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
        return cupy
    except Exception:
        import numpy

        return numpy


def device_count() -> int:
    return int(os.environ.get("GLOWPLUG_GPU_COUNT", "0"))


def device_memory_gb() -> int:
    """Of one card, by its name: A100-40GB says it, an H100 has 80."""
    name, _, size = os.environ["GLOWPLUG_GPU_TYPE"].partition("-")
    return int(size.removesuffix("GB")) if size.endswith("GB") else {"H100": 80, "A10G": 24, "T4": 16}[name]


class Peers:
    """The processes of one ``on_each_device``, as one of them sees the others."""

    def __init__(self, rank: int, count: int, pipe: Connection) -> None:
        self.rank = rank
        self.count = count
        self._pipe = pipe

    def mean(self, numbers: Any) -> Any:
        """The mean of what every process passed: an all-reduce by way of their parent."""
        self._pipe.send(("mean", numbers))
        return self._pipe.recv()


def on_each_device(function: Any, *args: Any) -> list[Any]:
    """``function(peers, *args)`` in a process of its own for each card of this container; results by rank."""
    count = device_count()
    cards = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # on a CPU they would get in each other's way
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank in range(count):
        ours, theirs = spawn.Pipe()
        os.environ["CUDA_VISIBLE_DEVICES"] = cards[rank]  # what the next process inherits
        process = spawn.Process(target=_serve, args=(theirs, rank, count, function, args))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
    while True:
        said = [pipe.recv() for pipe in pipes]
        for kind, value in said:
            if kind == "failed":
                raise RuntimeError(f"one of {count} processes failed:\n{value}")
        values = [value for _, value in said]
        if said[0][0] == "result":
            for process in processes:
                process.join()
            return values
        for pipe in pipes:
            pipe.send(sum(values) / count)


def _serve(pipe: Connection, rank: int, count: int, function: Any, args: Any) -> None:
    try:
        pipe.send(("result", function(Peers(rank, count, pipe), *args)))
    except Exception:
        pipe.send(("failed", traceback.format_exc()))
