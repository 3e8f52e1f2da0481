"""Classifiers that `zebra probe` learns and `zebra classify` uses."""

import io
import json
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import zebra
from zebra.config.classify import ClassifyConfig
from zebra.config.probe import ProbeConfig
from zebra.data.locations import ImageRef, Location
from zebra.errors import BadSample, ConfigError, DataError, WeightsError
from zebra.pretrained.classifier import load_classifier
from zebra.workflows import classify, probe

from ...tiny_model import save_tiny_model

COLORS = {"red_x": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 40, 210)}


def draw(color, seed):
    noise = np.random.default_rng(seed).integers(-25, 25, size=(64, 64, 3))
    return Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


def write_classes(folder, num_images=8, names=tuple(COLORS)):
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(num_images):
            draw(COLORS[name], 100 * len(name) + index).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("probe") / "examples")


@pytest.fixture(scope="module")
def learned(examples, model):
    out = examples.parent / "clf"
    return SimpleNamespace(out=out, result=probe.run(ProbeConfig(model=str(model), data=str(examples), out=str(out))))


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos/more").mkdir(parents=True)
    draw(COLORS["red_x"], 1).save(tmp_path / "photos/red.png")
    draw(COLORS["blue"], 2).save(tmp_path / "photos/more/blue.png")
    gradient = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3)
    Image.fromarray(gradient.astype(np.uint8)).save(tmp_path / "photos/unknown.png")
    return tmp_path / "photos"


def learn(model, data, out):
    return probe.run(ProbeConfig(model=str(model), data=str(data), out=str(out)))


def run_classify(model, images, **settings):
    results = []
    counts = classify.run(ClassifyConfig(model=str(model), images=tuple(map(str, images)), **settings), results.append)
    return counts, results


def test_a_classifier_recognizes_held_out_images_and_reports_each_class(learned):
    result = learned.result
    assert result.accuracy.value == 1 and result.accuracy.n == 24
    assert [(entry.name, entry.num_images, entry.accuracy.n) for entry in result.classes] == [
        ("blue", 8, 8),
        ("green", 8, 8),
        ("red x", 8, 8),
    ]
    assert result.calibration.accepted.value >= 0.95
    assert result.calibration.unknown_rejected.value > 0.9
    document = json.loads((learned.out / "classifier.json").read_text())
    assert document["zebra"] == zebra.__version__
    assert document["classnames"] == ["blue", "green", "red x"]
    assert document["preprocess"]["image_size"] == 64


def test_it_names_images_of_its_classes_and_refuses_others(learned, clip, photos):
    classifier = zebra.load_classifier(learned.out, clip)
    red, unknown = classifier.classify([photos / "red.png", photos / "unknown.png"], top_k=2)
    assert red.label == "red x" == red.predictions[0].label
    assert red.predictions[0].score > 0.8 and len(red.predictions) == 2
    assert unknown.label is None and unknown.cosine < classifier.threshold <= red.cosine


def test_the_second_run_writes_the_same_bytes(learned, examples, model, tmp_path):
    learn(model, examples, tmp_path / "again")
    for name in ("classifier.json", "classifier.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (learned.out / name).read_bytes()


def test_a_table_of_labels_and_a_training_split_are_read(model, examples, tmp_path):
    rows = [f"{path},{path.parent.name}" for path in sorted(examples.glob("*/*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert learn(model, tmp_path / "labels.csv", tmp_path / "a").accuracy.n == 24
    shutil.copytree(examples, tmp_path / "split/train")
    write_classes(tmp_path / "split/test", num_images=1)
    assert learn(model, tmp_path / "split", tmp_path / "b").accuracy.n == 24


def test_one_class_is_refused(model, tmp_path):
    write_classes(tmp_path / "one", names=("red_x",))
    with pytest.raises(DataError, match=r"one class only, 'red x'. A classifier needs at least two"):
        learn(model, tmp_path / "one", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_with_one_image_is_learned_without_an_accuracy(model, tmp_path):
    write_classes(tmp_path / "data", names=("red_x", "blue"))
    write_classes(tmp_path / "data", num_images=1, names=("green",))
    result = learn(model, tmp_path / "data", tmp_path / "out")
    assert [entry.accuracy is None for entry in result.classes] == [False, True, False]
    assert "green" in result.notes[-1] and result.accuracy.n == 16


def test_classes_with_one_image_each_are_refused(model, tmp_path):
    write_classes(tmp_path / "data", num_images=1)
    with pytest.raises(DataError, match="one usable image per class"):
        learn(model, tmp_path / "data", tmp_path / "out")


@pytest.mark.parametrize("kind", ["empty", "loose", "empty classes", "missing"])
def test_a_folder_without_classes_or_images_is_refused(model, tmp_path, kind):
    data = tmp_path / "data"
    if kind != "missing":
        data.mkdir()
    if kind == "loose":
        draw((9, 9, 9), 0).save(data / "a.png")
    if kind == "empty classes":
        (data / "cat").mkdir()
        (data / "dog").mkdir()
    with pytest.raises(DataError, match=r"has no folders|has no images|beside its class|data"):
        learn(model, data, tmp_path / "out")


def test_images_with_captions_instead_of_labels_are_refused(model, tmp_path):
    (tmp_path / "data").mkdir()
    draw((9, 9, 9), 0).save(tmp_path / "data/a.png")
    (tmp_path / "data/a.txt").write_text("a gray thing")
    with pytest.raises(DataError, match="do not have one label each"):
        learn(model, tmp_path / "data", tmp_path / "out")


def test_unusable_images_are_counted_and_left_out(model, tmp_path):
    data = write_classes(tmp_path / "data", num_images=4)
    (data / "red_x/broken.png").write_bytes(b"no image")
    (data / "blue/empty.png").write_bytes(b"")
    result = learn(model, data, tmp_path / "out")
    assert sum(entry.count for entry in result.skipped) == 2
    assert sum(entry.num_images for entry in result.classes) == 12


def test_only_unusable_images_are_refused_with_the_reason(model, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no image of .* can be used: 2 not an image"):
        learn(model, tmp_path / "data", tmp_path / "out")


def test_an_output_folder_with_other_files_is_refused(model, examples, tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ConfigError, match="exists and is no classifier"):
        learn(model, examples, tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="exists and is no classifier"):
        learn(model, examples, tmp_path / "file")


def test_a_classifier_of_another_model_is_refused(learned, tmp_path):
    other = zebra.load(save_tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(WeightsError, match=f"and this model is {other.fingerprint}. Load that model, or learn"):
        load_classifier(learned.out, other)


@pytest.mark.parametrize("damage", ["missing", "no tensors", "cut", "json", "format", "entry", "classes"])
def test_a_damaged_classifier_is_refused(learned, clip, tmp_path, damage):
    folder = shutil.copytree(learned.out, tmp_path / "clf")
    metadata, tensors = folder / "classifier.json", folder / "classifier.safetensors"
    document = json.loads(metadata.read_text())
    match damage:
        case "missing":
            metadata.unlink()
        case "no tensors":
            tensors.unlink()
        case "cut":
            tensors.write_bytes(tensors.read_bytes()[:-8])
        case "json":
            metadata.write_text("{")
        case "format":
            metadata.write_text(json.dumps(document | {"format": 2}))
        case "entry":
            metadata.write_text(json.dumps(document | {"threshold": "high"}))
        case "classes":
            metadata.write_text(json.dumps(document | {"classnames": ["a", "b"]}))
    with pytest.raises(WeightsError, match=r"zebra probe"):
        load_classifier(folder, clip)


def test_a_folder_is_classified_with_its_subfolders(learned, model, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    counts, results = run_classify(model, ["photos"], classifier=str(learned.out))
    labels = {result.image: result.result.label for result in results}
    assert labels == {"photos/red.png": "red x", "photos/more/blue.png": "blue", "photos/unknown.png": None}
    assert (counts.num_images, counts.num_unknown) == (3, 1)


def test_unusable_images_get_a_reason_and_the_rest_is_classified(learned, model, photos):
    (photos / "broken.png").write_bytes(b"no image")
    (photos / "notes.psd").write_bytes(b"x")
    counts, results = run_classify(model, [photos, photos / "gone.png"], classifier=str(learned.out))
    assert {entry.reason: entry.count for entry in counts.skipped} == {"not an image": 1, "missing file": 1}
    assert [entry.reason for entry in counts.ignored] == [".psd"]
    assert len(results) == 5 and counts.num_images == 3
    with pytest.raises(DataError, match="no image can be used: 1 missing file"):
        run_classify(model, [photos / "gone.png"], classifier=str(learned.out))


def test_a_folder_without_images_is_refused(learned, model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        run_classify(model, [tmp_path / "empty"], classifier=str(learned.out))


def test_paths_are_read_from_standard_input(learned, model, photos, monkeypatch):
    lines = f"{photos / 'red.png'}\n\n{photos / 'gone.png'}\r\n{photos / 'more/blue.png'}".encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    counts, results = run_classify(model, ["-"], classifier=str(learned.out))
    assert [getattr(result.result, "label", "bad") for result in results] == ["red x", "bad", "blue"]
    assert counts.num_images == 2
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\n")))
    with pytest.raises(DataError, match="no paths on standard input"):
        run_classify(model, ["-"], classifier=str(learned.out))


def test_a_slow_program_delays_no_result():
    is_first_done = threading.Event()

    def slow():
        yield ImageRef(Location("a", "", "a"), lambda: None)
        assert is_first_done.wait(30)
        for name in "bc":
            yield ImageRef(Location(name, "", name), lambda: None)
        raise DataError("the pipe broke")

    batches = classify._batch_available(slow(), 2)
    assert [ref.location.key for ref in next(batches)] == ["a"]
    is_first_done.set()
    with pytest.raises(DataError, match="the pipe broke"):
        names = [ref.location.key for batch in batches for ref in batch]
    assert not is_first_done.clear() and "names" not in locals()


def test_results_arrive_before_later_images_are_read(learned, model, photos, monkeypatch):
    monkeypatch.setattr(classify, "BATCH_SIZE", 1)
    seen = []  # one result per image: no image is lost between batches

    def remove_later_images(result):
        seen.append(result)
        for path in photos.rglob("*.png"):
            path.unlink()

    config = ClassifyConfig(model=str(model), images=(str(photos),), classifier=str(learned.out))
    counts = classify.run(config, remove_later_images)
    assert counts.num_images == 1 and len(seen) == 3
    assert all(isinstance(result.result, BadSample) for result in seen[1:])


def test_labels_are_calibrated_by_images(model, clip, examples, photos):
    labels = ("red x", "green", "blue")
    counts, results = run_classify(model, [photos], labels=labels, calibrate=str(examples))
    assert counts.calibration.accepted.value >= 0.95 and counts.threshold == counts.calibration.threshold
    images = [result.image for result in results]
    cosines = clip.similarity(images, ["a red x"])
    assert cosines.shape == (3, 1) and cosines.dtype == torch.float32
    with pytest.raises(ConfigError, match="has the class 'blue', which is no label"):
        run_classify(model, [photos], labels=labels[:2], calibrate=str(examples))


def test_without_calibration_the_scores_are_those_of_the_bundle(model, clip, photos):
    labels = ["red x", "green"]
    _, results = run_classify(model, [photos / "red.png"], labels=tuple(labels))
    expected = clip.classify([photos / "red.png"], labels)[0]
    assert [p.label for p in results[0].result.predictions] == [p.label for p in expected]
    assert [p.score for p in results[0].result.predictions] == pytest.approx([p.score for p in expected], abs=1e-6)
    assert results[0].result.label == expected[0].label


def test_a_threshold_above_all_cosines_refuses_all_images(learned, model, photos):
    counts, results = run_classify(model, [photos], classifier=str(learned.out), threshold=1.0)
    assert counts.num_unknown == 3 and all(result.result.label is None for result in results)
    counts, _ = run_classify(model, [photos], classifier=str(learned.out), threshold=-1.0)
    assert counts.num_unknown == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ("a",), "classifier": "clf"}, "leave out --labels"),
        ({"templates": ("{}",), "classifier": "clf"}, "leave out --labels"),
        ({"calibrate": "x", "classifier": "clf"}, "leave out --labels"),
        ({}, "no labels given"),
        ({"labels": ("a",), "threshold": 1.5}, "it is a cosine"),
        ({"labels": ("a",), "threshold": float("nan")}, "it is a cosine"),
        ({"labels": ("a",), "top_k": 0}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ClassifyConfig(model="m", images=("a.jpg",), **settings)


def test_the_commands_print_json_and_write_csv(cli, learned, model, examples, photos, tmp_path):
    document = json.loads(cli("probe", model, examples, "--out", "clf2", "--json").out)
    assert document["accuracy"]["n"] == 24 and document["out"] == "clf2"
    text = cli("probe", model, examples, "--out", "clf2").out
    assert "accuracy on held-out images: 100.0%" in text and "none of these: a cosine below" in text
    (photos / "broken.png").write_bytes(b"no image")
    output = cli("classify", model, photos, "--classifier", "clf2", "--top-k", 1, "--json")
    rows = {row["image"].rpartition("/")[2]: row for row in json.loads(output.out)}
    assert rows["broken.png"]["error"] == "not an image" and "images that cannot be used" in output.err
    assert rows["unknown.png"]["label"] is None and rows["red.png"]["label"] == "red x"
    assert len(rows["red.png"]["scores"]) == 1
    assert "4 images" not in cli("classify", model, photos, "--classifier", "clf2", "--csv", "out.csv").out
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "image,label,score,cosine,error"
    assert sorted(line.split(",")[1] for line in lines) == ["", "blue", "none of these", "red x"]
    printed = cli("classify", model, photos, "--classifier", "clf2").out
    assert "none of these (cosine" in printed and "cannot be used: not an image" in printed


def test_a_failed_command_keeps_the_earlier_table(cli, model, photos, tmp_path):
    (tmp_path / "out.csv").write_text("earlier")
    cli("classify", "nowhere", photos, "--labels", "a,b", "--csv", "out.csv", code=1)
    assert (tmp_path / "out.csv").read_text() == "earlier"
    assert "cannot write --csv" in cli("classify", model, photos, "--labels", "a,b", "--csv", "no/x.csv", code=1).err


def test_naflex_images_are_learned_and_named_too(examples, photos, tmp_path):
    model = save_tiny_model(tmp_path / "naflex", kind="naflex")
    assert learn(model, examples, tmp_path / "clf").accuracy.value > 0.9
    _, results = run_classify(model, [photos / "red.png", photos / "more/blue.png"], classifier=str(tmp_path / "clf"))
    classifier = zebra.load_classifier(tmp_path / "clf", zebra.load(model))
    expected = classifier.classify([photos / "red.png", photos / "more/blue.png"])
    for result, other in zip(results, expected, strict=True):
        assert result.result.predictions[0].label == other.predictions[0].label
        assert result.result.cosine == pytest.approx(other.cosine, abs=1e-5)
