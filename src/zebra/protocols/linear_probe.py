"""Linear probes: logistic regression with a searched L2 penalty (CLIP App. A.3).

The fit minimizes Σ_N cross-entropy + λ/2 ‖W‖² without a penalty on the intercepts. This is scikit-learn's objective
with C = 1/λ (with two classes, both use ‖w₁ − w₂‖² instead of ‖W‖²). λ is one of 97 values from 1e-6 to 1e6, 8 per
decade, which the paper's parametric binary search selects on a validation set.
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
from zebra.protocols.metrics import class_probabilities, top_k_classes
from zebra.protocols.zero_shot import ClassificationResult
from zebra.values import Embeddings

MAX_PENALTY_STEP, STEPS_PER_DECADE = 96, 8
MAX_ITERATIONS = 1000
GRADIENT_TOLERANCE = 1e-6
"""Gradient tolerance of the mean loss, in units in which the curvature at zero is 1."""
VECTORS_PER_BLOCK = 1024
"""Vectors per block: the logits stay in the CPU cache, and memory does not grow with N · C."""


@dataclass(frozen=True, slots=True)
class LogisticProbe:
    """A linear classifier and statistics of its fit."""

    weight_CD: NDArray[np.float64]
    bias_C: NDArray[np.float64]
    l2_penalty: float
    num_iterations: int
    is_unconverged: bool
    """Whether the fit stopped at `MAX_ITERATIONS` before it converged."""

    def classify(self, images: Embeddings) -> ClassificationResult:
        """Rank the classes for every labeled image; of equal logits, the class with the lower index wins."""
        num_classes, n = len(self.bias_C), len(images.vectors)
        k = min(5, num_classes)
        ranked_NK = np.empty((n, k), dtype=np.int64)
        margin_N = np.empty(n, dtype=np.float32) if num_classes == 2 else None
        label_N, probability_N2 = _require_labels(images), np.empty((n, 2), dtype=np.float32)
        for block, logit_BC in self._iter_logits(images.vectors):
            ranked_NK[block] = top_k_classes(logit_BC.astype(np.float32), k)
            if margin_N is not None:
                margin_N[block] = logit_BC[:, 1] - logit_BC[:, 0]
            class_B2 = np.stack([ranked_NK[block, 0], label_N[block]], axis=1)
            probability_N2[block] = class_probabilities(logit_BC, class_B2)
        return ClassificationResult(ranked_NK, label_N, num_classes, margin_N, probability_N2)

    def evaluate(self, images: Embeddings) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy."""
        label_N, num_correct, loss = _require_labels(images), 0, 0.0
        for block, logit_BC in self._iter_logits(images.vectors):
            label_B = label_N[block]
            num_correct += int((logit_BC.argmax(axis=1) == label_B).sum())
            loss += float((logsumexp(logit_BC, axis=1) - logit_BC[np.arange(len(label_B)), label_B]).sum())
        return num_correct / len(label_N), loss / len(label_N)

    def _iter_logits(self, vector_ND: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for block in _iter_blocks(len(vector_ND)):
            yield block, vector_ND[block] @ self.weight_CD.T + self.bias_C


@dataclass(frozen=True, slots=True)
class PenaltyTrial:
    """One λ of the search, evaluated on the validation set."""

    l2_penalty: float
    accuracy: float
    loss: float
    """Mean cross-entropy."""
    num_iterations: int
    is_unconverged: bool


@dataclass(frozen=True, slots=True)
class LinearProbeResult:
    """The probe with the selected penalty."""

    probe: LogisticProbe
    """The probe fitted to training and validation set together with the best λ."""
    trials: tuple[PenaltyTrial, ...]
    """All trials, in order."""
    result: ClassificationResult
    """Predictions on the test set, which nothing else uses."""
    absent_classes: tuple[int, ...]
    """Classes without an example; they are never predicted."""

    @property
    def num_unconverged(self) -> int:
        """Number of fits, of all trials and the final one, that stopped at `MAX_ITERATIONS`."""
        return sum(trial.is_unconverged for trial in self.trials) + self.probe.is_unconverged


class LogisticSolver:
    """Solver for one set of labeled vectors and any number of penalties λ.

    The vectors are centered and projected onto their principal axes once. In these coordinates the curvature of the
    loss at zero weights is diagonal, and rescaling each weight makes it 1. L-BFGS then needs tens of iterations
    instead of hundreds. The optimum is the same: the rotation preserves ‖W‖, and the intercepts absorb the mean.
    Axes without variance have zero weights and are left out.

    Differs: the paper used scikit-learn, whose solver works on the original vectors. For λ so weak that neither
    solver converges, both stop at different points.

    Args:
        vector_ND: float32 vectors of any norm.
        label_N: Class indices in [0, num_classes).
        num_classes: Number of classes.
    """

    def __init__(self, vector_ND: NDArray[np.float32], label_N: NDArray[np.int64], num_classes: int) -> None:
        n, dim = vector_ND.shape
        self.label_N, self.num_classes = label_N, num_classes
        self.mean_D = vector_ND.mean(axis=0, dtype=np.float64)
        if n < dim:
            _, singular_value_A, component_AD = np.linalg.svd(vector_ND - self.mean_D, full_matrices=False)
            eigenvalue_A, component_DA = singular_value_A**2, component_AD.T
        else:
            gram_DD = np.zeros((dim, dim))
            for block in _iter_blocks(n):
                centered_BD = vector_ND[block] - self.mean_D
                gram_DD += centered_BD.T @ centered_BD
            eigenvalue_A, component_DA = np.linalg.eigh(gram_DD)
        is_nonzero_A = eigenvalue_A > eigenvalue_A.max() * max(n, dim) * np.finfo(np.float64).eps
        self.eigenvalue_A, self.component_DA = eigenvalue_A[is_nonzero_A], component_DA[:, is_nonzero_A]
        # float32 halves memory and time; the weights and all sums over vectors are float64.
        self.projected_NA = np.empty((n, len(self.eigenvalue_A)), dtype=np.float32)
        for block in _iter_blocks(n):
            self.projected_NA[block] = (vector_ND[block] - self.mean_D) @ self.component_DA

    def with_labels(self, label_N: NDArray[np.int64], num_classes: int) -> "LogisticSolver":
        """Return a solver for other labels that reuses the projected vectors."""
        other = copy(self)
        other.label_N, other.num_classes = label_N, num_classes
        return other

    def fit(self, l2_penalty: float, init: LogisticProbe | None = None) -> LogisticProbe:
        """Fit a probe with λ = `l2_penalty`, starting from zero or from `init`, a probe with a similar λ."""
        n, num_axes = self.projected_NA.shape
        # With two classes, scikit-learn penalizes the difference of the weights, whose square is 2 ‖W‖².
        effective_penalty = 2 * l2_penalty if self.num_classes == 2 else l2_penalty
        # Square roots of the curvature of the mean loss at zero. The intercept, which is last, has no penalty.
        scale_A1 = np.sqrt(
            np.append(self.eigenvalue_A / self.num_classes + effective_penalty, n / self.num_classes) / n
        )
        weight_CA1 = np.zeros((self.num_classes, num_axes + 1))
        if init is not None:
            weight_CA1[:, :num_axes] = init.weight_CD @ self.component_DA
            weight_CA1[:, num_axes] = init.bias_C + init.weight_CD @ self.mean_D

        def objective(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weight_CA1 = scaled.reshape(self.num_classes, -1) / scale_A1
            loss, gradient_CA1 = self._loss_and_gradient(weight_CA1.astype(np.float32))
            loss += effective_penalty / 2 * float((weight_CA1[:, :num_axes] ** 2).sum())
            gradient_CA1[:, :num_axes] += effective_penalty * weight_CA1[:, :num_axes]
            return loss / n, (gradient_CA1 / scale_A1).ravel() / n

        # scipy makes many tiny matrix products; synchronizing BLAS threads made fits up to 17 times slower.
        with threadpool_limits(1, "blas"):
            solution = minimize(
                objective,
                (weight_CA1 * scale_A1).ravel(),
                jac=True,
                method="L-BFGS-B",
                # ftol: resolution of the mean loss in float32; below it, the line search would follow rounding errors.
                options={
                    "maxiter": MAX_ITERATIONS,
                    "maxfun": 20 * MAX_ITERATIONS,
                    "gtol": GRADIENT_TOLERANCE,
                    "ftol": 1e-9,
                },
            )
        weight_CA1 = solution.x.reshape(self.num_classes, -1) / scale_A1
        weight_CD = weight_CA1[:, :num_axes] @ self.component_DA.T
        bias_C = weight_CA1[:, num_axes] - weight_CD @ self.mean_D
        return LogisticProbe(weight_CD, bias_C, l2_penalty, int(solution.nit), solution.status == 1)

    def _loss_and_gradient(self, weight_CA1: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """Return the sum of the cross-entropies and its gradient [C, A + 1]."""
        weight_AC, bias_C = weight_CA1[:, :-1].T, weight_CA1[:, -1]
        loss, gradient_CA1 = 0.0, np.zeros(weight_CA1.shape)
        for block in _iter_blocks(len(self.label_N)):
            projected_BA, label_B = self.projected_NA[block], self.label_N[block]
            rows = np.arange(len(label_B))
            prob_BC = projected_BA @ weight_AC + bias_C
            prob_BC -= prob_BC.max(axis=1, keepdims=True)
            loss -= float(prob_BC[rows, label_B].sum(dtype=np.float64))
            np.exp(prob_BC, out=prob_BC)
            total_B1 = prob_BC.sum(axis=1, keepdims=True)
            loss += float(np.log(total_B1).sum(dtype=np.float64))
            prob_BC /= total_B1
            prob_BC[rows, label_B] -= 1
            gradient_CA1[:, :-1] += prob_BC.T @ projected_BA
            gradient_CA1[:, -1] += prob_BC.sum(axis=0, dtype=np.float64)
        return loss, gradient_CA1


def fit_linear_probe(
    train: Embeddings, test: Embeddings, num_classes: int, *, validation: Embeddings | None = None, seed: int = 0
) -> LinearProbeResult:
    """Select λ on the validation set, refit on training and validation set together, classify the test set once.

    The search tries λ = 1e6, 1e4, … 1e-6. It then tries both neighbors of the best, four times, with half the distance
    each time. Each fit starts from the next stronger λ. Of equal accuracies, which are frequent on small datasets, the
    lower validation loss wins; the paper does not mention ties.

    Args:
        train: Labeled vectors; the paper uses the features before the projection, which are not unit vectors.
        test: Labeled vectors of other images.
        num_classes: Number of classes; labels are in [0, num_classes).
        validation: The validation split of the dataset. None: a random fifth of each class of `train`.
        seed: Seed of that random choice.

    Raises:
        DataError: A split is empty or has no labels, labels outside the classes, or vectors with NaN or infinity; or
            the training split has only one class or too few examples for a validation set.
        ShapeError: The splits differ in vector dimension.
    """
    check_embeddings(train, "training", num_classes)
    check_embeddings(test, "test", num_classes, dim=train.vectors.shape[1])
    if validation is None:
        train, validation = hold_out_validation(train, seed)
    else:
        check_embeddings(validation, "validation", num_classes, dim=train.vectors.shape[1])
    check_two_classes(train)
    solver = LogisticSolver(train.vectors, _require_labels(train), num_classes)
    probes: dict[float, LogisticProbe] = {}
    trials: list[PenaltyTrial] = []

    def evaluate(penalty: float) -> tuple[float, float]:
        stronger = min((other for other in probes if other > penalty), default=None)
        init = None if stronger is None else probes[stronger]
        probes[penalty] = probe = solver.fit(penalty, init)
        trials.append(
            PenaltyTrial(probe.l2_penalty, *probe.evaluate(validation), probe.num_iterations, probe.is_unconverged)
        )
        return trials[-1].accuracy, -trials[-1].loss

    best = probes[search_l2_penalty(evaluate)]
    combined = _concatenate(train, validation)
    probe = LogisticSolver(combined.vectors, _require_labels(combined), num_classes).fit(best.l2_penalty, best)
    absent_classes = np.setdiff1d(np.arange(num_classes), _require_labels(combined))
    return LinearProbeResult(probe, tuple(trials), probe.classify(test), tuple(absent_classes.tolist()))


def search_l2_penalty(evaluate: Callable[[float], tuple[float, float]]) -> float:
    """Return the best of 97 values of λ by the paper's parametric binary search; of equal results, the first tried.

    Args:
        evaluate: λ → quality, larger is better. Each λ is tried at most once, starting from 1e6 downwards.
    """
    quality_by_step: dict[int, tuple[float, float]] = {}

    def best() -> int:
        return max(quality_by_step, key=lambda step: quality_by_step[step])

    def penalty(step: int) -> float:
        return float(10.0 ** (step / STEPS_PER_DECADE - 6))

    for step in range(MAX_PENALTY_STEP, -1, -16):
        quality_by_step[step] = evaluate(penalty(step))
    for distance in (8, 4, 2, 1):
        center = best()
        for step in (center + distance, center - distance):
            if 0 <= step <= MAX_PENALTY_STEP:
                quality_by_step[step] = evaluate(penalty(step))
    return penalty(best())


def hold_out_validation(images: Embeddings, seed: int) -> tuple[Embeddings, Embeddings]:
    """Split off a fifth of each class, and at least one example of classes with two or more.

    Raises:
        DataError: No class has two examples.
    """
    rng, label_N = np.random.default_rng(seed), _require_labels(images)
    is_held_out_N = np.zeros(len(label_N), dtype=np.bool_)
    for label in np.unique(label_N):
        rows = np.flatnonzero(label_N == label)
        if len(rows) > 1:
            is_held_out_N[rng.choice(rows, max(1, len(rows) // 5), replace=False)] = True
    if not is_held_out_N.any():
        raise DataError("cannot hold out a validation set: no class has two examples. Pass a validation set.")
    return select(images, np.flatnonzero(~is_held_out_N)), select(images, np.flatnonzero(is_held_out_N))


def select(images: Embeddings, indices: NDArray[np.int64]) -> Embeddings:
    """Return the labeled images at the given indices."""
    ids = tuple(images.ids[row] for row in indices)
    return replace(images, vectors=images.vectors[indices], ids=ids, labels=_require_labels(images)[indices])


def check_embeddings(images: Embeddings, split: str, num_classes: int, dim: int | None = None) -> None:
    """Check that a probe can be fitted to, or evaluated on, a split.

    Raises:
        DataError: The split is empty, or has no labels, labels outside the classes, or vectors with NaN or infinity.
        ShapeError: Its vectors do not have `dim` dimensions.
    """
    if images.labels is None or not len(images.labels):
        raise DataError(f"the {split} split has no labeled images. A linear probe needs a label for every image.")
    if dim is not None and images.vectors.shape[1] != dim:
        raise ShapeError(
            f"vectors of the {split} split have {images.vectors.shape[1]} dimensions, those of the training split "
            f"{dim}. Encode both with the same model."
        )
    outside = np.flatnonzero((images.labels < 0) | (images.labels >= num_classes))
    if len(outside):
        first = outside[0]
        raise DataError(
            f"{len(outside)} labels of the {split} split are outside the {num_classes} classes (0 to "
            f"{num_classes - 1}), such as {images.labels[first]} of {images.ids[first]}. Use the class names of this "
            "dataset."
        )
    # NaN and infinity propagate to the sum of the row.
    invalid = np.flatnonzero(~np.isfinite(images.vectors.sum(axis=1, dtype=np.float64)))
    if len(invalid):
        raise DataError(
            f"{len(invalid)} vectors of the {split} split contain NaN or infinity, such as that of "
            f"{images.ids[invalid[0]]}. The model has diverged."
        )


def check_two_classes(train: Embeddings) -> None:
    """Check that a training split has at least two classes.

    Raises:
        DataError: It has only one.
    """
    labels = np.unique(_require_labels(train))
    if len(labels) < 2:
        raise DataError(
            f"all {len(train.vectors)} training examples have class {labels[0]}. A linear probe needs at least two "
            "classes."
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
