"""Several workers: each call goes to the least busy one, and a dead one is replaced while the others answer."""

import asyncio
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError, ZebraError
from zebra.serve import run, worker, worker_pool
from zebra.serve.metrics import Metrics, WorkerFigures
from zebra.serve.worker_client import WorkerClient, WorkerDied
from zebra.serve.worker_pool import WorkerPool, threads_per_worker


def run_with_pool(model, scenario, num_workers=2):
    async def main():
        async with WorkerPool([WorkerClient(str(model), 4, num_threads=1) for _ in range(num_workers)]) as pool:
            return await scenario(pool)

    return asyncio.run(main())


def test_calls_are_shared_among_the_workers(quick_model):
    async def scenario(pool):
        await asyncio.gather(*(pool.encode_texts(["a", "b"]) for _ in range(10)))
        return [one.num_calls for one in pool.workers]

    assert run_with_pool(quick_model, scenario) == [5, 5]


def test_a_busy_worker_gets_no_more_calls_than_the_others(quick_model):
    async def scenario(pool):
        first, second = pool.workers
        os.kill(first.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(first.encode_texts(["waits"]))
        await asyncio.sleep(0)
        for _ in range(5):
            await pool.encode_texts(["a"])
        assert (first.num_calls, second.num_calls) == (1, 5)
        os.kill(first.pid, signal.SIGCONT)
        await waiting

    run_with_pool(quick_model, scenario)


def test_while_a_dead_worker_is_replaced_the_others_answer(quick_model):
    async def scenario(pool):
        first, second = pool.workers
        dead = first.pid
        os.kill(dead, signal.SIGSTOP)
        in_flight = asyncio.create_task(first.encode_texts(["in flight"]))
        await asyncio.sleep(0)
        os.kill(dead, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await in_flight
        assert not first.is_ready
        assert pool.is_ready
        assert len(await pool.encode_texts(["a"])) == 1
        assert second.num_calls == 1
        while not first.is_ready:
            await asyncio.sleep(0.01)
        assert first.pid != dead
        assert first.num_restarts == 1

    run_with_pool(quick_model, scenario)


def test_a_pool_with_a_worker_that_does_not_start_leaves_no_process(quick_model, tmp_path):
    good, bad = WorkerClient(str(quick_model), 4), WorkerClient(str(tmp_path / "none"), 4)

    async def enter():
        async with WorkerPool([good, bad]):
            pass

    with pytest.raises(ZebraError, match="failed to load the model"):
        asyncio.run(enter())
    assert good._process.poll() is not None
    assert bad._process.poll() is not None


@pytest.mark.parametrize(("cores", "workers", "threads"), [(8, 2, 4), (8, 3, 2), (2, 2, 1), (1, 1, 1)])
def test_each_worker_has_its_share_of_the_cores(monkeypatch, cores, workers, threads):
    monkeypatch.setattr(worker_pool, "usable_cores", lambda: cores)
    assert threads_per_worker(workers) == threads


def test_more_workers_than_cores_are_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(worker_pool, "usable_cores", lambda: 2)
    with pytest.raises(ConfigError, match="workers is 3, but the server may use 2 cores"):
        run.run(ServeConfig(model="x", workers=3))


@pytest.mark.parametrize("workers", [0, -1])
def test_at_least_one_worker_is_needed(workers):
    with pytest.raises(ConfigError, match=f"workers is {workers}; at least one"):
        ServeConfig(model="x", workers=workers)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_several_workers_do_not_share_a_device(device):
    with pytest.raises(ConfigError, match=f"workers is 2 and device {device}"):
        ServeConfig(model="x", workers=2, device=device)
    assert ServeConfig(model="x", device=device).workers == 1


def test_several_workers_refuse_a_gpu_that_auto_finds(monkeypatch):
    monkeypatch.setattr(worker, "resolve_device", lambda _name: torch.device("cuda"))
    with pytest.raises(ConfigError, match="choose --device cpu"):
        worker.require_cpu("auto")


def test_metrics_tell_the_workers_apart():
    metrics, state = Metrics(), SimpleNamespace(figures=WorkerFigures(True, 7, 0))
    metrics.track_worker(0, lambda: state.figures)
    metrics.track_worker(1, lambda: WorkerFigures(False, 3, 1))
    text = metrics.render().decode()
    for line in ('ready{worker="0"} 1.0', 'ready{worker="1"} 0.0', 'calls{worker="0"} 7.0', 'restarts{worker="1"} 1.0'):
        assert f"zebra_worker_{line}\n" in text
    state.figures = WorkerFigures(False, 8, 1)
    assert 'zebra_worker_calls{worker="0"} 8.0' in metrics.render().decode()
