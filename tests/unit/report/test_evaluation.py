"""Tests of the evaluation report."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from zebra.evaluators.predictions import build_classification_predictions
from zebra.evaluators.results import TaskResult
from zebra.images.preprocess import Preprocess
from zebra.protocols.zero_shot import ClassificationResult
from zebra.report.evaluation import write_evaluation_report
from zebra.values import Record, Score

CLIP = SimpleNamespace(fingerprint="0" * 16, precision="fp32", backend="torch", preprocess=Preprocess(image_size=64))


class ColorSource:
    """Images of one color each."""

    name, digest, ignored = "colors", "0" * 64, ()

    def __len__(self):
        return 1000

    def sample_id(self, index):
        return str(index)

    def read(self, index):
        buffer = io.BytesIO()
        Image.new("RGB", (300, 200), (index % 256, 0, 0)).save(buffer, "PNG")
        return Record(self.sample_id(index), buffer.getvalue(), (), None)


def classify(label, predicted, classnames, dataset="colors"):
    ranked_NK = np.array(predicted)[:, None]
    probability_N2 = np.tile(np.array([0.75, 0.25], dtype=np.float32), (len(label), 1))
    result = ClassificationResult(ranked_NK, np.array(label), len(classnames), None, probability_N2)
    ids = [str(n) for n in range(len(label))]
    predictions = build_classification_predictions(ids, result, classnames)
    scores = {"top1": result.scores()["top1"]}
    return TaskResult(dataset, "zero-shot", scores, "0", predictions=predictions, chance_accuracy=1 / len(classnames))


def write_report(tmp_path, *results, model="runs/mine/model"):
    sources = {result.dataset: ColorSource() for result in results}
    write_evaluation_report(tmp_path / "report.html", CLIP, model, results, sources)
    return (tmp_path / "report.html").read_text()


def find_section(html, heading):
    return re.search(rf"<section>\s*<div class='text'><h2>{heading}.*?</section>", html, re.DOTALL)[0]


def test_the_report_begins_with_the_answer(tmp_path):
    html = write_report(tmp_path, classify([0, 0, 1, 1], [0, 1, 1, 1], ["cat", "dog"]))
    assert "<h1>Evaluation of mine/model</h1>" in html
    assert "recognizes 75.0% of the 4 images of colors; guessing would reach 50.0%." in html
    assert "<dd>75.0%</dd>" in html.partition("<main>")[0]


def test_the_answer_over_several_datasets_is_their_mean_and_range(tmp_path):
    half, all_right = (classify([0, 1], label, ["cat", "dog"], f"{label}") for label in ([0, 0], [0, 1]))
    head = write_report(tmp_path, half, all_right).partition("<main>")[0]
    assert "75.0% of the images of 2 datasets on average: most on [0, 1] (100%), fewest on [0, 0] (50.0%)." in head


@pytest.mark.parametrize(
    ("task", "metric", "text"),
    [
        ("retrieval", "image_to_text_recall@1", "ranks first for 50.0% of the 9 images of colors."),
        ("few-shot-4", "top1", "Scores of the model on 1 dataset."),
    ],
)
def test_other_tasks_have_an_answer_too(tmp_path, task, metric, text):
    zero_shot = TaskResult("colors", "few-shot-zero-shot", {"top1": Score(0.4, 0.3, 0.5, 9)}, "0")
    html = write_report(tmp_path, zero_shot, TaskResult("colors", task, {metric: Score(0.5, 0.4, 0.6, 9)}, "0"))
    assert text in html.partition("<main>")[0]


def test_the_report_shows_classes_their_confusion_and_the_worst_images_with_names(tmp_path):
    html = write_report(tmp_path, classify([0, 0, 1, 1], [0, 1, 1, 1], ["<cat>", "dog"]))
    rows = re.findall(r"<tr><td>.*?</tr>", find_section(html, "Classes of colors"))
    assert "&lt;cat&gt;" in rows[0] and "dog (1)" in rows[0] and "dog" in rows[1]
    assert "“&lt;cat&gt;” is most often taken for “dog”: 1 of 2 images." in find_section(html, "Confused classes")
    errors = find_section(html, "Worst errors")
    assert "<p>&lt;cat&gt; 25.0%<small>taken for dog 75.0%</small></p>" in errors
    assert errors.count('<img src="data:image/png') == 1
    assert 'width="128" height="85"' in errors


def test_many_classes_are_shown_as_the_least_accurate_and_the_most_confused(tmp_path):
    names = [f"class {index}" for index in range(60)]
    html = write_report(tmp_path, classify(range(60), [*range(1, 31), *range(30, 60)], names))
    assert find_section(html, "Classes of colors").count("<tr><td>") == 20
    confused = find_section(html, "Confused classes")
    assert confused.count("<tr><td>") == 20 and "20 most frequent of 30 pairs" in confused
    assert find_section(html, "Worst errors").count("<img") == 12


def test_a_result_without_errors_has_no_errors_to_show(tmp_path):
    html = write_report(tmp_path, classify([0, 1], [0, 1], ["cat", "dog"]))
    assert "recognizes all 2 classes without an error" in html
    assert "Confused classes" not in html and "Worst errors" not in html


def test_retrieval_shows_recall_with_hits_and_misses(tmp_path):
    predictions = pa.table(
        {
            "id": ["0", "1", "2"],
            "text_rank": [1, 2, 3],
            "caption": ["a cat", "a dog", "a <pig>"],
            "retrieved_caption": ["a cat", "a cat", "a dog"],
        }
    )
    scores = {f"image_to_text_recall@{k}": Score(k / 10, 0, 1, 3) for k in (1, 5)}
    html = write_report(tmp_path, TaskResult("colors", "retrieval", scores, "0", predictions=predictions))
    assert "For 10.0% of 3 images, a caption of the image ranks first." in find_section(html, "Retrieval on colors")
    assert "<p>a cat</p>" in find_section(html, "Hits on colors")
    misses = re.findall(r"<p>(.*?)<small>(.*?)</small>", find_section(html, "Misses on colors"))
    assert misses == [("a &lt;pig&gt;", "rank 3, after: a dog"), ("a dog", "rank 2, after: a cat")]


def test_retrieval_results_of_an_older_version_have_no_examples(tmp_path):
    predictions = pa.table({"id": ["0"], "text_rank": [1]})
    scores = {"text_to_image_recall@1": Score(0.5, 0, 1, 3)}
    html = write_report(tmp_path, TaskResult("colors", "retrieval", scores, "0", predictions=predictions))
    assert "50.0%" in find_section(html, "Retrieval on colors") and "Hits" not in html
