"""Distillation: a run learns from the vectors that a teacher stored for its data, and from no others."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.config.data import DataConfig
from zebra.config.embed import EmbedConfig
from zebra.config.objective import ObjectiveConfig
from zebra.config.train import LogConfig, TrainConfig
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import open_images, open_source
from zebra.embed.hash_index import HashIndex
from zebra.errors import ConfigError, DataError
from zebra.pretrained.load import load
from zebra.store import Store
from zebra.store.pca import fit_principal_axes
from zebra.train.caption_vectors import caption_vectors_folder
from zebra.train.checkpoint import load_checkpoint
from zebra.train.store_rows import find_sample
from zebra.train.stored_vectors import VectorTable
from zebra.train.teacher import Teacher, copy_image_vectors
from zebra.values import Batch
from zebra.workflows import embed, train

from ...reliability.runs import TINY
from ...tiny_model import save_tiny_model

NUM_IMAGES = 24


def draw(path, number):
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def caption(number):
    return f"image of {number % 5} things"


def write_folder(folder):
    """Write images with captions, also two of the same name in different folders."""
    (folder / "a").mkdir(parents=True)
    for number in range(NUM_IMAGES):
        path = folder / ("a" if number % 2 else ".") / f"{number // 2}.png"
        draw(path, number)
        path.with_suffix(".txt").write_text(caption(number))
    return folder


def embed_store(model, data, out, **options):
    config = {"precision": "fp32", "workers": 1, "captions": True, "thumbnail_size": 0} | options
    return embed.run(EmbedConfig(model=str(model), data=str(data), out=str(out), **config))


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    root = tmp_path_factory.mktemp("teacher")
    write_folder(root / "data")
    save_tiny_model(root / "model")
    embed_store(root / "model", root / "data", root / "store")
    return root


def config(assets, out, store=None, **changes):
    settings = {"model": TINY, "steps": 6, "batch_size": 8, "workers": 0, "precision": "fp32", "val_fraction": 0.0}
    objective = ObjectiveConfig(teacher=str(store or assets / "store"))
    log = LogConfig(every=1)
    paths = {"data": str(assets / "data"), "out": str(out)}
    return TrainConfig(**(settings | {"objective": objective, "log": log, "checkpoint_every": 3} | paths | changes))


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def write_table(folder):
    folder.mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "caption"])
        for number in range(4):
            draw(folder / f"{number}.png", number)
            rows.writerow([f"{number}.png", caption(number)])
    return folder / "captions.csv"


def write_shards(folder):
    draw(folder.with_suffix(".png"), 0)
    image = folder.with_suffix(".png").read_bytes()
    with ShardWriter(folder, samples_per_shard=2) as writer:
        for key in ("x", "a/x", "y", "b/y"):
            writer.write(key, {"png": image, "txt": b"a caption"})
    return folder


@pytest.mark.parametrize("write", [write_folder, write_table, write_shards])
def test_the_location_of_a_row_leads_to_its_sample_in_every_layout(tmp_path, write):
    data = write(tmp_path / "data")
    source, index = open_source(data, DataConfig()), HashIndex()
    index.add([source.sample_id(number) for number in range(len(source))], 0)
    scanned = [ref.location.key for ref in open_images(data, DataConfig()).scan()]
    assert [find_sample(index, key) for key in scanned] == list(range(len(source)))
    assert find_sample(index, "/elsewhere/unknown.png") is None


def test_each_sample_and_each_caption_has_the_vector_that_the_teacher_gives_it(assets, tmp_path):
    source, clip = open_source(assets / "data", DataConfig()), load(assets / "model", precision="fp32")
    images = copy_image_vectors(Store.open(assets / "store"), "data", source, tmp_path / "images")
    records = [source.read(number) for number in range(len(source))]
    found = images.look_up([record.id for record in records], "sample")
    expected = clip.encode_images([assets / "data" / record.id for record in records])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    captions = VectorTable(caption_vectors_folder(assets / "store"))
    texts = [caption(number) for number in range(5)]
    torch.testing.assert_close(captions.look_up(texts, "caption"), clip.encode_texts(texts), rtol=0, atol=2e-3)
    assert (len(captions), captions.info.logit_scale) == (5, pytest.approx(clip.logit_scale))


def test_a_run_logs_its_terms_and_their_sum_is_the_loss(assets, tmp_path):
    train.run(config(assets, tmp_path / "run"))
    for line in read_log(tmp_path / "run"):
        assert line["terms"].keys() == {"contrastive", "teacher_feature", "teacher_affinity"}
        assert sum(line["terms"].values()) == pytest.approx(line["loss"], rel=1e-5)


def test_a_resumed_run_ends_with_the_same_bits_even_if_the_store_was_removed_from_its_images(assets, tmp_path):
    store = shutil.copytree(assets / "store", tmp_path / "store")
    settings = config(assets, tmp_path / "run", store)
    train.run(settings)
    expected = load_checkpoint(tmp_path / "run/checkpoints/step-00000006").tensors
    shutil.rmtree(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000006")
    shutil.rmtree(store / "images.lance")
    train.run(settings)
    resumed = load_checkpoint(tmp_path / "run/checkpoints/step-00000006").tensors
    assert all(torch.equal(resumed["model"][name], value) for name, value in expected["model"].items())


def test_a_run_is_not_resumed_with_another_teacher(assets, tmp_path):
    store = shutil.copytree(assets / "store", tmp_path / "store")
    settings = config(assets, tmp_path / "run", store)
    train.run(settings)
    shutil.rmtree(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/teacher")
    shutil.rmtree(store)
    embed_store(save_tiny_model(tmp_path / "other", seed=1), assets / "data", store)
    with pytest.raises(ConfigError, match=r"teacher\.fingerprint"):
        train.run(settings)


def batch_of(source, numbers):
    records = [source.read(number) for number in numbers]
    captions, ids = tuple(record.captions[0] for record in records), tuple(record.id for record in records)
    return Batch(torch.zeros(len(numbers), 3, 4, 4), captions, ids, (None,) * len(numbers))


@pytest.mark.parametrize("width", [16, 32, 48])
def test_a_teacher_of_any_width_gives_targets_of_the_students_width(assets, tmp_path, width):
    source = open_source(assets / "data", DataConfig())
    images = copy_image_vectors(Store.open(assets / "store"), "data", source, tmp_path / "images")
    captions = VectorTable(caption_vectors_folder(assets / "store"))
    teacher = Teacher(ObjectiveConfig(teacher="store"), images, captions, width)
    targets = teacher.targets_of(batch_of(source, range(6)), torch.device("cpu"))
    projected = torch.nn.functional.normalize(targets.to_student(targets.image_BT), dim=1)
    assert projected.shape == (6, width)
    if width >= 32:  # nothing is lost
        assert targets.image_BT.shape == (6, 32)
        torch.testing.assert_close(projected @ projected.T, targets.image_BT @ targets.image_BT.T)


def test_without_caption_vectors_the_images_alone_learn_from_the_teacher(assets, tmp_path):
    embed_store(assets / "model", assets / "data", tmp_path / "store", captions=False)
    train.run(config(assets, tmp_path / "run", tmp_path / "store"))
    assert all(line["terms"].keys() == {"contrastive", "teacher_feature"} for line in read_log(tmp_path / "run"))


def test_images_without_a_vector_are_counted_and_named_before_the_first_step(assets, tmp_path):
    data = shutil.copytree(assets / "data", tmp_path / "data")
    for name in ("new", "newer"):
        draw(data / f"{name}.png", 99)
        (data / f"{name}.txt").write_text("a caption")
    with pytest.raises(DataError, match=r"no vector for 2 of 26 samples: .new.png., .newer.png.. Embed them:"):
        train.run(config(assets, tmp_path / "run", data=str(data)))
    assert not (tmp_path / "run/checkpoints").exists()


def test_images_that_could_not_be_embedded_are_not_missed(assets, tmp_path):
    data = shutil.copytree(assets / "data", tmp_path / "data")
    (data / "broken.png").write_bytes(b"not an image")
    (data / "broken.txt").write_text("a caption")
    embed_store(assets / "model", data, tmp_path / "store")
    settings = config(assets, tmp_path / "run", tmp_path / "store", data=str(data))
    options = replace(settings.data_options, max_skip_rate=0.5)
    assert train.run(replace(settings, data_options=options)).is_finished


def test_a_store_of_other_images_under_the_same_names_is_refused(assets, tmp_path):
    data = shutil.copytree(assets / "data", tmp_path / "data")
    draw(data / "3.png", 77)
    with pytest.raises(DataError, match=r"other images for 1 of 24 samples .*'3.png'"):
        train.run(config(assets, tmp_path / "run", data=str(data)))


def test_rows_of_another_dataset_with_the_same_names_are_not_used(assets, tmp_path):
    other = write_folder(tmp_path / "other")
    for path in other.rglob("*.png"):
        draw(path, 100 + sum(path.name.encode()))
    store = shutil.copytree(assets / "store", tmp_path / "store")
    embed_store(assets / "model", other, store)
    source = open_source(assets / "data", DataConfig())
    opened = Store.open(store)
    table = copy_image_vectors(opened, str(assets / "data"), source, tmp_path / "images")
    before = copy_image_vectors(Store.open(assets / "store"), "data", source, tmp_path / "before")
    ids = [source.sample_id(number) for number in range(len(source))]
    assert torch.equal(table.look_up(ids, "sample"), before.look_up(ids, "sample"))
    with pytest.raises(DataError, match="several datasets with other images under the IDs of 24 samples"):
        copy_image_vectors(opened, "moved/data", source, tmp_path / "images")


def test_captions_of_another_model_than_the_images_are_refused(assets, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=1)
    store = shutil.copytree(assets / "store", tmp_path / "store")
    embed_store(other, assets / "data", tmp_path / "other-store")
    shutil.rmtree(caption_vectors_folder(store))
    shutil.copytree(caption_vectors_folder(tmp_path / "other-store"), caption_vectors_folder(store))
    with pytest.raises(DataError, match=f"{load(other).fingerprint}.*but the images were embedded by"):
        train.run(config(assets, tmp_path / "run", store))


def test_a_caption_without_a_vector_is_named(assets, tmp_path):
    data = shutil.copytree(assets / "data", tmp_path / "data")
    for path in data.rglob("*.txt"):
        path.write_text("a caption that the teacher never saw")
    with pytest.raises(DataError, match=r"no vector for 8 of 8 captions: 'a caption that .*zebra embed .* --captions"):
        train.run(config(assets, tmp_path / "run", data=str(data)))


def test_embedding_again_embeds_new_captions_only_and_drops_old_ones(assets, tmp_path):
    data, store = shutil.copytree(assets / "data", tmp_path / "data"), tmp_path / "store"
    assert embed_store(assets / "model", data, store).captions == 5
    assert embed_store(assets / "model", data, store, captions=False).captions == 0
    (data / "0.txt").write_text("something new")
    assert embed_store(assets / "model", data, store, captions=False).captions == 1
    assert "something new" in VectorTable(caption_vectors_folder(store))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_are_finite_and_not_negative(weight):
    with pytest.raises(ConfigError, match="teacher_feature_weight"):
        ObjectiveConfig(teacher_feature_weight=weight)


def test_a_teacher_of_captions_in_templates_is_refused():
    with pytest.raises(ConfigError, match="vectors of the captions as they are"):
        TrainConfig(
            data="a",
            out="b",
            steps=1,
            objective=ObjectiveConfig(teacher="store"),
            data_options=DataConfig(caption_templates=("a photo of a {}.",)),
        )


def test_a_teacher_without_any_weight_is_refused():
    with pytest.raises(ConfigError, match="would teach nothing"):
        ObjectiveConfig(teacher="store", teacher_feature_weight=0, teacher_affinity_weight=0)


def test_principal_axes_are_orthonormal_and_keep_vectors_of_their_span():
    rng = np.random.default_rng(0)
    vectors_NE = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 8))
    axes_EK = fit_principal_axes([vectors_NE[:7], vectors_NE[7:]], 3)
    np.testing.assert_allclose(axes_EK.T @ axes_EK, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(vectors_NE @ axes_EK @ axes_EK.T, vectors_NE, atol=1e-5)
    np.testing.assert_array_equal(fit_principal_axes([vectors_NE], 3)[:, :2], fit_principal_axes([vectors_NE], 2))
    for num_axes in (0, 9):
        with pytest.raises(ConfigError, match="choose from 1 to 8"):
            fit_principal_axes([vectors_NE], num_axes)
