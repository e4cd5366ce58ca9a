"""The others, each started the way its own documentation would have it for this machine and ended again.

Imports are inside: a peer that is not installed raises ImportError at its own start and is reported as
absent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any


@contextlib.contextmanager
def process_pool(processes: int) -> Iterator[Executor]:
    with ProcessPoolExecutor(processes) as pool:
        yield pool


@contextlib.contextmanager
def loky_pool(processes: int) -> Iterator[Executor]:
    from joblib.externals.loky import get_reusable_executor

    pool = get_reusable_executor(processes, timeout=600)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def joblib_parallel(processes: int) -> Iterator[Any]:
    import joblib

    with joblib.Parallel(n_jobs=processes) as parallel:
        yield parallel


@contextlib.contextmanager
def ray_cluster(processes: int) -> Iterator[Any]:
    """Ray on this machine, one for all who ask for it in one benchmark; without dashboard and logs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    mine = not ray.is_initialized()
    if mine:
        ray.init(
            num_cpus=processes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}},
        )
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


@contextlib.contextmanager
def dask_client(processes: int) -> Iterator[Any]:
    import distributed

    with tempfile.TemporaryDirectory() as directory:
        cluster = distributed.LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=directory,
            silence_logs=logging.ERROR,
        )
        with cluster, distributed.Client(cluster) as client:
            yield client
