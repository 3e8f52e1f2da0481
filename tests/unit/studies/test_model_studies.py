"""Tests of the studies of probes, prompts and transfer: `zebra study efficiency|correlation|prompts|transfer`."""

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import linregress

from zebra.cli.main import main
from zebra.errors import ConfigError, DataError
from zebra.evaluators.results_io import ResultRecord, append_results, write_predictions
from zebra.protocols.metrics import proportion
from zebra.studies.efficiency import study_efficiency
from zebra.studies.probe_correlation import study_probe_correlation
from zebra.studies.prompts import study_prompts
from zebra.studies.transfer import study_transfer

N = 1000


def write_run(folder, scores, labels_per_class=None, metric="top1"):
    """Write results and predictions: scores[dataset][task] is the accuracy on 1,000 images."""
    folder.mkdir(parents=True)
    records = []
    for dataset, tasks in scores.items():
        for task, accuracy in tasks.items():
            correct_N = np.arange(N) < round(accuracy * N)
            table = pa.table({"id": [str(index) for index in range(N)], "correct": correct_N})
            write_predictions(folder / "predictions", dataset, task, table)
            count = (labels_per_class or {}).get(task, 0.0)
            record = ResultRecord(dataset, task, metric, proportion(int(correct_N.sum()), N), "digest")
            records.append(
                ResultRecord(**{f: getattr(record, f) for f in record.__slots__} | {"labels_per_class": count})
            )
    append_results(folder / "results.jsonl", records)
    return folder


FEW_SHOT_LABELS = {"few-shot-1": 1, "few-shot-2": 2, "few-shot-4": 4, "linear-probe": 64}


def few_shot(zero_shot, *accuracies):
    return dict(zip(FEW_SHOT_LABELS, accuracies, strict=True)) | {"few-shot-zero-shot": zero_shot}


def test_labels_per_class_are_interpolated_on_every_dataset(tmp_path, capsys):
    scores = {
        "easy": few_shot(0.4, 0.2, 0.4, 0.6, 0.8),  # meets the probe with 2 labels
        "hard": few_shot(0.7, 0.2, 0.4, 0.6, 0.8),  # half of the way from 4 to 64 labels: 16
        "never": few_shot(0.9, 0.2, 0.4, 0.6, 0.8),
    }
    run = write_run(tmp_path / "run", scores, FEW_SHOT_LABELS)
    page = tmp_path / "page.html"
    assert main(["study", "efficiency", str(run), "--json", "--out", str(page)]) == 0
    result = json.loads(capsys.readouterr().out)
    values = {name: score["value"] for name, score in result["scores"]["labels per class"].items()}
    assert values == {"never": 64, "hard": pytest.approx(16), "easy": 2}
    assert result["scores"]["over datasets"]["median"]["value"] == pytest.approx(16)
    assert result["scores"]["over datasets"]["mean"]["value"] == pytest.approx(82 / 3)
    assert "never (more than 64)" in result["notes"][0]
    assert "more than 64" in page.read_text()


def test_a_few_shot_probe_with_all_labels_is_not_counted_twice(tmp_path):
    labels = FEW_SHOT_LABELS | {"linear-probe": 4}
    run = write_run(tmp_path / "run", {"set": few_shot(0.7, 0.2, 0.4, 0.6, 0.8)}, labels)
    assert study_efficiency(run).scores["labels per class"]["set"].value == pytest.approx(2 * 2**0.75)


def test_an_efficiency_study_names_what_to_run(tmp_path):
    run = write_run(tmp_path / "run", {"set": {"zero-shot": 0.5}})
    with pytest.raises(DataError, match="--tasks few-shot,linear-probe"):
        study_efficiency(run)
    old = write_run(tmp_path / "old", {"set": few_shot(0.4, 0.2, 0.4, 0.6, 0.8)})
    with pytest.raises(DataError, match="older zebra"):
        study_efficiency(old)
    new = write_run(tmp_path / "new", {"set": few_shot(0.4, 0.2, 0.4, 0.6, 0.8)}, FEW_SHOT_LABELS)
    with pytest.raises(DataError, match=r"'sett' has no few-shot.*Did you mean 'set'"):
        study_efficiency(new, ["sett"])


def test_the_slope_and_correlation_are_those_of_a_regression(tmp_path, capsys):
    zero_shot, probe = [0.2, 0.5, 0.6, 0.97], [0.4, 0.6, 0.8, 0.99]
    sets = zip(zero_shot, probe, strict=True)
    scores = {f"set-{n}": {"zero-shot": z, "linear-probe": p} for n, (z, p) in enumerate(sets)}
    run = write_run(tmp_path / "run", scores)
    assert main(["study", "correlation", str(run), "--json", "--out", str(tmp_path / "page.html")]) == 0
    result = json.loads(capsys.readouterr().out)["scores"]["over datasets"]
    expected = linregress(probe, zero_shot)
    assert result["r"]["value"] == pytest.approx(expected.rvalue)
    assert result["slope"]["value"] == pytest.approx(expected.slope)
    assert "On 1 of 4 datasets" in (tmp_path / "page.html").read_text()
    with pytest.raises(DataError, match="at least 3 datasets"):
        study_probe_correlation(run, ["set-0", "set-1"])


def test_a_catalog_dataset_is_compared_in_its_own_metric(tmp_path):
    scores = {f"set-{n}": {"zero-shot": n / 5, "linear-probe": n / 4} for n in range(1, 4)}
    run = write_run(tmp_path / "run", scores)
    records = [
        ResultRecord("pets", task, metric, proportion(count, N), "digest")
        for task in ("zero-shot", "linear-probe")
        for metric, count in (("top1", 100), ("mean_per_class", 900))
    ]
    append_results(run / "results.jsonl", records)
    assert study_probe_correlation(run).scores["zero-shot"]["pets"].value == 0.9


PROMPTS = {"zero-shot": 0.6, "zero-shot-one-prompt": 0.55, "zero-shot-bare-name": 0.5}


def test_the_gain_of_prompts_is_paired_and_averaged(tmp_path, capsys):
    other = {"zero-shot": 0.8, "zero-shot-one-prompt": 0.8, "zero-shot-bare-name": 0.8}
    runs = [write_run(tmp_path / name, {"a": PROMPTS, "b": other}) for name in ("small", "large")]
    args = ["study", "prompts", *map(str, runs), "--compute", "1,10", "--json", "--out", str(tmp_path / "page.html")]
    assert main(args) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["gain, small"]["a"]["value"] == pytest.approx(0.1)
    assert scores["gain, small"]["average"]["value"] == pytest.approx(0.05)
    assert scores["gain of one prompt, small"]["a"]["value"] == pytest.approx(0.05)
    assert scores["gain of ensemble, large"]["b"]["value"] == 0
    # All 100 images that differ are won by the prompts, so the paired interval is far from 0.
    assert scores["gain, small"]["a"]["low"] > 0.08
    with pytest.raises(ConfigError, match="1 compute values but 2 runs"):
        study_prompts(runs, compute=[1.0])


def test_runs_without_bare_names_are_refused(tmp_path):
    run = write_run(tmp_path / "run", {"a": {"zero-shot": 0.5}})
    with pytest.raises(DataError, match="--tasks zero-shot,prompts"):
        study_prompts([run])


def test_transfer_marks_the_best_models_and_averages_over_the_sets_of_the_paper(tmp_path, capsys):
    names = ("food101", "cifar10", "imagenet")
    runs = [
        write_run(tmp_path / model, {name: {"linear-probe": value} for name, value in zip(names, values, strict=True)})
        for model, values in {"first": (0.9, 0.5, 0.7), "second": (0.88, 0.9, 0.75)}.items()
    ]
    page = tmp_path / "page.html"
    assert main(["study", "transfer", *map(str, runs), "--compute", "1,2", "--json", "--out", str(page)]) == 0
    result = json.loads(capsys.readouterr().out)
    averages = {label: scores["first"]["value"] for label, scores in result["scores"].items() if "average" in label}
    assert averages == {
        "average, 3 of the paper's 27 datasets, not comparable with it": pytest.approx(0.7),
        "average, 2 of the 12 datasets of Kornblith et al., not comparable with it": pytest.approx(0.7),
    }
    assert result["notes"] == ["best on cifar10: second", "best on food101: first, second", "best on imagenet: second"]
    assert result["scores"]["first minus second"]["cifar10"]["value"] == pytest.approx(-0.4)
    assert "Robustness to task shift" in page.read_text()
    with pytest.raises(DataError, match="is not one of the runs"):
        study_transfer(runs, baseline=tmp_path / "elsewhere")


def test_other_datasets_are_averaged_as_a_set_of_their_own(tmp_path):
    runs = [write_run(tmp_path / model, {"mine": {"linear-probe": 0.5}}) for model in ("a", "b")]
    assert set(study_transfer(runs).scores) == {"average, all datasets", "b minus a"}
