"""One warm call of a function that does nothing, one in flight: what the way there and back costs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import peers
import report
from functions import noop
from relay import relay
from rounds import Contestant, measure
from server import own_server

import glowplug

app = glowplug.App("bench-call")
remote_noop = app.function(min_containers=1, max_containers=1)(noop)

Call = Callable[[], object]


@contextlib.contextmanager
def ours() -> Iterator[Call]:
    with own_server(), app.run():
        yield lambda: remote_noop.remote(1)


@contextlib.contextmanager
def process_pool() -> Iterator[Call]:
    with peers.process_pool(1) as pool:
        yield lambda: pool.submit(noop, 1).result()


@contextlib.contextmanager
def loky() -> Iterator[Call]:
    with peers.loky_pool(1) as pool:
        yield lambda: pool.submit(noop, 1).result()


@contextlib.contextmanager
def ray_actor() -> Iterator[Call]:
    with peers.ray_cluster(2) as ray:

        class Noop:
            def noop(self, x: int) -> int:
                return x

        actor = ray.remote(Noop).options(num_cpus=0).remote()
        yield lambda: ray.get(actor.noop.remote(1))


@contextlib.contextmanager
def ray_task() -> Iterator[Call]:
    with peers.ray_cluster(2) as ray:
        remote = ray.remote(noop)
        yield lambda: ray.get(remote.remote(1))


@contextlib.contextmanager
def dask() -> Iterator[Call]:
    with peers.dask_client(1) as client:
        yield lambda: client.submit(noop, 1, pure=False).result()


def main() -> None:
    options = report.arguments(__doc__, rounds=20, calls=200)
    glow = Contestant("Glowplug `.remote()`", ours, ("glowplug",))
    floor = Contestant("two-hop relay", relay)
    pool = Contestant("ProcessPoolExecutor", process_pool)
    actor = Contestant("Ray actor", ray_actor, ("ray",))
    others = [
        Contestant("loky", loky, ("joblib",)),
        Contestant("Ray task", ray_task, ("ray",)),
        Contestant("Dask", dask, ("distributed",)),
    ]
    # Pools that fork are started first, while this process has one thread.
    everybody = [pool, floor, glow, actor, *others]
    measure(everybody, options.rounds, options.calls)
    targets = [
        report.target_ratio("to the two-hop relay", glow, floor, 2.0),
        report.target_ratio("to ProcessPoolExecutor", glow, pool, 0.7),
        report.target_ratio("faster than a Ray actor call", actor, glow, 6.0, at_least=True),
        report.Target("p99 to its median", glow.p99_s / glow.median_s, 10.0),
    ]
    report.finish(
        report.Report("call", "A warm call of a no-op", [glow, *everybody[:2], *everybody[3:]], glow, targets)
    )


if __name__ == "__main__":
    main()
