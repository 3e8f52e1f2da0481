"""Tests of `zebra compare` on training runs, and of its page."""

import json
import shutil

import pytest
from huggingface_hub import ModelCard

from zebra.config.compare import CompareConfig
from zebra.errors import ConfigError, DataError
from zebra.evaluators.results_io import ResultRecord, append_results
from zebra.values import Score
from zebra.workflows import compare


def write_log(path, scores, loss=2.0, digest="0", name="held-out recall@1"):
    """Write the log of a run with one validation score for each value."""
    path.mkdir()
    entries = [
        {"step": step, "samples": 8 * step, "loss": loss / step, "eval": {name: score}}
        for step, score in enumerate(scores, start=1)
    ]
    (path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (path / "data.json").write_text(json.dumps({"digest": digest}))
    return str(path)


def compare_on_page(tmp_path, *runs):
    rows = compare.run(CompareConfig(runs=runs, page=str(tmp_path / "pages" / "page.html")))
    return rows, (tmp_path / "pages" / "page.html").read_text()


def test_the_page_names_the_best_run_and_draws_the_curves(tmp_path):
    rows, html = compare_on_page(tmp_path, write_log(tmp_path / "a", [0.1, 0.5]), write_log(tmp_path / "b", [0.25]))
    assert rows == []
    assert "<h1>a and b compared</h1>" in html
    assert "a ends with the highest score on held-out recall@1: 50.0% (b 25.0%)." in html
    assert "<td>a</td><td class='number'>2</td><td class='number'>16</td><td class='number'>1.000</td>" in html
    assert "Training loss" in html and "do not compare" not in html


def test_runs_on_different_data_are_marked(tmp_path):
    first, second = write_log(tmp_path / "a", [0.5], digest="1"), write_log(tmp_path / "b", [0.5], digest="2")
    assert "trained on different data" in compare_on_page(tmp_path, first, second)[1]


def test_runs_without_a_common_score_are_compared_by_their_loss_alone(tmp_path):
    runs = [write_log(tmp_path / name, [0.5], name=name) for name in "abcd"]
    _, html = compare_on_page(tmp_path, *runs)
    assert "4 runs compared" in html and "ends with the highest" not in html
    assert html.count("<td>a</td>") == 1


def test_evaluations_and_training_runs_are_compared_together(tmp_path):
    run = write_log(tmp_path / "a", [0.5])
    (tmp_path / "b").mkdir()
    append_results(
        tmp_path / "b" / "results.jsonl", [ResultRecord("pets", "zero-shot", "top1", Score(0.4, 0.3, 0.5, 9), "0")]
    )
    (row,), html = compare_on_page(tmp_path, run, str(tmp_path / "b"))
    assert [score and score.value for score in row.scores] == [None, 0.4]
    assert "40.0%<small> [30.0%, 50.0%]</small>" in html
    assert list(compare.read_training_runs(CompareConfig(runs=(run, str(tmp_path / "b"))))) == [run]


@pytest.mark.parametrize("content", ["", '{"step": 1, "samp', '{"step": 1}\n'])
def test_a_directory_without_results_or_a_usable_log_is_refused(content, tmp_path):
    first, second = write_log(tmp_path / "a", [0.5]), write_log(tmp_path / "b", [0.5])
    (tmp_path / "b" / "log.jsonl").write_text(content)
    with pytest.raises(DataError, match="zebra evaluate"):
        compare.run(CompareConfig(runs=(first, second)))
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(DataError, match="results"):
        compare.run(CompareConfig(runs=(first, second)))


def test_an_unfinished_run_is_compared_without_its_data_digest(tmp_path):
    first, second = write_log(tmp_path / "a", [0.5]), write_log(tmp_path / "b", [0.5])
    (tmp_path / "b" / "data.json").unlink()
    assert "different data" not in compare_on_page(tmp_path, first, second)[1]


def test_a_run_that_diverged_has_no_loss_to_draw(tmp_path):
    first, second = (
        write_log(tmp_path / "a", [0.5], loss=float("nan")),
        write_log(tmp_path / "b", [0.5], loss=float("nan")),
    )
    assert "nan" in compare_on_page(tmp_path, first, second)[1]


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    runs = write_log(tmp_path / "a", [0.5]), write_log(tmp_path / "b", [0.5])
    with pytest.raises(ConfigError, match="cannot write --page"):
        compare.run(CompareConfig(runs=runs, page=str(tmp_path)))


def test_the_terminal_shows_the_last_loss_and_scores(tmp_path, cli):
    run = write_log(tmp_path / "a", [0.1, 0.5])
    result = cli("compare", run, run)
    assert "2 steps  16 pairs  loss 1.000  held-out recall@1 50.0%" in result.out


def test_a_format_is_printed_alone_and_excludes_json(tmp_path, cli):
    for name, value in (("a", 0.5), ("b", 0.25)):
        (tmp_path / name).mkdir()
        record = ResultRecord("pets", "zero-shot", "top1", Score(value, 0.2, 0.6, 90), "d", provenance={"split": "val"})
        append_results(tmp_path / name / "results.jsonl", [record])
    result = cli("compare", "a", "b", "--format", "markdown")
    assert result.out.splitlines()[0] == "| dataset | task | metric | a | b |"
    assert len(result.out.splitlines()) == 3 and "±" in result.err
    card = cli("compare", "a", "b", "--format", "hf-card").out
    assert [result.metric_value for result in ModelCard(card).data.eval_results] == [0.5, 0.25]
    assert "split: val" in card
    assert "Omit one of them" in cli("compare", "a", "b", "--format", "csv", "--json", code=1).err
