"""Several processes compute the steps of one process."""

from pathlib import Path

import pytest
import torch

from zebra.distributed import SINGLE_PROCESS

from ...processes import together
from . import ranks

RANKS = Path(ranks.__file__)
CASES = {
    "vit": ("vit",),
    "sigmoid": ("sigmoid",),
    "resnet": ("resnet",),
    "vit with repeated captions": ("vit", "ddp", None, False, False, 1.0, True),
    "sharded sigmoid with repeated captions": ("sigmoid", "fsdp", None, False, False, 1.0, True),
    "vit with hard negatives": ("vit", "ddp", None, False, False, 1.0, True, False, True),
    "sharded sigmoid with hard negatives in chunks": ("sigmoid", "fsdp", 4, False, False, 1.0, False, False, True),
    "vit in chunks": ("vit", "ddp", 2),
    "resnet with activation checkpointing": ("resnet", "ddp", None, True),
    "vit with patch dropout": ("vit", "ddp", 2, True, True),
    "vit with a teacher in chunks": ("vit", "ddp", 2, False, False, 1.0, False, True),
    "sharded sigmoid with a teacher": ("sigmoid", "fsdp", None, False, False, 1.0, False, True),
    "matryoshka in chunks": ("matryoshka", "ddp", 2),
    "sharded matryoshka": ("matryoshka", "fsdp"),
    "vit with anchors in chunks": ("vit", "ddp", 2, False, False, 1.0, False, False, False, True),
    "sharded vit with anchors": ("vit", "fsdp", None, False, False, 1.0, False, False, False, True),
    "sharded vit": ("vit", "fsdp"),
    "sharded vit without clipping": ("vit", "fsdp", None, False, False, 0.0),
    "sharded sigmoid with activation checkpointing": ("sigmoid", "fsdp", None, True),
    "sharded resnet": ("resnet", "fsdp"),
    "sharded vit in chunks": ("vit", "fsdp", 2),
}


CASES_OF_FOUR = ("vit", "sigmoid", "sharded vit")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return size → results of each process by case; all cases share processes, which are slow to start."""
    folder = tmp_path_factory.mktemp("ranks")
    return {
        2: together(folder, 2, RANKS, "run_cases", CASES),
        4: together(folder, 4, RANKS, "run_cases", {name: CASES[name] for name in CASES_OF_FOUR}),
    }


@pytest.mark.parametrize(("case", "size"), [*((case, 2) for case in CASES), *((case, 4) for case in CASES_OF_FOUR)])
def test_several_processes_have_the_metrics_gradients_and_weights_of_one(results, case, size):
    metrics, gradients, weights = ranks.steps(SINGLE_PROCESS, *CASES[case])
    for rank in results[size]:
        rank_metrics, rank_gradients, rank_weights = rank[case]
        torch.testing.assert_close(torch.tensor(rank_metrics), torch.tensor(metrics), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(rank_gradients, gradients, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(rank_weights, weights, rtol=1e-6, atol=1e-6)


def test_collectives_reach_all_processes_and_gradients_are_summed(tmp_path):
    for rank, results in enumerate(together(tmp_path, 3, RANKS, "run_collectives", 2)):
        own = slice(2 * rank, 2 * rank + 2)
        assert results == (
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            [3.0 * factor for factor in (0, 1, 2, 3, 4, 5)[own]],
            [0, 1, 2],
            0,
        )
