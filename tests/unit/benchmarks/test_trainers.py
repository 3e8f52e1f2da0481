"""The comparison of trainers: settings, points of the curve, ranks and differences."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zebra.data.benchmarks.tasks import ClassificationBenchmark

BITS = np.packbits(np.array([True, True, False, True])).tobytes().hex()
NO_BITS = np.packbits(np.array([True, False, False, False])).tobytes().hex()


@pytest.fixture(scope="module")
def runs(script):
    return script("trainers_runs")


@pytest.fixture(scope="module")
def report(script):
    return script("trainers_report")


def row(trainer, correct, values, cpu_seconds):
    curve = [
        {
            "samples": 10 * (n + 1),
            "cpu_seconds": seconds,
            "seen-kinds": {"top1": value},
            "unseen-kinds": {"top1": value},
        }
        for n, (value, seconds) in enumerate(zip(values, cpu_seconds, strict=True))
    ]
    names = {"seen-kinds": 4, "unseen-kinds": 4}
    return {
        "world": "menagerie", "trainer": trainer, "settings": trainer, "epochs": 1, "seed": 0, "images": names,
        "curve": curve, "correct": {f"{name}, all": correct for name in names},
    }  # fmt: skip


def test_open_clips_settings_change_vocabulary_and_optimizer_and_nothing_else(runs):
    own, peer = (
        runs.zebra_config(runs.RunSettings("data.csv", name, 0, 1, 600), "tiny", "merges.txt.gz")
        for name in ("zebra", "open_clip")
    )
    assert peer.tokenizer == "merges.txt.gz"
    assert (peer.optimizer.beta2, peer.optimizer.eps, peer.optimizer.grad_clip_norm) == (0.999, 1e-8, 0)
    assert replace(peer, tokenizer=None, optimizer=own.optimizer) == own


def test_a_change_of_a_nested_setting_keeps_its_neighbors(runs):
    changed = runs.merge_mappings({"a": {"b": 1, "c": {"d": 2}}, "e": None}, {"a": {"c": {"f": 3}}, "e": {"g": 4}})
    assert changed == {"a": {"b": 1, "c": {"d": 2, "f": 3}}, "e": {"g": 4}}


def test_the_recipe_before_muon_differs_in_the_optimizer_only(runs):
    own, adamw = (
        runs.zebra_config(runs.RunSettings("data.csv", name, 0, 1, 600), "tiny", "") for name in ("zebra", "adamw")
    )
    assert (own.optimizer.name, adamw.optimizer.name) == ("muon", "adamw")
    assert replace(adamw, optimizer=own.optimizer) == own
    assert replace(adamw.optimizer, name="muon") == own.optimizer


@pytest.mark.parametrize("steps", [6, 7, 680])
def test_the_curve_has_six_points_and_ends_with_the_run(runs, steps):
    points = runs.RunSettings("data.csv", "zebra", 0, 1, steps).curve_steps
    assert len(points) == len(set(points)) == 6
    assert points[-1] == steps


def test_a_run_leaves_a_model_for_each_point_of_the_curve(runs, tmp_path):
    rng = np.random.default_rng(0)
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filepath", "caption"])
        for index in range(8):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{index}.png")
            writer.writerow([f"{index}.png", f"image number {index}"])
    settings = runs.RunSettings(str(tmp_path / "train.csv"), "zebra", 0, 1, 7)
    snapshots = runs.train_with_zebra(settings, replace(runs.zebra_config(settings, "tiny", ""), batch_size=4))
    assert [snapshot.step for snapshot in snapshots] == settings.curve_steps
    seconds = [snapshot.cpu_seconds for snapshot in snapshots]
    assert seconds == sorted(seconds)
    first, last = (snapshot.encoder.encode_texts(["image number 1"]) for snapshot in (snapshots[0], snapshots[-1]))
    assert not np.allclose(first, last)


def test_the_rank_of_a_label_counts_all_classes_and_those_with_an_image(runs):
    text_CE = np.eye(3, dtype=np.float32)
    image_NE = np.array([[0.6, 0.8, 0.0], [1.0, 0.0, 0.0]], np.float32)
    benchmark = ClassificationBenchmark("set", ("a", "b", "c"), ("{c}",), None)
    encoder = runs.Encoder(lambda _: image_NE, lambda texts: text_CE[[ord(text) - ord("a") for text in texts]])
    ranks = runs.LoadedBenchmark("set", benchmark, (b"", b""), np.array([0, 2])).rank_labels(encoder)
    assert ranks["all"].tolist() == [1, 1]
    assert ranks["present"].tolist() == [0, 1]
    assert runs.score_ranks(ranks) == {"top1": 0.0, "top5": 1.0, "top1 of present": 0.5}


def test_the_seconds_to_an_accuracy_are_interpolated_on_the_curve(report):
    result = report.RunResult((row("zebra", BITS, [0.2, 0.4, 0.5], [10, 20, 30]),))
    assert result.seconds_to_reach("seen-kinds", "top1", 0.3) == pytest.approx(15)
    assert result.seconds_to_reach("seen-kinds", "top1", 0.5) == pytest.approx(30)
    assert result.seconds_to_reach("seen-kinds", "top1", 0.6) is None


def test_the_table_names_scores_differences_and_seconds(report, capsys):
    report.print_table([row("zebra", BITS, [0.5, 0.75], [10, 20]), row("open_clip", NO_BITS, [0.1, 0.25], [20, 40])])
    out = capsys.readouterr().out
    assert "| zebra | 1 | 75.0% | 75.0% | 20 |" in out
    assert "| open_clip | 1 | 25.0% | 25.0% | 40 |" in out
    assert "zebra - open_clip, seen-kinds (all): +50.0 [+0.0, +100.0] points" in out
    assert "CPU seconds to 25.0% on seen-kinds: 10 against 40, 4.00 times fewer" in out


def test_the_figure_is_written_for_the_worlds_that_have_rows(report, tmp_path):
    report.write_plot([row("zebra", BITS, [0.5, 0.75], [10, 20])], tmp_path / "trainers.svg")
    assert "menagerie: unseen kinds" in (tmp_path / "trainers.svg").read_text(encoding="utf-8")
