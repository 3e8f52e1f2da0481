"""Images that resemble an earlier one are found by clusters, and only if one that stays resembles them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zebra.config.curate_score import SemanticRules
from zebra.curate import semantic
from zebra.curate.rules import TableReader
from zebra.curate.semantic import find_similar, semantic_rules
from zebra.curate.vectors import to_column, to_unit_length
from zebra.errors import ConfigError


def draw_vectors(num_vectors: int, width: int = 64, seed: int = 0) -> NDArray[np.float16]:
    vectors_NE = np.random.default_rng(seed).standard_normal((num_vectors, width))
    return to_unit_length(vectors_NE).astype(np.float16)


def make_copies(vectors_NE: NDArray[np.float16], cosine: float, seed: int = 1) -> NDArray[np.float16]:
    """Return vectors with a cosine to the given ones."""
    base_NE, noise_NE = to_unit_length(vectors_NE), draw_vectors(*vectors_NE.shape, seed).astype(np.float32)
    noise_NE -= np.sum(noise_NE * base_NE, axis=1, keepdims=True) * base_NE
    return (cosine * base_NE + np.sqrt(1 - cosine**2) * to_unit_length(noise_NE)).astype(np.float16)


def test_copies_are_dropped_and_the_first_ones_stay() -> None:
    originals_NE = draw_vectors(600)
    copies_NE = np.concatenate([make_copies(originals_NE[:150], cosine) for cosine in (0.97, 0.999, 1.0)])
    is_dropped_N = find_similar(np.concatenate([originals_NE, copies_NE]), 0.95)
    assert not is_dropped_N[:600].any()
    assert is_dropped_N[600:].mean() > 0.99


def test_images_below_the_limit_stay() -> None:
    originals_NE = draw_vectors(200)
    assert not find_similar(np.concatenate([originals_NE, make_copies(originals_NE, 0.93)]), 0.95).any()


def test_one_image_many_times_leaves_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "BLOCK_ROWS", 64)
    vectors_NE = np.concatenate([draw_vectors(50), np.repeat(draw_vectors(1, seed=7), 500, axis=0)])
    is_dropped_N = find_similar(vectors_NE, 0.95)
    assert is_dropped_N.sum() == 499
    assert not is_dropped_N[:51].any()


def test_a_chain_of_similar_images_is_not_dropped_whole() -> None:
    angles = np.deg2rad([0, 10, 20, 30, 40])
    chain_NE = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    assert find_similar(chain_NE, float(np.cos(np.deg2rad(15)))).tolist() == [False, True, False, True, False]


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(2, 4), st.floats(0.3, 0.99))
def test_every_dropped_image_resembles_an_earlier_one_that_stays(
    seed: int, num_vectors: int, width: int, max_cosine: float
) -> None:
    vectors_NE = draw_vectors(num_vectors, width, seed) if num_vectors else np.zeros((0, width), np.float16)
    is_dropped_N = find_similar(vectors_NE, max_cosine)
    unit_NE = to_unit_length(vectors_NE)
    cosine_NN = unit_NE @ unit_NE.T
    for row in np.flatnonzero(is_dropped_N):
        assert cosine_NN[row, :row][~is_dropped_N[:row]].max() > max_cosine - 1e-6
    assert not is_dropped_N[:1].any()
    assert np.array_equal(is_dropped_N, find_similar(vectors_NE, max_cosine))


def make_table(index: list[int], alignment: list[float], vectors_NE: NDArray[np.float16]) -> pa.Table:
    uids = pa.array([bytes([number] * 16) for number in index], pa.binary(16))
    columns = {"uid": uids, "index": pa.array(index, pa.int64()), "alignment": pa.array(alignment, pa.float32())}
    return pa.table(columns | {"image_vector": to_column(vectors_NE)})


def find(tables: list[pa.Table]) -> list[list[bool]]:
    (rule,) = semantic_rules(SemanticRules(max_cosine=0.9))
    return [mask.tolist() for mask in rule.find(TableReader(tables))]


def test_of_similar_images_the_best_aligned_one_stays_with_all_its_captions() -> None:
    vector_NE = draw_vectors(3)
    tables = [
        make_table([0, 0, 4], [0.1, 0.9, 0.2], vector_NE[[0, 0, 1]]),
        make_table([], [], vector_NE[:0]),
        make_table([5, 6, 6, 7], [0.3, 0.1, 0.3, 0.8], vector_NE[[2, 1, 1, 0]]),
    ]
    assert find(tables) == [[False, False, True], [], [False, False, False, True]]
    assert find(tables[::-1]) == [[False, False, False, True], [], [False, False, True]]
    assert find(tables[1:2]) == [[]]


def test_which_of_equally_aligned_images_stays_does_not_depend_on_the_order() -> None:
    vector_NE = np.repeat(draw_vectors(1), 3, axis=0)
    table = make_table([1, 2, 3], [0.5, 0.5, 0.5], vector_NE)
    stays = [index for index, dropped in zip([1, 2, 3], find([table])[0], strict=True) if not dropped]
    turned = table.take([2, 1, 0])
    assert [index for index, dropped in zip([3, 2, 1], find([turned])[0], strict=True) if not dropped] == stays


def test_there_is_no_rule_without_a_limit() -> None:
    assert semantic_rules(SemanticRules()) == []


@pytest.mark.parametrize("max_cosine", [0.0, 1.0, -0.5, float("nan")])
def test_a_limit_that_drops_all_or_nothing_is_refused(max_cosine: float) -> None:
    with pytest.raises(ConfigError, match=r"semantic\.max_cosine"):
        SemanticRules(max_cosine=max_cosine)
