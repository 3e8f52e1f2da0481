"""Smaller precisions keep the directions of the vectors, the logit scale and the fingerprint."""

import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import zebra
from zebra.errors import ConfigError, WeightsError
from zebra.pretrained import autotune, int8, precision
from zebra.pretrained.autotune import PrecisionTrial, benchmark_precisions, pick_fastest, pick_precision
from zebra.pretrained.manifest import write_manifest
from zebra.pretrained.onnx.export import export_onnx
from zebra.workflows import doctor

from ...tiny_model import CAPTIONS, build_tiny_model
from .bundles import build_siglip_bundle, random_images

PRECISIONS = ("bf16", "int8")


MODELS = {
    "vit": build_tiny_model,
    "resnet": lambda: build_tiny_model("resnet"),
    "siglip": build_siglip_bundle,
    "naflex": lambda: build_tiny_model("naflex"),
}
CASES = [(kind, name) for kind in MODELS for name in PRECISIONS if (kind, name) != ("resnet", "int8")]


@pytest.fixture
def coarse_int8(monkeypatch):
    """int8 that rounds every weight to −1, 0 or 1 times the largest of its row, so that vectors are wrong."""
    monkeypatch.setattr(int8, "weight_quant_max", lambda: 1)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


def cosines(a, b):
    return torch.nn.functional.cosine_similarity(a.double(), b.double())


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_image_vectors_are_float32_of_unit_length_and_near_those_of_fp32(kind, name):
    exact = MODELS[kind]()
    vectors, expected = (
        exact.to_precision(name).encode_images(random_images(9)),
        exact.encode_images(random_images(9)),
    )
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(9), atol=1e-6, rtol=0)
    assert cosines(vectors, expected).min() >= 0.999
    assert not torch.equal(vectors, expected)


@pytest.mark.parametrize("name", PRECISIONS)
def test_text_vectors_are_near_those_of_fp32(name):
    exact = build_tiny_model()
    vectors, expected = exact.to_precision(name).encode_texts(CAPTIONS[:3]), exact.encode_texts(CAPTIONS[:3])
    assert vectors.dtype == torch.float32
    assert cosines(vectors, expected).min() >= 0.999


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_features_before_the_projection_are_near_those_of_fp32(kind, name):
    exact = MODELS[kind]()
    features = exact.to_precision(name).encode_images(random_images(3), projected=False)
    assert features.dtype == torch.float32
    assert cosines(features, exact.encode_images(random_images(3), projected=False)).min() >= 0.999


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_with_int8_images_texts_are_bf16_if_the_hardware_supports_it(native, expected, monkeypatch):
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: native)
    text = build_tiny_model().to_precision("int8").model.text
    assert {parameter.dtype for parameter in text.parameters()} == {expected}


@pytest.mark.parametrize("name", PRECISIONS)
def test_weights_are_cast_once_and_the_original_is_not_changed(name):
    exact = build_tiny_model()
    before = {key: value.clone() for key, value in exact.model.state_dict().items()}
    cast = exact.to_precision(name)
    cast.encode_images(random_images(1))
    after = exact.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert {value.dtype for value in after.values()} == {torch.float32}
    weight = cast.model.visual.transformer.resblocks[0].mlp.c_fc.weight
    assert isinstance(weight, int8.Int8Weight) if name == "int8" else weight.dtype == torch.bfloat16


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_logit_scale_and_bias_do_not_change(kind, name):
    exact = MODELS[kind]()
    cast = exact.to_precision(name)
    assert (cast.logit_scale, cast.logit_bias) == (exact.logit_scale, exact.logit_bias)


def test_int8_micro_batches_give_the_vectors_of_whole_batches(monkeypatch):
    seen = []
    tower = build_tiny_model().to_precision("int8")
    run = tower.model.encode_images
    monkeypatch.setattr(tower.model, "encode_images", lambda pixels: seen.append(len(pixels)) or run(pixels))
    monkeypatch.setattr(precision, "TOKENS_PER_MICRO_BATCH", 40)  # two images of 17 tokens
    small = build_tiny_model().to_precision("int8")
    monkeypatch.setattr(small.model, "encode_images", lambda pixels: seen.append(len(pixels)) or run(pixels))
    full, parts = tower.encode_images(random_images(5)), small.encode_images(random_images(5))
    assert seen == [5, 2, 2, 1]
    torch.testing.assert_close(parts, full, atol=1e-6, rtol=0)


def test_preprocessed_pixels_give_the_vectors_of_their_images():
    clip = build_tiny_model()
    pixels = torch.stack(
        [torch.from_numpy(clip.preprocess.resize_and_crop(Image.fromarray(p))) for p in random_images(3)]
    )
    assert torch.equal(clip.encode_pixels(pixels), clip.encode_images(random_images(3)))


def test_int8_is_refused_for_a_resnet():
    with pytest.raises(ConfigError, match=r"image tower is made of convolutions. Use precision='bf16'"):
        build_tiny_model("resnet").to_precision("int8")


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_cast_model_is_not_saved_exported_or_cast_again(name, tmp_path):
    cast = build_tiny_model().to_precision(name)
    for attempt in (
        lambda: cast.save(tmp_path / "model"),
        lambda: export_onnx(cast, tmp_path / "model"),
        lambda: cast.to_precision("fp32"),
    ):
        with pytest.raises(ConfigError, match=rf"loaded in {name}.*precision='fp32'"):
            attempt()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_model_loaded_in_another_precision_has_the_same_fingerprint(model, name):
    exact, cast = zebra.load(model), zebra.load(model, precision=name)
    assert (exact.precision, cast.precision) == ("fp32", name)
    assert (exact.backend, cast.backend) == ("torch", "torch")
    assert cast.fingerprint == exact.fingerprint != ""
    assert torch.equal(cast.encode_images(random_images(2)), exact.to_precision(name).encode_images(random_images(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf61"}, "unknown precision: 'bf61'. Did you mean 'bf16'"),
        ({"backend": "onnx"}, "unknown backend: 'onnx'. Known: onnxruntime, torch"),
        ({"backend": "onnxruntime", "precision": "int8"}, "fp32' on the CPU only, not 'int8'"),
        ({"backend": "onnxruntime", "precision": "auto"}, "fp32' on the CPU only, not 'auto'"),
        ({"backend": "onnxruntime", "device": "cuda"}, "not 'fp32' on 'cuda'"),
    ],
)
def test_unsupported_options_are_refused_before_a_file_is_read(options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        zebra.load(tmp_path / "nowhere", **options)


def test_golden_vectors_refuse_an_inaccurate_precision(model, coarse_int8, empty_cache):
    with pytest.raises(WeightsError, match=r"image vector in int8 has a cosine of 0\.\d+ .*'fp32' or 'auto'"):
        zebra.load(model, precision="int8")


def test_golden_vectors_are_verified_in_fp32_before_a_model_is_cast(model, tmp_path):
    """A change smaller than the rounding of bf16 is detected."""
    folder = shutil.copytree(model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["visual.proj"][:, 0] *= 1.02
    save_file(weights, folder / "model.safetensors")
    write_manifest(folder)
    changed, before = zebra.load(folder, verify=False, precision="bf16"), zebra.load(model)
    assert cosines(changed.encode_images(random_images(1)), before.encode_images(random_images(1))).min() > 0.999
    with pytest.raises(WeightsError, match=r"image vector differs from the recorded one"):
        zebra.load(folder, precision="bf16")


def test_auto_selects_the_fastest_accurate_precision():
    slow, fast, inaccurate, invalid = (
        PrecisionTrial("fp32", 1.0, 3.0),
        PrecisionTrial("bf16", 0.9991, 2.0),
        PrecisionTrial("int8", 0.9989, 1.0),
        PrecisionTrial("int8", float("nan"), 1.0),
    )
    assert pick_fastest([inaccurate, fast, slow]) == "bf16"
    assert pick_fastest([invalid, slow]) == "fp32"
    assert pick_fastest([PrecisionTrial("int8", 0.9990, 1.0), fast, slow]) == "int8"
    assert pick_fastest([PrecisionTrial("bf16", 1.0, 4.0), slow]) == "fp32"


def test_auto_measures_every_candidate_and_fp32(model):
    outcomes = {trial.precision: trial for trial in benchmark_precisions(zebra.load(model), ["int8", "bf16"])}
    assert set(outcomes) == {"int8", "bf16", "fp32"}
    assert outcomes["fp32"].min_cosine == pytest.approx(1, abs=1e-6)
    assert all(0.999 <= trial.min_cosine < 1.00001 and 0 < trial.seconds < 60 for trial in outcomes.values())


def test_auto_measures_a_model_without_a_tokenizer():
    assert [trial.precision for trial in benchmark_precisions(build_siglip_bundle(), ["bf16"])] == ["bf16", "fp32"]


def test_the_doctor_reports_what_auto_selects(model):
    details = {finding.name: finding.detail for finding in doctor.inspect_model(str(model))}
    assert details["precision"].startswith(("auto selects int8;", "auto selects bf16;", "auto selects fp32"))


def test_auto_detects_inaccurate_image_vectors(model, coarse_int8):
    (bad, _) = benchmark_precisions(zebra.load(model), ["int8"])
    assert bad.min_cosine < 0.999


def test_auto_detects_inaccurate_text_vectors(model, monkeypatch):
    clip = zebra.load(model)
    inaccurate = clip.to_precision("bf16")
    with torch.no_grad():
        inaccurate.model.text.text_projection.copy_(inaccurate.model.text.text_projection.roll(1, dims=1))
    monkeypatch.setattr(clip, "to_precision", lambda name: inaccurate if name == "bf16" else clip)
    (bad, _) = benchmark_precisions(clip, ["bf16"])
    assert bad.min_cosine < 0.999


def test_measuring_restores_the_number_of_threads(model, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        benchmark_precisions(zebra.load(model), ["bf16"])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_selection_is_cached_by_model_and_processor(model, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path))
    benchmarked = []
    monkeypatch.setattr(autotune, "candidate_precisions", lambda clip: ["int8", "bf16"])
    monkeypatch.setattr(
        autotune,
        "benchmark_precisions",
        lambda clip, precisions: (
            benchmarked.append(precisions) or [PrecisionTrial("bf16", 1, 1), PrecisionTrial("fp32", 1, 2)]
        ),
    )
    assert zebra.load(model, precision="auto").precision == "bf16"
    assert zebra.load(model, precision="auto").precision == "bf16"
    assert benchmarked == [["int8", "bf16"]]
    build_tiny_model(seed=1).save(tmp_path / "other")
    assert zebra.load(tmp_path / "other", precision="auto").precision == "bf16"
    assert len(benchmarked) == 2
    monkeypatch.setattr(autotune, "_processor_name", lambda device: "another")
    assert pick_precision(zebra.load(model)) == "bf16"
    assert len(benchmarked) == 3


def test_without_anything_faster_auto_measures_nothing(model, monkeypatch):
    monkeypatch.setattr(autotune, "candidate_precisions", lambda clip: [])
    monkeypatch.setattr(autotune, "benchmark_precisions", None)
    assert zebra.load(model, precision="auto").precision == "fp32"


@pytest.mark.parametrize(
    ("kind", "machine", "native", "expected"),
    [
        ("vit", "x86_64", True, ["int8", "bf16"]),
        ("vit", "x86_64", False, ["int8"]),
        ("vit", "arm64", True, ["bf16"]),
        ("resnet", "x86_64", True, ["bf16"]),
    ],
)
def test_auto_tries_precisions_that_can_be_faster_here(kind, machine, native, expected, monkeypatch):
    monkeypatch.setattr(autotune, "machine", lambda: machine)
    monkeypatch.setattr(autotune, "has_native_bf16", lambda device: native)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert autotune.candidate_precisions(build_tiny_model(kind)) == expected
