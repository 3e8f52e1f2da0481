"""Which errors of torch are failed exchanges."""

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
def test_what_gloo_and_torch_say_of_an_exchange_is_known(error):
    assert watchdog._is_collective_error(error)


@pytest.mark.parametrize(
    "said", ["CUDA out of memory", "mat1 and mat2 shapes cannot be multiplied", "invalid argument"]
)
def test_other_errors_are_not_blamed_on_others(said):
    assert not watchdog._is_collective_error(RuntimeError(said))


def test_a_process_that_is_alone_keeps_its_errors():
    with pytest.raises(RuntimeError, match="timed out"), watchdog.RankWatchdog(SINGLE_PROCESS, 1.0).guard():
        raise RuntimeError("timed out")
