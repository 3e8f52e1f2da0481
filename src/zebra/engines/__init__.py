"""Engines that run independent jobs, in threads or on a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from zebra.config.cores import usable_cores
from zebra.engines.engine import Engine
from zebra.engines.threads import ThreadEngine

__all__ = ["Engine", "ThreadEngine", "open_engine"]


@contextmanager
def open_engine(name: Literal["threads", "ray"], num_workers: int | None) -> Iterator[Engine]:
    """Yield an engine with some workers, by default one for each core of this machine or of the cluster."""
    if name == "threads":
        yield ThreadEngine(num_workers or usable_cores())
        return
    from zebra.engines.ray import open_ray

    with open_ray(num_workers) as engine:
        yield engine
