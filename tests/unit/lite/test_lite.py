"""Models in onnxruntime: the choice of graphs, vectors, scores, and folders that are refused."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.unit.lite.folders import EMBED_DIM, IMAGE, TEXT, load_graph, unit, weights, write_folder, write_graph

import zebra.lite
from zebra.errors import ConfigError, DataError, WeightsError
from zebra.lite import __main__ as command_line
from zebra.lite import golden, trial
from zebra.lite.batches import MAX_BATCH_TEXTS, MAX_PADDING, text_batches
from zebra.pretrained.manifest import write_manifest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that no test changes."""
    return write_folder(tmp_path_factory.mktemp("lite") / "model")


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "model")


def resign(folder):
    write_manifest(folder, subfolders=["onnx"])


def edit_settings(folder, **settings):
    path = folder / "zebra.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    resign(folder)


def test_images_in_every_form_get_the_vector_of_their_pixels(shared, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    model = zebra.lite.load(shared, "fp32")
    vectors = model.encode_images([tmp_path / "image.png", data, Image.fromarray(IMAGE), IMAGE])
    pixels = model.preprocess.normalize_array(model.preprocess.resize_and_crop(Image.fromarray(IMAGE))[None])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, np.repeat(unit(pixels.mean((2, 3)) @ weights("image")), 4, axis=0), atol=1e-6)


def test_a_text_has_one_vector_whatever_texts_are_beside_it(shared):
    model = zebra.lite.load(shared, "fp32")
    texts = ["two dogs", "a", "", TEXT, "horse", "a photo of a cat", "a", "dogs dogs dogs"] * 5
    together = model.encode_texts(texts)
    assert together.shape == (40, EMBED_DIM)
    np.testing.assert_array_equal(together, np.concatenate([model.encode_texts([text]) for text in texts]))


def test_no_images_and_no_texts_give_no_vectors(shared):
    model = zebra.lite.load(shared, "fp32")
    assert model.encode_images([]).shape == model.encode_texts([]).shape == (0, EMBED_DIM)


def test_long_texts_are_truncated_with_a_warning_or_refused(shared):
    model = zebra.lite.load(shared, "fp32")
    with pytest.warns(UserWarning, match="1 of 2 texts were truncated to 12 tokens"):
        model.encode_texts([TEXT, "dogs " * 30])
    with pytest.raises(DataError, match="context of 12"):
        model.encode_texts(["dogs " * 30], truncate=False)


def test_class_vectors_are_the_normalized_mean_of_the_prompts(shared):
    model = zebra.lite.load(shared, "fp32")
    prompts = model.encode_texts(["a horse", "two horse", "a cat", "two cat"]).reshape(2, 2, -1)
    head = model.class_vectors(["horse", "cat", "HORSE"], ["a {}", "two {}"])
    np.testing.assert_allclose(head[:2], unit(prompts.mean(axis=1)), atol=1e-6)
    assert np.array_equal(head[0], head[2])


@pytest.mark.parametrize("bias", [None, -3.0])
def test_scores_are_a_softmax_or_with_a_bias_sigmoids(tmp_path, bias):
    model = zebra.lite.load(write_folder(tmp_path / "model", precisions=["fp32"], logit_bias=bias))
    [ranked] = model.classify([IMAGE], ["horse", "cat", "dogs"])
    logits = 20 * (model.encode_images([IMAGE]) @ model.class_vectors(["horse", "cat", "dogs"]).T)[0]
    expected = np.exp(logits) / np.exp(logits).sum() if bias is None else 1 / (1 + np.exp(-(logits + bias)))
    assert [prediction.score for prediction in ranked] == pytest.approx(sorted(expected, reverse=True), rel=1e-4)
    assert ranked[0].label == ["horse", "cat", "dogs"][int(expected.argmax())]


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], None, "no labels"),
        (["cat", "Cat"], None, "are one text to the model"),
        ("cat", None, "must be a list of texts"),
        (["cat"], ["no place"], "has no placeholder"),
        (["cat"], [], "templates must be a list"),
    ],
)
def test_unusable_labels_and_templates_are_refused(shared, labels, templates, message):
    with pytest.raises(ConfigError, match=message):
        zebra.lite.load(shared, "fp32").classify([IMAGE], labels, templates)


@given(st.lists(st.integers(1, 77), max_size=80))
def test_batches_have_each_text_once_and_little_padding(lengths):
    lengths_N = np.array(lengths, np.int64)
    batches = list(text_batches(lengths_N, "fp32"))
    assert all(len(rows) == 1 for rows in text_batches(lengths_N, "int8"))
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        num_ids = len(rows) * lengths_N[rows].max()
        assert len(rows) <= MAX_BATCH_TEXTS
        assert num_ids - lengths_N[rows].sum() <= MAX_PADDING * num_ids


@pytest.mark.parametrize(("seconds", "expected"), [([1.0, 2.0], "int8"), ([2.0, 1.0], "fp32")])
def test_auto_takes_the_faster_graph_and_measures_once(shared, monkeypatch, seconds, expected):
    trials = iter(seconds * 2)
    monkeypatch.setattr(trial, "_time_tower", lambda *_: next(trials))
    for _ in range(2):
        assert zebra.lite.load(shared).precisions == {"image": expected, "text": expected}
    assert next(trials, None) is None


def test_the_measured_choice_is_one_of_the_graphs(shared):
    assert set(zebra.lite.load(shared).precisions.values()) <= {"int8", "fp32"}


def test_auto_leaves_out_int8_with_a_low_cosine(folder):
    graphs = json.loads((folder / "zebra.json").read_text())["graphs"]
    edit_settings(folder, graphs=[graph | {"min_cosine": 0.99} for graph in graphs])
    assert zebra.lite.load(folder).precisions == {"image": "fp32", "text": "fp32"}


def test_graphs_that_are_not_used_may_be_deleted(folder):
    for tower in ("vision", "text"):
        (folder / f"onnx/{tower}_model.onnx").unlink()
    assert zebra.lite.load(folder).precisions == {"image": "int8", "text": "int8"}
    with pytest.raises(WeightsError, match=r"lacks onnx/vision_model\.onnx"):
        zebra.lite.load(folder, "fp32")


def test_a_precision_that_was_not_written_is_named_with_the_reason(tmp_path):
    omitted = ["image int8: the smallest cosine to fp32 is 0.98"]
    folder = write_folder(tmp_path / "model", precisions=["fp32"], omitted=omitted)
    with pytest.raises(WeightsError, match=r"no image tower in int8, but in fp32\. .* 0\.98\. Pass precision='fp32'"):
        zebra.lite.load(folder, "int8")
    assert zebra.lite.load(folder).precisions == {"image": "fp32", "text": "fp32"}


@pytest.mark.parametrize(("tower", "other"), [("image", "text"), ("text", "image")])
def test_a_model_of_one_tower_encodes_with_it_and_names_the_missing_one(tmp_path, tower, other):
    model = zebra.lite.load(write_folder(tmp_path / "model", towers=[tower], precisions=["fp32"]))
    encode = {"image": lambda: model.encode_images([IMAGE]), "text": lambda: model.encode_texts([TEXT])}
    assert encode[tower]().shape == (1, EMBED_DIM)
    with pytest.raises(WeightsError, match=f"has no {other} tower"):
        encode[other]()


def test_a_folder_without_graphs_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="has no graphs"):
        zebra.lite.load(write_folder(tmp_path / "model", towers=[]))


def test_a_newer_format_is_refused_with_both_versions(folder):
    edit_settings(folder, version=2)
    with pytest.raises(WeightsError, match=r"version 2, instead of zebra-onnx, version 1"):
        zebra.lite.load(folder)


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_folder_of_something_else_is_refused_with_the_command(tmp_path, path):
    with pytest.raises(WeightsError, match="zebra export MODEL --format onnx"):
        zebra.lite.load(tmp_path / path)


@pytest.mark.parametrize(
    ("name", "value"), [("precision", "int4"), ("precision", None), ("num_threads", 0), ("num_threads", -2)]
)
def test_other_arguments_are_refused(shared, name, value):
    with pytest.raises(ConfigError, match=f"{name} is"):
        zebra.lite.load(shared, **{name: value})


@pytest.mark.parametrize(
    "name", ["zebra.json", "preprocess.json", "tokenizer.json", "golden.npz", "onnx/text_model.onnx"]
)
@pytest.mark.parametrize("damage", ["changed", "truncated", "missing"])
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if damage == "truncated" else data[:-9] + bytes(9))
    with pytest.raises(WeightsError, match=r"Copy it again|Copy the folder again|--format onnx|not valid JSON"):
        zebra.lite.load(folder, "fp32")


@pytest.mark.parametrize("location", ["/etc/passwd", "../golden.npz", "weights.bin"])
def test_a_graph_that_reads_other_files_is_refused(folder, location):
    path = folder / "onnx/vision_model.onnx"
    graph = load_graph(path)
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(graph.SerializeToString())
    resign(folder)
    with pytest.raises(WeightsError, match="reads its weights from"):
        zebra.lite.load(folder, "fp32")


def test_a_graph_that_onnxruntime_cannot_run_is_named(folder):
    graph = load_graph(folder / "onnx/text_model.onnx")
    graph.graph.node[0].op_type = "Gathers"
    (folder / "onnx/text_model.onnx").write_bytes(graph.SerializeToString())
    resign(folder)
    with pytest.raises(WeightsError, match=r"onnxruntime cannot open .*text_model\.onnx: .*Gathers"):
        zebra.lite.load(folder, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_vectors_than_the_golden_ones_are_refused_once_verified(folder, precision):
    suffix = "" if precision == "fp32" else "_quantized"
    write_graph(folder / f"onnx/text_model{suffix}.onnx", "text", noise=0.5)
    resign(folder)
    with pytest.raises(WeightsError, match=rf"the text vector in {precision} differs from the recorded one"):
        zebra.lite.load(folder, precision)
    assert zebra.lite.load(folder, precision, verify=False).encode_texts([TEXT]).shape == (1, EMBED_DIM)


def test_golden_vectors_are_compared_once_per_machine(shared, monkeypatch):
    zebra.lite.load(shared, "fp32")
    monkeypatch.setattr(golden, "_read_golden", lambda path: pytest.fail(f"{path} was read"))
    zebra.lite.load(shared, "fp32")


def test_golden_vectors_of_another_size_are_refused(folder):
    with np.load(folder / "golden.npz") as arrays:
        np.savez(folder / "golden.npz", **(dict(arrays) | {"image_vector": np.zeros(4, np.float32)}))
    resign(folder)
    with pytest.raises(WeightsError, match="image vector has 4 components, but the graph computes 8"):
        zebra.lite.load(folder, "fp32")


def test_graphs_are_opened_when_they_are_first_needed(shared):
    zebra.lite.load(shared, "fp32")
    model = zebra.lite.load(shared, "fp32")
    model.encode_images([IMAGE])
    assert "_session" in vars(model._towers["image"])
    assert "_session" not in vars(model._towers["text"])
    assert "tokenizer" not in vars(model)


def test_the_command_line_prints_the_best_label_of_each_image(shared, tmp_path, monkeypatch, capsys):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    arguments = [str(shared), str(tmp_path / "a.png"), "--labels", "cat", "horse", "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", ["zebra.lite", *arguments])
    command_line.main()
    path, label, score = capsys.readouterr().out.split("\t")
    [[best, _]] = zebra.lite.load(shared, "fp32").classify([IMAGE], ["cat", "horse"])
    assert (path, label, float(score)) == (str(tmp_path / "a.png"), best.label, round(best.score, 3))


def test_the_command_line_prints_errors_without_a_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["zebra.lite", str(tmp_path), "a.png", "--labels", "cat"])
    with pytest.raises(SystemExit, match="is not a model for onnxruntime"):
        command_line.main()
