"""Evaluation in several processes."""

from pathlib import Path

import numpy as np
from PIL import Image

from zebra.distributed import SINGLE_PROCESS

from ...processes import together
from . import shared


def test_each_process_embeds_a_slice_and_all_get_all_embeddings_in_order(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    ids, vectors, read = shared.embed(SINGLE_PROCESS, str(folder))
    assert read == [1, 2, 3, 4, 5, 6, 7]
    results = together(tmp_path, 3, Path(shared.__file__), "embed", str(folder))
    assert [rank_read for _, _, rank_read in results] == [[1, 2], [3, 4], [5, 6, 7]]
    for rank_ids, rank_vectors, _ in results:
        assert rank_ids == ids
        np.testing.assert_allclose(rank_vectors, vectors, atol=1e-6)
