"""Datasets for retrieval of images by images, in their authors' layouts."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from tests.unit.data.benchmarks import instance_layouts as layouts

from zebra.data.benchmarks.tasks import GalleryBenchmark, InstanceBenchmark, QueryRelevance
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset


@pytest.fixture
def truth_path(tmp_path):
    return layouts.write_revisited(tmp_path)


def test_the_revisited_ground_truth_counts_images_from_one(tmp_path, truth_path):
    benchmark = load_dataset("roxford5k", data_root=tmp_path)
    assert isinstance(benchmark, GalleryBenchmark)
    assert (benchmark.name, benchmark.metric) == ("roxford5k", "map_medium")
    assert benchmark.relevance == (QueryRelevance((0, 3), (6,), (1,)), QueryRelevance((2, 5)))
    assert (benchmark.gallery, benchmark.queries) == (tuple(range(7)), (7, 8))
    assert benchmark.source.sample_id(0) == "jpg/all_souls_000000.jpg"


def test_queries_are_cropped_and_gallery_images_are_not(tmp_path, truth_path):
    benchmark = load_dataset("roxford5k", data_root=tmp_path)
    images = [Image.open(io.BytesIO(benchmark.source.read(index).image)) for index in range(9)]
    assert [image.size for image in images[:7]] == [(32, 32)] * 7
    assert [image.size for image in images[7:]] == [(16, 32), (16, 32)]  # the boxes are rounded
    color = np.asarray(images[8]).reshape(-1, 3).mean(axis=0)
    assert np.abs(color - layouts.COLORS[2]).max() < 12
    assert benchmark.source.sample_id(8) == "jpg/christ_church_000179.jpg#crop 0 0 16 31.6"


def rewrite(path, **changes):
    content = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
    savemat(path, content | changes)


def test_damaged_ground_truths_are_refused_with_the_place(tmp_path, truth_path):
    def load():
        return load_dataset("roxford5k", data_root=tmp_path)

    original = truth_path.read_bytes()
    rewrite(truth_path, imlist=np.array([["../../etc/passwd"]] * 7, dtype=object))
    with pytest.raises(DataError, match=r"no revisited ground truth.*no name of an image"):
        load()
    truth_path.write_bytes(original)
    rewrite(truth_path, imlist=np.array([["all_souls_000000"]] * 2, dtype=object))
    with pytest.raises(DataError, match="there is no image"):
        load()
    truth_path.write_bytes(original)
    rewrite(truth_path, qimlist=np.array([["all_souls_000013"]] * 3, dtype=object))
    with pytest.raises(DataError, match="3 queries and 2 answers"):
        load()
    truth_path.write_bytes(original[:200])
    with pytest.raises(DataError, match="Download it again"):
        load()
    truth_path.write_bytes(original)
    (tmp_path / "roxford5k" / "jpg" / "all_souls_000003.jpg").unlink()
    with pytest.raises(DataError, match="all_souls_000003"):
        load()


def test_the_pickled_ground_truth_is_not_read(tmp_path, truth_path):
    truth_path.rename(truth_path.with_suffix(".pkl"))
    with pytest.raises(DataError, match=r"lacks gnd_roxford5k.mat"):
        load_dataset("roxford5k", data_root=tmp_path)


def test_products_are_instances_without_names(tmp_path):
    layouts.write_products(tmp_path)
    benchmark = load_dataset("StanfordOnlineProducts", data_root=tmp_path)
    assert isinstance(benchmark, InstanceBenchmark) and benchmark.metric == "recall@1"
    assert [benchmark.source.read(index).label for index in range(6)] == [11319, 11319, 11320, 11320, 11321, 11321]


def test_birds_of_the_second_half_of_the_classes_are_the_test_split(tmp_path):
    path = layouts.write_birds(tmp_path)
    for split, labels in (("test", [101, 101, 200, 200]), ("train", [1, 1, 100, 100])):
        source = load_dataset("cub200_retrieval", split, tmp_path).source
        assert [source.read(index).label for index in range(len(source))] == labels
    path.write_text(path.read_text() + "9 not a bird.jpg\n")
    with pytest.raises(DataError, match=r"images.txt:9: '9 not a bird.jpg' does not match"):
        load_dataset("cub200_retrieval", data_root=tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"), [("ood_inaturalist", "iNaturalist/images"), ("ood_textures", "dtd/images/banded")]
)
def test_unknown_images_are_read_from_the_folders_of_mcm(tmp_path, name, folder):
    for number in range(3):
        layouts.write_image(tmp_path / folder / f"{number}.jpg", layouts.COLORS[0], layouts.COLORS[1])
    benchmark = load_dataset(name, data_root=tmp_path)
    assert isinstance(benchmark, InstanceBenchmark) and len(benchmark.source) == 3
    assert "3 samples, but the catalog expects" in benchmark.notes[0]
