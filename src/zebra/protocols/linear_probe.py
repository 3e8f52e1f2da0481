"""Labelled vectors in, a linear probe with its penalty, its search and its outcome on the test set out (CLIP App. A.3).

The probe is multinomial logistic regression. Its penalty λ is the one of the sum: the fit minimises
Σ_N cross-entropy + λ/2 ‖W‖², intercepts free, which is scikit-learn's objective at C = 1/λ (of two classes, ‖w₁ − w₂‖²
takes the place of ‖W‖², there as here). λ is one of 97 values, 8 to a decade from 1e-6 to 1e6, found on a validation
set by the paper's parametric binary search.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from zebra.errors import DataError, ShapeError
from zebra.protocols.metrics import top_k_classes
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Embeddings

MAX_PENALTY_STEP, STEPS_PER_DECADE = 96, 8
MAX_ITERATIONS = 1000
GRADIENT_TOLERANCE = 1e-6
"""Of the gradient of the mean loss, where the curvature at zero is 1."""
VECTORS_PER_BLOCK = 1024
"""Vectors at once: their logits stay in the processor's cache, and memory does not grow with N · C."""


@dataclass(frozen=True, slots=True)
class LogisticProbe:
    """A linear classifier, and how it was fitted."""

    weight_CD: NDArray[np.float64]
    bias_C: NDArray[np.float64]
    l2_penalty: float
    num_iterations: int
    is_unconverged: bool
    """Whether the fit ended at the limit of 1000 iterations, short of its optimum."""

    def classify(self, images: Embeddings) -> ClassificationResult:
        """Rank the classes of every labelled image; ties go to the class named first."""
        classes, n = len(self.bias_C), len(images.vectors)
        kept = min(5, classes)
        ranked_NK = np.empty((n, kept), dtype=np.int64)
        margin_N = np.empty(n, dtype=np.float32) if classes == 2 else None
        for block, logit_BC in self._iter_logits(images.vectors):
            ranked_NK[block] = top_k_classes(logit_BC.astype(np.float32), kept)
            if margin_N is not None:
                margin_N[block] = logit_BC[:, 1] - logit_BC[:, 0]
        return ClassificationResult(ranked_NK, _require_labels(images), classes, margin_N)

    def evaluate(self, images: Embeddings) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy."""
        label_N, correct, loss = _require_labels(images), 0, 0.0
        for block, logit_BC in self._iter_logits(images.vectors):
            label_B = label_N[block]
            correct += int((logit_BC.argmax(axis=1) == label_B).sum())
            loss += float((logsumexp(logit_BC, axis=1) - logit_BC[np.arange(len(label_B)), label_B]).sum())
        return correct / len(label_N), loss / len(label_N)

    def _iter_logits(self, vector_ND: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for block in _iter_blocks(len(vector_ND)):
            yield block, vector_ND[block] @ self.weight_CD.T + self.bias_C


@dataclass(frozen=True, slots=True)
class PenaltyTrial:
    """One λ of the search, judged on the validation set."""

    l2_penalty: float
    accuracy: float
    loss: float
    """Mean cross-entropy."""
    num_iterations: int
    is_unconverged: bool


@dataclass(frozen=True, slots=True)
class LinearProbeResult:
    """The probe that the search led to."""

    probe: LogisticProbe
    """Fitted to training and validation set together, with the best λ."""
    trials: tuple[PenaltyTrial, ...]
    """In the order tried."""
    result: ClassificationResult
    """On the test set, which nothing else has seen; its scores are those of zero-shot."""
    absent_classes: tuple[int, ...]
    """Classes without an example: none is ever predicted."""

    @property
    def num_unconverged(self) -> int:
        """How many fits, of all trials and the last, ended at the limit of iterations."""
        return sum(trial.is_unconverged for trial in self.trials) + self.probe.is_unconverged


class LogisticSolver:
    """Fits to one set of labelled vectors, for one λ after another.

    The vectors are centred and turned to their principal axes once. There the curvature of the loss at zero weights
    is diagonal, and with each weight measured in units of its own it is 1: L-BFGS then takes tens of iterations
    where the vectors as they come take hundreds. The optimum is the same, since turning leaves ‖W‖ and the free
    intercepts take up the mean. Axes along which no vector differs have no weight there, and are left out.

    Differs: scikit-learn's solver, which the paper used, works on the vectors as they come. Where λ is so weak that
    neither reaches the optimum, the two stop at different places.

    Args:
        vector_ND: float32, of any length.
        label_N: Class indices in [0, classes).
    """

    def __init__(self, vector_ND: NDArray[np.float32], label_N: NDArray[np.int64], num_classes: int) -> None:
        n, width = vector_ND.shape
        self.label_N, self.num_classes = label_N, num_classes
        self.mean_D = vector_ND.mean(axis=0, dtype=np.float64)
        if n < width:
            _, size_A, axis_AD = np.linalg.svd(vector_ND - self.mean_D, full_matrices=False)
            spread_A, axis_DA = size_A**2, axis_AD.T
        else:
            gram_DD = np.zeros((width, width))
            for block in _iter_blocks(n):
                centred_BD = vector_ND[block] - self.mean_D
                gram_DD += centred_BD.T @ centred_BD
            spread_A, axis_DA = np.linalg.eigh(gram_DD)
        real = spread_A > spread_A.max() * max(n, width) * np.finfo(np.float64).eps
        self.eigenvalue_A, self.component_DA = spread_A[real], axis_DA[:, real]
        # Half the memory and twice the speed of float64; sums over vectors and the weights are in float64.
        self.projected_NA = np.empty((n, len(self.eigenvalue_A)), dtype=np.float32)
        for block in _iter_blocks(n):
            self.projected_NA[block] = (vector_ND[block] - self.mean_D) @ self.component_DA

    def with_labels(self, label_N: NDArray[np.int64], num_classes: int) -> "LogisticSolver":
        """Return fits of other labels to the same vectors, which are not turned again."""
        other = copy(self)
        other.label_N, other.num_classes = label_N, num_classes
        return other

    def fit(self, l2_penalty: float, init: LogisticProbe | None = None) -> LogisticProbe:
        """Return the optimum for λ = `l2_penalty`, sought from zero or from `init`, a probe of a neighbouring λ."""
        n, axes = self.projected_NA.shape
        # Of two classes scikit-learn penalises the difference of the weights, whose square is 2 ‖W‖².
        pull = 2 * l2_penalty if self.num_classes == 2 else l2_penalty
        # Square roots of the curvature of the mean loss at zero; the intercept, last, has no penalty.
        unit_A1 = np.sqrt(np.append(self.eigenvalue_A / self.num_classes + pull, n / self.num_classes) / n)
        weight_CA1 = np.zeros((self.num_classes, axes + 1))
        if init is not None:
            weight_CA1[:, :axes] = init.weight_CD @ self.component_DA
            weight_CA1[:, axes] = init.bias_C + init.weight_CD @ self.mean_D

        def objective(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weight_CA1 = scaled.reshape(self.num_classes, -1) / unit_A1
            loss, slope_CA1 = self._loss_and_gradient(weight_CA1.astype(np.float32))
            loss += pull / 2 * float((weight_CA1[:, :axes] ** 2).sum())
            slope_CA1[:, :axes] += pull * weight_CA1[:, :axes]
            return loss / n, (slope_CA1 / unit_A1).ravel() / n

        # scipy's steps are many tiny products: threads that meet for each of them made a fit up to 17 times as long.
        with threadpool_limits(1, "blas"):
            found = minimize(
                objective,
                (weight_CA1 * unit_A1).ravel(),
                jac=True,
                method="L-BFGS-B",
                # ftol: what float32 resolves of the mean loss; below it, the line search would chase rounding.
                options={
                    "maxiter": MAX_ITERATIONS,
                    "maxfun": 20 * MAX_ITERATIONS,
                    "gtol": GRADIENT_TOLERANCE,
                    "ftol": 1e-9,
                },
            )
        weight_CA1 = found.x.reshape(self.num_classes, -1) / unit_A1
        weight_CD = weight_CA1[:, :axes] @ self.component_DA.T
        bias_C = weight_CA1[:, axes] - weight_CD @ self.mean_D
        return LogisticProbe(weight_CD, bias_C, l2_penalty, int(found.nit), found.status == 1)

    def _loss_and_gradient(self, weight_CA1: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """Return the sum of the cross-entropies and its gradient [C, A + 1]."""
        weight_AC, bias_C = weight_CA1[:, :-1].T, weight_CA1[:, -1]
        loss, slope_CA1 = 0.0, np.zeros(weight_CA1.shape)
        for block in _iter_blocks(len(self.label_N)):
            turned_BA, label_B = self.projected_NA[block], self.label_N[block]
            rows = np.arange(len(label_B))
            share_BC = turned_BA @ weight_AC + bias_C
            share_BC -= share_BC.max(axis=1, keepdims=True)
            loss -= float(share_BC[rows, label_B].sum(dtype=np.float64))
            np.exp(share_BC, out=share_BC)
            total_B1 = share_BC.sum(axis=1, keepdims=True)
            loss += float(np.log(total_B1).sum(dtype=np.float64))
            share_BC /= total_B1
            share_BC[rows, label_B] -= 1
            slope_CA1[:, :-1] += share_BC.T @ turned_BA
            slope_CA1[:, -1] += share_BC.sum(axis=0, dtype=np.float64)
        return loss, slope_CA1


def fit_linear_probe(
    train: Embeddings,
    test: Embeddings,
    num_classes: int,
    *,
    validation: Embeddings | None = None,
    seed: int = 0,
) -> LinearProbeResult:
    """Find λ on the validation set, fit to training and validation set together, rank the test set once.

    The search tries λ = 1e6, 1e4, … 1e-6, then goes four times to both sides of the best, at half the distance each
    time. Fits start from the next stronger λ. Of equal accuracies, which small sets often have, the one of the lower
    validation loss is the better; the paper says nothing of ties.

    Args:
        train: Labelled vectors; the paper takes the features before the projection, not of unit length.
        test: The same, from other pictures.
        num_classes: How many there are; labels are in [0, classes).
        validation: The data set's own validation split. None: a fifth of each class of `train`, drawn by `seed`.
        seed: Of that draw.

    Raises:
        DataError: A set is empty, without labels, with labels outside the classes or with NaN or infinite vectors;
            or the training set has one class only, or too few examples to hold any out.
        ShapeError: Vectors of different widths.
    """
    check_embeddings(train, "training", num_classes)
    check_embeddings(test, "test", num_classes, dim=train.vectors.shape[1])
    if validation is None:
        train, validation = hold_out_validation(train, seed)
    else:
        check_embeddings(validation, "validation", num_classes, dim=train.vectors.shape[1])
    check_two_classes(train)
    fits = LogisticSolver(train.vectors, _require_labels(train), num_classes)
    probes: dict[float, LogisticProbe] = {}
    trials: list[PenaltyTrial] = []

    def attempt(penalty: float) -> tuple[float, float]:
        stronger = min((tried for tried in probes if tried > penalty), default=None)
        start = None if stronger is None else probes[stronger]
        probes[penalty] = probe = fits.fit(penalty, start)
        trials.append(
            PenaltyTrial(
                probe.l2_penalty, *probe.evaluate(validation), probe.num_iterations, probe.is_unconverged
            )
        )
        return trials[-1].accuracy, -trials[-1].loss

    chosen = probes[search_l2_penalty(attempt)]
    both = _concatenate(train, validation)
    probe = LogisticSolver(both.vectors, _require_labels(both), num_classes).fit(chosen.l2_penalty, chosen)
    absent = np.setdiff1d(np.arange(num_classes), _require_labels(both))
    return LinearProbeResult(probe, tuple(trials), probe.classify(test), tuple(absent.tolist()))


def search_l2_penalty(evaluate: Callable[[float], tuple[float, float]]) -> float:
    """Return the best of 97 values of λ by the paper's parametric binary search; the first of equally good ones.

    Args:
        evaluate: λ → how good it is, the larger the better. λ is tried from 1e6 downwards, each at most once.
    """
    tried: dict[int, tuple[float, float]] = {}

    def best() -> int:
        return max(tried, key=lambda step: tried[step])

    def penalty(step: int) -> float:
        return float(10.0 ** (step / STEPS_PER_DECADE - 6))

    for step in range(MAX_PENALTY_STEP, -1, -16):
        tried[step] = evaluate(penalty(step))
    for reach in (8, 4, 2, 1):
        peak = best()
        for step in (peak + reach, peak - reach):
            if 0 <= step <= MAX_PENALTY_STEP:
                tried[step] = evaluate(penalty(step))
    return penalty(best())


def hold_out_validation(images: Embeddings, seed: int) -> tuple[Embeddings, Embeddings]:
    """Split off a fifth of each class, and at least one example where there are two or more.

    Raises:
        DataError: No class has two examples.
    """
    rng, label_N = np.random.default_rng(seed), _require_labels(images)
    held = np.zeros(len(label_N), dtype=np.bool_)
    for label in np.unique(label_N):
        rows = np.flatnonzero(label_N == label)
        if len(rows) > 1:
            held[rng.choice(rows, max(1, len(rows) // 5), replace=False)] = True
    if not held.any():
        raise DataError("no class has a second example to choose the penalty by; pass a validation set")
    return select(images, np.flatnonzero(~held)), select(images, np.flatnonzero(held))


def select(images: Embeddings, indices: NDArray[np.int64]) -> Embeddings:
    """Return some of the labelled images."""
    ids = tuple(images.ids[row] for row in indices)
    return replace(images, vectors=images.vectors[indices], ids=ids, labels=_require_labels(images)[indices])


def check_embeddings(images: Embeddings, split: str, num_classes: int, dim: int | None = None) -> None:
    """Refuse a set that a probe cannot be fitted to or judged on.

    Raises:
        DataError: The set is empty, without labels, with labels outside the classes or with NaN or infinite vectors.
        ShapeError: Its vectors are not `dim` wide.
    """
    if images.labels is None or not len(images.labels):
        raise DataError(f"the {split} set has no labelled images; a probe needs a label for each")
    if dim is not None and images.vectors.shape[1] != dim:
        raise ShapeError(
            f"the {split} set has vectors of {images.vectors.shape[1]} numbers, the training set of {dim}; "
            "encode both with one model"
        )
    outside = np.flatnonzero((images.labels < 0) | (images.labels >= num_classes))
    if len(outside):
        first = outside[0]
        raise DataError(
            f"{images.ids[first]} of the {split} set has label {images.labels[first]}, one of {len(outside)} outside "
            f"the {num_classes} classes (0 to {num_classes - 1}); the class names are of another set"
        )
    # Any NaN or infinity reaches the sum of its row.
    broken = np.flatnonzero(~np.isfinite(images.vectors.sum(axis=1, dtype=np.float64)))
    if len(broken):
        raise DataError(
            f"the vector of {images.ids[broken[0]]} in the {split} set, one of {len(broken)}, holds NaN or infinity; "
            "the model that made them diverged"
        )


def check_two_classes(train: Embeddings) -> None:
    """Refuse a training set of one class.

    Raises:
        DataError: There are not two classes to tell apart.
    """
    found = np.unique(_require_labels(train))
    if len(found) < 2:
        raise DataError(
            f"all {len(train.vectors)} training examples are of class {found[0]}; a probe needs at least two classes"
        )


def _require_labels(images: Embeddings) -> NDArray[np.int64]:
    assert images.labels is not None
    return images.labels


def _concatenate(first: Embeddings, second: Embeddings) -> Embeddings:
    return replace(
        first,
        vectors=np.concatenate([first.vectors, second.vectors]),
        ids=first.ids + second.ids,
        labels=np.concatenate([_require_labels(first), _require_labels(second)]),
    )


def _iter_blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + VECTORS_PER_BLOCK) for start in range(0, n, VECTORS_PER_BLOCK))
