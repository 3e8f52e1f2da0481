"""Time and result of the linear probe's search for λ, compared with scikit-learn.

    python benchmarks/probe.py [--examples 10000] [--width 512] [--classes 100] [--penalties 1e2 1 1e-2]

`fit_linear_probe` (search, refit, test) is timed once. Then, at three λ that every search tries, zebra's solver and
scikit-learn's LogisticRegression are fitted from zero. scikit-learn runs in float64, with its default tolerance and
the paper's 1000 iterations, and until convergence. Each fit has its seconds and iterations, its accuracy on the
validation set, and its objective (the mean loss with the penalty, in float64; lower is nearer to the optimum).
Processor seconds are given too, for a busy machine. The vectors are synthetic: classes overlap, the lengths of axes
follow a power law, and a few axes are far from the origin. One row goes to results/probe.jsonl.
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

from receipt import save_row
from zebra.protocols.linear_probe import LogisticSolver, fit_linear_probe
from zebra.values import Embeddings

Result = TypeVar("Result")


def timed(call: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """Return the result of a call, and its seconds."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = call()
    return result, {
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - cpu_start, 1),
    }


def vectors(num: int, width: int, classes: int, seed: int) -> Embeddings:
    """Return labeled vectors of the same distribution, different for each seed."""
    shared_rng, rng = np.random.default_rng(0), np.random.default_rng(seed)
    length_D = np.arange(1, width + 1) ** -0.6
    rotation_DD = np.linalg.qr(shared_rng.normal(size=(width, width)))[0]
    center_CD = shared_rng.normal(size=(classes, width)) * length_D**1.5
    offset_D = shared_rng.normal(size=width) * np.where(np.arange(width) < 3, 10, 0.5)
    label_N = rng.integers(0, classes, num)
    vector_ND = (center_CD[label_N] + rng.normal(size=(num, width)) * length_D) @ rotation_DD * 3 + offset_D
    return Embeddings(vector_ND.astype(np.float32), tuple(map(str, range(num))), label_N)


def objective(weight_CD: NDArray[np.float64], bias_C: NDArray[np.float64], train: Embeddings, penalty: float) -> float:
    """Return the mean loss with the penalty, in float64."""
    logit_NC = train.vectors.astype(np.float64) @ weight_CD.T + bias_C
    loss = (logsumexp(logit_NC, axis=1) - logit_NC[np.arange(len(logit_NC)), train.labels]).mean()
    return float(loss + penalty / 2 * (weight_CD**2).sum() / len(logit_NC))


def main() -> None:
    """Time the search, then single fits of both libraries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--penalties", type=float, nargs="+", default=[1e2, 1, 1e-2], help="λ, of 1e6, 1e4, … 1e-6")
    args = parser.parse_args()
    train, validation, test = (
        vectors(num, args.width, args.classes, seed) for seed, num in ((1, args.examples), (2, 2000), (3, 5000))
    )
    memory_before = peak_mib()
    search, seconds = timed(lambda: fit_linear_probe(train, test, args.classes, validation=validation))
    row: dict[str, Any] = {
        "examples": args.examples,
        "width": args.width,
        "classes": args.classes,
        "search": seconds
        | {
            "extra_mib": round(peak_mib() - memory_before),
            "fits": len(search.trials) + 1,
            "iterations": sum(trial.num_iterations for trial in search.trials) + search.probe.num_iterations,
            "stopped": search.num_unconverged,
            "penalty": search.probe.l2_penalty,
            "top1": search.result.scores()["top1"].value,
        },
        "load": round(os.getloadavg()[0], 1),
        "fits": [],
    }
    print(row, flush=True)
    solver = LogisticSolver(train.vectors, train.labels, args.classes)
    for penalty in args.penalties:
        warm_fit = next(trial for trial in search.trials if np.isclose(trial.l2_penalty, penalty))
        ours, seconds = timed(lambda penalty=penalty: solver.fit(penalty))
        accuracy, _ = ours.evaluate(validation)
        entry: dict[str, Any] = {
            "penalty": penalty,
            "warm": {"iterations": warm_fit.num_iterations, "accuracy": warm_fit.accuracy},
            "ours": seconds
            | {
                "iterations": ours.num_iterations,
                "accuracy": accuracy,
                "objective": objective(ours.weight_CD, ours.bias_C, train, penalty),
            },
        }
        for name, limits in (("default", {"max_iter": 1000}), ("to the end", {"max_iter": 10_000, "tol": 1e-7})):
            model = LogisticRegression(C=1 / penalty, **limits)
            theirs, seconds = timed(lambda model=model: model.fit(train.vectors.astype(np.float64), train.labels))
            difference = np.linalg.norm(ours.weight_CD - theirs.coef_) / np.linalg.norm(theirs.coef_)
            entry[f"scikit-learn, {name}"] = seconds | {
                "iterations": int(theirs.n_iter_[0]),
                "accuracy": theirs.score(validation.vectors.astype(np.float64), validation.labels),
                "objective": objective(theirs.coef_, theirs.intercept_, train, penalty),
                "weights_apart": round(float(difference), 5),
            }
        row["fits"].append(entry)
        print(entry, flush=True)
    save_row("probe", row)


def peak_mib() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
