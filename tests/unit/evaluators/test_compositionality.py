"""Questions are answered by a model, scored by category, and reported with ties and chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zebra.data.benchmarks.tasks import CompositionalityBenchmark, CompositionalityQuestion
from zebra.data.image_source import ImageSource, encode_png
from zebra.errors import DataError
from zebra.evaluators.compositionality import evaluate_compositionality
from zebra.evaluators.predictions import get_sample_scores
from zebra.images.preprocess import Preprocess
from zebra.report.compositionality import compositionality_section

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColorModel:
    """A bag of words: a text is the mean of the colors that it names, an image is its mean color."""

    fingerprint = ""
    device = torch.device("cpu")
    preprocess = Preprocess(8)

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        self.texts += texts
        vectors = [np.sum([COLORS.get(word, (0, 0, 0)) for word in text.split()], axis=0) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.array(vectors), dtype=torch.float32), dim=1)

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pixels.float().mean(dim=(2, 3)), dim=1)


def load_color(index: int) -> bytes:
    return encode_png(np.full((8, 8, 3), list(COLORS.values())[index], np.uint8))


def make_benchmark(rows, **options) -> CompositionalityBenchmark:
    source = ImageSource("colors", tuple(COLORS), load_color, "digest")
    names = list(COLORS)
    questions = [
        CompositionalityQuestion((names.index(color),), captions, (0, *(None,) * (len(captions) - 1)), category)
        for color, captions, category in rows
    ]
    return CompositionalityBenchmark("colors", source, tuple(questions), **options)


ROWS = [
    ("red", ("red", "green"), "color"),
    ("green", ("green", "blue"), "color"),
    ("blue", ("green", "blue"), "color"),
    ("red", ("red green", "green red"), "order"),
]


def test_scores_have_the_mean_over_categories_first_and_each_category() -> None:
    result = evaluate_compositionality(ColorModel(), make_benchmark(ROWS, metric="macro_accuracy"))
    assert {name: score.value for name, score in result.scores.items() if name != "blind_accuracy"} == {
        "macro_accuracy": pytest.approx((2 / 3 + 0) / 2),
        "accuracy": 0.5,
        "color": pytest.approx(2 / 3),
        "order": 0,
    }
    assert next(iter(result.scores)) == "macro_accuracy"
    assert result.chance == dict.fromkeys(result.scores, 0.5)


def test_ties_and_what_does_not_count_are_noted() -> None:
    benchmark = make_benchmark(ROWS, metric="macro_accuracy", min_category_size=2)
    result = evaluate_compositionality(ColorModel(), benchmark)
    assert result.notes[0] == "chance: accuracy 50.0%, blind_accuracy 50.0%"
    assert result.notes[1].startswith("1 of 4 questions are ties in accuracy")
    assert result.notes[2].endswith("do not count in the mean over categories: 1, with 1 of 4 questions")
    assert "order" not in result.scores
    assert result.scores["macro_accuracy"].value == pytest.approx(2 / 3)


def test_each_caption_is_encoded_once() -> None:
    model = ColorModel()
    evaluate_compositionality(model, make_benchmark(ROWS))
    assert model.texts == ["red", "green", "blue", "red green", "green red"]


def test_predictions_give_the_scores_of_categories_and_of_their_mean() -> None:
    rows = [(color, captions, f"{category}/{i % 2}") for i, (color, captions, category) in enumerate(ROWS * 3)]
    result = evaluate_compositionality(ColorModel(), make_benchmark(rows, metric="macro_accuracy"))
    for metric in result.scores:
        values = get_sample_scores(result.predictions, metric)
        assert values is not None, metric
        assert np.mean(values.value_N) == pytest.approx(result.scores[metric].value), metric


def test_several_questions_on_a_part_of_one_image_are_one_cluster() -> None:
    rows, files = ROWS * 20, (0, 0, 0)
    wide = evaluate_compositionality(ColorModel(), make_benchmark(rows, file_of_image=files)).scores["accuracy"]
    narrow = evaluate_compositionality(ColorModel(), make_benchmark(rows)).scores["accuracy"]
    assert (wide.value, wide.high - wide.low > narrow.high - narrow.low) == (narrow.value, True)


def test_questions_of_several_forms_are_refused() -> None:
    benchmark = make_benchmark([*ROWS, ("red", ("red", "green", "blue"), "color")])
    with pytest.raises(DataError, match="5 questions of 2 forms"):
        evaluate_compositionality(ColorModel(), benchmark)


def test_a_category_with_the_name_of_a_score_is_refused() -> None:
    with pytest.raises(DataError, match="a category of questions has the name of a score: accuracy"):
        evaluate_compositionality(ColorModel(), make_benchmark([("red", ("red", "green"), "accuracy")]))


def test_the_report_lists_the_lowest_of_many_categories() -> None:
    rows = [(color, captions, f"{category}{i}") for i, (color, captions, category) in enumerate(ROWS * 6)]
    result = evaluate_compositionality(ColorModel(), make_benchmark(rows, metric="macro_accuracy"))
    section = compositionality_section(result)
    assert "Of 24 categories, the 20 with the lowest scores" in section.summary
    assert section.body.rows[0][:4] == ("macro_accuracy", section.body.rows[0][1], "50.0%", "24")
    assert len(section.body.rows) == 23
    few = compositionality_section(replace(result, scores={"accuracy": result.scores["accuracy"]}))
    assert [row[0] for row in few.body.rows] == ["accuracy"]
