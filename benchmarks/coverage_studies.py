"""Cases for studies over several runs, datasets or people."""

from collections.abc import Iterator

import numpy as np
from scipy.special import expit

from coverage_cases import Case, IntervalCase, TestCase
from zebra.protocols.few_shot import ProbeCorrelation, correlate_with_probe
from zebra.protocols.human import HumanAnswer, evaluate_humans
from zebra.protocols.metrics import proportion
from zebra.protocols.overlap import OverlapScores, evaluate_overlap
from zebra.protocols.robustness import ShiftRobustness, evaluate_robustness
from zebra.protocols.scaling import fit_law_with_limit, fit_power_law
from zebra.values import Score


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    yield from _robustness_cases()
    yield from _overlap_cases()
    yield from _correlation_cases()
    yield from _scaling_cases()
    yield from _human_cases()


def _robustness_cases() -> Iterator[Case]:
    for num_models, scatter, n in ((3, 0.1, 2000), (5, 0.1, 2000), (10, 0.1, 10_000), (30, 0.1, 10_000)):
        settings = f"{num_models} references, {n:,} images"
        sizes = num_models, scatter, n

        def effective(seed: int, s: tuple[int, float, int] = sizes) -> Score:
            return _robustness(*s, seed)[1].effective_robustness["m"]

        def relative(seed: int, s: tuple[int, float, int] = sizes) -> Score:
            truth, shift = _robustness(*s, seed)
            score = shift.relative_robustness["m"]
            return Score(score.value - truth, score.low - truth, score.high - truth, score.n)

        yield IntervalCase("effective robustness", settings, 0.05, effective)
        yield IntervalCase("relative robustness", settings, 0.0, relative)


def _robustness(num_models: int, scatter: float, n: int, seed: int) -> tuple[float, ShiftRobustness]:
    """Return the true relative robustness of "m", whose effective robustness is 0.05, and the evaluation."""
    rng = np.random.default_rng(seed)

    def draw(accuracy: float) -> Score:
        return proportion(int(rng.binomial(n, accuracy)), n)

    x_M = rng.uniform(-1, 2, num_models)
    y_M = 0.9 * x_M - 0.6 + scatter * rng.normal(size=num_models)
    accuracies = {
        f"r{m}": {"standard": draw(float(expit(x_M[m]))), "shifted": draw(float(expit(y_M[m])))}
        for m in range(num_models)
    }
    x = rng.uniform(-0.5, 1.5)
    shifted = float(expit(0.9 * x - 0.6)) + 0.05
    accuracies["m"] = {"standard": draw(float(expit(x))), "shifted": draw(shifted)}
    references = [f"r{m}" for m in range(num_models)]
    return shifted - float(expit(y_M[0])), evaluate_robustness(accuracies, "standard", references, "r0")[0]


def _overlap_cases() -> Iterator[Case]:
    for num_clean, num_overlap in ((10_000, 300), (1000, 300), (300, 300), (1000, 30)):
        settings = f"{num_clean:,} clean and {num_overlap} overlapping images, accuracy 0.7"

        def draw(seed: int, sizes: tuple[int, int] = (num_clean, num_overlap)) -> OverlapScores:
            correct_N = np.random.default_rng(seed).random(sum(sizes)) < 0.7
            return evaluate_overlap(correct_N, np.arange(sum(sizes)) >= sizes[0])

        yield TestCase("overlap, binomial", settings, lambda seed, draw=draw: draw(seed).binomial_p_value)
        yield TestCase("overlap, Fisher", settings, lambda seed, draw=draw: draw(seed).fisher_p_value)


def _correlation_cases() -> Iterator[Case]:
    for num_datasets, correlation in ((8, 0.8), (15, 0.0), (27, 0.82), (27, 0.0)):
        covariance = [[1, correlation], [correlation, 1]]
        # Accuracies are transformed logits; the correlation of the accuracies is that of a large sample.
        population = expit(np.random.default_rng(10**6).multivariate_normal([0, 0], covariance, 10**6))
        settings = f"{num_datasets} datasets, correlation {correlation}"

        def draw(seed: int, n: int = num_datasets, covariance: list[list[float]] = covariance) -> ProbeCorrelation:
            accuracy_N2 = expit(np.random.default_rng(seed).multivariate_normal([0, 0], covariance, n))
            zero_shot, probe = ({str(i): Score(v, v, v, 1) for i, v in enumerate(column)} for column in accuracy_N2.T)
            return correlate_with_probe(zero_shot, probe)

        r = float(np.corrcoef(population.T)[0, 1])
        slope = r * population[:, 0].std() / population[:, 1].std()
        yield IntervalCase("correlation", settings, r, lambda seed, draw=draw: draw(seed).r)
        yield IntervalCase("slope", settings, float(slope), lambda seed, draw=draw: draw(seed).slope)
        if correlation == 0:
            yield TestCase("correlation", settings, lambda seed, draw=draw: draw(seed).p_value)


def _scaling_cases() -> Iterator[Case]:
    for num_runs, noise in ((3, 0.05), (5, 0.05), (8, 0.1)):
        compute_N = np.geomspace(1, 44, num_runs)

        def draw(seed: int, compute_N=compute_N, noise: float = noise, limit: float = 0.0):
            error_N = (limit + 0.5 * compute_N**-0.3) * np.exp(
                noise * np.random.default_rng(seed).normal(size=len(compute_N))
            )
            return compute_N.tolist(), np.minimum(error_N, 1.0).tolist()

        settings = f"{num_runs} runs, scatter {noise}"
        yield IntervalCase(
            "power law, exponent", settings, -0.3, lambda seed, draw=draw: fit_power_law(*draw(seed)).exponent
        )
        if num_runs >= 5:
            for name in ("exponent", "irreducible_error"):
                truth = {"exponent": -0.3, "irreducible_error": 0.1}[name]
                yield IntervalCase(
                    f"law with a limit, {name.replace('_', ' ')}", f"{2 * num_runs} runs, scatter {noise / 5}", truth,
                    lambda seed, draw=draw, name=name, n=num_runs, noise=noise: getattr(
                        fit_law_with_limit(*draw(seed, np.geomspace(1, 2000, 2 * n), noise / 5, 0.1)), name
                    ),
                )  # fmt: skip


def _human_cases() -> Iterator[Case]:
    for num_classes, images_per_class, num_people in ((37, 10, 5), (37, 3, 5), (10, 20, 3), (5, 40, 1)):
        accuracy_C = np.linspace(0.4, 0.9, num_classes)
        labels = {f"{n}": n % num_classes for n in range(num_classes * images_per_class)}

        def draw(seed: int, labels=labels, accuracy_C=accuracy_C, num_people: int = num_people) -> Score:
            rng = np.random.default_rng(seed)
            answers = []
            for image, label in labels.items():
                chance = rng.beta(2 * accuracy_C[label], 2 * (1 - accuracy_C[label]))
                for person in range(num_people):
                    wrong = (label + 1) % len(accuracy_C)
                    answers.append(HumanAnswer(str(person), image, label if rng.random() < chance else wrong, 0))
            return evaluate_humans(answers, labels, 0, seed).accuracy

        settings = f"{num_classes} classes of {images_per_class} images, {num_people} people"
        yield IntervalCase("accuracy of people", settings, float(accuracy_C.mean()), draw)
