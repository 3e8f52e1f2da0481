"""Jobs on the workers of a Ray cluster.

Each worker is an actor that lives as long as the connection and loads a function once, so that a model or a list of
entries is sent once per worker. Jobs of a worker that dies are run again by another one.
"""

import logging
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from zebra.config.cores import usable_cores
from zebra.engines.engine import Item, Result
from zebra.errors import MissingExtra

JOBS_PER_WORKER = 2
"""Jobs that a worker has at a time, so that it does not wait for the next one."""
RESULTS_PER_WORKER = 8
"""Results, finished or not, that wait for an earlier one."""
MAX_RETRIES = 3


def require_ray(purpose: str) -> None:
    """Check early that Ray is installed.

    Args:
        purpose: What needs it, for the message.

    Raises:
        MissingExtra: Ray is not installed.
    """
    try:
        with _silence_ray():
            import ray  # noqa: F401  only to test the import
    except ImportError as error:
        raise MissingExtra("ray", purpose, "ray") from error


class RayEngine:
    """Runs jobs on the actors of a cluster."""

    is_distributed = True

    def __init__(self, workers: list[Any]) -> None:
        self._workers = workers
        self._numbers = count()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result for each item, as `Engine.map`."""
        import ray

        number, function_ref = next(self._numbers), [ray.put(function)]  # in a list, it is not loaded for every job
        free_workers = deque(self._workers * JOBS_PER_WORKER)
        running: dict[Any, Any] = {}  # result → worker
        results: deque[Any] = deque()
        for item in items:
            if not free_workers:
                finished, _ = ray.wait(list(running), num_returns=1, fetch_local=False)
                free_workers.extend(map(running.pop, finished))
            worker = free_workers.popleft()
            results.append(worker.call.remote(number, function_ref, item))
            running[results[-1]] = worker
            while results and (results[0] not in running or len(results) >= RESULTS_PER_WORKER * len(self._workers)):
                yield _get(results.popleft())
        while results:
            yield _get(results.popleft())


@contextmanager
def open_ray(num_workers: int | None, *, uses_gpus: bool = False) -> Iterator[RayEngine]:
    """Connect to the running Ray cluster, or start one on this machine until the block ends.

    Args:
        num_workers: Requested number of workers; fewer if the cluster has fewer cores. None for one per core.
        uses_gpus: Use one GPU per worker instead of one core if the cluster has GPUs.
    """
    import ray

    is_owner = not ray.is_initialized()  # the calling program may have connected already
    if is_owner:
        log_options = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        with _silence_ray():
            try:
                ray.init(address="auto", **log_options)
            except ConnectionError:
                num_cpus = num_workers or usable_cores()
                ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **log_options)
    try:
        resources = ray.cluster_resources()
        resource = "GPU" if uses_gpus and "GPU" in resources else "CPU"
        max_workers = max(1, int(resources[resource]))
        options = {"num_gpus": 1} if resource == "GPU" else {"num_cpus": 1}
        actor = ray.remote(max_restarts=-1, max_task_retries=MAX_RETRIES, **options)(_Worker)
        workers = [actor.remote(str(Path.cwd())) for _ in range(min(num_workers or max_workers, max_workers))]
        try:
            yield RayEngine(workers)
        finally:
            for worker in workers:
                ray.kill(worker)
    finally:
        if is_owner:
            ray.shutdown()


class _Worker:
    """An actor that runs jobs and keeps the function of the last one."""

    def __init__(self, working_dir: str) -> None:
        with suppress(OSError):  # relative paths start there; the directory may exist on the driver only
            os.chdir(working_dir)
        self._number = -1
        self._function: Callable[[Any], Any] = repr

    def call(self, number: int, function_ref: list[Any], item: Any) -> Any:
        """Return the result of a function for an item.

        Args:
            number: Identifies the function.
            function_ref: The reference to it.
        """
        import ray

        if number != self._number:
            self._function, self._number = ray.get(function_ref[0]), number
        return self._function(item)


def _get(result: Any) -> Any:
    """Return a result, or raise the exception of the job without Ray's wrapping."""
    import ray

    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


@contextmanager
def _silence_ray() -> Iterator[None]:
    """Start Ray without usage statistics and log output, and restore the SIGTERM handler that it replaces."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
