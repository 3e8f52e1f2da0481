"""Several processes take the steps of one."""

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
    "vit in chunks": ("vit", "ddp", 2),
    "resnet whose blocks pass twice": ("resnet", "ddp", None, True),
    "vit with patches dropped": ("vit", "ddp", 2, True, True),
    "sharded vit": ("vit", "fsdp"),
    "sharded vit without clipping": ("vit", "fsdp", None, False, False, 0.0),
    "sharded sigmoid whose blocks pass twice": ("sigmoid", "fsdp", None, True),
    "sharded resnet": ("resnet", "fsdp"),
    "sharded vit in chunks": ("vit", "fsdp", 2),
}


OF_FOUR = ("vit", "sigmoid", "sharded vit")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return size → what each process found, case by case: starting processes costs more than their steps."""
    folder = tmp_path_factory.mktemp("ranks")
    return {
        2: together(folder, 2, RANKS, "many", CASES),
        4: together(folder, 4, RANKS, "many", {name: CASES[name] for name in OF_FOUR}),
    }


@pytest.mark.parametrize(("case", "size"), [*((case, 2) for case in CASES), *((case, 4) for case in OF_FOUR)])
def test_several_processes_have_the_loss_the_gradients_and_the_weights_of_one(found, case, size):
    figures, gradients, weights = ranks.steps(SINGLE_PROCESS, *CASES[case])
    for rank in found[size]:
        theirs = rank[case]
        torch.testing.assert_close(torch.tensor(theirs[0]), torch.tensor(figures), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(theirs[1], gradients, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(theirs[2], weights, rtol=1e-6, atol=1e-6)


def test_rows_objects_and_decisions_reach_everyone_and_gradients_come_back_summed(tmp_path):
    for rank, found in enumerate(together(tmp_path, 3, RANKS, "ranks_of", 2)):
        own = slice(2 * rank, 2 * rank + 2)
        assert found == (
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            [3.0 * factor for factor in (0, 1, 2, 3, 4, 5)[own]],
            [0, 1, 2],
            0,
        )
