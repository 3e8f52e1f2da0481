"""Alignment compared with that of random partners (negCLIPLoss, arXiv 2405.19547)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.curate.balance import draw_uniform
from zebra.curate.pair_scorer import rowwise_cosine
from zebra.curate.vectors import IMAGE_VECTOR, TEXT_VECTOR, to_unit_length, to_vectors

NUM_PARTNERS = 2_048
BLOCK_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class Partners:
    """R random pairs of a pool."""

    uids: tuple[bytes, ...]
    image_RE: NDArray[np.float32]
    text_RE: NDArray[np.float32]


def draw_partners(tables: Iterable[pa.Table], num_partners: int = NUM_PARTNERS, seed: int = 0) -> Partners:
    """Draw pairs by a hash of seed and uid, so that the order of the pool does not matter.

    Args:
        tables: The columns uid, IMAGE_VECTOR and TEXT_VECTOR of all pairs.
    """
    drawn: pa.Table | None = None
    for table in tables:
        candidates = table.append_column("draw", pa.array(draw_uniform(table["uid"], seed)))
        together = candidates if drawn is None else pa.concat_tables([drawn, candidates])
        drawn = together.take(np.argsort(together["draw"].to_numpy(), kind="stable")[:num_partners])
    assert drawn is not None, "a pool has units"
    vectors = (to_unit_length(to_vectors(drawn[name])) for name in (IMAGE_VECTOR, TEXT_VECTOR))
    return Partners(tuple(drawn["uid"].to_pylist()), *vectors)


def neg_clip_loss(table: pa.Table, partners: Partners, logit_scale: float) -> NDArray[np.float32]:
    """Return the negative CLIP loss of each pair divided by the logit scale s, float32 [N].

    cos(i, i) − (log mean_j exp(s · cos(image i, text j)) + log mean_j exp(s · cos(image j, text i))) / 2s, where j is
    the pair itself and its partners. It is low for a caption that suits many images, and for an image that suits many
    captions.

    Args:
        table: The columns uid, IMAGE_VECTOR and TEXT_VECTOR.
    """
    position = {uid: number for number, uid in enumerate(partners.uids)}
    scores = []
    for start in range(0, len(table), BLOCK_ROWS):
        block = table.slice(start, BLOCK_ROWS)
        image_BE, text_BE = (to_unit_length(to_vectors(block[name])) for name in (IMAGE_VECTOR, TEXT_VECTOR))
        alignment_B = rowwise_cosine(image_BE, text_BE)
        own = [(row, position[uid]) for row, uid in enumerate(block["uid"].to_pylist()) if uid in position]
        contrast_B = np.zeros(len(block), np.float32)
        for cosine_BR in (image_BE @ partners.text_RE.T, text_BE @ partners.image_RE.T):
            for row, number in own:  # a pair is no partner of itself
                cosine_BR[row, number] = -np.inf
            contrast_B += _log_mean_exp(np.column_stack([cosine_BR, alignment_B]), logit_scale)
        scores.append(alignment_B - contrast_B / 2)
    return np.concatenate([np.zeros(0, np.float32), *scores]).astype(np.float32)


def _log_mean_exp(cosine_BJ: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Return log mean exp(scale · cosine) / scale of each row over its finite cosines, float32 [B]."""
    num_terms_B = np.isfinite(cosine_BJ).sum(axis=1)
    largest_B = cosine_BJ.max(axis=1)
    sum_B = np.exp(scale * (cosine_BJ - largest_B[:, None])).sum(axis=1)
    result_B: NDArray[np.float32] = largest_B + np.log(sum_B / num_terms_B) / scale
    return result_B
