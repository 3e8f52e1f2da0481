"""The table and the map of languages in the report."""

import pyarrow as pa
import pytest

from zebra.evaluators.results import TaskResult
from zebra.report.languages import language_sections, load_coastlines, plot_language_map
from zebra.report.page import ReportTable
from zebra.values import Score

SCORES = {"de": 0.6, "zh": 0.1, "ru": 0.4}
CAPTIONS = {"de": "ein Hund", "zh": "一只狗", "ru": "собака"}


def result(code: str, value: float, task: str = "retrieval", caption: str = "") -> TaskResult:
    scores = {"image_to_text_recall@1": Score(value, 0, 1, 50), "text_to_image_recall@1": Score(value, 0, 1, 100)}
    notes = (
        "caption prefix: ''",
        f"{code}: 62% of the tokens are unknown and 7% of the tokens are parts of characters, so the score says more",
        f"{code}: 3 of 100 texts are longer than the context of 16 tokens; 2% of all tokens are cut off",
    )
    predictions = pa.table({"id": ["0"], "caption": [caption]})
    return TaskResult("world", f"{task}-{code}", scores, "digest", notes=notes, predictions=predictions)


@pytest.fixture(scope="module")
def results() -> list[TaskResult]:
    return [result(code, value, caption=CAPTIONS[code]) for code, value in SCORES.items()]


def test_languages_are_sorted_by_score_with_their_script_and_tokens(results: list[TaskResult]) -> None:
    table_section, map_section = language_sections(results)
    assert isinstance(table_section.body, ReportTable)
    assert [row[0] for row in table_section.body.rows] == ["German, de", "Russian, ru", "Chinese, zh"]
    assert [row[1] for row in table_section.body.rows] == ["Latin", "Cyrillic", "Han"]
    assert table_section.body.rows[0][2] == "100"
    assert table_section.body.rows[0][-1] == "62% unknown, 7% parts of characters, 3 texts cut"
    assert "German (60.0%) is best, Chinese (10.0%) is worst" in table_section.summary
    assert map_section.heading == "Languages of world on the map"


def test_results_without_a_language_have_no_section(results: list[TaskResult]) -> None:
    mean = TaskResult("world", "retrieval", results[0].scores, "digest")
    assert language_sections([mean, TaskResult("x", "zero-shot-bare-name", {"top1": Score(1, 1, 1, 1)}, "d")]) == []


def test_each_dataset_has_its_own_sections(results: list[TaskResult]) -> None:
    other = TaskResult("digits", "zero-shot-de", {"top1": Score(0.5, 0.4, 0.6, 30)}, "digest")
    headings = [section.heading for section in language_sections([*results, other])]
    assert headings[0::2] == ["Retrieval by language on world", "Zero-shot classification by language on digits"]


def test_the_map_shows_the_languages_whose_home_is_known(results: list[TaskResult]) -> None:
    figure = plot_language_map([*results, result("eo", 0.2), result("xx", 0.3)], "text_to_image_recall@1")
    assert figure is not None
    assert len(figure.axes[0].lines) == 2 * len(results)  # Esperanto has no home
    assert [text.get_text() for text in figure.axes[0].texts].count("German 60.0%") == 1
    assert plot_language_map([result("xx", 0.3)], "text_to_image_recall@1") is None


def test_scores_of_zero_are_drawn(results: list[TaskResult]) -> None:
    assert plot_language_map([result("de", 0.0)], "text_to_image_recall@1") is not None


def test_coastlines_are_rings_on_the_globe() -> None:
    rings = load_coastlines()
    assert len(rings) > 30
    assert all(len(ring) >= 3 and all(abs(x) <= 360 and abs(y) <= 90 for x, y in ring) for ring in rings)
