"""Tests of the training report."""

from zebra.report.training import write_training_report
from zebra.values import Score

LOG_ENTRIES = [
    {"step": s, "samples": 8 * s, "loss": 2 / s, "samples_per_second": 80.0, "data_wait_fraction": 0.05}
    for s in range(1, 6)
]
COUNTS = {
    "found": 20,
    "epochs": [
        {"epoch": 0, "consumed": 18, "skipped": {"empty file": 2}, "substitutes": 2, "complete": True},
        {"epoch": 1, "consumed": 20, "skipped": {}, "substitutes": 0, "complete": False},
    ],
    "truncated_captions": 3,
    "held_out": {"found": 7, "skipped": {}},
}


def page(tmp_path, metrics):
    write_training_report(tmp_path / "report.html", LOG_ENTRIES, COUNTS, metrics)
    return (tmp_path / "report.html").read_text()


def test_skips_are_listed_by_reason_and_unfinished_epochs_are_marked(tmp_path):
    text = page(tmp_path, {})
    assert "2 empty file" in text
    assert "2 (unfinished)" in text
    assert "3 captions" in text
    assert "7 more were held out" in text
    assert "Zero-shot" not in text


def test_scores_are_shown_when_there_are_any(tmp_path):
    score = Score(0.5, 0.4, 0.6, 100)
    text = page(tmp_path, {"animals": {"zero-shot": {"top1": score}}})
    assert "animals" in text and "50.0%" in text


def test_finished_epochs_with_equal_counts_share_a_row(tmp_path):
    epochs = [
        {"epoch": number, "consumed": 20, "skipped": {}, "substitutes": 0, "complete": number < 3}
        for number in range(4)
    ]
    write_training_report(tmp_path / "report.html", LOG_ENTRIES, COUNTS | {"epochs": epochs}, {})
    text = (tmp_path / "report.html").read_text()
    assert "1–3" in text and "4 (unfinished)" in text
