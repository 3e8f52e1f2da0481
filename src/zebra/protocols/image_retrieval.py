"""Image-to-image retrieval: rank a gallery by similarity to query images.

A tie counts against the model: an image of another class with the same score ranks before one of the query's class.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from zebra.errors import DataError, UnsuitableDataset
from zebra.protocols.metrics import wilson_interval
from zebra.protocols.retrieval import TIE_TOLERANCE
from zebra.values import Score

SCORES_PER_BLOCK = 1 << 25
"""Scores of one block of queries with the whole gallery: 128 MiB, so that memory hardly grows with the gallery."""
RECALL_KS = (1, 5, 10)

Relevance = Callable[[int], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Query → gallery images that it should find, and those that are ignored wherever they rank."""


@dataclass(frozen=True, slots=True)
class QueryRanks:
    """The ranks of one query's positives in the gallery."""

    query: int
    rank_P: NDArray[np.int64]
    """Ranks of the positives, from 1 and ascending, without the ignored images."""
    nearest: int
    """The gallery image that ranks first."""
    positive_P: NDArray[np.int64]
    """Gallery images of the ranks."""
    other_M: NDArray[np.int64]
    """The other images that rank before the last positive."""
    num_before_M: NDArray[np.int64]
    """Number of positives that rank before each of them."""


@dataclass(frozen=True, slots=True)
class ImageRetrievalResult:
    """Retrieval of all queries that have a positive."""

    query_Q: NDArray[np.int64]
    ap_Q: NDArray[np.float64]
    """Average precision: the mean over the positives of the precision at their rank."""
    trapezoid_ap_Q: NDArray[np.float64]
    """The same by the trapezoidal rule, as in the Oxford and Paris benchmarks."""
    first_rank_Q: NDArray[np.int64]
    """Rank of the first positive."""
    precision_QK: NDArray[np.float64]
    """Precision at 1, 5 and 10, or at the rank of the last positive if that is lower (revisited Oxford and Paris)."""
    nearest_Q: NDArray[np.int64]
    """The gallery image that ranks first."""
    gallery_influence_N: NDArray[np.float64]
    """Derivative of the sum of average precisions with respect to the weight of each gallery image."""
    is_query_in_gallery: bool
    """Whether the queries are images of the gallery, so that `query_Q` are positions there."""
    instance_N: NDArray[np.int64] | None = None
    """Instance of each gallery image, if the instances are a sample, as products in a shop are; None for classes that
    are given."""

    def scores(self) -> dict[str, Score]:
        """Return map, and recall@1, @5 and @10: the share of queries with a positive among the first k."""
        return {"map": self.mean_average_precision()} | {f"recall@{k}": self._recall(k) for k in RECALL_KS}

    def mean_average_precision(self, *, trapezoid: bool = False) -> Score:
        """Return the mean average precision.

        Queries share the gallery, so their average precisions are dependent. The interval adds the influence of each
        gallery image on all queries to the variance over queries (infinitesimal jackknife, Efron 1982). The images are
        a sample; of instances that are one, all images together.

        Args:
            trapezoid: Use the trapezoidal rule.
        """
        num_queries = len(self.query_Q)
        value = float((self.trapezoid_ap_Q if trapezoid else self.ap_Q).mean())
        excess_Q, influence_N = self.ap_Q - self.ap_Q.mean(), self.gallery_influence_N.copy()
        if self.is_query_in_gallery:
            influence_N[self.query_Q] += excess_Q
            excess_Q = np.zeros(0)
        if self.instance_N is not None:
            influence_N = np.bincount(_number(self.instance_N), weights=influence_N).astype(np.float64)
        variance = float((excess_Q**2).sum() + (influence_N**2).sum()) / num_queries**2
        return _score_by_variance(value, variance, num_queries, num_trials=min(num_queries, len(influence_N)))

    def _recall(self, k: int) -> Score:
        """Return the recall at k.

        Queries that retrieve one another, or the same image, succeed or fail together. They are clusters in the
        interval, as are the images of an instance of a sample (two-way clusters, Cameron et al. 2011).
        """
        hit_Q = (self.first_rank_Q <= k).astype(np.float64)
        excess_Q = hit_Q - hit_Q.mean()
        keys = [self._neighborhoods()]
        if self.instance_N is not None:
            keys += [_number(self.instance_N[self.query_Q]), np.zeros(0, np.int64)]
            keys[2] = _number(np.stack(keys[:2], axis=1))
        sums = [float((np.bincount(key_Q, weights=excess_Q) ** 2).sum()) for key_Q in keys]
        total = sums[0] if len(sums) == 1 else max(sums[0] + sums[1] - sums[2], sums[0], sums[1])
        num_clusters = min(int(key_Q.max()) + 1 for key_Q in keys[:2])
        return _score_by_variance(float(hit_Q.mean()), total / len(hit_Q) ** 2, len(hit_Q), num_trials=num_clusters)

    def _neighborhoods(self) -> NDArray[np.int64]:
        """Return the connected component [Q] of each query in the graph of queries and the images they retrieve."""
        offset = 0 if self.is_query_in_gallery else len(self.gallery_influence_N)
        num_nodes = offset + max(len(self.gallery_influence_N), int(self.query_Q.max()) + 1)
        edges = (np.ones(len(self.query_Q)), (self.query_Q + offset, self.nearest_Q))
        component_N = connected_components(coo_array(edges, (num_nodes, num_nodes)), directed=False)[1]
        return _number(component_N[self.query_Q + offset])

    def mean_precisions(self) -> dict[str, Score]:
        """Return mp@1, mp@5 and mp@10, the mean precision of the revisited Oxford and Paris benchmarks."""
        num_queries = len(self.query_Q)
        return {
            f"mp@{k}": _score_by_variance(
                float(value_Q.mean()),
                float(value_Q.var(ddof=min(1, num_queries - 1))) / num_queries,
                num_queries,
                num_trials=num_queries,
            )
            for k, value_Q in zip(RECALL_KS, self.precision_QK.T, strict=True)
        }


def retrieve_same_label(
    image_NE: NDArray[np.float32], label_N: NDArray[np.int64], *, is_sample: bool = False
) -> ImageRetrievalResult:
    """Rank, for each image, all others; those of its class are its positives.

    An image that is alone in its class is no query, but is in the gallery of the others.

    Args:
        image_NE: Unit vectors.
        label_N: Classes or instances.
        is_sample: Whether the labels are instances of which there are more, such as products; else they are given.

    Raises:
        UnsuitableDataset: No class has two images.
        DataError: A vector contains NaN.
    """
    order_N = np.argsort(label_N, kind="stable")
    labels, starts = np.unique(label_N[order_N], return_index=True)
    members = dict(zip(labels.tolist(), np.split(order_N, starts[1:]), strict=True))

    def find_relevant(query: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        class_M = members[int(label_N[query])]
        return class_M[class_M != query], np.array([query])

    return _retrieve(
        image_NE, image_NE, find_relevant, is_query_in_gallery=True, instance_N=label_N if is_sample else None
    )


def retrieve_from_gallery(
    query_QE: NDArray[np.float32],
    gallery_NE: NDArray[np.float32],
    positives: Sequence[NDArray[np.int64]],
    ignored: Sequence[NDArray[np.int64]],
) -> ImageRetrievalResult:
    """Rank a gallery for each query.

    Args:
        query_QE: Unit vectors of the queries.
        gallery_NE: Unit vectors of the gallery, which does not contain the queries.
        positives: For each query, the gallery images that it should find; a query without any is left out.
        ignored: For each query, gallery images that are removed from its ranking ("junk").

    Raises:
        UnsuitableDataset: No query has a positive.
        DataError: A vector contains NaN.
    """
    return _retrieve(query_QE, gallery_NE, lambda query: (positives[query], ignored[query]))


def _retrieve(
    query_QE: NDArray[np.float32],
    gallery_NE: NDArray[np.float32],
    find_relevant: Relevance,
    *,
    is_query_in_gallery: bool = False,
    instance_N: NDArray[np.int64] | None = None,
) -> ImageRetrievalResult:
    rows, influence_N = [], np.zeros(len(gallery_NE))
    for ranks in iter_query_ranks(query_QE, gallery_NE, find_relevant):
        rank_P, num_positives = ranks.rank_P, len(ranks.rank_P)
        found_P = np.arange(1, num_positives + 1)
        precision_P = found_P / rank_P
        ap = float(precision_P.mean())
        before_P = np.where(rank_P > 1, (found_P - 1) / np.maximum(rank_P - 1, 1), 1.0)
        cutoff_K = np.minimum(RECALL_KS, rank_P[-1])
        precision_K = np.searchsorted(rank_P, cutoff_K, side="right") / cutoff_K
        rows.append(
            (ranks.query, ap, float((precision_P + before_P).mean() / 2), rank_P[0], precision_K, ranks.nearest)
        )
        # An image of another class lowers the precision at all positives that rank after it; a positive raises it.
        loss_P = np.append((found_P / rank_P**2)[::-1].cumsum()[::-1], 0.0)[:-1] / num_positives
        gain_P = (1 / rank_P)[::-1].cumsum()[::-1] / num_positives
        influence_N[ranks.other_M] -= loss_P[ranks.num_before_M]
        influence_N[ranks.positive_P] += gain_P - loss_P + (precision_P - ap) / num_positives
    if not rows:
        raise UnsuitableDataset("image retrieval needs a class with two images, or a query with a positive")
    query_Q, ap_Q, trapezoid_ap_Q, first_rank_Q, precision_QK, nearest_Q = map(np.array, zip(*rows, strict=True))
    return ImageRetrievalResult(
        query_Q,
        ap_Q,
        trapezoid_ap_Q,
        first_rank_Q,
        precision_QK,
        nearest_Q,
        influence_N,
        is_query_in_gallery,
        instance_N,
    )


def iter_query_ranks(
    query_QE: NDArray[np.float32], gallery_NE: NDArray[np.float32], find_relevant: Relevance
) -> Iterator[QueryRanks]:
    """Yield the ranks of each query with a positive, with the scores of a block of queries in memory.

    Raises:
        DataError: A vector contains NaN.
    """
    if not (np.isfinite(query_QE.sum()) and np.isfinite(gallery_NE.sum())):
        raise DataError("image vectors contain NaN or infinity. The model has diverged.")
    block_size = max(1, SCORES_PER_BLOCK // max(1, len(gallery_NE)))
    for start in range(0, len(query_QE), block_size):
        score_BN = query_QE[start : start + block_size] @ gallery_NE.T
        for query, score_N in enumerate(score_BN, start=start):
            positive_P, ignored_I = find_relevant(query)
            if len(positive_P):
                yield _rank_positives(query, score_N, positive_P, ignored_I)


def _rank_positives(
    query: int, score_N: NDArray[np.float32], positive_P: NDArray[np.int64], ignored_I: NDArray[np.int64]
) -> QueryRanks:
    """Rank the positives of one query; `score_N` is overwritten."""
    score_N[ignored_I] = -np.inf
    positive_P = positive_P[np.argsort(-score_N[positive_P], kind="stable")]
    threshold_P = score_N[positive_P] - TIE_TOLERANCE
    score_N[positive_P] = -np.inf
    other_M = np.flatnonzero(score_N >= threshold_P[-1])
    num_before_M = np.searchsorted(-threshold_P, -score_N[other_M], side="left")
    num_others_P = np.bincount(num_before_M, minlength=len(positive_P)).cumsum()
    rank_P = np.arange(1, len(positive_P) + 1) + num_others_P
    nearest = positive_P[0] if rank_P[0] == 1 else other_M[score_N[other_M].argmax()]
    return QueryRanks(query, rank_P, int(nearest), positive_P, other_M, num_before_M)


def _number(key_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each key, or row of keys, among the distinct ones."""
    number_N: NDArray[np.int64] = np.unique(key_N, axis=0, return_inverse=True)[1].ravel()
    return number_N


def _score_by_variance(value: float, variance: float, n: int, *, num_trials: int) -> Score:
    """Return a mean of values in [0, 1] with Wilson's interval for as many trials as have the same variance.

    Args:
        num_trials: Number of trials if the values are equal, so that their variance is unknown.
    """
    low, high = wilson_interval(value, value * (1 - value) / variance if variance > 0 else float(num_trials))
    return Score(value, low, high, n)
