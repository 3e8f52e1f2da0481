"""Linear probes for datasets with several labels per image (CLIP App. A.3).

As the paper does on PASCAL VOC 2007: one logistic regression per class, with the same λ for all classes.
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
"""One in this many examples is held out to select λ."""


@dataclass(frozen=True, slots=True)
class MultilabelProbeResult:
    """Scores of the probes with the selected penalty."""

    l2_penalty: float
    result: MultilabelResult
    """Logits on the test set."""
    num_unconverged: int
    """Number of final fits that stopped at the iteration limit."""


def fit_multilabel_probe(
    train: Embeddings,
    train_label_NC: NDArray[np.bool_],
    test: Embeddings,
    test_label_NC: NDArray[np.bool_],
    *,
    is_validation_N: NDArray[np.bool_] | None = None,
    num_points: int | None = None,
    seed: int = 0,
) -> MultilabelProbeResult:
    """Select one λ for all classes, refit each class on all examples, score the test set once.

    The validation examples select λ by mean average precision. Classes that are present in all or none of them do not
    count.

    Args:
        train: Vectors [N, D]; the paper uses the features before the projection.
        train_label_NC: Whether each class is present in each image, bool.
        test: Vectors of other images.
        test_label_NC: Whether each class is present in each test image, bool.
        is_validation_N: Which of the N examples are of the validation split; None: a random fifth.
        num_points: Recall levels of the mean average precision that selects λ: 11 for VOC 2007.
        seed: Seed of the held-out examples.

    Raises:
        DataError: Fewer than five examples, vectors with NaN or infinity, or a class that is present in all or none
            of the examples.
        ShapeError: The splits differ in vector dimension or classes, or labels do not have the shape [N, C].
    """
    _check_inputs(train, train_label_NC, test, test_label_NC)
    if is_validation_N is None:
        is_validation_N = np.zeros(len(train_label_NC), dtype=np.bool_)
        order_N = np.random.default_rng(seed).permutation(len(train_label_NC))
        is_validation_N[order_N[: len(order_N) // _VALIDATION_DIVISOR]] = True
    validation_ND, validation_label_NC = train.vectors[is_validation_N], train_label_NC[is_validation_N]
    solvers = _PerClassSolvers(train.vectors[~is_validation_N], train_label_NC[~is_validation_N])
    probes: dict[float, list[LogisticProbe]] = {}

    def evaluate(penalty: float) -> tuple[float, float]:
        stronger = min((other for other in probes if other > penalty), default=None)
        probes[penalty] = solvers.fit(penalty, None if stronger is None else probes[stronger])
        precision_C = average_precisions(
            _compute_logits(probes[penalty], validation_ND), validation_label_NC, num_points=num_points
        )
        return float(np.nanmean(precision_C)), 0.0

    with np.errstate(invalid="ignore"):
        penalty = search_l2_penalty(evaluate)
    final = _PerClassSolvers(train.vectors, train_label_NC).fit(penalty, probes[penalty])
    result = MultilabelResult(score_NC=_compute_logits(final, test.vectors), label_NC=test_label_NC)
    return MultilabelProbeResult(penalty, result, sum(probe.is_unconverged for probe in final))


class _PerClassSolvers:
    """One solver per class on the same vectors."""

    def __init__(self, vector_ND: NDArray[np.float32], label_NC: NDArray[np.bool_]) -> None:
        label_CN = label_NC.T.astype(np.int64)
        first = LogisticSolver(vector_ND, label_CN[0], 2)
        self.solvers = [first.with_labels(label_N, 2) for label_N in label_CN]

    def fit(self, l2_penalty: float, init: list[LogisticProbe] | None) -> list[LogisticProbe]:
        inits: Sequence[LogisticProbe | None] = init or [None] * len(self.solvers)
        return [solver.fit(l2_penalty, class_init) for solver, class_init in zip(self.solvers, inits, strict=True)]


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
            f"training vectors {train.vectors.shape} with {train_label_NC.shape[1]} classes and test vectors "
            f"{test.vectors.shape} with {test_label_NC.shape[1]} classes do not match. Use one model and one dataset."
        )
    for images, label_NC, split in ((train, train_label_NC, "training"), (test, test_label_NC, "test")):
        if label_NC.dtype != np.bool_ or len(label_NC) != len(images.vectors):
            raise ShapeError(
                f"labels of the {split} split must be bool [N, C] for {len(images.vectors)} images; got "
                f"{label_NC.dtype} {label_NC.shape}"
            )
        if not np.isfinite(images.vectors.sum(dtype=np.float64)):
            raise DataError(f"vectors of the {split} split contain NaN or infinity. The model has diverged.")
    if len(train_label_NC) < _VALIDATION_DIVISOR:
        raise DataError(
            f"a linear probe needs at least {_VALIDATION_DIVISOR} training examples; got {len(train_label_NC)}"
        )
    fraction_C = train_label_NC.mean(axis=0)
    if len(one_sided := np.flatnonzero((fraction_C == 0) | (fraction_C == 1))):
        raise DataError(
            f"{len(one_sided)} classes are present in all or none of the training examples, such as class "
            f"{one_sided[0]} in {'all' if fraction_C[one_sided[0]] else 'none'}. A probe needs examples with and "
            "without each class."
        )
