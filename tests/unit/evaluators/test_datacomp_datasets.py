"""DataComp's copies of datasets, as its download script writes them, are read and scored by its metrics."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.tiny_model import build_tiny_model

from zebra.data.shard_writer import ShardWriter
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.zero_shot import evaluate_zero_shot

CLASSNAMES = ["horse", "cat", "dogs", "snow", "striped", "spotted", "photo"]  # words that the tiny model knows


def encode_npy(values: object, dtype: type = np.int64) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, dtype))
    return buffer.getvalue()


def write_copy(root: Path, name: str, make_image, vectors: list[bytes | None], num_classes: int = 7) -> list[int]:
    """Write the files of DataComp's repository `name`; return the labels."""
    folder = root / name
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(CLASSNAMES[:num_classes]))
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}\na {c}")
    labels = [number % num_classes for number in range(len(vectors))]
    with ShardWriter(folder / "test", samples_per_shard=8, num_digits=1) as writer:
        for number, (label, vector) in enumerate(zip(labels, vectors, strict=True)):
            members = {"cls": str(label).encode(), "png": make_image(number, "PNG")}
            writer.write(f"s{number:07d}", members if vector is None else {**members, "npy": vector})
    (folder / "test" / "nshards.txt").write_text(str(len(writer.shards)))
    return labels


@pytest.fixture
def make_image() -> Callable[[int, str], bytes]:
    """Encode a small image; each number gives another one."""

    def encode(number: int, suffix: str) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (13 * number, 255 - 11 * number, 7 * number)).save(buffer, suffix)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="module")
def clip():
    return build_tiny_model()


def test_fmow_has_the_accuracy_of_the_worst_region(tmp_path, make_image, clip):
    regions = [number % 3 for number in range(19)] + [5]
    labels = np.array(
        write_copy(tmp_path, "wds_wilds-fmow_test", make_image, [encode_npy([r, 14, 3, 0]) for r in regions])
    )
    benchmark = load_dataset("fmow", data_root=tmp_path)
    assert (benchmark.name, benchmark.metric) == ("fmow", "worst_group")
    ablation = evaluate_zero_shot(clip, benchmark)
    result = ablation.task_results()[0]
    correct = ablation.ensemble.ranked_NK[:, 0] == labels
    worst = min(correct[np.array(regions) == region].mean() for region in (0, 1, 2, 5))
    assert result.scores["worst_group"].value == worst
    assert {"top1", "top5", "mean_per_class", "worst_group"} == set(result.scores)
    assert result.predictions["group"].to_pylist() == [f"region {region}" for region in regions]
    (note,) = [note for note in result.notes if note.startswith("worst_group: ")]
    assert f"region 5 {correct[-1]:.1%}" in note


def test_dollar_street_has_the_top_5_accuracy_of_the_worst_income_group(tmp_path, make_image, clip):
    incomes = [number // 7 for number in range(21)]
    labels = np.array(
        write_copy(tmp_path, "wds_dollar_street_test", make_image, [encode_npy([i, 900, 2]) for i in incomes])
    )
    ablation = evaluate_zero_shot(clip, load_dataset("dollar_street", data_root=tmp_path))
    scores = ablation.task_results()[0].scores
    in_top5 = (ablation.ensemble.ranked_NK == labels[:, None]).any(axis=1)
    assert scores["worst_group_top5"].value == min(in_top5[start : start + 7].mean() for start in (0, 7, 14))
    assert "worst_group" not in scores


def test_iwildcam_has_macro_f1_and_camelyon17_no_groups(tmp_path, make_image, clip):
    write_copy(tmp_path, "wds_wilds-iwildcam_test", make_image, [encode_npy([3, 1, 2013])] * 9)
    write_copy(tmp_path, "wds_wilds-camelyon17_test", make_image, [encode_npy([2, 1, 0])] * 8, num_classes=2)
    (wildcam,) = evaluate_zero_shot(clip, load_dataset("iwildcam", data_root=tmp_path)).task_results()[:1]
    (camelyon,) = evaluate_zero_shot(clip, load_dataset("camelyon17", data_root=tmp_path)).task_results()[:1]
    assert wildcam.scores["macro_f1"].n == 9
    assert set(camelyon.scores) == {"top1", "mean_per_class", "roc_auc"}


def test_a_copy_without_vectors_is_scored_by_accuracy_with_a_note(tmp_path, make_image):
    write_copy(tmp_path, "wds_geode_test", make_image, [None] * 7)
    benchmark = load_dataset("geode", data_root=tmp_path)
    assert (benchmark.metric, benchmark.groups) == ("accuracy", None)
    assert any("no groups by region: this copy has no .npy" in note for note in benchmark.notes)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (None, r"0\.tar/s0000003 has no \.npy with its region, unlike 6 other images"),
        (b"no array", r"0\.tar/s0000003\.npy is no array"),
        (encode_npy([]), r"0\.tar/s0000003\.npy has 0 numbers, so that position 0 with the region is missing"),
        (encode_npy([[1, 2]]), r"0\.tar/s0000003\.npy has int64 of shape \(1, 2\), not a vector of integers"),
        (encode_npy([0.5], float), "has float64 of shape"),
        (encode_npy([float("nan")], float), "has float64 of shape"),
        (encode_npy(["east"], str), "not a vector of integers"),
        (encode_npy([1e300], float), "has float64 of shape"),
    ],
)
def test_a_damaged_vector_is_an_error_that_names_the_sample(tmp_path, make_image, vector, message):
    vectors = [encode_npy([1, 2])] * 7
    vectors[3] = vector
    write_copy(tmp_path, "wds_geode_test", make_image, vectors)
    with pytest.raises(DataError, match=message):
        load_dataset("geode", data_root=tmp_path)


def test_folders_of_datacomps_download_script_are_found_for_other_datasets_too(tmp_path, make_image):
    for name in ("wds_vtab-pets_test", "wds_cifar10_test", "wds_imagenet-a_test", "wds_renderedsst2_test"):
        write_copy(tmp_path, name, make_image, [None] * 7)
    for name in ("pets", "cifar10", "imagenet_a", "rendered_sst2"):
        assert load_dataset(name, data_root=tmp_path).name == name


def test_a_single_label_copy_of_voc_2007_is_not_taken_for_the_one_with_several(tmp_path, make_image):
    write_copy(tmp_path, "wds_voc2007_test", make_image, [None] * 7)
    assert load_dataset("voc2007_objects", data_root=tmp_path).name == "voc2007_objects"
    with pytest.raises(DataError, match="there is no copy of Pascal VOC 2007 classification"):
        load_dataset("voc2007", data_root=tmp_path)
