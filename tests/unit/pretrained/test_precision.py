"""A smaller number format keeps the vectors' directions, the temperature's bits and the model's name."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import zebra
from zebra.config.model import ModelConfig, SiglipTextConfig, SiglipVisionConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained import autotune, int8, precision
from zebra.pretrained.autotune import PrecisionTrial, benchmark_precisions, pick_fastest, pick_precision
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.manifest import write_manifest
from zebra.pretrained.onnx_export import export_onnx
from zebra.workflows import doctor

from .test_bundle import CAPTIONS, build, pictures

FORMATS = ("bf16", "int8")


def siglip():
    torch.manual_seed(0)
    vision = SiglipVisionConfig(width=64, layers=2, heads=2, patch_size=14)
    text = SiglipTextConfig(width=64, layers=1, heads=2, vocab_size=50, context_length=8)
    config = ModelConfig(embed_dim=64, image_size=64, vision=vision, text=text, logit_bias=True)
    return Bundle(CLIP(config), None, Preprocess(image_size=64))


MODELS = {"vit": build, "resnet": lambda: build("resnet"), "siglip": siglip}
CASES = [(kind, name) for kind in MODELS for name in FORMATS if (kind, name) != ("resnet", "int8")]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    build().save(folder)
    return folder


@pytest.fixture
def coarse(monkeypatch):
    """int8 that rounds every weight to −1, 0 or 1 of its row's largest, and so spoils the vectors."""
    monkeypatch.setattr(int8, "weight_quant_max", lambda: 1)


@pytest.fixture
def forgetful(tmp_path, monkeypatch):
    """A cache in which no check has passed."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


def cosines(a, b):
    return torch.nn.functional.cosine_similarity(a.double(), b.double())


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_vectors_are_float32_of_length_one_and_near_those_of_fp32(kind, name):
    exact = MODELS[kind]()
    vectors, expected = exact.to_precision(name).encode_images(pictures(9)), exact.encode_images(pictures(9))
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(9), atol=1e-6, rtol=0)
    assert cosines(vectors, expected).min() >= 0.999
    assert not torch.equal(vectors, expected)


@pytest.mark.parametrize("name", FORMATS)
def test_texts_are_near_those_of_fp32_too(name):
    exact = build()
    vectors, expected = exact.to_precision(name).encode_texts(CAPTIONS[:3]), exact.encode_texts(CAPTIONS[:3])
    assert vectors.dtype == torch.float32
    assert cosines(vectors, expected).min() >= 0.999


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_features_before_the_projection_are_near_too(kind, name):
    exact = MODELS[kind]()
    features = exact.to_precision(name).encode_images(pictures(3), projected=False)
    assert features.dtype == torch.float32
    assert cosines(features, exact.encode_images(pictures(3), projected=False)).min() >= 0.999


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_beside_int8_pictures_texts_are_bf16_where_the_hardware_has_it(native, expected, monkeypatch):
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: native)
    text = build().to_precision("int8").model.text
    assert {parameter.dtype for parameter in text.parameters()} == {expected}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_cast_once_and_the_first_model_is_left_as_it_was(name):
    exact = build()
    before = {key: value.clone() for key, value in exact.model.state_dict().items()}
    cast = exact.to_precision(name)
    cast.encode_images(pictures(1))
    after = exact.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert {value.dtype for value in after.values()} == {torch.float32}
    held = cast.model.visual.transformer.resblocks[0].mlp.c_fc.weight
    assert isinstance(held, int8.Int8Weight) if name == "int8" else held.dtype == torch.bfloat16


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_temperature_and_bias_keep_their_bits(kind, name):
    exact = MODELS[kind]()
    cast = exact.to_precision(name)
    assert (cast.logit_scale, cast.logit_bias) == (exact.logit_scale, exact.logit_bias)


def test_int8_embeds_pictures_in_small_parts_with_the_vectors_of_one_alone(monkeypatch):
    seen = []
    tower = build().to_precision("int8")
    run = tower.model.encode_images
    monkeypatch.setattr(tower.model, "encode_images", lambda pixels: seen.append(len(pixels)) or run(pixels))
    monkeypatch.setattr(precision, "TOKENS_PER_MICRO_BATCH", 40)  # two pictures of 17 tokens
    small = build().to_precision("int8")
    monkeypatch.setattr(small.model, "encode_images", lambda pixels: seen.append(len(pixels)) or run(pixels))
    whole, parts = tower.encode_images(pictures(5)), small.encode_images(pictures(5))
    assert seen == [5, 2, 2, 1]
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_pixels_that_are_ready_give_the_vectors_of_their_pictures():
    clip = build()
    pixels = torch.stack(
        [torch.from_numpy(clip.preprocess.resize_and_crop(clip._load_image(p, 0))) for p in pictures(3)]
    )
    assert torch.equal(clip.encode_pixels(pixels), clip.encode_images(pictures(3)))


def test_int8_is_refused_for_a_resnet():
    with pytest.raises(ConfigError, match=r"ResNet, made of convolutions. Use precision='bf16'"):
        build("resnet").to_precision("int8")


@pytest.mark.parametrize("name", FORMATS)
def test_what_has_lost_bits_is_neither_saved_nor_exported_nor_cast_again(name, tmp_path):
    cast = build().to_precision(name)
    for attempt in (
        lambda: cast.save(tmp_path / "model"),
        lambda: export_onnx(cast, tmp_path / "model"),
        lambda: cast.to_precision("fp32"),
    ):
        with pytest.raises(ConfigError, match=rf"loaded in {name}.*precision='fp32'"):
            attempt()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_load_takes_a_precision_and_the_fingerprint_stays_the_models(saved, name):
    exact, cast = zebra.load(saved), zebra.load(saved, precision=name)
    assert (exact.precision, cast.precision) == ("fp32", name)
    assert (exact.backend, cast.backend) == ("torch", "torch")
    assert cast.fingerprint == exact.fingerprint != ""
    assert torch.equal(cast.encode_images(pictures(2)), exact.to_precision(name).encode_images(pictures(2)))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"precision": "bf61"}, "unknown precision: 'bf61'. Did you mean 'bf16'"),
        ({"backend": "onnx"}, "unknown backend: 'onnx'. Known: onnxruntime, torch"),
        ({"backend": "onnxruntime", "precision": "int8"}, "fp32' on the CPU only, not 'int8'"),
        ({"backend": "onnxruntime", "precision": "auto"}, "fp32' on the CPU only, not 'auto'"),
        ({"backend": "onnxruntime", "device": "cuda"}, "not 'fp32' on 'cuda'"),
    ],
)
def test_what_cannot_be_is_refused_before_a_file_is_read(asked, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        zebra.load(tmp_path / "nowhere", **asked)


def test_golden_vectors_refuse_a_format_that_spoils_them(saved, coarse, forgetful):
    with pytest.raises(WeightsError, match=r"image vector in int8 has a cosine of 0\.\d+ .*'fp32' or 'auto'"):
        zebra.load(saved, precision="int8")


def test_golden_vectors_are_checked_in_fp32_before_a_model_is_cast(saved, tmp_path):
    """A change too small to be told from bf16's own rounding is noticed."""
    folder = shutil.copytree(saved, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["visual.proj"][:, 0] *= 1.02
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)
    changed, before = zebra.load(folder, verify=False, precision="bf16"), zebra.load(saved)
    assert cosines(changed.encode_images(pictures(1)), before.encode_images(pictures(1))).min() > 0.999
    with pytest.raises(WeightsError, match=r"image vector differs from the recorded one"):
        zebra.load(folder, precision="bf16")


def test_auto_takes_the_fastest_that_keeps_the_vectors():
    slow, fast, untrue, unknown = (
        PrecisionTrial("fp32", 1.0, 3.0),
        PrecisionTrial("bf16", 0.9991, 2.0),
        PrecisionTrial("int8", 0.9989, 1.0),
        PrecisionTrial("int8", float("nan"), 1.0),
    )
    assert pick_fastest([untrue, fast, slow]) == "bf16"
    assert pick_fastest([unknown, slow]) == "fp32"
    assert pick_fastest([PrecisionTrial("int8", 0.9990, 1.0), fast, slow]) == "int8"
    assert pick_fastest([PrecisionTrial("bf16", 1.0, 4.0), slow]) == "fp32"


def test_auto_measures_every_format_and_fp32(saved):
    outcomes = {trial.precision: trial for trial in benchmark_precisions(zebra.load(saved), ["int8", "bf16"])}
    assert set(outcomes) == {"int8", "bf16", "fp32"}
    assert outcomes["fp32"].min_cosine == pytest.approx(1, abs=1e-6)
    assert all(0.999 <= trial.min_cosine < 1.00001 and 0 < trial.seconds < 60 for trial in outcomes.values())


def test_auto_measures_a_model_that_does_not_read():
    assert [trial.precision for trial in benchmark_precisions(siglip(), ["bf16"])] == ["bf16", "fp32"]


def test_the_doctor_says_what_auto_takes(saved):
    says = {finding.name: finding.detail for finding in doctor.inspect_model(str(saved))}
    assert says["precision"].startswith(("auto selects int8;", "auto selects bf16;", "auto selects fp32"))


def test_auto_sees_that_a_format_spoils_the_pictures(saved, coarse):
    (bad, _) = benchmark_precisions(zebra.load(saved), ["int8"])
    assert bad.min_cosine < 0.999


def test_auto_sees_that_a_format_spoils_the_texts(saved, monkeypatch):
    clip = zebra.load(saved)
    spoilt = clip.to_precision("bf16")
    with torch.no_grad():
        spoilt.model.text.text_projection.copy_(spoilt.model.text.text_projection.roll(1, dims=1))
    monkeypatch.setattr(clip, "to_precision", lambda name: spoilt if name == "bf16" else clip)
    (bad, _) = benchmark_precisions(clip, ["bf16"])
    assert bad.min_cosine < 0.999


def test_measuring_leaves_the_number_of_threads_as_it_was(saved, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        benchmark_precisions(zebra.load(saved), ["bf16"])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_choice_is_remembered_for_this_model_on_this_processor(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    asked = []
    monkeypatch.setattr(autotune, "candidate_precisions", lambda clip: ["int8", "bf16"])
    monkeypatch.setattr(
        autotune,
        "benchmark_precisions",
        lambda clip, formats: asked.append(formats) or [PrecisionTrial("bf16", 1, 1), PrecisionTrial("fp32", 1, 2)],
    )
    assert zebra.load(saved, precision="auto").precision == "bf16"
    assert zebra.load(saved, precision="auto").precision == "bf16"
    assert asked == [["int8", "bf16"]]
    build(seed=1).save(tmp_path / "other")
    assert zebra.load(tmp_path / "other", precision="auto").precision == "bf16"
    assert len(asked) == 2
    monkeypatch.setattr(autotune, "_processor_name", lambda device: "another")
    assert pick_precision(zebra.load(saved)) == "bf16"
    assert len(asked) == 3


def test_without_anything_faster_auto_measures_nothing(saved, monkeypatch):
    monkeypatch.setattr(autotune, "candidate_precisions", lambda clip: [])
    monkeypatch.setattr(autotune, "benchmark_precisions", None)
    assert zebra.load(saved, precision="auto").precision == "fp32"


@pytest.mark.parametrize(
    ("kind", "machine", "native", "expected"),
    [
        ("vit", "x86_64", True, ["int8", "bf16"]),
        ("vit", "x86_64", False, ["int8"]),
        ("vit", "arm64", True, ["bf16"]),
        ("resnet", "x86_64", True, ["bf16"]),
    ],
)
def test_auto_tries_what_can_be_faster_here(kind, machine, native, expected, monkeypatch):
    monkeypatch.setattr(autotune, "machine", lambda: machine)
    monkeypatch.setattr(autotune, "has_native_bf16", lambda device: native)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert autotune.candidate_precisions(build(kind)) == expected
