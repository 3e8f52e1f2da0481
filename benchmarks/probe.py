"""What does the search for the linear probe's λ take, and does it find what scikit-learn's cold fits find?

    python benchmarks/probe.py [--examples 10000] [--width 512] [--classes 100] [--peer 1e2 1 1e-2]

The whole of `linear_probe` (search, refit, test set) is timed once. Then, at three λ that every search tries, come our
fit from zero and scikit-learn's LogisticRegression from zero, in float64: with its default tolerance and the paper's
1000 iterations, and sought to the end. Each has its seconds and iterations, its accuracy on the validation set, and the
objective it reached (the mean loss with its penalty, in float64; lower is nearer to the optimum). Seconds of the
processor stand beside those of the clock, for a machine that has other work. The vectors are made up: classes overlap,
lengths of axes fall by a power law, a few axes lie far from the origin. One row goes to results/probe.jsonl.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from receipt import keep
from zebra.protocols.linear_probe import LogisticSolver, fit_linear_probe
from zebra.values import Embeddings

Made = TypeVar("Made")


def timed(make: Callable[[], Made]) -> tuple[Made, dict[str, float]]:
    """Call once; return what it made, and what it took."""
    began, spent = time.perf_counter(), time.process_time()
    made = make()
    return made, {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time() - spent, 1),
    }


def vectors(num: int, width: int, classes: int, seed: int) -> Embeddings:
    """Make labelled vectors of one world, other ones for each seed."""
    world, own = np.random.default_rng(0), np.random.default_rng(seed)
    length_D = np.arange(1, width + 1) ** -0.6
    turn_DD = np.linalg.qr(world.normal(size=(width, width)))[0]
    centre_CD = world.normal(size=(classes, width)) * length_D**1.5
    away_D = world.normal(size=width) * np.where(np.arange(width) < 3, 10, 0.5)
    label_N = own.integers(0, classes, num)
    vector_ND = (centre_CD[label_N] + own.normal(size=(num, width)) * length_D) @ turn_DD * 3 + away_D
    return Embeddings(vector_ND.astype(np.float32), tuple(map(str, range(num))), label_N)


def objective(
    weight_CD: NDArray[np.float64], bias_C: NDArray[np.float64], train: Embeddings, penalty: float
) -> float:
    """Return the mean loss with its penalty, in float64."""
    logit_NC = train.vectors.astype(np.float64) @ weight_CD.T + bias_C
    loss = (logsumexp(logit_NC, axis=1) - logit_NC[np.arange(len(logit_NC)), train.labels]).mean()
    return float(loss + penalty / 2 * (weight_CD**2).sum() / len(logit_NC))


def main() -> None:
    """Time the search, then the peer at the same penalties."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument(
        "--peer", type=float, nargs="+", default=[1e2, 1, 1e-2], help="λ, of 1e6, 1e4, … 1e-6"
    )
    told = parser.parse_args()
    train, validation, test = (
        vectors(num, told.width, told.classes, seed)
        for seed, num in ((1, told.examples), (2, 2000), (3, 5000))
    )
    before = high_water_mib()
    found, seconds = timed(lambda: fit_linear_probe(train, test, told.classes, validation=validation))
    row: dict[str, Any] = {
        "examples": told.examples,
        "width": told.width,
        "classes": told.classes,
        "search": seconds
        | {
            "extra_mib": round(high_water_mib() - before),
            "fits": len(found.trials) + 1,
            "iterations": sum(trial.num_iterations for trial in found.trials) + found.probe.num_iterations,
            "stopped": found.num_unconverged,
            "penalty": found.probe.l2_penalty,
            "top1": found.result.scores()["top1"].value,
        },
        "load": round(os.getloadavg()[0], 1),
        "fits": [],
    }
    print(row, flush=True)
    fits = LogisticSolver(train.vectors, train.labels, told.classes)
    for penalty in told.peer:
        warm = next(trial for trial in found.trials if np.isclose(trial.l2_penalty, penalty))
        ours, seconds = timed(lambda penalty=penalty: fits.fit(penalty))
        accuracy, _ = ours.evaluate(validation)
        entry: dict[str, Any] = {
            "penalty": penalty,
            "warm": {"iterations": warm.num_iterations, "accuracy": warm.accuracy},
            "ours": seconds
            | {
                "iterations": ours.num_iterations,
                "accuracy": accuracy,
                "objective": objective(ours.weight_CD, ours.bias_C, train, penalty),
            },
        }
        for name, limits in (
            ("default", {"max_iter": 1000}),
            ("to the end", {"max_iter": 10_000, "tol": 1e-7}),
        ):
            model = LogisticRegression(C=1 / penalty, **limits)
            theirs, seconds = timed(
                lambda model=model: model.fit(train.vectors.astype(np.float64), train.labels)
            )
            apart = np.linalg.norm(ours.weight_CD - theirs.coef_) / np.linalg.norm(theirs.coef_)
            entry[f"scikit-learn, {name}"] = seconds | {
                "iterations": int(theirs.n_iter_[0]),
                "accuracy": theirs.score(validation.vectors.astype(np.float64), validation.labels),
                "objective": objective(theirs.coef_, theirs.intercept_, train, penalty),
                "weights_apart": round(float(apart), 5),
            }
        row["fits"].append(entry)
        print(entry, flush=True)
    keep("probe", row)


def high_water_mib() -> float:
    """Return the most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
