"""Rank watchdog: which errors of torch count as failed collectives."""

import pytest
import torch.distributed as dist

from zebra.distributed import SINGLE_PROCESS
from zebra.train import watchdog


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Application timeout caused pair closure"),
        RuntimeError("[…/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711"),
        RuntimeError("Timed out waiting 5000ms for recv operation to complete"),
        dist.DistNetworkError("no answer"),
    ],
)
def test_errors_of_failed_collectives_are_recognized(error):
    assert watchdog._is_collective_error(error)


@pytest.mark.parametrize(
    "message", ["CUDA out of memory", "mat1 and mat2 shapes cannot be multiplied", "invalid argument"]
)
def test_other_errors_are_not_failed_collectives(message):
    assert not watchdog._is_collective_error(RuntimeError(message))


def test_a_single_process_keeps_its_errors():
    with pytest.raises(RuntimeError, match="timed out"), watchdog.RankWatchdog(SINGLE_PROCESS, 1.0).guard():
        raise RuntimeError("timed out")
