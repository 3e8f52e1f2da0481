"""Bundles: model folders, encoding, zero-shot heads, classification and errors."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import zebra
from zebra.errors import BadSample, ConfigError, DataError, WeightsError
from zebra.pretrained import bundle as bundle_module
from zebra.pretrained import head_cache
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import resolve_device
from zebra.pretrained.folder import MODEL_FILES
from zebra.pretrained.manifest import write_manifest

from ...tiny_model import CAPTIONS, build_tiny_model
from .bundles import random_images


@pytest.fixture
def folder(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "model"))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_saved_model_computes_the_same_vectors(kind, tmp_path):
    original = build_tiny_model(kind)
    original.save(tmp_path / "model")
    loaded = zebra.load(tmp_path / "model")
    assert torch.equal(loaded.encode_images(random_images()), original.encode_images(random_images()))
    assert torch.equal(loaded.encode_texts(CAPTIONS[:3]), original.encode_texts(CAPTIONS[:3]))
    assert loaded.fingerprint == original.fingerprint != ""


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        build_tiny_model().save(tmp_path / name, {"seed": "0"})
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_weights_have_the_published_names(model):
    names = set(load_file(model / "model.safetensors"))
    assert {"visual.proj", "token_embedding.weight", "text_projection", "logit_scale"} <= names
    assert "transformer.resblocks.0.attn.in_proj_weight" in names


def test_paths_bytes_pil_and_arrays_give_the_same_vector(model, tmp_path):
    array = random_images(1)[0]
    Image.fromarray(array).save(tmp_path / "x.png")
    path = tmp_path / "x.png"
    clip = zebra.load(model)
    vectors = clip.encode_images([array, Image.fromarray(array), path, str(path), path.read_bytes()])
    assert vectors.shape == (5, 32) and vectors.dtype == torch.float32
    assert torch.allclose(vectors[1:], vectors[:1].expand(4, -1), atol=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-6)


def test_a_turned_photo_has_one_vector_as_path_bytes_and_pil_image(model, tmp_path):
    image = Image.fromarray(random_images(1)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "x.png", exif=exif)
    clip = zebra.load(model)
    with Image.open(tmp_path / "x.png") as opened:
        vectors = clip.encode_images([image, tmp_path / "x.png", (tmp_path / "x.png").read_bytes(), opened])
    assert torch.allclose(vectors[1:], vectors[:1].expand(3, -1), atol=1e-6)


def test_labels_and_texts_come_from_any_ordered_iterable(model):
    clip, images = zebra.load(model), random_images(1)
    expected = clip.classify(images, ["cat", "dog"])
    assert clip.classify(images, np.array(["cat", "dog"])) == expected
    assert clip.classify(images, (label for label in ["cat", "dog"]), iter(["a photo of a {}."])) == expected
    assert torch.equal(clip.encode_texts(text for text in ["cat", "dog"]), clip.encode_texts(["cat", "dog"]))
    for labels, message in (([0, 1], r"labels\[0\] is 0 \(int\)"), ({"cat"}, "not set"), ({"cat": 1}, "not dict")):
        with pytest.raises(ConfigError, match=message):
            clip.classify(images, labels)
        with pytest.raises(ConfigError, match=message):
            clip.class_vectors(labels)
    assert torch.equal(clip.class_vectors(np.array(["cat", "dog"])), clip.class_vectors(iter(["cat", "dog"])))


def test_features_before_the_projection_are_wider_and_not_normalized(model):
    clip = zebra.load(model)
    features = clip.encode_images(random_images(), projected=False)
    assert features.shape == (3, 64)
    projected = torch.nn.functional.normalize(features @ clip.model.visual.proj.detach(), dim=1)
    assert torch.allclose(projected, clip.encode_images(random_images()), atol=1e-5)


def test_vectors_before_normalization_have_the_direction_of_the_unit_vectors(clip):
    images, texts = random_images(), ["a photo of a horse", "two spotted dogs in the snow"]
    for raw, unit in (
        (clip.encode_images(images, normalize=False), clip.encode_images(images)),
        (clip.encode_texts(texts, normalize=False), clip.encode_texts(texts)),
    ):
        assert (raw.norm(dim=1) - 1).abs().min() > 0.01
        assert torch.allclose(torch.nn.functional.normalize(raw, dim=1), unit, atol=1e-6)
    projected = clip.encode_images(images, projected=False) @ clip.model.visual.proj.detach()
    assert torch.allclose(clip.encode_images(images, normalize=False), projected, atol=1e-5)


def test_no_images_and_no_texts_give_empty_tensors(model):
    clip = zebra.load(model)
    assert clip.encode_images([]).shape == clip.encode_texts([]).shape == (0, 32)


def test_class_vectors_average_the_prompts_of_each_class_in_embedding_space(model):
    clip = zebra.load(model)
    vectors = clip.class_vectors(["horse", "cat"], ["a photo of a {}.", "two {c}s"])
    prompts = clip.encode_texts(["a photo of a cat.", "two cats"])
    assert torch.allclose(vectors[1], torch.nn.functional.normalize(prompts.mean(0), dim=0), atol=1e-6)


MANY_LABELS = [f"kind {number}" for number in range(40)]


@pytest.fixture
def counting_model(model, tmp_path, monkeypatch):
    """Load a model, with its own cache and a list that counts forward passes of the text tower."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    clip, passes = zebra.load(model), []
    clip.model.text.register_forward_hook(lambda *_: passes.append(1))
    return clip, passes


def test_a_head_of_many_prompts_is_computed_once(counting_model):
    clip, passes = counting_model
    first = clip.class_vectors(MANY_LABELS, ["a photo of a {}.", "two {}s"])
    computed = len(passes)
    assert torch.equal(clip.class_vectors(MANY_LABELS, ["a photo of a {}.", "two {}s"]), first)
    assert len(passes) == computed > 0
    others = clip.class_vectors(MANY_LABELS, ["a photo of a {}.", "three {}s"])
    assert not torch.equal(others, first)


def test_a_cached_head_is_not_used_after_the_weights_change(counting_model):
    clip, _ = counting_model
    first = clip.class_vectors(MANY_LABELS, ["a {}", "the {}"])
    clip.model.text.text_projection.data[0, 0] += 1e-3
    fresh = clip.class_vectors(MANY_LABELS, ["a {}", "the {}"])
    assert not torch.equal(fresh, first)


def test_permuted_weights_get_another_key(model):
    """The same values in another order: any sum over them is equal."""
    tower = zebra.load(model).model.text
    before = head_cache.head_cache_key("fingerprint", tower, ["a"], ["{}"])
    assert head_cache.head_cache_key("fingerprint", tower, ["a"], ["{}"]) == before
    tower.text_projection.data = tower.text_projection.data.flip(0)
    after = head_cache.head_cache_key("fingerprint", tower, ["a"], ["{}"])
    tower.text_projection.data = tower.text_projection.data.T.contiguous()
    assert len({before, after, head_cache.head_cache_key("fingerprint", tower, ["a"], ["{}"])}) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_weights_of_every_type_and_shape_are_hashed(dtype):
    tower = torch.nn.Module()
    for shape in ((), (0,), (2, 3)):
        tower.register_buffer(f"buffer{len(shape)}{sum(shape)}", torch.ones(shape).to(dtype))
    before = head_cache.hash_weights(tower)
    tower.buffer00.zero_()
    assert head_cache.hash_weights(tower) != before


def test_a_model_that_was_never_saved_caches_no_heads(counting_model, tmp_path):
    clip, _ = counting_model
    Bundle(clip.model, clip.tokenizer, clip.preprocess).class_vectors(MANY_LABELS, ["a {}", "the {}"])
    assert not (tmp_path / "cache" / "heads").exists()


def test_a_damaged_head_is_computed_again(counting_model, tmp_path):
    clip, passes = counting_model
    first = clip.class_vectors(MANY_LABELS, ["a {}", "the {}"])
    (path,) = (tmp_path / "cache" / "heads").iterdir()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    before = len(passes)
    assert torch.equal(clip.class_vectors(MANY_LABELS, ["a {}", "the {}"]), first)
    assert len(passes) > before


def test_the_head_cache_is_bounded_and_evicts_the_oldest_head_first(monkeypatch, tmp_path):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    monkeypatch.setattr(head_cache, "MAX_HEAD_CACHE_BYTES", 10_000)
    for number in range(4):
        head_cache.cache_head(f"head{number}", head_cache.Head(torch.full((10, 100), float(number))))
        os.utime(tmp_path / "heads" / f"head{number}.safetensors", (number, number))
    assert [head_cache.load_cached_head(f"head{number}") is None for number in range(4)] == [True, True, False, False]


def test_a_head_with_truncated_prompts_is_computed_once_and_reported_every_time(counting_model):
    clip, passes = counting_model
    num_passes = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="40 of 80 texts were truncated"):
            clip.class_vectors(MANY_LABELS, ["a {}", "horse " * 40 + "{}"])
        num_passes.append(len(passes))
    assert num_passes[1] == num_passes[0] > 0


@pytest.mark.parametrize("labels", [["horse", "cat", "horse"], ["Horse", "cat", "horse"], ["horse ", "cat", "  horse"]])
def test_labels_that_are_one_text_to_the_model_have_bitwise_equal_vectors(model, labels):
    vectors_CE = zebra.load(model).class_vectors(labels, ["a photo of a {}.", "two {} here"])
    assert torch.equal(vectors_CE[0], vectors_CE[2])
    assert not torch.equal(vectors_CE[0], vectors_CE[1])


def test_equal_labels_in_different_chunks_have_bitwise_equal_vectors(model, monkeypatch):
    monkeypatch.setattr(bundle_module, "TEXT_CHUNK_SIZE", 2)
    labels = ["horse", "cat", "a horse of course", "two", "horse"]
    vectors_CE = zebra.load(model).class_vectors(labels, ["a photo of a {}."])
    assert torch.equal(vectors_CE[0], vectors_CE[4])
    alone = zebra.load(model).class_vectors(["two"], ["a photo of a {}."])
    assert torch.allclose(vectors_CE[3], alone[0], atol=1e-6)


def test_texts_come_back_in_the_order_they_were_given(model):
    clip = zebra.load(model)
    texts = ["a horse", "two cats", "a", "a horse", "zebra", "a horse of course", ""]
    together = clip.encode_texts(texts)
    for text, vector in zip(texts, together, strict=True):
        assert torch.allclose(clip.encode_texts([text])[0], vector, atol=1e-6), text


def test_classify_ranks_every_label_and_scores_sum_to_one(model):
    ranked = zebra.load(model).classify(random_images(2), ["horse", "cat", "dog"])
    for predictions in ranked:
        scores = [p.score for p in predictions]
        assert sorted(p.label for p in predictions) == ["cat", "dog", "horse"]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0, abs=1e-5)


def test_long_texts_are_truncated_with_a_warning_or_refused(model):
    clip = zebra.load(model)
    long = ["horse " * 40, "cat"]
    with pytest.warns(UserWarning, match="1 of 2 texts were truncated to 16 tokens"):
        clip.encode_texts(long)
    with pytest.raises(DataError, match="16"):
        clip.encode_texts(long, truncate=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([], "no labels"), (["horse", " "], "empty label"), (["cat", "dog", "cat"], "repeated: 'cat'"), ("cat", "list")],
)
def test_invalid_labels_are_refused(model, labels, message):
    with pytest.raises(ConfigError, match=message):
        zebra.load(model).classify(random_images(1), labels)


def test_a_template_without_a_placeholder_is_refused(model):
    with pytest.raises(ConfigError, match="has no placeholder"):
        zebra.load(model).class_vectors(["cat"], ["a photo"])


def test_unusable_images_are_named(model, tmp_path):
    clip = zebra.load(model)
    with pytest.raises(DataError, match=r"no image file at .*gone.png"):
        clip.encode_images([tmp_path / "gone.png"])
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(BadSample, match=r"page\.jpg"):
        clip.encode_images([tmp_path / "page.jpg"])
    with pytest.raises(DataError, match=r"uint8 \[H, W, 3\], not float64"):
        clip.encode_images([np.zeros((4, 4, 3))])
    with pytest.raises(ConfigError, match="list"):
        clip.encode_images(tmp_path / "one.png")


@pytest.mark.parametrize("name", [*MODEL_FILES, "MANIFEST.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        zebra.load(folder)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_one_flipped_bit_is_detected_in_every_file(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(WeightsError, match=name):
        zebra.load(folder)


def edit_manifest(folder, change):
    """Change the entries of a manifest in place."""
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    change(manifest["files"])
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("names", [MODEL_FILES, MODEL_FILES[::2], MODEL_FILES[:1], MODEL_FILES[-1:]])
def test_a_manifest_that_does_not_list_a_file_that_is_read_is_refused(folder, names, verify):
    """Without verification too: the fingerprint would not depend on the file."""
    edit_manifest(folder, lambda files: [files.pop(name) for name in names])
    with pytest.raises(WeightsError, match=f"does not list {', '.join(names)}"):
        _ = zebra.load(folder, verify=verify).fingerprint


def test_a_manifest_without_files_is_refused(folder):
    (folder / "MANIFEST.json").write_text('{"files": {}}')
    with pytest.raises(WeightsError, match=r"does not list config\.json"):
        zebra.load(folder)


def test_files_that_are_not_read_need_no_line_in_the_manifest(folder):
    (folder / "notes.txt").write_text("mine")
    assert zebra.load(folder).embed_dim == 32


@pytest.mark.parametrize("is_recorded", [False, True])
def test_the_model_card_may_be_edited(folder, is_recorded):
    (folder / "README.md").write_text("# My model")
    if is_recorded:  # by an earlier version
        edit_manifest(folder, lambda files: files.update({"README.md": {"bytes": 1, "sha256": "0" * 64}}))
    assert zebra.load(folder).embed_dim == 32


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", '{"files": 1}', '{"files": {"a": 1}}', '{"files": {"a": {"bytes": 1e999}}}']
)
def test_a_damaged_manifest_is_named(folder, text):
    (folder / "MANIFEST.json").write_text(text)
    with pytest.raises(WeightsError, match=r"MANIFEST\.json"):
        zebra.load(folder)


def test_a_manifest_that_lists_a_file_outside_the_folder_is_refused(folder):
    edit_manifest(folder, lambda files: files.update({"../other/file": files["config.json"]}))
    with pytest.raises(WeightsError, match="outside its folder"):
        zebra.load(folder)


def golden_tensors(folder):
    return load_file(folder / "golden.safetensors"), {"text": '"a photo of a horse"'}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, metadata: (tensors.clear(), metadata.clear()), "no golden vectors"),
        (lambda tensors, metadata: metadata.clear(), "no golden vectors"),
        (lambda tensors, metadata: metadata.update(text="[" * 100_000), "no golden vectors"),
        (lambda tensors, metadata: metadata.update(text="[]"), "no golden text"),
        (lambda tensors, metadata: tensors.pop("text_vector"), "no golden vectors"),
        (lambda tensors, metadata: tensors.update(picture=torch.zeros(0, 4, 3, dtype=torch.uint8)), "no golden image"),
        (lambda tensors, metadata: tensors.update(picture=torch.zeros(4, 4, 3)), "no golden image"),
        (lambda tensors, metadata: tensors.update(picture=torch.zeros(4, 4, dtype=torch.uint8)), "no golden image"),
        (lambda tensors, metadata: tensors.update(image_vector=torch.zeros(0)), r"image vector has shape \(0,\)"),
        (lambda tensors, metadata: tensors.update(text_vector=torch.zeros(1)), r"text vector has shape \(1,\)"),
        (lambda tensors, metadata: tensors["image_vector"].fill_(torch.nan), "image vector differs"),
    ],
)
def test_golden_vectors_that_prove_nothing_are_refused(folder, change, message):
    tensors, metadata = golden_tensors(folder)
    change(tensors, metadata)
    save_file(tensors, folder / "golden.safetensors", metadata=metadata or None)
    write_manifest(folder)
    with pytest.raises(WeightsError, match=message):
        zebra.load(folder)


def test_a_damaged_file_of_golden_vectors_is_named(folder):
    (folder / "golden.safetensors").write_bytes(b"")
    write_manifest(folder)
    with pytest.raises(WeightsError, match=r"golden\.safetensors has no golden vectors"):
        zebra.load(folder)


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"embed_dim": 1 << 63}, r"config\.json: model\.embed_dim is 9223372036854775808"),
        ("config.json", {"embed_dim": "32"}, "model.embed_dim must be an integer"),
        ("config.json", {"embed_dim": 64}, "visual.proj has shape .* but the config implies"),
        ("config.json", {"image_size": 128}, r"preprocess\.json has the image size 64"),
        ("preprocess.json", {"image_size": 10**5}, "the image size 100000, but config.json has 64"),
        ("preprocess.json", {"image_size": 10**6}, "the image size 1000000"),
        ("preprocess.json", {"image_size": 32}, "the image size 32"),
        ("preprocess.json", {"mean": [0, 0, float("nan")]}, "must be a finite number"),
        ("preprocess.json", {"crop": "none"}, r"preprocess\.json: preprocess\.crop is 'none'"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(folder, file, changes, message):
    edit_json(folder / file, **changes)
    write_manifest(folder)
    with pytest.raises(WeightsError, match=message):
        zebra.load(folder)


@pytest.mark.parametrize("file", ["config.json", "preprocess.json", "tokenizer.json"])
def test_deeply_nested_json_is_refused(folder, file):
    (folder / file).write_text('{"a": ' * 100_000)
    write_manifest(folder)
    with pytest.raises(WeightsError, match=file):
        zebra.load(folder)


def test_more_layers_than_the_weights_can_have_are_refused_before_they_are_built(folder, monkeypatch):
    raw = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", vision=raw["vision"] | {"layers": 256})
    write_manifest(folder)
    monkeypatch.setattr("zebra.pretrained.weights.CLIP", None)
    with pytest.raises(WeightsError, match="too few for the 257 layers of the config"):
        zebra.load(folder)


@pytest.mark.parametrize("counter", [torch.zeros(2, 2, dtype=torch.int64), torch.zeros((), dtype=torch.complex64)])
def test_a_batch_counter_of_another_shape_or_type_is_refused(tmp_path, counter):
    build_tiny_model("resnet").save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["visual.bn1.num_batches_tracked"] = counter
    save_file(weights, tmp_path / "model.safetensors")
    write_manifest(tmp_path)
    with pytest.raises(WeightsError, match=r"visual\.bn1\.num_batches_tracked has"):
        zebra.load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_other_types_are_refused(folder, dtype):
    weights = load_file(folder / "model.safetensors")
    weights["visual.proj"] = torch.zeros(64, 32).to(dtype)
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)
    with pytest.raises(WeightsError, match=r"visual\.proj has the type"):
        zebra.load(folder)


def test_a_folder_with_other_vectors_is_refused(folder):
    """Valid digests but other weights: the golden vectors differ."""
    weights = load_file(folder / "model.safetensors")
    weights["visual.proj"] = weights["visual.proj"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)
    with pytest.raises(WeightsError, match="image vector differs"):
        zebra.load(folder)
    assert zebra.load(folder, verify=False).embed_dim == 32


def test_other_preprocessing_is_detected_by_the_golden_image(folder):
    raw = json.loads((folder / "preprocess.json").read_text())
    (folder / "preprocess.json").write_text(json.dumps(raw | {"resize": "squash"}))
    write_manifest(folder)
    with pytest.raises(WeightsError, match="image vector"):
        zebra.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("visual.proj"), "lacks the tensor visual.proj"),
        (lambda w: w.update(extra=torch.zeros(1)), "tensor extra"),
        (lambda w: w.update(logit_scale=torch.zeros(2)), "logit_scale has shape"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_named(folder, change, message):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)
    with pytest.raises(WeightsError, match=message):
        zebra.load(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(WeightsError, match="no model folder"):
        zebra.load(tmp_path / "nowhere")


@pytest.mark.parametrize("device", ["tpu", "cuda:64", "cuda:", "cuda:x", "cpu:0", "", "CPU"])
def test_an_unavailable_device_is_refused(model, device):
    with pytest.raises(ConfigError, match=r"is not available\. Use one of: cpu.*, auto"):
        zebra.load(model, device=device)


def test_each_gpu_has_a_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    names = ("auto", "cuda", "cuda:1", "cpu")
    assert [str(resolve_device(name)) for name in names] == ["cuda", "cuda", "cuda:1", "cpu"]
    with pytest.raises(
        ConfigError, match=r"device 'cuda:2' is not available. Use one of: cpu, cuda, cuda:0, cuda:1, auto"
    ):
        resolve_device("cuda:2")


def test_a_model_describes_itself(model):
    clip = zebra.load(model)
    text = repr(clip)
    assert text.startswith("Bundle(")
    for part in (
        f"{clip.image_size} px",
        f"{clip.embed_dim} dimensions",
        "fp32",
        "cpu",
        "parameters",
        clip.templates[0],
    ):
        assert part in text
    html = clip._repr_html_()
    assert "<script" not in html
    assert html.count("<tr>") == len(clip.describe())


def test_a_description_is_escaped_and_short_for_many_templates(clip):
    templates = ["a <b>photo</b> of a {}.", *(f"photo {number} of a {{}}." for number in range(79))]
    described = Bundle(clip.model, None, clip.preprocess, templates=templates)
    html = described._repr_html_()
    assert "a &lt;b&gt;photo&lt;/b&gt; of a {}. and 79 more" in html
    assert "<b>" not in html
    assert "no tokenizer: encodes images only" in repr(described)


def test_parameters_are_counted_alike_in_every_precision(model):
    clip = zebra.load(model)
    num_parameters = sum(parameter.numel() for parameter in clip.model.parameters())
    for precision in ("fp32", "bf16", "int8"):
        described = zebra.load(model, precision=precision).describe()
        assert described["parameters"] == f"{num_parameters:,}"
        assert described["precision"] == precision
