"""Similar batching: groups from a store, the order of a run, resume and refusals."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zebra.config.data import DataConfig
from zebra.config.embed import EmbedConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.objective import ObjectiveConfig
from zebra.config.train import TrainConfig
from zebra.data.sources import open_source
from zebra.errors import ConfigError, DataError, StoreError
from zebra.store import Store
from zebra.train.run_dir import RunDir
from zebra.train.similar_batches import SampleGroups, group_samples, label_copies
from zebra.workflows import embed, train

from ...reliability.runs import TINY
from ...tiny_model import save_tiny_model

COLORS = [(250, 20, 20), (20, 230, 40), (30, 40, 240), (240, 230, 30)]
NUM_IMAGES = 40


def write_table(folder, name, rows):
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "caption"), *rows])
    return folder / name


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    """Forty images in four colors, one of them broken and one with two captions, and a store of their vectors."""
    root = tmp_path_factory.mktemp("similar")
    (root / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        brightness = np.kron(rng.uniform(0.1, 1, (3, 3)), np.ones((8, 8)))[..., None]
        pixels = (np.array(COLORS[number % 4]) * brightness).astype(np.uint8)
        Image.fromarray(pixels).save(root / "data" / f"{number}.png")
    (root / "data/7.png").write_bytes(b"no image")
    rows = [(f"{number}.png", f"picture {number}") for number in range(NUM_IMAGES)]
    rows[13] = ("13.png", "picture 12")
    table = write_table(root / "data", "pairs.csv", [*rows, ("0.png", "another caption")])
    save_tiny_model(root / "model")
    embed.run(
        EmbedConfig(model=str(root / "model"), data=str(table), out=str(root / "store"), thumbnail_size=0, workers=1)
    )
    return root


def config(assets, out, **changes):
    settings = {"steps": 5, "batch_size": 8, "workers": 0, "precision": "fp32", "val_fraction": 0.0}
    settings |= {"checkpoint_every": 3, "batching": "similar", "batching_store": str(assets / "store")}
    settings |= {"data_options": DataConfig(max_skip_rate=0.5)}
    return TrainConfig(**{"data": str(assets / "data/pairs.csv"), "out": str(out), "model": TINY} | settings | changes)


def test_images_of_one_color_are_in_one_cluster_and_copies_have_one_label(assets):
    source = open_source(assets / "data/pairs.csv", DataConfig())
    with Store.open(assets / "store") as store:
        groups = group_samples(store, str(assets / "data/pairs.csv"), source)
    usable = [number for number in range(NUM_IMAGES) if number != 7]
    color_of_cluster = {}
    for number in usable:
        assert color_of_cluster.setdefault(groups.cluster_N[number], number % 4) == number % 4
    assert groups.cluster_N[7] == -1
    assert groups.copy_of_N[12] == groups.copy_of_N[13]  # one caption
    assert groups.cluster_N[NUM_IMAGES] == groups.cluster_N[0]
    assert groups.copy_of_N[NUM_IMAGES] == groups.copy_of_N[0]  # one image


def test_near_duplicates_and_equal_captions_are_copies_also_indirectly():
    angles = np.array([0.0, 0.5, 0.52, 2.0, 0.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    clusters = np.array([0, 0, 0, 1, 1], np.int32)
    labels = label_copies(vectors, clusters, ["a", "b", "c", "c", None])
    assert labels[1] == labels[2] == labels[3]  # a near duplicate, whose caption is that of another image
    assert len({labels[0], labels[1], labels[4]}) == 3  # another cluster is not searched; no caption is no equal one


def batch_ids(run_config, **run_options):
    ids = []
    train.run(run_config, callback=lambda report, _scores: ids.append(report.batch.ids), **run_options)
    return ids


def test_batches_have_pairs_of_one_color_and_random_ones_do_not(assets, tmp_path, monkeypatch):
    monkeypatch.setattr("zebra.train.similar_batches.MAX_COSINE", 2.0)  # to a random model, one color is one image

    def num_neighbors_of_one_color(run_config):
        colors_SB = [[(int(name.split(":")[1]) - 2) % 4 for name in ids] for ids in batch_ids(run_config)]
        return int((np.diff(colors_SB, axis=1) == 0).sum())

    similar = config(assets, tmp_path / "similar")
    random = replace(similar, out=str(tmp_path / "random"), batching="random", batching_store=None)
    assert num_neighbors_of_one_color(similar) > num_neighbors_of_one_color(random) + 5  # of 35


def test_a_run_resumes_to_the_same_bits_even_without_the_store(assets, tmp_path):
    store = shutil.copytree(assets / "store", tmp_path / "store")
    settings = config(assets, tmp_path / "run", batching_store=str(store))
    expected = batch_ids(settings)
    killed = replace(settings, out=str(tmp_path / "killed"))
    first = batch_ids(killed, pause_at=3)
    shutil.rmtree(store)
    assert first + batch_ids(killed) == expected
    weights = [(RunDir(each.out).model / "model.safetensors").read_bytes() for each in (settings, killed)]
    assert weights[0] == weights[1]


def test_a_run_with_other_groups_is_not_resumed(assets, tmp_path):
    settings = config(assets, tmp_path / "run")
    train.run(settings, pause_at=3)
    path = RunDir(settings.out).similar_samples
    groups = SampleGroups.read(path)
    replace(groups, cluster_N=groups.cluster_N[::-1].copy()).write(path)
    with pytest.raises(ConfigError, match="belongs to a run that differs in:\n  batching"):
        train.run(settings)


def test_a_store_of_other_data_is_refused(assets, tmp_path):
    shutil.copy(assets / "data/1.png", tmp_path / "unknown.png")
    rows = [("unknown.png", f"picture {number}") for number in range(60)]
    table = write_table(tmp_path, "other.csv", rows)
    with pytest.raises(DataError, match=r"has no vector for 60 of 60 samples: .*zebra embed .* --out"):
        train.run(config(assets, tmp_path / "run", data=str(table)))
    table = write_table(tmp_path, "pairs.csv", rows[:8])
    with pytest.raises(DataError, match=r"holds vectors of other images for \d of 8 samples"):
        train.run(config(assets, tmp_path / "run", data=str(table)))
    with pytest.raises(StoreError, match="there is no store"):
        train.run(config(assets, tmp_path / "run", batching_store=str(tmp_path / "none")))


def test_similar_batching_needs_a_store_and_a_store_needs_similar_batching(assets, tmp_path):
    with pytest.raises(ConfigError, match=r"zebra embed MODEL .*pairs\.csv --out STORE, and give --batching-store"):
        config(assets, tmp_path, batching_store=None)
    with pytest.raises(ConfigError, match="zebra embed start "):
        config(assets, tmp_path, batching_store=None, val_fraction=0.1, finetune=FineTuneConfig(init_from="start"))
    with pytest.raises(ConfigError, match="Give --batching similar too"):
        config(assets, tmp_path, batching="random")
    objective = ObjectiveConfig(teacher="taught")
    assert config(assets, tmp_path, batching_store=None, objective=objective).similarity_store == "taught"
    assert config(assets, tmp_path, objective=objective).similarity_store == str(assets / "store")
