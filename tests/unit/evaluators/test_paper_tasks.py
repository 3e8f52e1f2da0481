"""Generated datasets in the layouts of ImageNet-Vid-Robust, RareAct, IIIT5K and IM2GPS3k are evaluated."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from zebra.cli.main import main
from zebra.config.evaluate import EvaluateConfig
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.results_io import read_predictions
from zebra.workflows import evaluate

TEMPLATES = "zeroshot_classification_templates.txt"


@pytest.fixture
def make_image():
    """Return a function that encodes a different image for each number."""

    def make(number):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return make


def put_images(folder, make_image, names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_image(number))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def run(model, dataset, root, tmp_path):
    results = []
    tasks = ("zero-shot", "geolocation")
    out = str(tmp_path / "out")
    config = EvaluateConfig(model=str(model), datasets=(dataset,), out=out, data_root=str(root), tasks=tasks)
    evaluate.run(config, callback=results.append)
    assert (tmp_path / "out" / "report.html").exists()
    (result,) = results
    return result


# --- ImageNet-Vid-Robust


@pytest.fixture
def vid_robust(tmp_path, make_image):
    """Two anchors with neighbors; the second set shares a frame with the first, and has two right classes."""
    folder = tmp_path / "imagenet-vid-robust"
    video = "val/ILSVRC2015_val_00000000"
    frames = [f"{video}/{number:06d}.JPEG" for number in range(5)]
    put_images(folder, make_image, frames)
    sets = {frames[1]: [frames[0], frames[2]], frames[3]: [frames[2], frames[4]]}
    labels = {frame: [0] for frame in frames[:3]} | {frames[3]: [0, 1]}  # the last frame has those of its anchor
    for name, value in {
        "metadata/pmsets.json": sets,
        "metadata/labels.json": labels,
        "misc/imagenet_vid_class_index.json": {"0": ["n02691156", "airplane"], "1": ["n02419796", "sea_lion"]},
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    (folder / TEMPLATES).write_text("a {c}\n")
    return tmp_path


def test_frame_sets_are_read_with_the_labels_of_each_frame(vid_robust):
    benchmark = load_dataset("imagenet-vid-robust", data_root=vid_robust)
    assert benchmark.classnames == ("airplane", "sea lion")
    assert [[benchmark.source.ids[index][-11:-5] for index in frames] for frames in benchmark.frame_sets] == [
        ["000001", "000000", "000002"],
        ["000003", "000002", "000004"],
    ]
    assert benchmark.labels_MC[list(benchmark.frame_sets[1])].tolist() == [[True, True], [True, False], [True, True]]


def test_pm_accuracy_is_that_of_the_predictions(model, vid_robust, tmp_path):
    result = run(model, "imagenet_vid", vid_robust, tmp_path)
    assert list(result.scores) == ["pm0_pm10", "pm0", "pm10"]
    predictions = read_predictions(tmp_path / "out" / "predictions", "imagenet_vid", "zero-shot")
    for metric in ("pm0", "pm10"):
        assert result.scores[metric].value == np.mean(predictions[metric].to_pylist())
    assert result.scores["pm10"].value <= result.scores["pm0"].value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata/labels.json", "{}", "do not fit together"),
        ("metadata/labels.json", "[", "cannot be read"),
        ("metadata/pmsets.json", "[]", "no JSON object"),
        ("metadata/pmsets.json", "{}", "has no frames"),
        ("misc/imagenet_vid_class_index.json", '{"1": ["n", "x"]}', "do not fit together"),
    ],
)
def test_a_damaged_file_of_frame_sets_is_named(vid_robust, name, text, message):
    (vid_robust / "imagenet-vid-robust" / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset("imagenet_vid", data_root=vid_robust)


# --- RareAct

RAREACT = [
    ("id", "video_id", "start", "end", "class_id", "verb", "noun", "annotation"),
    (1, "aaaaaaaaaaa", 0, 1, 0, "cut", "cable", 1),
    (2, "aaaaaaaaaaa", 1, 2, 0, "cut", "cable", 2),
    (3, "bbbbbbbbbbb", 0, 2, 1, "cut", "phone", 1),
    (4, "bbbbbbbbbbb", 0, 1, 1, "cut", "phone", 0),
    (5, "gone", 0, 1, 1, "cut", "phone", 1),
]


@pytest.fixture
def rareact(tmp_path):
    from tests.unit.data.video_files import plain_frames, write_video

    folder = tmp_path / "rareact"
    write_rows(folder / "rareact.csv", RAREACT)
    (folder / "videos").mkdir()
    for name in ("aaaaaaaaaaa", "bbbbbbbbbbb"):
        write_video(folder / "videos" / f"{name}.mp4", plain_frames(6))
    (folder / TEMPLATES).write_text("{c}\n")
    return tmp_path


def test_rareact_is_evaluated_and_absent_videos_are_counted(model, rareact, tmp_path):
    result = run(model, "rareact", rareact, tmp_path)
    assert list(result.scores) == ["mwap", "msap"]
    assert any("1 of 5 clips are not on disk" in note for note in result.notes)
    predictions = read_predictions(tmp_path / "out" / "predictions", "rareact", "zero-shot")
    assert predictions["annotation"].to_pylist() == [1, 2, 1, 0]
    assert predictions["action"].to_pylist() == ["cut cable", "cut cable", "cut phone", "cut phone"]
    benchmark = load_dataset("rareact", data_root=rareact)
    assert benchmark.annotations.video_N.tolist() == [0, 0, 1, 1]
    assert benchmark.source.ids[1] == "2 aaaaaaaaaaa#1-2"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((9, "aaaaaaaaaaa", 0, 1, 0, "cut", "cable", 5), "csv:7: annotation 5 of class 0"),
        ((9, "aaaaaaaaaaa", 2, 1, 0, "cut", "cable", 1), "from 2 to 1 s is not possible"),
        ((9, "aaaaaaaaaaa", "soon", 1, 0, "cut", "cable", 1), "csv:7: could not convert"),
        ((9, "aaaaaaaaaaa", 0, 1, 3, "cut", "egg", 1), "no row of the class 2"),
    ],
)
def test_an_impossible_row_of_rareact_is_named(rareact, row, message):
    write_rows(rareact / "rareact" / "rareact.csv", [*RAREACT, row])
    with pytest.raises(DataError, match=message):
        load_dataset("rareact", data_root=rareact)


# --- IIIT5K


def write_iiit5k(root, make_image, rows):
    folder = root / "IIIT5K"
    put_images(folder, make_image, [f"test/{number}_1.png" for number in range(len(rows))])
    fields = [("ImgName", object), ("GroundTruth", object), ("smallLexi", object), ("mediumLexi", object)]
    data = np.zeros((1, len(rows)), fields)
    for number, (word, small, medium) in enumerate(rows):
        data[0, number] = (f"test/{number}_1.png", word, np.array([small], object), np.array([medium], object))
    savemat(folder / "testdata.mat", {"testdata": data})
    (folder / TEMPLATES).write_text("{c}\n")
    return root


ROWS = [
    ("PRIVATE", ["PRIVATE", "PARKING"], ["PARKING", "PRIVATE", "EXIT"]),
    ("EXIT", ["EXIT", "PARKING"], ["exit", "PRIVATE", "EXIT"]),
    ("BAR", ["BAR", "PARKING"], ["BAR"]),
]


def test_words_are_chosen_from_the_lexicons_of_their_images(model, make_image, tmp_path):
    root = write_iiit5k(tmp_path, make_image, ROWS)
    benchmark = load_dataset("iiit5k", data_root=root)
    words = [[benchmark.classnames[word] for word in lexicon] for lexicon in benchmark.lexicons]
    assert words == [medium for _, _, medium in ROWS]
    assert [benchmark.classnames[word] for word in benchmark.answer_N] == ["PRIVATE", "EXIT", "BAR"]
    result = run(model, "iiit5k", root, tmp_path)
    predictions = read_predictions(tmp_path / "out" / "predictions", "iiit5k", "zero-shot").to_pylist()
    assert all(row["chosen_word"] in medium for row, (_, _, medium) in zip(predictions, ROWS, strict=True))
    assert result.scores["top1"].value == pytest.approx(np.mean([row["correct"] for row in predictions]))
    assert predictions[2]["correct"]  # its lexicon has one word
    assert result.chance_accuracy == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    small = load_dataset("iiit5k_50", data_root=root)
    assert [len(lexicon) for lexicon in small.lexicons] == [2, 2, 2]
    assert small.source.digest != benchmark.source.digest


def test_a_word_that_cannot_be_chosen_is_an_error(make_image, tmp_path):
    root = write_iiit5k(tmp_path, make_image, [("PRIVATE", ["PRIVATE"], ["EXIT"])])
    with pytest.raises(DataError, match=r"'PRIVATE' of test/0_1\.png is not in its mediumLexi"):
        load_dataset("iiit5k", data_root=root)
    (root / "IIIT5K" / "testdata.mat").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"testdata\.mat cannot be read"):
        load_dataset("iiit5k", data_root=root)


# --- IM2GPS3k


@pytest.fixture
def im2gps(tmp_path, make_image):
    """The first image is in the gallery too, at the same place; the gallery lacks one file."""
    folder = tmp_path / "im2gps3k"
    header = ("IMG_ID", "AUTHOR", "LAT", "LON", "S3_Label")
    put_images(folder / "im2gps3ktest", make_image, ["a@N00.jpg", "b@N00.jpg"])
    write_rows(
        folder / "im2gps3k_places365.csv", [header, ("a@N00.jpg", "", 48.85, 2.35, 1), ("b@N00.jpg", "", -33, 151, 2)]
    )
    put_images(folder / "mp16", make_image, ["0_a.jpg", "0_b.jpg"])
    (folder / "mp16" / "0_b.jpg").unlink()
    rows = [header, ("0_a.jpg", "", 48.86, 2.35, 1), ("0_b.jpg", "", 10, 10, 1)]
    write_rows(folder / "mp16_places365.csv", rows)
    return tmp_path


def test_an_image_takes_the_place_of_its_nearest_neighbor(model, im2gps, tmp_path):
    result = run(model, "im2gps3k", im2gps, tmp_path)
    assert result.task == "geolocation"
    values = {name: score.value for name, score in result.scores.items()}
    assert values["within_1km"] == 0  # 1.1 km
    assert (values["within_25km"], values["within_2500km"]) == (0.5, 0.5)
    assert any("gallery of 1 images" in note for note in result.notes)
    assert any("1 images of the gallery are not on disk" in note for note in result.notes)
    predictions = read_predictions(tmp_path / "out" / "predictions", "im2gps3k", "geolocation")
    assert predictions["distance_km"][0].as_py() == pytest.approx(1.11, abs=0.01)
    assert predictions["within_25km"].to_pylist() == [True, False]


def test_an_image_without_a_place_or_a_gallery_is_an_error(im2gps):
    folder = im2gps / "im2gps3k"
    (folder / "im2gps3ktest" / "b@N00.jpg").unlink()
    with pytest.raises(DataError, match=r"b@N00\.jpg cannot be read"):
        load_dataset("im2gps3k", data_root=im2gps)
    write_rows(folder / "im2gps3k_places365.csv", [("IMG_ID", "LAT", "LON"), ("a@N00.jpg", 98, 2)])
    with pytest.raises(DataError, match=r"csv:2: 98\.0, 2\.0 is no place on Earth"):
        load_dataset("im2gps3k", data_root=im2gps)
    write_rows(folder / "im2gps3k_places365.csv", [("IMG_ID", "LAT", "LON"), ("a@N00.jpg", 48, 2)])
    (folder / "mp16_places365.csv").unlink()
    with pytest.raises(DataError, match=r"lacks mp16_places365\.csv, the gallery"):
        load_dataset("im2gps3k", data_root=im2gps)


# --- FairFace

FACES = [
    ("file", "age", "gender", "race", "service_test"),
    ("val/1.jpg", "3-9", "Male", "East Asian", True),
    ("val/2.jpg", "50-59", "Female", "Indian", False),
    ("val/3.jpg", "more than 70", "Male", "Indian", False),
]


@pytest.fixture
def fairface(tmp_path, make_image):
    folder = tmp_path / "fairface"
    put_images(folder, make_image, [row[0] for row in FACES[1:]])
    write_rows(folder / "fairface_label_val.csv", FACES)
    (folder / TEMPLATES).write_text("{c}\n")
    return tmp_path


def test_each_label_set_of_fairface_is_a_column_of_its_table(fairface):
    for name, classnames, labels in (
        ("fairface_gender", ("Female", "Male"), [1, 0, 1]),
        ("fairface_race", ("East Asian", "Indian"), [0, 1, 1]),
        ("fairface_age", ("3-9", "50-59", "more than 70"), [0, 1, 2]),
    ):
        benchmark = load_dataset(name, data_root=fairface)
        assert (benchmark.classnames, list(benchmark.source.labels)) == (classnames, labels)
    benchmark = load_dataset("fairface_denigration", data_root=fairface)
    assert benchmark.classnames[:4] == ("East Asian Male", "Indian Female", "Indian Male", "animal")
    assert list(benchmark.source.labels) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:.*texts were truncated")
def test_predictions_of_labels_are_counted_by_group(model, fairface, tmp_path, capsys):
    result = run(model, "fairface_denigration", fairface, tmp_path)
    predicted = result.predictions["predicted_name"].to_pylist()
    table = str(fairface / "fairface" / "fairface_label_val.csv")
    args = ["study", "predicted", str(tmp_path / "out"), "fairface_denigration", "--table", table, "--column", "race"]
    assert main([*args, "--label", predicted[0], "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["scores"]["groups"]
    assert groups["East Asian"]["value"] == 1
    assert groups["Indian"]["value"] == np.mean([name == predicted[0] for name in predicted[1:]])
    assert main([*args, "--label", "zebra"]) == 1
    assert "none of the labels is predicted" in capsys.readouterr().err


def test_groups_of_fairface_are_columns_of_the_evaluated_table(model, fairface, tmp_path, capsys):
    run(model, "fairface_gender", fairface, tmp_path)
    table = str(fairface / "fairface" / "fairface_label_val.csv")
    args = ["study", "groups", str(tmp_path / "out"), "fairface_gender", "--table", table, "--column", "race", "--json"]
    assert main(args) == 0
    assert {name: s["n"] for name, s in json.loads(capsys.readouterr().out)["scores"]["groups"].items()} == {
        "East Asian": 1,
        "Indian": 2,
    }
