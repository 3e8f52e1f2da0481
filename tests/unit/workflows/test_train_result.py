"""The result of a training run in a notebook."""

from pathlib import Path
from types import SimpleNamespace

from zebra.values import Score
from zebra.workflows.train import TrainResult


def test_a_finished_run_shows_its_scores_and_files_escaped():
    held_out = SimpleNamespace(scores={"image_to_text_recall@1": Score(0.5, 0.25, 0.75, 40)})
    html = TrainResult(Path("<run>"), 1500, is_finished=True, held_out=held_out)._repr_html_()
    for part in ("1,500", "&lt;run&gt;/model", "image to text recall@1", "50.0% [25.0%, 75.0%]"):
        assert part in html
    assert "<run>" not in html


def test_a_fine_tuning_run_shows_what_it_changed():
    before_after = SimpleNamespace(deltas=["recall@1 10.0% → 20.0%", "top1 1.0% → 2.0%"])
    html = TrainResult(Path("run"), 8, is_finished=True, before_after=before_after)._repr_html_()
    assert "recall@1 10.0% → 20.0%; top1 1.0% → 2.0%" in html


def test_an_interrupted_run_names_no_model():
    html = TrainResult(Path("run"), 3, is_finished=False)._repr_html_()
    assert "3, interrupted" in html
    assert "model" not in html
