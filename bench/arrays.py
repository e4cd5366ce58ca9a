"""A 64 MB array as argument and as result. Both ends read every page of it."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory

import numpy
import peers
import report
from functions import echo, touch
from rounds import Contestant, measure
from server import own_server

import glowplug

app = glowplug.App("bench-arrays")
remote_echo = app.function(min_containers=1, max_containers=1)(echo)

ARRAY = numpy.arange(8_000_000, dtype=numpy.float64)

Call = Callable[[], object]


def checked(result: numpy.ndarray) -> None:
    assert touch(result) == touch(ARRAY)


@contextlib.contextmanager
def ours() -> Iterator[Call]:
    with own_server(), app.run():
        yield lambda: checked(remote_echo.remote(ARRAY))


@contextlib.contextmanager
def process_pool() -> Iterator[Call]:
    with peers.process_pool(1) as pool:
        yield lambda: checked(pool.submit(echo, ARRAY).result())


@contextlib.contextmanager
def loky() -> Iterator[Call]:
    with peers.loky_pool(1) as pool:
        yield lambda: checked(pool.submit(echo, ARRAY).result())


@contextlib.contextmanager
def ray_actor() -> Iterator[Call]:
    with peers.ray_cluster(2) as ray:

        class Echo:
            def echo(self, array: numpy.ndarray) -> numpy.ndarray:
                return echo(array)

        actor = ray.remote(Echo).options(num_cpus=0).remote()
        yield lambda: checked(ray.get(actor.echo.remote(ARRAY)))


@contextlib.contextmanager
def ray_task() -> Iterator[Call]:
    with peers.ray_cluster(2) as ray:
        remote = ray.remote(echo)
        yield lambda: checked(ray.get(remote.remote(ARRAY)))


@contextlib.contextmanager
def dask() -> Iterator[Call]:
    with peers.dask_client(1) as client:
        yield lambda: checked(client.submit(echo, ARRAY, pure=False).result())


@contextlib.contextmanager
def shared_memory() -> Iterator[Call]:
    """The floor: one shared file for the way there and one for the way back, made once and used again."""
    there, back = (SharedMemory(create=True, size=ARRAY.nbytes) for _ in range(2))
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.Process(target=_serve_shared, args=(theirs, there.name, back.name), daemon=True)
    child.start()

    def call() -> None:
        numpy.copyto(_array_in(there), ARRAY)
        ours.send(True)
        ours.recv()
        checked(_array_in(back).copy())

    try:
        yield call
    finally:
        ours.send(False)
        child.join()
        for memory in (there, back):
            memory.close()
            memory.unlink()


def _serve_shared(pipe: Connection, there_name: str, back_name: str) -> None:
    there, back = SharedMemory(there_name), SharedMemory(back_name)
    while pipe.recv():
        numpy.copyto(_array_in(back), echo(_array_in(there)))
        pipe.send(True)


def _array_in(memory: SharedMemory) -> numpy.ndarray:
    return numpy.ndarray(ARRAY.shape, ARRAY.dtype, memory.buf)


def main() -> None:
    options = report.arguments(__doc__, rounds=10, calls=3)
    glow = Contestant("Glowplug `.remote()`", ours, ("glowplug",))
    actor = Contestant("Ray actor", ray_actor, ("ray",))
    everybody = [
        Contestant("shared memory, reused", shared_memory),
        Contestant("ProcessPoolExecutor", process_pool),
        glow,
        Contestant("loky", loky, ("joblib",)),
        actor,
        Contestant("Ray task", ray_task, ("ray",)),
        Contestant("Dask", dask, ("distributed",)),
    ]
    for each in everybody:
        each.warm_up = 1
    measure(everybody, options.rounds, options.calls)
    targets = [report.target_ratio("to a Ray actor", glow, actor, 1.0)]
    rows = [glow, *(each for each in everybody if each is not glow)]
    report.finish(report.Report("arrays", "A 64 MB array there and back", rows, glow, targets))


if __name__ == "__main__":
    main()
