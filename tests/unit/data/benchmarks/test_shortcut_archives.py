"""Spawrious, ImageNet-X and ImageNet-Hard in their authors' layouts."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import DataError
from zebra.evaluators.classification_scores import score_classification
from zebra.evaluators.datasets import load_dataset
from zebra.protocols.zero_shot import ClassificationResult, accept_labels

DOGS = ("bulldog", "corgi", "dachshund", "labrador")
PLACES = ("beach", "desert", "dirt", "jungle", "mountain", "snow")


def load(name: str, root: Path) -> ClassificationBenchmark:
    benchmark = load_dataset(name, data_root=root)
    assert isinstance(benchmark, ClassificationBenchmark)
    return benchmark


def ranked(benchmark: ClassificationBenchmark, predictions) -> ClassificationResult:
    """Return a result with the given first classes, and four other ones behind."""
    first_N = np.array(predictions)
    ranked_NK = (first_N[:, None] + np.arange(5)) % len(benchmark.classnames)
    labels = np.array([benchmark.source.read(index).label for index in range(len(benchmark.source))])
    return ClassificationResult(ranked_NK, labels, len(benchmark.classnames))


@pytest.fixture
def spawrious(tmp_path: Path, make_image) -> Path:
    for environment in ("0", "1"):
        for place in PLACES:
            for dog in DOGS:
                folder = tmp_path / "spawrious224" / environment / place / dog
                folder.mkdir(parents=True)
                (folder / f"{dog}_{place}_1.png").write_bytes(make_image(0))
    return tmp_path


@pytest.mark.parametrize(
    ("level", "pairs"),
    [
        ("easy", {"bulldog": "dirt", "dachshund": "snow", "labrador": "desert", "corgi": "jungle"}),
        ("medium", {"bulldog": "jungle", "dachshund": "dirt", "labrador": "beach", "corgi": "snow"}),
        ("hard", {"bulldog": "mountain", "dachshund": "snow", "labrador": "desert", "corgi": "jungle"}),
    ],
)
def test_spawrious_tests_each_breed_in_one_place_of_both_environments(spawrious: Path, level, pairs) -> None:
    benchmark = load(f"spawrious_o2o_{level}", spawrious)
    assert benchmark.groups is not None
    assert benchmark.classnames == DOGS
    shown = {
        (DOGS[benchmark.source.read(index).label or 0], group) for index, group in enumerate(benchmark.groups.values())
    }
    assert (shown, len(benchmark.source)) == (set(pairs.items()), 8)


def test_spawrious_with_two_places_crosses_them_between_two_breeds(spawrious: Path) -> None:
    benchmark = load("spawrious_m2m_hard", spawrious)
    assert set(benchmark.groups or ()) == {
        f"0/{place}/{dog}/{dog}_{place}_1.png"
        for dogs, places in ((("bulldog", "dachshund"), ("snow", "beach")), (("labrador", "corgi"), ("dirt", "jungle")))
        for dog in dogs
        for place in places
    }


def test_a_place_of_spawrious_without_images_is_an_error(spawrious: Path) -> None:
    (spawrious / "spawrious224/0/snow/dachshund/dachshund_snow_1.png").unlink()
    (spawrious / "spawrious224/1/snow/dachshund/dachshund_snow_1.png").unlink()
    with pytest.raises(DataError, match=r"has no images in .*snow.*dachshund"):
        load("spawrious_o2o_hard", spawrious)


@pytest.fixture
def imagenet_x(tmp_path: Path, make_image) -> Path:
    """Six validation images of three classes; the last is a prototype."""
    rows = []
    for number, (label, factor) in enumerate(
        [(0, "pose"), (0, "size"), (1, "pose"), (1, "pose"), (2, "size"), (2, "")]
    ):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        path = tmp_path / "imagenet" / "val" / f"n{label:08d}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_image(number))
        row = {"file_name": name, "class": label, "pose": int(factor == "pose"), "size": int(factor == "size")}
        rows.append(row | {"justification": "a text", "one_word": "word"})
    folder = tmp_path / "imagenet-x"
    folder.mkdir()
    (folder / "imagenet_x_val_top_factor.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "prototypical_paths.csv").write_text("file_name,other\nILSVRC2012_val_00000005.JPEG,1\n")
    (folder / "classnames.txt").write_text("a\nb\nc\nd\ne\nf\n")
    return tmp_path


def test_imagenet_x_has_the_accuracy_of_the_worst_factor_as_its_authors_compute_it(imagenet_x: Path) -> None:
    benchmark = load("imagenet_x", imagenet_x)
    correct = {"pose": [True, False, True], "size": [False, True]}  # images 0, 2, 3 and 1, 4
    result = ranked(benchmark, [0, 3, 4, 1, 2])
    ids = [benchmark.source.sample_id(index) for index in range(5)]
    scores = score_classification(result, benchmark, ids).scores
    assert scores["worst_group"].value == min(np.mean(values) for values in correct.values())
    assert scores["top1"].value == 3 / 5


def test_an_annotated_image_that_is_missing_is_an_error(imagenet_x: Path) -> None:
    (imagenet_x / "imagenet/val/n00000001/ILSVRC2012_val_00000003.JPEG").unlink()
    with pytest.raises(DataError, match=r"jsonl:4: the image ILSVRC2012_val_00000003\.JPEG is missing"):
        load("imagenet_x", imagenet_x)


@pytest.mark.parametrize("line", ["{", '{"file_name": "a.JPEG"}', '["a.JPEG", 3]', '{"file_name": "a", "class": "3"}'])
def test_a_malformed_annotation_is_an_error_with_its_line(imagenet_x: Path, line) -> None:
    with (imagenet_x / "imagenet-x" / "imagenet_x_val_top_factor.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"jsonl:7 has no file_name and class"):
        load("imagenet_x", imagenet_x)


@pytest.fixture
def imagenet_w(tmp_path: Path) -> Path:
    """Two gray images larger than the watermark's size, and a font of matplotlib in place of the authors'."""
    import matplotlib

    for label in range(2):
        folder = tmp_path / "imagenet" / "val" / f"n{label:08d}"
        folder.mkdir(parents=True)
        Image.new("RGB", (448, 560), (100, 100, 100)).save(folder / f"{label}.png")
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    (tmp_path / "imagenet-w").mkdir()
    shutil.copy(font, tmp_path / "imagenet-w" / "SourceHanSerifSC-ExtraLight.otf")
    (tmp_path / "imagenet-w" / "classnames.txt").write_text("tench\ncarton\n")
    return tmp_path


def test_the_watermark_is_that_of_the_authors_transform(imagenet_w: Path) -> None:
    benchmark = load("imagenet_w", imagenet_w)
    record = benchmark.source.read(1)
    image = Image.open(io.BytesIO(record.image))
    font = ImageFont.truetype(str(imagenet_w / "imagenet-w/SourceHanSerifSC-ExtraLight.otf"), 36)
    text = Image.new("RGBA", (224, 224), (255, 255, 255, 0))
    ImageDraw.Draw(text).text(xy=(2.24, 89.6), text="捷径捷径捷径", fill=(255, 255, 255, 128), font=font)
    expected = Image.alpha_composite(Image.new("RGBA", (224, 224), (100, 100, 100, 255)), text).convert("RGB")
    assert (image.size, record.label) == ((224, 224), 1)
    assert (np.asarray(image) == np.asarray(expected)).all()
    assert (np.asarray(image) > 150).any()
    assert any("other models resize it" in note for note in benchmark.notes)


def test_a_missing_font_of_the_watermark_is_an_error_and_another_one_is_other_data(imagenet_w: Path) -> None:
    font = imagenet_w / "imagenet-w" / "SourceHanSerifSC-ExtraLight.otf"
    digest = load("imagenet_w", imagenet_w).source.digest
    shutil.copy(font.with_name("classnames.txt"), font)
    assert load("imagenet_w", imagenet_w).source.digest != digest
    with pytest.raises(DataError, match="is no font"):
        load("imagenet_w", imagenet_w).source.read(0)
    font.unlink()
    with pytest.raises(DataError, match=r"the font .* is missing\. Copy it from the code"):
        load("imagenet_w", imagenet_w)


def write_hard(root: Path, make_image, *label_lists) -> None:
    folder = root / "imagenet-hard" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "classnames.txt").write_text("".join(f"class {number}\n" for number in range(9)))
    for shard, lists in enumerate(label_lists):
        images = [{"bytes": make_image(number), "path": None} for number in range(len(lists))]
        table = pa.table({"image": images, "label": lists, "origin": ["x"] * len(lists)})
        pq.write_table(table, folder / f"validation-{shard:05d}-of-{len(label_lists):05d}.parquet")


def test_any_right_label_of_imagenet_hard_is_correct(tmp_path: Path, make_image) -> None:
    lists = [[3], [1, 7]], [[0, 2, 8], [5]]
    write_hard(tmp_path, make_image, *lists)
    benchmark = load("imagenet_hard", tmp_path)
    assert benchmark.right_labels is not None
    assert benchmark.source.read(3).image == make_image(1)
    predictions = [3, 7, 1, 6]
    result = accept_labels(ranked(benchmark, predictions), list(benchmark.right_labels.values()))
    targets = [labels + [-1] * (10 - len(labels)) for part in lists for labels in part]  # as the authors pad them
    theirs = (np.array(predictions)[:, None] == np.array(targets)).any(axis=1)
    assert result.correct_N.tolist() == theirs.tolist() == [True, True, False, False]
    assert result.correct_top5_N.tolist() == [True, True, True, False]


@pytest.mark.parametrize("labels", [[], None])
def test_an_image_without_a_right_label_is_an_error(tmp_path: Path, make_image, labels) -> None:
    write_hard(tmp_path, make_image, [[3], labels])
    with pytest.raises(DataError, match=r"parquet:2 has no list of class numbers in label"):
        load("imagenet_hard", tmp_path)


def test_with_one_right_label_each_a_result_does_not_change() -> None:
    rng = np.random.default_rng(0)
    ranked_NK = np.stack([rng.permutation(20)[:5] for _ in range(200)])
    label_N, probability_N2 = rng.integers(0, 20, 200), rng.random((200, 2)).astype(np.float32)
    probability_N2[ranked_NK[:, 0] == label_N, 1] = probability_N2[ranked_NK[:, 0] == label_N, 0]
    result = ClassificationResult(ranked_NK, label_N, 20, probability_N2=probability_N2)
    accepted = accept_labels(result, [[label] for label in label_N.tolist()])
    assert (accepted.label_N == label_N).all()
    assert (accepted.probability_N2 == probability_N2).all()
