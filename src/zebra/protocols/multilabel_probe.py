"""Vectors that carry several labels in, a linear probe for each class and its mean average precision out.

It is what CLIP App. A.3 does on PASCAL VOC 2007: one logistic regression per class, λ chosen for all of them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError
from zebra.protocols.linear_probe import LogisticProbe, LogisticSolver, search_l2_penalty
from zebra.protocols.metrics import average_precisions
from zebra.protocols.zero_shot import MultilabelResult
from zebra.values import Embeddings

_VALIDATION_DIVISOR = 5
"""One of so many examples is held out to choose λ by."""


@dataclass(frozen=True, slots=True)
class MultilabelProbeResult:
    """The probes that the search led to."""

    l2_penalty: float
    result: MultilabelResult
    """On the test set: logits as scores."""
    num_unconverged: int
    """How many of the last fits ended at the limit of iterations."""


def fit_multilabel_probe(
    train: Embeddings,
    train_label_NC: NDArray[np.bool_],
    test: Embeddings,
    test_label_NC: NDArray[np.bool_],
    *,
    num_points: int | None = None,
    seed: int = 0,
) -> MultilabelProbeResult:
    """Find one λ for all classes, fit each class to all examples, score the test set once.

    A fifth of the examples, drawn by `seed`, is held out to choose λ by mean average precision; classes without both
    kinds of examples there do not count.

    Args:
        train: Vectors [N, D], features before the projection as the paper takes them.
        train_label_NC: Which classes are in each picture, bool.
        test: The same, from other pictures.
        test_label_NC: The same.
        num_points: Of recall, for the mean average precision that λ is chosen by: 11 for VOC 2007.
        seed: Of what is held out.

    Raises:
        DataError: Fewer than five examples, vectors with NaN or infinity, or a class that all or none of the examples
            show.
        ShapeError: Vectors of different widths, or truth of another shape.
    """
    _check_inputs(train, train_label_NC, test, test_label_NC)
    held_N = np.zeros(len(train_label_NC), dtype=np.bool_)
    order_N = np.random.default_rng(seed).permutation(len(train_label_NC))
    held_N[order_N[: len(order_N) // _VALIDATION_DIVISOR]] = True
    apart_ND, judged_NC = train.vectors[held_N], train_label_NC[held_N]
    seen = _PerClassSolvers(train.vectors[~held_N], train_label_NC[~held_N])
    probes: dict[float, list[LogisticProbe]] = {}

    def attempt(penalty: float) -> tuple[float, float]:
        stronger = min((tried for tried in probes if tried > penalty), default=None)
        probes[penalty] = seen.fit(penalty, None if stronger is None else probes[stronger])
        precision_C = average_precisions(
            _compute_logits(probes[penalty], apart_ND), judged_NC, num_points=num_points
        )
        return float(np.nanmean(precision_C)), 0.0

    with np.errstate(invalid="ignore"):
        penalty = search_l2_penalty(attempt)
    final = _PerClassSolvers(train.vectors, train_label_NC).fit(penalty, probes[penalty])
    outcome = MultilabelResult(score_NC=_compute_logits(final, test.vectors), label_NC=test_label_NC)
    return MultilabelProbeResult(penalty, outcome, sum(probe.is_unconverged for probe in final))


class _PerClassSolvers:
    """Fits of every class to the same vectors."""

    def __init__(self, vector_ND: NDArray[np.float32], label_NC: NDArray[np.bool_]) -> None:
        label_CN = label_NC.T.astype(np.int64)
        first = LogisticSolver(vector_ND, label_CN[0], 2)
        self.solvers = [first.with_labels(label_N, 2) for label_N in label_CN]

    def fit(self, l2_penalty: float, init: list[LogisticProbe] | None) -> list[LogisticProbe]:
        given: Sequence[LogisticProbe | None] = init or [None] * len(self.solvers)
        return [fits.fit(l2_penalty, start) for fits, start in zip(self.solvers, given, strict=True)]


def _compute_logits(probes: list[LogisticProbe], vector_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    weight_CD = np.stack([probe.weight_CD[1] - probe.weight_CD[0] for probe in probes])
    bias_C = np.array([probe.bias_C[1] - probe.bias_C[0] for probe in probes])
    logit_NC: NDArray[np.float32] = (vector_ND @ weight_CD.T + bias_C).astype(np.float32)
    return logit_NC


def _check_inputs(
    train: Embeddings, train_label_NC: NDArray[np.bool_], test: Embeddings, test_label_NC: NDArray[np.bool_]
) -> None:
    if train.vectors.shape[1] != test.vectors.shape[1] or train_label_NC.shape[1] != test_label_NC.shape[1]:
        raise ShapeError(
            f"training vectors {train.vectors.shape} of {train_label_NC.shape[1]} classes and test vectors "
            f"{test.vectors.shape} of {test_label_NC.shape[1]} do not fit; encode both with one model, from one data set"
        )
    for images, truth_NC, name in ((train, train_label_NC, "training"), (test, test_label_NC, "test")):
        if truth_NC.dtype != np.bool_ or len(truth_NC) != len(images.vectors):
            raise ShapeError(
                f"the truth of the {name} set must be bool [N, C] for {len(images.vectors)} images, not "
                f"{truth_NC.dtype} {truth_NC.shape}"
            )
        if not np.isfinite(images.vectors.sum(dtype=np.float64)):
            raise DataError(
                f"vectors of the {name} set hold NaN or infinity; the model that made them diverged"
            )
    if len(train_label_NC) < _VALIDATION_DIVISOR:
        raise DataError(
            f"{len(train_label_NC)} training examples; a probe needs at least {_VALIDATION_DIVISOR}"
        )
    shown_C = train_label_NC.mean(axis=0)
    if len(one_sided := np.flatnonzero((shown_C == 0) | (shown_C == 1))):
        raise DataError(
            f"class {one_sided[0]}, one of {len(one_sided)}, is in {'all' if shown_C[one_sided[0]] else 'none'} of the "
            "training examples, so there is nothing to tell it by"
        )
