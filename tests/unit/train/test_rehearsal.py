"""Rehearsal: earlier data in each batch, without the images of the new data, and resumed exactly."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.tiny_model import save_tiny_model

import zebra
from zebra.config.data import DataConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.objective import ObjectiveConfig
from zebra.config.train import OptimizerConfig, TrainConfig
from zebra.data.rehearsal import exclude_images, join_rehearsal
from zebra.data.sources import open_source
from zebra.data.splits import train_val_test_split
from zebra.errors import ConfigError, DataError
from zebra.workflows import train


def write_pairs(folder, count, first=0):
    """Draw noise captioned by its number; images of equal numbers have equal bytes."""
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "caption"])
        for number in range(first, first + count):
            pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            rows.writerow([f"{number}.png", f"a photo of number {number}"])
    return folder / "captions.csv"


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    root = tmp_path_factory.mktemp("rehearsal")
    write_pairs(root / "new", 30)
    write_pairs(root / "earlier", 20, first=100)
    for kind in ("vit", "naflex"):
        save_tiny_model(root / kind, kind=kind)
    return root


def make_config(assets, out, kind="vit", **changes):
    return replace(
        TrainConfig(
            data=str(assets / "new/captions.csv"),
            rehearse=str(assets / "earlier/captions.csv"),
            out=str(out),
            model=zebra.load(assets / kind).model.config,
            finetune=FineTuneConfig(init_from=str(assets / kind), patience=50),
            optimizer=OptimizerConfig(warmup_steps=1),
            steps=6,
            batch_size=8,
            val_fraction=0.2,
            eval_every=4,
            workers=0,
            precision="fp32",
        ),
        **changes,
    )


def run_and_watch(config):
    """Train; return the batches."""
    batches = []
    train.run(config, callback=lambda report, _scores: batches.append(report.batch))
    return batches


def test_each_batch_has_its_share_of_earlier_pairs(assets, tmp_path):
    batches = run_and_watch(make_config(assets, tmp_path / "run", rehearse_fraction=0.25))
    assert [(len(batch.ids), len(batch.rehearsal.ids)) for batch in batches] == [(6, 2)] * 6
    pairs = join_rehearsal(batches[0])
    assert pairs.images.shape == (8, 3, 64, 64)
    assert torch.equal(pairs.images[6:], batches[0].rehearsal.images)
    assert pairs.captions[6:] == batches[0].rehearsal.captions
    assert all(int(caption.split()[-1]) >= 100 for batch in batches for caption in batch.rehearsal.captions)
    assert all(int(caption.split()[-1]) < 100 for batch in batches for caption in batch.captions)


def test_epochs_count_the_new_data(assets, tmp_path):
    config = make_config(assets, tmp_path / "run", steps=None, epochs=2)
    assert len(run_and_watch(config)) == 9  # 18 training images, 4 in each batch
    counts = json.loads((tmp_path / "run/data.json").read_text())
    assert [epoch["complete"] for epoch in counts["epochs"]] == [True, True]
    assert [epoch["consumed"] for epoch in counts["rehearsal"]["epochs"]] == [20, 16]


def test_images_of_the_new_data_are_left_out_and_counted(assets, tmp_path):
    table = write_pairs(tmp_path / "both", 40, first=10)  # 10 … 29 are new data, training and held out
    with pytest.warns(UserWarning, match="20 of the 40 samples .* are in --data too"):
        batches = run_and_watch(make_config(assets, tmp_path / "run", rehearse=str(table)))
    assert all(int(caption.split()[-1]) >= 30 for batch in batches for caption in batch.rehearsal.captions)
    counts = json.loads((tmp_path / "run/data.json").read_text())["rehearsal"]
    assert (counts["found"], counts["also_in_data"]) == (40, 20)
    assert sum(epoch["consumed"] for epoch in counts["epochs"]) == 24


def test_a_copy_under_another_name_counts_as_the_same_image_and_a_bad_sample_stays(assets, tmp_path):
    table = write_pairs(tmp_path / "copies", 12, first=200)
    (tmp_path / "copies/203.png").write_bytes((assets / "new/5.png").read_bytes())
    (tmp_path / "copies/204.png").unlink()
    splits = train_val_test_split(open_source(assets / "new/captions.csv", DataConfig()), 0.2)
    with pytest.warns(UserWarning, match="1 of the 12 samples"):
        data = exclude_images(open_source(table, DataConfig()), splits.image_digests)
    names = [data.source.sample_id(index) for index in range(len(data.source))]
    assert names == [f"captions.csv:{line}" for line in range(2, 14) if line != 5]


def test_rehearsal_of_the_new_data_itself_is_refused(assets, tmp_path):
    with pytest.raises(DataError, match=r"all of its 30 images are in --data too.*Name the data"):
        train.run(make_config(assets, tmp_path / "run", rehearse=str(assets / "new/captions.csv")))
    assert not (tmp_path / "run").exists()


def test_fewer_earlier_pairs_than_a_batch_needs_are_refused(assets, tmp_path):
    table = write_pairs(tmp_path / "few", 3, first=300)
    with pytest.raises(DataError, match="has 3 samples, fewer than one batch of 4"):
        train.run(make_config(assets, tmp_path / "run", rehearse=str(table)))


def test_bad_earlier_pairs_are_counted_and_listed(assets, tmp_path):
    table = write_pairs(tmp_path / "bad", 10, first=400)
    (tmp_path / "bad/405.png").write_bytes(b"no image")
    config = make_config(assets, tmp_path / "run", rehearse=str(table))
    train.run(replace(config, data_options=DataConfig(max_skip_rate=0.2)))
    counts = json.loads((tmp_path / "run/data.json").read_text())
    assert counts["epochs"][0]["skipped"] == {}
    assert counts["rehearsal"]["epochs"][0]["skipped"] == {"not an image": 1}
    assert "bad" not in (tmp_path / "run/skipped.jsonl").read_text()
    assert (
        len((tmp_path / "run/skipped-rehearsal.jsonl").read_text().splitlines())
        == len(counts["rehearsal"]["epochs"]) - 1
    )  # one in each complete epoch


@pytest.mark.parametrize("kind", ["vit", "naflex"])
def test_an_interrupted_run_resumes_to_the_same_weights(assets, tmp_path, kind):
    config = make_config(assets, tmp_path / "whole", kind, chunk_size=3)
    train.run(config)

    def stop(report, _scores):
        if report.step == 4:
            raise KeyboardInterrupt

    parts = replace(config, out=str(tmp_path / "parts"), checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        train.run(parts, callback=stop)
    train.run(parts)
    first, second = (zebra.load(tmp_path / name / "model") for name in ("whole", "parts"))
    assert first.fingerprint == second.fingerprint
    counts = [json.loads((tmp_path / name / "data.json").read_text()) for name in ("whole", "parts")]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("rehearse", [None, "other"])
def test_a_run_resumed_with_other_earlier_data_is_refused(assets, tmp_path, rehearse):
    config = make_config(assets, tmp_path / "run", checkpoint_every=2)

    def stop(report, _scores):
        if report.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(config, callback=stop)
    other = rehearse and str(write_pairs(tmp_path / "other", 20, first=500))
    with pytest.raises(ConfigError, match="belongs to a run that differs in:\n  rehearsal"):
        train.run(replace(config, rehearse=other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rehearse_fraction": 0.0}, "rehearse_fraction is 0.0"),
        ({"rehearse_fraction": 1.0}, "rehearse_fraction is 1.0"),
        ({"rehearse_fraction": float("nan")}, "rehearse_fraction is nan"),
        ({"rehearse_fraction": 0.01}, "Give both kinds at least one pair"),
        ({"rehearse_fraction": 0.99}, "Give both kinds at least one pair"),
        ({"objective": ObjectiveConfig(teacher="store")}, "has vectors of data only, not of rehearse"),
    ],
)
def test_shares_without_new_or_earlier_pairs_and_a_teacher_are_refused(assets, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_config(assets, tmp_path, **changes)


def test_rehearsal_without_a_pretrained_model_is_refused(assets, tmp_path):
    with pytest.raises(ConfigError, match="rehearse needs a pretrained model"):
        replace(make_config(assets, tmp_path), finetune=None)
