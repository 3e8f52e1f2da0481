"""The curation experiment: which drops are right, paired differences, resumed runs, and the page."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def wild(script):
    return script("wild_menagerie")


@pytest.fixture(scope="module")
def arms(script):
    return script("curation_arms")


@pytest.fixture(scope="module")
def report(script):
    return script("curation_report")


@pytest.fixture(scope="module")
def training(script):
    return script("curation_training")


ROWS = [  # noise, position of the original
    ("clean", 0),
    ("wrong caption", 1),
    ("exact copy", 0),
    ("near copy", 0),
    ("clean", 4),
    ("evaluation image", 5),
]


@pytest.fixture
def truth(arms, wild, tmp_path):
    rows = [
        {"key": wild.make_key(n), "noise": noise, "original": wild.make_key(original), "animal": "cat", "coat": "plain"}
        for n, (noise, original) in enumerate(ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows, wild.TRUTH_SCHEMA), tmp_path / "truth.parquet")
    return arms.Truth(tmp_path)


@pytest.mark.parametrize(
    ("present", "dropped", "wrong"),
    [
        ([0, 1, 2, 3, 4], [1, 2, 3], []),  # a perfect curator
        ([0, 1, 2, 3, 4], [0], [0]),  # the original goes, a copy stays
        ([1, 2, 3, 4], [2], [2]),  # a copy stands for its original
        ([1, 2, 3, 4], [3], []),
        ([0, 1], [0, 1], [0]),
        ([1, 5], [1, 5], []),
    ],
)
def test_a_drop_is_wrong_if_it_is_the_first_present_pair_of_a_clean_image(arms, truth, present, dropped, wrong):
    assert arms.find_wrong_drops(truth, np.array(present), np.array(dropped)).tolist() == wrong


def test_stages_are_read_by_the_name_of_the_sample(arms, tmp_path):
    rows = {"id": ["00000.tar/000000002", "00000.tar/000000000"], "stage": ["text", None]}
    pq.write_table(pa.table(rows), tmp_path / "decisions.parquet")
    assert arms.read_stages(tmp_path, 3).tolist() == ["", "", "text"]


def test_alignment_keeps_a_share_and_treats_leaked_images_apart(arms, training, truth, tmp_path):
    training.save_arm(tmp_path, "D with leaks", np.array([0, 1, 2, 3, 4, 5]))
    score_K = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.95], np.float32)
    arms.select_aligned(tmp_path, "E", score_K, truth)
    assert training.load_arm(tmp_path, "E").tolist() == [0, 2, 4]
    assert training.load_arm(tmp_path, "E with leaks").tolist() == [0, 2, 4, 5]


def make_result(report, correct_SN, seeds=(0, 1)):
    return report.ArmResult(seeds, {"unseen": np.array(correct_SN, np.bool_)}, 10)


def test_differences_are_paired_over_common_seeds_and_images(report):
    rng = np.random.default_rng(0)
    first_SN = rng.random((2, 400)) < 0.6
    second_SN = first_SN.copy()
    second_SN[:, :40] = False
    difference, num_seeds = report.compare(
        make_result(report, first_SN), make_result(report, np.vstack([second_SN, ~second_SN[:1]]), (0, 1, 2)), "unseen"
    )
    assert num_seeds == 2
    assert difference.value == pytest.approx(first_SN.mean() - second_SN.mean())
    assert 0 < difference.low < difference.value < difference.high < 0.1


def test_the_interval_of_equal_models_is_zero(report):
    result = make_result(report, [[True, False], [False, True]])
    difference, _ = report.compare(result, result, "unseen")
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def make_row(arm: str, seed: int, correct: list[bool]) -> dict:
    bits = np.packbits(np.array(correct)).tobytes().hex()
    curve = [{"step": step, "seen": 0.1 * step, "unseen": 0.05 * step} for step in (1, 2)]
    return {
        "experiment": "test",
        "arm": arm,
        "seed": seed,
        "steps": 2,
        "batch_size": 4,
        "pairs": 5,
        "top1": {"seen": 0.5, "unseen": 0.5},
        "images": {"seen": len(correct), "unseen": len(correct)},
        "curve": curve,
        "correct": {"seen": bits, "unseen": bits},
    }


@pytest.fixture
def results(training, tmp_path, monkeypatch):
    """Return the folder of results, with two arms of another number of steps and three of this one."""
    monkeypatch.setattr(training, "RESULTS", tmp_path)
    rows = [make_row(arm, 0, [True] * n + [False] * (10 - n)) for arm, n in (("A", 3), ("F", 6), ("G", 7))]
    rows.append(make_row("A", 1, [True] * 10) | {"steps": 9})
    (tmp_path / "curation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def experiment(training, tmp_path):
    config = SimpleNamespace(steps=2, batch_size=4)
    return training.Experiment(tmp_path, "test", config, (), None)


def test_a_run_whose_row_exists_is_not_repeated(training, results, experiment, monkeypatch):
    monkeypatch.setattr(training, "export_arm", lambda *_: pytest.fail("trains again"))
    assert {(row["arm"], row["seed"]) for row in experiment.read_rows()} == {("A", 0), ("F", 0), ("G", 0)}
    experiment.train_arm("F", 0)


def test_the_page_shows_gain_and_share_of_the_way_to_the_oracle(report, training, results, experiment, truth):
    for arm, positions in {"A": [0, 1, 2, 3, 4], "C": [0, 2, 3, 4], "D": [0, 4], "E": [0, 4], "F": [0]}.items():
        training.save_arm(results, arm, np.array(positions))
    report.write_report(experiment, truth, results / "page.html")
    page = (results / "page.html").read_text()
    assert "+30.0" in page  # 6 of 10 right instead of 3
    assert "75%" in page  # of the 4 between A and G
    table = report.measure_stages(results, truth)
    assert table["rules"]["wrong caption"] == (1, 1)
    assert table["duplicates"] == dict.fromkeys(table["rules"], (0, 0)) | {
        "clean": (2, 0),
        "exact copy": (1, 1),
        "near copy": (1, 1),
    }


def test_arms_are_exported_with_their_pairs_only(training, wild, tmp_path, monkeypatch):
    from zebra.config.data import DataConfig
    from zebra.data.sources import open_source

    monkeypatch.setattr(wild, "write_menagerie", lambda *_args, **_options: None)
    wild.write_pool(tmp_path, 30, 3)
    training.save_arm(tmp_path, "B", np.array([17, 4]))
    folder: Path = training.export_arm(tmp_path, "B")
    source = open_source(str(folder), DataConfig())
    pool = open_source(str(tmp_path / "pool"), DataConfig())
    assert [source.sample_id(n).split("/")[1] for n in range(len(source))] == ["000000004", "000000017"]
    assert [source.read(n).image for n in range(2)] == [pool.read(n).image for n in (4, 17)]
    opened = training.Experiment.open(tmp_path, steps=7)
    assert (opened.config.steps, opened.config.batch_size, opened.curation.text.max_frequency) == (7, 48, 10)
