from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from zebra.report import calibration, figures, image_figures, study_figures
from zebra.values import Prediction, Score

LOG_ENTRIES = [
    {"step": step, "samples": 128 * step, "loss": 5.0 / step}
    | ({"eval": {"seen-kinds": 0.9, "unseen-kinds": 0.88}} if step % 20 == 0 else {})
    for step in range(1, 101)
]
SCORES = {"Seen kinds": Score(0.96, 0.95, 0.97, 1200), "Unseen kinds": Score(0.93, 0.91, 0.945, 1200)}
ZEBRA = "a horse with black and white stripes"
CLASSNAMES = ["plain", "striped", "checkered"]


def thumbnails(n: int) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), (30 * index, 120, 200)) for index in range(n)]


def examples() -> dict[str, Callable[[], Figure]]:
    """Return a function for every figure, with typical values."""
    better = {name: Score(score.value + 0.01, 0, 1, 9) for name, score in SCORES.items()}
    predictions = [[Prediction(ZEBRA, 0.9), Prediction("a plain horse", 0.07), Prediction("a cat", 0.03)]] * 3
    captions = ["a horse", "three spotted cats in the snow, one of them far away and facing left", "a pig"]
    cosines = np.linspace(-0.1, 0.5, 9, dtype=np.float32).reshape(3, 3)
    counts = np.array([[90, 8, 2], [0, 99, 1], [0, 0, 0]])
    return {
        "loss": lambda: figures.plot_loss(LOG_ENTRIES, "unseen-kinds"),
        "accuracy_bars": lambda: figures.plot_accuracy_bars(SCORES, 1 / 90, "Unseen kinds"),
        "limitations": lambda: figures.plot_limitations({"Counting one to six animals": (SCORES["Seen kinds"], 1 / 6)}),
        "prompt_ablation": lambda: figures.plot_prompt_ablation(
            {name: (score, score, better[name]) for name, score in SCORES.items()}
        ),
        "few_shot": lambda: study_figures.plot_few_shot(
            {
                name: ({1: Score(0.2, 0.1, 0.3, 9), 4: Score(0.6, 0.5, 0.7, 9)}, score, 0.1)
                for name, score in [*SCORES.items(), *((f"dataset {n}", SCORES["Seen kinds"]) for n in range(2))]
            }
        ),
        "confusion_matrix": lambda: figures.plot_confusion_matrix(counts, CLASSNAMES),
        "similarity_matrix": lambda: image_figures.plot_similarity_matrix(cosines, thumbnails(3), captions),
        "reliability": lambda: calibration.plot_reliability(
            {name: (np.linspace(0, 1, 40), np.arange(40) % 3 > 0) for name in ("before", "after")}
        ),
        "predictions": lambda: image_figures.plot_predictions(thumbnails(3), predictions, [ZEBRA] * 3),
    }


@pytest.fixture(params=sorted(examples()))
def figure(request: pytest.FixtureRequest) -> Figure:
    """One figure."""
    return examples()[request.param]()


@pytest.fixture
def every_figure() -> list[Figure]:
    """All figures, for one page."""
    return [draw() for draw in examples().values()]
