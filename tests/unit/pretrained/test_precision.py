"""Smaller precisions keep the directions of the vectors, the logit scale and the fingerprint."""

import re
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import zebra
from zebra.config.text_towers import BertTextConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained import autotune, int8, precision
from zebra.pretrained.autotune import PrecisionTrial, benchmark_precisions, pick_fastest, pick_precision
from zebra.pretrained.bundle import Bundle
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


def test_each_tower_has_a_precision_of_its_own():
    exact = build_tiny_model()
    cast = exact.to_precision("int8", "bf16")
    assert (cast.precision, cast.text_precision) == ("int8", "bf16")
    assert cast.describe()["precision"] == "int8 images, bf16 texts"
    assert {parameter.dtype for parameter in cast.model.text.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in cast.model.visual.parameters()} == {torch.float32}
    only_texts = exact.to_precision("fp32", "int8")
    images = random_images(2)
    assert torch.equal(only_texts.encode_images(images), exact.encode_images(images))
    with pytest.raises(ConfigError, match=r"loaded in int8 and cannot be cast"):
        only_texts.to_precision("fp32")


BERT = BertTextConfig(width=32, layers=2, heads=2, vocab_size=40, context_length=12)


@pytest.mark.parametrize(
    "build",
    [
        build_tiny_model,
        build_siglip_bundle,
        lambda: Bundle(CLIP(replace(build_tiny_model().model.config, text=BERT)).eval(), None, Preprocess(64)),
    ],
    ids=["causal", "siglip", "bert"],
)
def test_int8_texts_do_not_depend_on_their_batch(build):
    """Packed with common prefixes, sorted by length or alone: the rounding of a token is its own."""
    torch.manual_seed(0)
    exact = build()
    cast = exact.to_precision("int8")
    rows = torch.randint(1, 30, (6, 8))
    rows[1, :5] = rows[0, :5]
    rows[3, 4:] = 0  # padding
    with torch.inference_mode():
        expected, together = exact.model.encode_texts(rows), cast.model.encode_texts(rows)
        alone = torch.cat([cast.model.encode_texts(row[None]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert cosines(together, expected).min() >= 0.999
    assert not torch.equal(together, expected)


@pytest.mark.parametrize("name", PRECISIONS)
def test_weights_are_cast_once_and_the_original_is_not_changed(name):
    exact = build_tiny_model()
    before = {key: value.clone() for key, value in exact.model.state_dict().items()}
    cast = exact.to_precision(name)
    cast.encode_images(random_images(1))
    after = exact.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert {value.dtype for value in after.values()} == {torch.float32}
    weight = cast.model.visual.transformer.resblocks[0].attn.in_proj_weight
    assert isinstance(weight, int8.Int8Weight) == (name == "int8")
    assert getattr(weight, "weight", weight).dtype == (torch.int8 if name == "int8" else torch.bfloat16)


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
    monkeypatch.setitem(precision.TOKENS_PER_MICRO_BATCH, "int8", 40)  # two images of 17 tokens
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
    assert build_tiny_model("resnet").to_precision("fp32", "int8").text_precision == "int8"


def test_fp16_is_refused_on_a_processor_without_it(monkeypatch):
    monkeypatch.setattr(precision, "has_native_fp16", lambda device: False)
    with pytest.raises(ConfigError, match=r"needs a GPU or a processor .*AVX512-FP16.* Use precision='auto'"):
        build_tiny_model().to_precision("fp16")


def test_fp16_gives_the_vectors_of_fp32_where_the_processor_has_it(monkeypatch):
    monkeypatch.setattr(precision, "has_native_fp16", lambda device: True)
    exact = build_tiny_model()
    cast = exact.to_precision("fp16")
    assert {weight.dtype for weight in cast.model.visual.parameters()} == {torch.float16}
    images, texts = random_images(3), CAPTIONS[:3]
    assert cosines(cast.encode_images(images), exact.encode_images(images)).min() >= 0.999
    assert cosines(cast.encode_texts(texts), exact.encode_texts(texts)).min() >= 0.999


@pytest.mark.parametrize(("bf16", "advice"), [(True, "bf16"), (False, "fp16")])
def test_int8_is_refused_on_a_gpu_which_is_offered_its_own_format(bf16, advice, monkeypatch):
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: bf16)
    with pytest.raises(
        ConfigError, match=rf"the device is cuda:1. Use precision='{advice}' or 'auto', or device='cpu'"
    ):
        precision.require_precision("int8", torch.device("cuda:1"))
    for name in ("fp32", "bf16", "fp16"):
        precision.require_precision(name, torch.device("cuda:1"))


@pytest.mark.parametrize(("device", "advice"), [("cpu", "'auto', 'int8' or 'fp32'"), ("cuda", "'fp16' or 'auto'")])
def test_bf16_without_instructions_for_it_warns(device, advice, monkeypatch):
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: False)
    with pytest.warns(UserWarning, match=f"'bf16' is emulated.*Use precision={advice}"):
        precision.warn_if_emulated("bf16", torch.device(device))
    precision.warn_if_emulated("int8", torch.device(device))
    monkeypatch.setattr(precision, "has_native_bf16", lambda device: True)
    precision.warn_if_emulated("bf16", torch.device(device))


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


def test_the_doctor_reports_what_auto_selects_for_each_tower(model):
    details = {finding.name: finding.detail for finding in doctor.inspect_model(str(model))}
    assert re.match(r"auto selects \w+ for images.*auto selects \w+ for texts", details["precision"])


def test_auto_detects_inaccurate_image_vectors(model, coarse_int8):
    (bad, _) = benchmark_precisions(zebra.load(model), ["int8"])
    assert bad.min_cosine < 0.999


def test_auto_detects_inaccurate_text_vectors(model, coarse_int8):
    (bad, _) = benchmark_precisions(zebra.load(model), ["int8"], "text")
    assert bad.min_cosine < 0.999


def test_measuring_restores_the_number_of_threads(model, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        benchmark_precisions(zebra.load(model), ["bf16"])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def benchmarked(empty_cache, monkeypatch):
    """The towers that auto measured; bf16 is the best for images, int8 for texts."""
    towers = []

    def benchmark(clip, precisions, tower):
        towers.append(tower)
        best = "bf16" if tower == "image" else "int8"
        return [PrecisionTrial(best, 1, 1), PrecisionTrial("fp32", 1, 2)]

    monkeypatch.setattr(autotune, "candidate_precisions", lambda clip, tower: ["int8", "bf16"])
    monkeypatch.setattr(autotune, "benchmark_precisions", benchmark)
    return towers


def test_the_selection_of_each_tower_is_cached_by_model(model, tmp_path, benchmarked):
    for _ in range(2):
        clip = zebra.load(model, precision="auto")
        assert (clip.precision, clip.text_precision) == ("bf16", "int8")
        assert benchmarked == ["image", "text"]
    build_tiny_model(seed=1).save(tmp_path / "other")
    assert zebra.load(tmp_path / "other", precision="auto").precision == "bf16"
    assert len(benchmarked) == 4


def test_the_selection_of_a_model_that_was_never_saved_is_not_cached(benchmarked):
    for _ in range(2):
        pick_precision(build_tiny_model())
    assert benchmarked == ["image", "image"]


@pytest.mark.parametrize("variable", autotune.VARIABLES)
def test_the_selection_depends_on_limits_of_the_instructions(variable, model, benchmarked, monkeypatch):
    clip = zebra.load(model)
    monkeypatch.delenv(variable, raising=False)
    pick_precision(clip)
    monkeypatch.setenv(variable, "AVX2")
    pick_precision(clip)
    assert benchmarked == ["image", "image"]


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (torch.backends.cpu, "get_cpu_capability", "AVX2"),
        (torch.cpu, "get_capabilities", {"cpu_name": "Another"}),
        (torch.cpu, "get_capabilities", {"cpu_name": "Intel Xeon", "avx512_vnni": True}),
        (torch, "get_float32_matmul_precision", "medium"),
        (autotune.metadata, "version", "0.0.1"),
    ],
)
def test_the_selection_depends_on_processor_and_software(module, name, value, model, benchmarked, monkeypatch):
    clip = zebra.load(model)
    pick_precision(clip)
    monkeypatch.setattr(module, name, lambda *_: value)
    pick_precision(clip)
    assert benchmarked == ["image", "image"]


def test_without_anything_faster_auto_measures_nothing(model, monkeypatch):
    monkeypatch.setattr(autotune, "candidate_precisions", lambda clip, tower: [])
    monkeypatch.setattr(autotune, "benchmark_precisions", None)
    assert zebra.load(model, precision="auto").precision == "fp32"


@pytest.mark.parametrize(
    ("kind", "tower", "machine", "native", "expected"),
    [
        ("vit", "image", "x86_64", True, ["int8", "bf16", "fp16"]),
        ("vit", "text", "x86_64", False, ["int8"]),
        ("vit", "image", "arm64", True, ["bf16", "fp16"]),
        ("resnet", "image", "x86_64", True, ["bf16", "fp16"]),
        ("resnet", "text", "x86_64", False, ["int8"]),
        ("siglip", "text", "x86_64", True, []),
    ],
)
def test_auto_tries_precisions_that_can_be_faster_here(kind, tower, machine, native, expected, monkeypatch):
    """A model without a tokenizer, here that of SigLIP, encodes no texts."""
    monkeypatch.setattr(autotune, "machine", lambda: machine)
    monkeypatch.setattr(autotune, "has_native_bf16", lambda device: native)
    monkeypatch.setattr(autotune, "has_native_fp16", lambda device: native)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert autotune.candidate_precisions(MODELS[kind](), tower) == expected
