"""Tests of `zebra study`."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.cli.main import main
from zebra.data.benchmarks.writer import write_classification
from zebra.errors import DataError
from zebra.evaluators.results_io import ResultRecord, append_results, write_predictions
from zebra.protocols.metrics import proportion
from zebra.studies.groups import study_groups
from zebra.studies.humans import study_humans
from zebra.studies.robustness import study_robustness
from zebra.studies.scaling import study_scaling
from zebra.studies.supervised import study_supervised

CLASSES = ("horse", "zebra")


def write_run(folder, top1, n=400):
    """Write the files of an evaluation with the given numbers of correct predictions of n."""
    folder.mkdir(parents=True)
    results = []
    for name, num_correct in top1.items():
        correct_N = np.arange(n) < num_correct
        label_N = np.arange(n) % 2
        ids = [f"{name}-{index}" for index in range(n)]
        write_predictions(
            folder / "predictions", name, "zero-shot", pa.table({"id": ids, "label": label_N, "correct": correct_N})
        )
        results.append(ResultRecord(name, "zero-shot", "top1", proportion(int(num_correct), n), "digest"))
    append_results(folder / "results.jsonl", results)
    return folder


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_predictions_are_grouped_by_a_column(tmp_path, capsys):
    run = write_run(tmp_path / "run", {"set": 300})
    rows = [(f"set-{i}", "first" if i < 200 else "second") for i in range(400)]
    table = write_csv(tmp_path / "people.csv", [("id", "place"), *rows])
    args = ["study", "groups", str(run), "set", "--table", str(table), "--column", "place", "--json"]
    assert main([*args, "--out", str(tmp_path / "page.html")]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert list(scores["groups"]) == ["second", "first"]
    assert scores["groups"]["second"]["value"] == 0.5
    assert scores["summary"]["gap"]["value"] == 0.5
    assert "Equal accuracy is not fairness" in (tmp_path / "page.html").read_text()


def test_the_table_that_was_evaluated_needs_no_ids(tmp_path):
    run = write_run(tmp_path / "run", {"photos": 2}, n=3)
    ids = pa.table({"id": [f"photos.csv:{line}" for line in (2, 3, 4)], "correct": [True, True, False]})
    write_predictions(run / "predictions", "photos", "zero-shot", ids)
    table = write_csv(tmp_path / "photos.csv", [("path", "race"), ("a", "x"), ("b", "x"), ("c", "y")])
    result = study_groups(run, "photos", table, "race")
    assert {name: score.value for name, score in result.scores["groups"].items()} == {"x": 1.0, "y": 0.0}


def test_missing_images_and_columns_are_named(tmp_path):
    run = write_run(tmp_path / "run", {"set": 300})
    table = write_csv(tmp_path / "people.csv", [("id", "place"), ("set-0", "here")])
    with pytest.raises(DataError, match=r"no row for 399 images of set, such as 'set-1'"):
        study_groups(run, "set", table, "place")
    with pytest.raises(DataError, match=r"no column 'plaice'\. Did you mean 'place'"):
        study_groups(run, "set", table, "plaice")
    with pytest.raises(DataError, match="zebra evaluate MODEL other"):
        study_groups(run, "other", table, "place")
    with pytest.raises(DataError, match="cannot read the table"):
        study_groups(run, "set", tmp_path / "people.xlsx", "place")


def test_humans_are_compared_with_the_model(tmp_path):
    write_classification(tmp_path / "set", [(b"one", "png", 0)], CLASSES, ["a {c}."])
    run = write_run(tmp_path / "run", {"set": 3}, n=4)  # the model misclassifies the last image, a zebra
    rows = [("ada", f"set-{i}", CLASSES[0], 0) for i in range(4)]
    answers = write_csv(tmp_path / "answers.csv", [("person", "image", "answer", "shots"), *rows])
    result = study_humans(run, tmp_path / "set", answers)
    assert result.scores["0 shots"]["accuracy"].value == 0.5
    assert result.scores["0 shots"]["the model"].value == 0.75
    assert [section.heading for section in result.sections][1] == "Difficulty after 0 examples"


def test_answers_about_another_dataset_are_refused(tmp_path):
    write_classification(tmp_path / "set", [(b"one", "png", 0)], CLASSES, ["a {c}."])
    run = write_run(tmp_path / "run", {"set": 3}, n=4)
    answers = write_csv(
        tmp_path / "answers.csv", [("person", "image", "answer", "shots"), ("ada", "other-1", "zebra", 0)]
    )
    with pytest.raises(DataError, match="no image 'other-1'"):
        study_humans(run, tmp_path / "set", answers)


def test_a_model_above_the_reference_line_has_effective_robustness(tmp_path, capsys):
    """The shift halves the odds of the references and does not change the evaluated model."""
    runs = [
        write_run(
            tmp_path / f"r{number}",
            {"plain": num_correct, "sketch": round(400 / (1 + 2 * (400 - num_correct) / num_correct))},
        )
        for number, num_correct in enumerate((100, 160, 220, 280))
    ]
    evaluated = write_run(tmp_path / "evaluated", {"plain": 200, "sketch": 200})
    args = ["study", "robustness", *map(str, runs), "--reference-dataset", "plain", "--model", str(evaluated), "--json"]
    assert main(args) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["effective, sketch"]["evaluated"]["value"] == pytest.approx(0.5 - 1 / 3, abs=0.01)
    assert scores["relative, sketch"]["evaluated"]["value"] == pytest.approx(0.5 - 57 / 400, abs=0.01)
    with pytest.raises(DataError, match=r"'sketches'\. Did you mean 'sketch'"):
        study_robustness(runs, "plain", [evaluated], ["sketches"])
    with pytest.raises(DataError, match="elsewhere is not one of the runs"):
        study_robustness(runs, "plain", [evaluated], baseline=tmp_path / "elsewhere")


def test_error_that_halves_with_each_doubling_has_the_exponent_minus_one(tmp_path):
    runs = [write_run(tmp_path / f"r{cost}", {"set": 400 - 160 // cost}) for cost in (1, 2, 4, 8)]
    result = study_scaling(runs, [1, 2, 4, 8], "GFLOP per image")
    assert result.scores["law"]["exponent"].value == pytest.approx(-1, abs=0.01)
    assert result.scores["error"]["r4"].value == pytest.approx(0.1)
    with pytest.raises(DataError, match="r1 has no zero-shot top-1 score on 'sets'"):
        study_scaling(runs, [1, 2, 4, 8], "GFLOP per image", ["sets"])


def write_features(path, ids, seed=0, width=6):
    """Write features that separate the two classes perfectly."""
    rng = np.random.default_rng(seed)
    rows = []
    for split, names in (("train", [f"t{i}" for i in range(60)]), ("test", ids)):
        for index, name in enumerate(names):
            vector = rng.normal(size=width) + 8 * (index % 2)
            rows.append({"dataset": "set", "split": split, "id": name, "label": index % 2, "vector": vector.tolist()})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_zero_shot_is_compared_with_a_supervised_probe(tmp_path, capsys):
    run = write_run(tmp_path / "run", {"set": 300})
    file = write_features(tmp_path / "resnet.parquet", [f"set-{i}" for i in range(400)])
    page = tmp_path / "page.html"
    assert main(["study", "supervised", str(run), "--features", str(file), "--json", "--out", str(page)]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["probe"]["set"]["value"] == 1
    assert scores["difference"]["set"]["value"] == pytest.approx(-0.25)
    assert "better on 0 of 1 datasets" in page.read_text()


def test_features_of_other_images_are_refused(tmp_path):
    run = write_run(tmp_path / "run", {"set": 300})
    with pytest.raises(DataError, match="not of the same images"):
        study_supervised(run, write_features(tmp_path / "few.parquet", ["set-0", "set-1"]))
    (tmp_path / "none.parquet").write_text("no table")
    with pytest.raises(DataError, match="dataset \\(text\\), split"):
        study_supervised(run, tmp_path / "none.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "bare.parquet")
    with pytest.raises(DataError, match="no column 'dataset'"):
        study_supervised(run, tmp_path / "bare.parquet")


def test_a_run_that_is_given_twice_is_refused(tmp_path):
    run = write_run(tmp_path / "run", {"set": 300})
    with pytest.raises(DataError, match="run is given twice"):
        study_scaling([run, run, run], [1, 2, 4], "GFLOP per image")


def test_an_unknown_kind_of_study_is_answered_with_the_known_ones(capsys):
    assert main(["study", "grups"]) == 2
    assert "Did you mean 'groups'" in capsys.readouterr().err
    assert main(["study"]) == 2
    assert main(["study", "--help"]) == 0
