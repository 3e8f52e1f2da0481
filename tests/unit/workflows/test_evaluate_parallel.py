"""Evaluation in several processes, on a cluster, and beside another evaluation."""

import pickle
from dataclasses import asdict
from pathlib import Path

import pytest

from zebra.errors import ConfigError
from zebra.evaluators import shards
from zebra.evaluators.parallel import embed_on_cluster, list_needed_shards
from zebra.evaluators.suite_datasets import load_requested_datasets
from zebra.file_lock import lock_folder
from zebra.pretrained.load import load
from zebra.workflows import evaluate

from ...processes import together
from . import evaluate_ranks
from .test_evaluate import directory, make_config

__all__ = ["directory"]

TASKS = ("zero-shot", "linear-probe", "retrieval")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "BATCH_SIZE", 4)
    monkeypatch.setattr(shards, "SHARD_IMAGES", 8)


def config_of(directory, out, **changes):
    datasets = tuple(str(directory / name) for name in ("colors", "captioned"))
    return make_config(directory, out, tasks=TASKS, datasets=datasets, **changes)


def test_two_processes_share_the_images_and_one_computes_the_same_scores(
    directory, tmp_path, small_shards, monkeypatch
):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    alone = evaluate.run(config_of(directory, tmp_path / "alone"))
    (tmp_path / "together").mkdir()
    config = config_of(directory, tmp_path / "together")
    first, second = together(tmp_path, 2, Path(evaluate_ranks.__file__), "run", config, str(tmp_path / "ranks"))
    assert (tmp_path / "together" / "metrics.json").read_bytes() == (tmp_path / "alone" / "metrics.json").read_bytes()
    assert (first[0], second[0]) == (alone, {})
    assert first[1] + second[1] == 60 + 60 + 3  # test, training and captioned images, each once
    assert min(first[1], second[1]) >= 50


def test_processes_with_other_data_are_told_so(directory, tmp_path):
    (tmp_path / "out").mkdir()
    arguments = asdict(config_of(directory, tmp_path / "out"))
    datasets = [str(directory / "colors"), str(directory / "captioned")]
    path = Path(evaluate_ranks.__file__)
    messages = together(tmp_path, 2, path, "run_on_other_data", arguments, str(tmp_path / "cache"), datasets)
    assert all("rank 1 has other data than rank 0" in message for message in messages)


class PicklingEngine:
    """Runs jobs as a cluster does: function, items and results are sent."""

    def map(self, function, items):
        function = pickle.loads(pickle.dumps(function))
        for item in items:
            yield pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(item)))))


def test_a_cluster_fills_the_cache_of_the_evaluation(directory, tmp_path, small_shards, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    config = config_of(directory, tmp_path / "out")
    clip, work, done = load(config.model), list_needed_shards(load_requested_datasets(config).datasets), []
    embed_on_cluster(clip, config.model, work, PicklingEngine(), lambda *counts: done.append(counts))
    assert done[-1] == (17, 17)  # eight shards of each split of 60 images, and one of three captioned images
    monkeypatch.setattr(shards, "_encode_kinds", None)  # nothing is left to encode
    metrics = evaluate.run(config)
    monkeypatch.undo()
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "other"))
    assert metrics == evaluate.run(config_of(directory, tmp_path / "alone"))


def test_a_second_evaluation_into_one_folder_is_refused(directory, tmp_path):
    out = tmp_path / "out"
    with lock_folder(out, out / ".lock"), pytest.raises(ConfigError, match="is in use by process"):
        evaluate.run(config_of(directory, out))
