"""An evaluation that several processes share."""

from pathlib import Path

import numpy as np
from PIL import Image

from zebra.distributed import SINGLE_PROCESS

from ...processes import together
from . import shared


def test_processes_embed_a_share_of_the_pictures_each_and_all_have_all_in_order(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}")
    ids, vectors, read = shared.embed(SINGLE_PROCESS, str(folder))
    assert read == [1, 2, 3, 4, 5, 6, 7]
    found = together(tmp_path, 3, Path(shared.__file__), "embed", str(folder))
    assert [their_read for _, _, their_read in found] == [[1, 2], [3, 4], [5, 6, 7]]
    for their_ids, their_vectors, _ in found:
        assert their_ids == ids
        np.testing.assert_allclose(their_vectors, vectors, atol=1e-6)
