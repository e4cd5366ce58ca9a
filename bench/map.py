"""10,000 inputs of a function that does nothing through two processes, results in order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import peers
import report
from functions import noop
from rounds import Contestant, measure
from server import own_server

import glowplug

INPUTS = 10_000
PROCESSES = 2
CHUNK = 64

app = glowplug.App("bench-map")
remote_noop = app.function(min_containers=PROCESSES, max_containers=PROCESSES)(noop)

Map = Callable[[], object]


def checked(results: list[int]) -> None:
    assert results == list(range(INPUTS))


@contextlib.contextmanager
def ours() -> Iterator[Map]:
    with own_server(), app.run():
        yield lambda: checked(list(remote_noop.map(range(INPUTS))))


def process_pool(chunk: int) -> Callable[[], contextlib.AbstractContextManager[Map]]:
    @contextlib.contextmanager
    def start() -> Iterator[Map]:
        with peers.process_pool(PROCESSES) as pool:
            yield lambda: checked(list(pool.map(noop, range(INPUTS), chunksize=chunk)))

    return start


@contextlib.contextmanager
def joblib() -> Iterator[Map]:
    with peers.joblib_parallel(PROCESSES) as parallel:
        from joblib import delayed

        yield lambda: checked(parallel(delayed(noop)(x) for x in range(INPUTS)))


@contextlib.contextmanager
def ray_actors() -> Iterator[Map]:
    with peers.ray_cluster(PROCESSES) as ray:

        class Noop:
            def noop(self, x: int) -> int:
                return x

        actors = [ray.remote(Noop).options(num_cpus=0).remote() for _ in range(PROCESSES)]
        yield lambda: checked(ray.get([actors[x % PROCESSES].noop.remote(x) for x in range(INPUTS)]))


@contextlib.contextmanager
def ray_actor_pool() -> Iterator[Map]:
    with peers.ray_cluster(PROCESSES) as ray:
        from ray.util import ActorPool

        class Noop:
            def noop(self, x: int) -> int:
                return x

        pool = ActorPool([ray.remote(Noop).options(num_cpus=0).remote() for _ in range(PROCESSES)])
        yield lambda: checked(list(pool.map(lambda actor, x: actor.noop.remote(x), range(INPUTS))))


@contextlib.contextmanager
def ray_tasks() -> Iterator[Map]:
    with peers.ray_cluster(PROCESSES) as ray:
        remote = ray.remote(noop)
        yield lambda: checked(ray.get([remote.remote(x) for x in range(INPUTS)]))


@contextlib.contextmanager
def dask() -> Iterator[Map]:
    with peers.dask_client(PROCESSES) as client:
        yield lambda: checked(client.gather(client.map(noop, range(INPUTS), pure=False)))


def main() -> None:
    options = report.arguments(__doc__, rounds=5)
    glow = Contestant("Glowplug `.map()`", ours, ("glowplug",))
    pool = Contestant("ProcessPoolExecutor, chunksize=1", process_pool(1))
    actors = Contestant("Ray, two actors", ray_actors, ("ray",))
    actor_pool = Contestant("Ray ActorPool of two", ray_actor_pool, ("ray",))
    everybody = [
        pool,
        Contestant(f"ProcessPoolExecutor, chunksize={CHUNK}", process_pool(CHUNK)),
        glow,
        Contestant("joblib.Parallel, batch_size='auto'", joblib, ("joblib",)),
        actors,
        actor_pool,
        Contestant("Ray tasks", ray_tasks, ("ray",)),
        Contestant("Dask", dask, ("distributed",)),
    ]
    for each in everybody:
        each.warm_up = 0
    measure(everybody, options.rounds, calls=1)
    targets = [
        report.target_ratio("faster than ProcessPoolExecutor, chunksize=1", pool, glow, 4.0, at_least=True),
        report.target_ratio("faster than Ray, two actors", actors, glow, 10.0, at_least=True),
        report.target_ratio("faster than Ray ActorPool of two", actor_pool, glow, 10.0, at_least=True),
    ]
    rows = [glow, *(each for each in everybody if each is not glow)]
    report.finish(
        report.Report(
            "map", f"{INPUTS:,} no-ops in order over two processes", rows, glow, targets, inputs=INPUTS
        )
    )


if __name__ == "__main__":
    main()
