"""Tests of the splits that probes use, and of what probes need."""

import numpy as np
import pyarrow.parquet as pq
import pytest

import zebra
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.benchmarks.writer import write_classification, write_multilabel
from zebra.errors import DataError
from zebra.evaluators import embeddings, linear_probe, run_tasks
from zebra.evaluators.results_io import read_results
from zebra.evaluators.training_splits import load_training_splits
from zebra.protocols.linear_probe import fit_linear_probe
from zebra.workflows import evaluate

from .test_evaluate import COLORS, TEMPLATES, count_encoder_calls, directory, make_config, samples

__all__ = ["directory"]


def write(folder, counts, *, classes=(0, 1, 2)):
    """Write a dataset with the given number of samples in each split, of the given classes in the training split."""
    for seed, (split, count) in enumerate(counts.items()):
        rows = [row for row in samples(count, seed) if split != "train" or row[2] in classes]
        write_classification(folder, rows, list(COLORS), TEMPLATES, split)
    return folder


def run(directory, folder, out, *tasks, **changes):
    return evaluate.run(make_config(directory, out, datasets=(str(folder),), tasks=tasks, **changes))


def notes_of(out):
    return {note for result in read_results(out / "results.jsonl") for note in result.notes}


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_the_validation_split_chooses_the_penalty_and_joins_the_training_examples(directory, tmp_path, name):
    folder = write(tmp_path / "colors", {"test": 30, "train": 12, name: 21})
    score = run(directory, folder, tmp_path / "out", "linear-probe")["colors"]["linear-probe"]["top1"]
    assert f"fitted to 12 training examples and the 21 of the split {name}, which chose λ" in notes_of(tmp_path / "out")
    clip = zebra.load(directory / "model0")
    train, validation, test = (
        embeddings.embed_source(clip, read_classification(folder, split).source, projected=False)
        for split in ("train", name, "test")
    )
    expected = fit_linear_probe(train, test, 3, validation=validation)
    assert score == expected.result.scores()["top1"]
    assert f"λ = {expected.probe.l2_penalty:.3g}" in notes_of(tmp_path / "out")


@pytest.mark.parametrize(("limit", "has_warning"), [(1000, True), (12, False)])
def test_a_note_says_that_a_random_fifth_chose_the_penalty(directory, tmp_path, monkeypatch, limit, has_warning):
    monkeypatch.setattr(linear_probe, "SMALL_TRAINING_SPLIT", limit)
    run(directory, write(tmp_path / "colors", {"test": 15, "train": 12}), tmp_path / "out", "linear-probe")
    (note,) = (note for note in notes_of(tmp_path / "out") if note.startswith("λ was chosen on a random fifth"))
    assert ("with only 12, another fifth can move the score" in note) == has_warning


def test_the_evaluated_split_is_never_used_for_training(directory, tmp_path):
    folder = write(tmp_path / "colors", {"test": 30, "train": 12, "val": 21})
    val = read_classification(folder, "val")
    splits = load_training_splits(str(folder), val, "val", None)
    assert splits is not None
    assert splits.validation is None
    with pytest.raises(DataError, match="evaluated on its own examples"):
        load_training_splits(str(folder), read_classification(folder, "train"), "train", None)


def test_a_multilabel_probe_uses_the_validation_split(directory, tmp_path):
    folder = tmp_path / "several"
    for split, count in (("test", 30), ("train", 12), ("val", 21)):
        rows = [(image, suffix, np.arange(3) == label) for image, suffix, label in samples(count, len(split))]
        write_multilabel(folder, rows, list(COLORS), TEMPLATES, split)
    run(directory, folder, tmp_path / "out", "linear-probe")
    assert "fitted to 12 training examples and the 21 of the split val, which chose λ" in notes_of(tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "predictions" / "several.linear-probe.parquet").to_pylist()
    assert len(rows) == 30
    assert [len(row["scores"]) for row in rows[:2]] == [3, 3]
    assert rows[0]["labels"] == [0]


@pytest.mark.parametrize("damage", ["shard", "count", "empty", "garbage"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_split_is_an_error_and_not_taken_for_a_missing_one(directory, tmp_path, split, damage):
    folder = write(tmp_path / "colors", {"test": 30, "train": 12, "val": 12})
    if damage == "shard":
        (folder / split / "0.tar").unlink()
    elif damage == "count":
        (folder / split / "nshards.txt").unlink()
    elif damage == "empty":
        (folder / split / "0.tar").write_bytes(b"")
    else:
        (folder / split / "nshards.txt").write_text("many\n")
    with pytest.raises(DataError):
        run(directory, folder, tmp_path / "out", "linear-probe")


def test_a_damaged_training_table_is_an_error(directory, tmp_path):
    for number, (image, _, _) in enumerate(samples(6, 0)):
        (tmp_path / f"{number}.png").write_bytes(image)
    rows = [f"{number}.png,{list(COLORS)[number % 3]},test" for number in range(6)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label,split", *rows, ",red,train", ""]))
    with pytest.raises(DataError, match=r"table\.csv:8"):
        run(directory, table, tmp_path / "out", "linear-probe")


def test_a_linear_probe_alone_needs_no_example_of_each_class(directory, tmp_path):
    folder = write(tmp_path / "colors", {"test": 30, "train": 24}, classes=(0, 1))
    metrics = run(directory, folder, tmp_path / "out", "linear-probe")
    assert set(metrics["colors"]) == {"linear-probe"}
    with pytest.raises(DataError, match=r"'blue' of colors has 0 training examples.*leave out the task few-shot"):
        run(directory, folder, tmp_path / "few", "few-shot")


def test_a_linear_probe_alone_fits_no_few_shot_probes(directory, tmp_path, monkeypatch):
    from zebra.evaluators import linear_probe

    monkeypatch.setattr(linear_probe, "fit_few_shot_probes", None)
    run(directory, directory / "colors", tmp_path / "out", "linear-probe")


def test_as_many_shots_as_training_examples_are_possible(directory, tmp_path):
    folder = write(tmp_path / "colors", {"test": 30, "train": 12})
    metrics = run(directory, folder, tmp_path / "out", "few-shot", shots=(1, 4))
    assert set(metrics["colors"]) == {"few-shot-zero-shot", "few-shot-1", "few-shot-4"}


def test_the_test_images_pass_the_image_tower_once_for_all_tasks(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    clip = zebra.load(directory / "model0")
    encoded = []
    encode = clip.encode_pixels_with_features
    monkeypatch.setattr(clip, "encode_pixels_with_features", lambda p: encoded.append(len(p)) or encode(p))
    calls = count_encoder_calls(clip)
    config = make_config(directory, tmp_path, tasks=("zero-shot", "linear-probe", "few-shot"), shots=(1,))
    benchmark = read_classification(directory / "colors")
    results = list(run_tasks.evaluate_dataset(clip, benchmark, str(directory / "colors"), config))
    assert [result.task for result in results] == ["zero-shot", "linear-probe", "few-shot-zero-shot", "few-shot-1"]
    assert (sum(encoded), calls) == (120, [])  # 60 test and 60 training images, none of them by the whole tower


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_pass_gives_the_same_features_and_vectors_as_two(directory, tmp_path, monkeypatch, precision):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    clip = zebra.load(directory / "model0", precision=precision)
    source = read_classification(directory / "colors").source
    features, vectors = embeddings.embed_features_and_vectors(clip, source)
    assert np.array_equal(features.vectors, embeddings.embed_indices(clip, source, range(60), projected=False).vectors)
    assert np.array_equal(vectors.vectors, embeddings.embed_indices(clip, source, range(60)).vectors)
    assert features.ids == vectors.ids == tuple(source.sample_id(index) for index in range(60))
    assert np.array_equal(embeddings.embed_source(clip, source).vectors, vectors.vectors)
