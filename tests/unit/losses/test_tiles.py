"""Memory of tiled losses, and how the tiles cover the matrix."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zebra.losses import info_nce, sigmoid_loss
from zebra.losses.tiles import MAX_TILE_ELEMENTS_CPU, iter_tiles

LOSSES = {
    "info_nce": lambda image, text, rows: info_nce(image, text, 50.0, rows),
    "sigmoid_loss": lambda image, text, rows: sigmoid_loss(image, text, 50.0, -10.0, rows),
}
PEAK = """
import torch
from pathlib import Path
from zebra.losses import info_nce, sigmoid_loss
loss = {
    "info_nce": lambda image, text, rows: info_nce(image, text, 50.0, rows),
    "sigmoid_loss": lambda image, text, rows: sigmoid_loss(image, text, 50.0, -10.0, rows),
}["NAME"]
torch.set_num_threads(1)
def step(n, rows):
    image, text = (torch.randn(n, 16).div_(4).requires_grad_() for _ in range(2))
    loss(image, text, rows).backward()
def peak():  # in MiB; ru_maxrss would include the parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
step(600, 512)  # warm up: libraries load and allocate on first use
before = peak()
step(6000, ROWS)
print(peak() - before)
"""


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns, in the backward pass too."""

    num_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.num_elements = max(self.num_elements, *sizes, 0)
        return result


def largest_tensor(loss, rows):
    image, text = (torch.randn(1500, 4).requires_grad_() for _ in range(2))
    with LargestTensor() as recorder:
        loss(image, text, rows).backward()
    return recorder.num_elements


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_no_tensor_is_larger_than_a_tile(loss):
    assert largest_tensor(loss, None) == 1500 * 1500  # control: the dense loss has the full matrix
    with patch("zebra.losses.tiles.MAX_TILE_ELEMENTS_CPU", 2**14):
        assert largest_tensor(loss, 64) == 2**14


@pytest.mark.parametrize("loss", LOSSES)
def test_a_tiled_batch_of_six_thousand_needs_little_memory(loss):
    """Compare the peak memory of processes; the matrix has 137 MiB, and a dense loss stores several."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to read the peak memory")

    def peak_mib(rows):
        script = PEAK.replace("NAME", loss).replace("ROWS", str(rows))
        return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)

    assert peak_mib(1024) < 24
    assert peak_mib(None) > 250


@given(
    num_rows=st.integers(1, 12),
    extra_columns=st.integers(0, 9),
    tile_rows=st.integers(1, 14),
    budget=st.integers(1, 40),
    data=st.data(),
)
def test_tiles_cover_the_matrix_once_and_contain_every_match(num_rows, extra_columns, tile_rows, budget, data):
    num_columns = num_rows + extra_columns
    first_match = data.draw(st.integers(0, extra_columns))
    rows = torch.randn(num_rows, 3, dtype=torch.float64)
    columns = torch.randn(num_columns, 3, dtype=torch.float64)
    covered, matches = torch.full((num_rows, num_columns), torch.nan, dtype=torch.float64), []
    with patch("zebra.losses.tiles.MAX_TILE_ELEMENTS_CPU", budget):
        for tile in iter_tiles(rows, columns, tile_rows, first_match):
            assert covered[tile.rows, tile.columns].isnan().all()
            covered[tile.rows, tile.columns] = tile.logits
            diagonal = tile.logits.diagonal(tile.diagonal_offset)
            assert torch.equal(diagonal, covered.diagonal(first_match)[tile.matching_rows])
            matches += range(tile.matching_rows.start, tile.matching_rows.stop)
    torch.testing.assert_close(covered, rows @ columns.T)
    assert sorted(matches) == list(range(num_rows))


def test_a_tile_is_as_wide_as_memory_allows():
    rows, columns = torch.zeros(70, 1), torch.zeros(MAX_TILE_ELEMENTS_CPU // 64 + 5, 1)
    shapes = [tuple(tile.logits.shape) for tile in iter_tiles(rows, columns, 64)]
    assert shapes == [(64, MAX_TILE_ELEMENTS_CPU // 64), (64, 5), (6, MAX_TILE_ELEMENTS_CPU // 64), (6, 5)]


def test_tiles_share_their_memory():
    pointers = {tile.logits.data_ptr() for tile in iter_tiles(torch.zeros(70, 1), torch.zeros(70, 1), 8)}
    assert len(pointers) == 1
