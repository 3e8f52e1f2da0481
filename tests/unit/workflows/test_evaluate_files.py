"""Tests of the files of an evaluation: after each dataset, after an error, and in a used directory."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from zebra.cli.main import main
from zebra.config.compare import CompareConfig
from zebra.data.benchmarks.writer import write_classification, write_retrieval
from zebra.errors import DataError
from zebra.evaluators.results_io import read_results
from zebra.workflows import compare, evaluate

from .test_evaluate import COLORS, TEMPLATES, directory, make_config, make_image, samples

__all__ = ["directory"]


@pytest.fixture
def damaged(tmp_path):
    """A dataset with one image that cannot be decoded."""
    rows = [(image if index != 7 else b"not an image", *rest) for index, (image, *rest) in enumerate(samples(12, 1))]
    write_classification(tmp_path / "damaged", rows, list(COLORS), TEMPLATES)
    return tmp_path / "damaged"


@pytest.fixture
def datasets(directory, damaged, tmp_path):
    """The paths of a good, a damaged and another good dataset."""
    shutil.copytree(directory / "colors", tmp_path / "last")
    return str(directory / "colors"), str(damaged), str(tmp_path / "last")


def read_metrics(out):
    return json.loads((out / "metrics.json").read_text())


def test_an_unreadable_image_is_an_error_that_names_dataset_shard_and_key(directory, damaged, tmp_path):
    config = make_config(directory, tmp_path / "out", datasets=(str(damaged),))
    with pytest.raises(DataError, match=r"damaged: 0\.tar/s0000007: not an image .*would belong to another dataset"):
        evaluate.run(config)


def test_an_unreadable_sample_in_training_validation_is_named_too(directory, damaged):
    from zebra import load
    from zebra.evaluators.validation import open_zero_shot_validators

    (validator,) = open_zero_shot_validators([str(damaged)], num_samples=100)
    with pytest.raises(DataError, match=r"damaged: 0\.tar/s0000007: not an image"):
        validator(load(directory / "model0"))


def test_a_dataset_that_cannot_be_read_does_not_cost_the_results_on_others(directory, datasets, tmp_path):
    out = tmp_path / "out"
    with (
        pytest.warns(UserWarning, match=r"left out .*damaged: 0\.tar/s0000007: not an image"),
        pytest.raises(
            DataError, match=r"1 of 3 datasets could not be evaluated:\n.*s0000007(.|\n)*run the same command"
        ),
    ):
        evaluate.run(make_config(directory, out, datasets=datasets, tasks=("zero-shot",)))
    assert set(read_metrics(out)) == {"colors", "last"}
    assert {result.dataset for result in read_results(out / "results.jsonl")} == {"colors", "last"}
    assert (out / "predictions" / "last.zero-shot.parquet").exists()
    assert "last" in (out / "report.html").read_text(encoding="utf-8")


def evaluated_datasets(monkeypatch):
    """Record the names of the datasets that are evaluated."""
    names = []
    evaluate_dataset = evaluate.evaluate_dataset
    monkeypatch.setattr(
        evaluate, "evaluate_dataset", lambda clip, benchmark, *args: names.append(benchmark.name)
        or evaluate_dataset(clip, benchmark, *args),
    )  # fmt: skip
    return names


@pytest.mark.filterwarnings("ignore:left out")
def test_the_next_run_evaluates_only_what_is_missing(directory, datasets, damaged, tmp_path, monkeypatch):
    out = tmp_path / "out"
    config = make_config(directory, out, datasets=datasets, tasks=("zero-shot",))
    with pytest.raises(DataError):
        evaluate.run(config)
    write_classification(damaged, samples(12, 1), list(COLORS), TEMPLATES)
    names = evaluated_datasets(monkeypatch)
    shown = []
    with pytest.warns(UserWarning, match="continuing the unfinished evaluation in .*; finished: colors, last"):
        metrics = evaluate.run(config, callback=lambda result: shown.append(result.dataset))
    assert names == ["damaged"]
    assert shown == list(metrics) == ["colors", "damaged", "last"]
    assert read_metrics(out).keys() == metrics.keys()
    assert [result.dataset for result in read_results(out / "results.jsonl") if result.metric == "top1"] == [
        "colors",
        "last",
        "damaged",
    ]
    assert not (out / "unfinished.jsonl").exists()
    fresh = evaluate.run(make_config(directory, tmp_path / "fresh", datasets=datasets, tasks=("zero-shot",)))
    assert metrics == fresh


@pytest.mark.filterwarnings("ignore:left out", "ignore:continuing the unfinished")
@pytest.mark.parametrize("change", ["tasks", "seed", "model", "data", "prompts", "garbage", "results"])
def test_another_evaluation_does_not_continue_an_unfinished_one(directory, datasets, tmp_path, monkeypatch, change):
    out, prompts = tmp_path / "out", tmp_path / "prompts.json"
    prompts.write_text(json.dumps({name: ["a {c}"] for name in ("colors", "damaged", "last")}))
    args = {"datasets": datasets, "tasks": ("zero-shot",), "prompts": str(prompts)}
    with pytest.raises(DataError):
        evaluate.run(make_config(directory, out, **args))
    if change == "data":
        write_classification(tmp_path / "last", samples(12, 5), list(COLORS), TEMPLATES)
    elif change == "prompts":
        prompts.write_text(json.dumps({name: ["the {c}"] for name in ("colors", "damaged", "last")}))
    elif change == "results":
        (out / "results.jsonl").unlink()
    elif change == "garbage":
        (out / "unfinished.jsonl").write_text("{")
    else:
        args |= {"tasks": {"tasks": ("prompts",)}, "seed": {"seed": 1}, "model": {"model": str(directory / "model1")}}[
            change
        ]
    names = evaluated_datasets(monkeypatch)
    with pytest.raises(DataError):
        evaluate.run(make_config(directory, out, **args))
    assert names == (["damaged", "last"] if change == "data" else ["colors", "damaged", "last"])


def test_an_interruption_keeps_the_finished_datasets(directory, datasets, tmp_path):
    out = tmp_path / "out"

    def interrupt(result):
        if result.dataset == "last":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate.run(make_config(directory, out, datasets=(datasets[0], datasets[2])), callback=interrupt)
    assert set(read_metrics(out)) == {"colors"}


def test_tasks_before_an_error_on_the_same_dataset_are_kept(directory, tmp_path):
    folder = shutil.copytree(directory / "colors", tmp_path / "colors")
    (folder / "train" / "0.tar").unlink()
    config = make_config(directory, tmp_path / "out", datasets=(str(folder),), tasks=("zero-shot", "linear-probe"))
    with pytest.raises(DataError, match="lacks 1 of the 1 shards"):
        evaluate.run(config)
    assert set(read_metrics(tmp_path / "out")["colors"]) == {"zero-shot"}


def test_metrics_json_keeps_the_tasks_of_earlier_evaluations_of_the_model(directory, tmp_path):
    for tasks in (("zero-shot",), ("linear-probe",)):
        metrics = evaluate.run(make_config(directory, tmp_path, tasks=tasks))
        assert set(metrics["colors"]) == set(tasks)
    evaluate.run(make_config(directory, tmp_path, datasets=(str(directory / "captioned"),)))
    assert {name: set(tasks) for name, tasks in read_metrics(tmp_path).items()} == {
        "colors": {"zero-shot", "linear-probe"},
        "captioned": {"retrieval"},
    }
    evaluate.run(make_config(directory, tmp_path, model=str(directory / "model1"), tasks=("prompts",)))
    assert set(read_metrics(tmp_path)["colors"]) == {"zero-shot-one-prompt", "zero-shot-bare-name"}


def test_metrics_json_leaves_out_scores_on_earlier_data_of_the_same_name(directory, tmp_path):
    evaluate.run(make_config(directory, tmp_path, tasks=("zero-shot", "linear-probe")))
    write_classification(tmp_path / "colors", samples(30, 9), list(COLORS), TEMPLATES)
    evaluate.run(make_config(directory, tmp_path, datasets=(str(tmp_path / "colors"),), tasks=("zero-shot",)))
    assert {task: scores["top1"]["n"] for task, scores in read_metrics(tmp_path)["colors"].items()} == {"zero-shot": 30}


def test_a_damaged_results_file_is_refused_before_anything_is_computed(directory, tmp_path):
    (tmp_path / "results.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"results\.jsonl:1 is not a result"):
        evaluate.run(make_config(directory, tmp_path, model="nowhere"))


@pytest.fixture(scope="module")
def two_runs(directory, tmp_path_factory):
    """Directories of two models with all tasks that have predictions per image."""
    root = tmp_path_factory.mktemp("runs")
    captions = [(make_image(color, 3), "png", [f"a {name}", f"the {name} one"]) for name, color in COLORS.items()]
    captions[0][2].append("crimson")  # an image with more captions
    write_retrieval(root / "captions", captions * 4)
    runs = []
    for seed in (0, 1):
        config = make_config(
            directory,
            root / str(seed),
            model=str(directory / f"model{seed}"),
            datasets=(str(directory / "colors"), str(root / "captions")),
            tasks=("zero-shot", "linear-probe", "few-shot", "retrieval"),
            shots=(1, 2),
        )
        evaluate.run(config)
        runs.append(str(root / str(seed)))
    return tuple(runs)


def test_probes_few_shot_and_retrieval_are_compared_image_by_image(two_runs):
    rows = {(row.task, row.metric): row for row in compare.run(CompareConfig(runs=two_runs))}
    compared = {key for key, row in rows.items() if row.comparisons}
    recalls = {("retrieval", f"{way}_recall@{k}") for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    probes = {(task, "top1") for task in ("linear-probe", "few-shot-zero-shot", "few-shot-1", "few-shot-2")}
    assert compared == {("zero-shot", "top1")} | probes | recalls
    for key in compared:
        (test,) = rows[key].comparisons.values()
        first, second = rows[key].scores
        assert test.difference.value == pytest.approx(first.value - second.value, abs=1e-12), key


def write_sugarcrepe(folder):
    (folder / "images").mkdir(parents=True)
    for category in ("swap_obj", "replace_att"):
        questions = {}
        for index, (name, color) in enumerate(COLORS.items()):
            (folder / "images" / f"{category}{index}.png").write_bytes(make_image(color, index))
            questions[str(index)] = {
                "filename": f"{category}{index}.png", "caption": f"a {name} thing", "negative_caption": "a thing"
            }  # fmt: skip
        (folder / f"{category}.json").write_text(json.dumps(questions))
    return folder


def test_sugarcrepe_is_compared_question_by_question_in_each_category(directory, tmp_path):
    folder, runs = write_sugarcrepe(tmp_path / "crepe"), []
    for seed in (0, 1):
        runs.append(str(tmp_path / str(seed)))
        model = str(directory / f"model{seed}")
        evaluate.run(make_config(directory, runs[-1], model=model, datasets=(str(folder),)))
    rows = compare.run(CompareConfig(runs=tuple(runs)))
    assert {row.metric: test.difference.n for row in rows for test in row.comparisons.values()} == {
        "replace_att": 3,
        "swap_obj": 3,
        "accuracy": 6,
        "macro_accuracy": 6,
        "blind_accuracy": 6,
    }
    for row in rows:
        (test,) = row.comparisons.values()
        first, second = row.scores
        assert test.difference.value == pytest.approx(first.value - second.value)


def test_winoground_has_predictions_for_each_of_its_scores(directory, tmp_path):
    (tmp_path / "wino").mkdir()
    for name, color in COLORS.items():
        (tmp_path / "wino" / f"{name}.png").write_bytes(make_image(color, 1))
    pairs = [("red", "green"), ("green", "blue")]
    lines = [{"image_0": a, "image_1": b, "caption_0": f"a {a} thing", "caption_1": f"a {b} thing"} for a, b in pairs]
    (tmp_path / "wino" / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = make_config(directory, tmp_path / "out", datasets=(str(tmp_path / "wino"),))
    scores = evaluate.run(config)["wino"]["compositionality"]
    table = pq.read_table(tmp_path / "out" / "predictions" / "wino.compositionality.parquet")
    for metric in ("text", "image", "group"):
        assert np.mean(table[metric].to_pylist()) == scores[metric].value


def test_other_captions_on_the_same_images_are_other_data(directory, tmp_path):
    folder = write_sugarcrepe(tmp_path / "crepe")
    evaluate.run(make_config(directory, tmp_path / "a", datasets=(str(folder),)))
    path = folder / "swap_obj.json"
    path.write_text(path.read_text().replace("a red thing", "a rad thing"))
    evaluate.run(make_config(directory, tmp_path / "b", datasets=(str(folder),)))
    with pytest.raises(DataError, match="different data under the name crepe"):
        compare.run(CompareConfig(runs=(str(tmp_path / "a"), str(tmp_path / "b"))))


def test_the_text_of_compare_shows_both_p_values(two_runs, capsys):
    assert main(["compare", *two_runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [after for line, after in pairwise(lines) if line.split()[1:3] == ["zero-shot", "top1"]]
    assert "(bootstrap)" in line
    assert "(McNemar)" in line


def test_probes_on_other_halves_of_a_dataset_are_not_compared_image_by_image(directory, tmp_path):
    write_classification(tmp_path / "alone", samples(60, 3), list(COLORS), TEMPLATES)
    runs = tuple(str(tmp_path / f"seed{seed}") for seed in (0, 1))
    for seed, out in enumerate(runs):
        evaluate.run(
            make_config(directory, out, datasets=(str(tmp_path / "alone"),), tasks=("linear-probe",), seed=seed)
        )
    assert all(not row.comparisons for row in compare.run(CompareConfig(runs=runs)))


def test_retrieval_predictions_have_a_row_per_image_with_all_captions(two_runs):
    rows = pq.read_table(f"{two_runs[0]}/predictions/captions.retrieval.parquet").to_pylist()
    assert len(rows) == 12
    assert sorted(len(row["image_ranks"]) for row in rows) == [2] * 8 + [3] * 4
    recall = np.mean([rank <= 1 for row in rows for rank in row["image_ranks"]])
    scores = read_metrics(Path(two_runs[0]))["captions"]["retrieval"]
    assert scores["text_to_image_recall@1"]["value"] == pytest.approx(recall)


@pytest.mark.parametrize(
    ("dataset", "task", "metric", "published"),
    [
        ("flickr30k", "retrieval", "image_to_text_recall@1", "88.0 (ViT-L/14@336px) [P]"),
        ("wds_flickr30k", "retrieval", "text_to_image_recall@10", "95.2 (ViT-L/14@336px) [P]"),
        ("mscoco_captions", "retrieval", "text_to_image_recall@1", "37.8 (ViT-L/14@336px) [P]"),
        ("flickr30k", "zero-shot", "image_to_text_recall@1", ""),
        ("ucf101", "zero-shot", "top1", "76.9 (ViT-L/14@336px) [U]"),  # on middle frames, which the dataset has
        ("kinetics700", "zero-shot", "mean_top1_top5", "61.3 (ViT-L/14@336px) [U]"),
        ("pets", "zero-shot", "mean_per_class", "93.5 (ViT-L/14@336px) [P2]"),
        ("pets", "zero-shot", "top1", ""),
        ("imagenet", "zero-shot-bare-name", "top1", ""),
        ("unknown", "zero-shot", "top1", ""),
    ],
)
def test_published_scores_are_those_of_the_same_protocol(dataset, task, metric, published):
    assert compare._format_published_scores(dataset, task, metric) == published
