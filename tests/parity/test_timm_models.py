"""Models with an image tower of timm share what zebra's own models have: precisions, files, export and training.

The trunks are small versions of published ones, with random weights.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zebra
from zebra.config.export import ExportConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.config.timm_tower import TimmVisionConfig
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError, ShapeError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.lora import apply_lora, get_adapters
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.weights import build_model, published_state_dict
from zebra.text.bpe import BPETokenizer
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.freeze import freeze
from zebra.train.optimizer import layer_depths
from zebra.workflows import doctor, export, train

from .test_timm_towers import SMALL_CONVNEXT, SMALL_VIT, noisy, small_trunks  # noqa: F401  # a fixture

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "black": (20, 20, 20)}
TRUNKS: dict[str, tuple[TimmVisionConfig, int, dict[str, Any]]] = {
    "convnext": (TimmVisionConfig(name="convnext_tiny"), 64, SMALL_CONVNEXT),
    "eva01": (TimmVisionConfig(name="eva_giant_patch14_224", pool="token", projection="classifier"), 56, SMALL_VIT),
    "eva02": (
        TimmVisionConfig(name="eva02_base_patch16_clip_224", pool="token", projection="classifier"),
        64,
        SMALL_VIT,
    ),
    "pe": (TimmVisionConfig(name="vit_pe_core_tiny_patch16_384", pool="map", projection="classifier"), 64, SMALL_VIT),
    "mobileclip": (
        TimmVisionConfig(name="fastvit_mci0", pool="avg", projection="classifier"),
        64,
        {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 32, 64)},
    ),
    "mobileclip b": (
        TimmVisionConfig(name="vit_base_mci_224", pool="token", projection="classifier"),
        64,
        {"depth": 1},
    ),
}
"""Tower, image size and settings of timm's constructor."""


@pytest.fixture
def build(small_trunks: Callable[..., None]) -> Callable[[str], Bundle]:  # noqa: F811
    """Return a function that builds a small model by a name of TRUNKS."""

    def build_bundle(name: str) -> Bundle:
        vision, image_size, settings = TRUNKS[name]
        small_trunks(**settings)
        torch.manual_seed(0)
        tokenizer = BPETokenizer.train(["a red green blue black picture, number 0123456789"] * 5, 560, 16)
        text = TextConfig(width=32, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=16)
        model = CLIP(ModelConfig(embed_dim=32, image_size=image_size, vision=vision, text=text))
        noisy(model.visual)
        return Bundle(model.eval(), tokenizer, Preprocess(image_size=image_size))

    return build_bundle


def pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (70 + 9 * n, 80, 3), dtype=np.uint8)) for n in range(count)]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("name", ["convnext", "eva01", "pe", "mobileclip"])
def test_smaller_precisions_keep_the_directions_of_vectors(
    build: Callable[[str], Bundle], name: str, precision: Any
) -> None:
    bundle = build(name)
    cast = bundle.to_precision(precision)
    expected, vectors = bundle.encode_images(pictures()), cast.encode_images(pictures())
    assert (expected * vectors).sum(dim=1).min() >= 0.999
    assert not torch.equal(expected, vectors)
    features = cast.encode_images(pictures(), projected=False)
    assert nn.functional.cosine_similarity(features, bundle.encode_images(pictures(), projected=False)).min() >= 0.999


def test_fused_branches_and_batch_norms_give_the_same_vectors(build: Callable[[str], Bundle]) -> None:
    bundle = build("mobileclip")
    expected, num_layers = bundle.encode_images(pictures()), len(list(bundle.model.visual.modules()))
    bundle.model.visual.fuse()  # type: ignore[union-attr]
    assert len(list(bundle.model.visual.modules())) < num_layers
    torch.testing.assert_close(bundle.encode_images(pictures()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["convnext", "eva02", "mobileclip"])
def test_a_saved_model_is_verified_and_gives_the_same_vectors(
    build: Callable[[str], Bundle], tmp_path: Path, name: str
) -> None:
    bundle = build(name)
    bundle.save(tmp_path / "model")
    loaded = zebra.load(tmp_path / "model")
    assert torch.equal(loaded.encode_images(pictures()), bundle.encode_images(pictures()))
    assert loaded.model.config == bundle.model.config
    findings = {finding.name: finding.detail for finding in doctor.inspect_model(str(tmp_path / "model"))}
    assert findings["computed by"] == f"image tower: timm {metadata.version('timm')}, text tower: zebra"
    assert "image and text give the recorded vectors" in findings["golden vectors"]
    assert "int8" in findings["precision"]


def test_open_clip_opens_an_exported_model_with_the_same_vectors(
    open_clip: ModuleType, build: Callable[[str], Bundle], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    bundle = build("convnext")
    bundle.save(tmp_path / "model")
    export.run(ExportConfig(model=str(tmp_path / "model"), out=str(tmp_path / "peer"), format="open_clip"))
    peer = open_clip.create_model(f"local-dir:{tmp_path / 'peer'}").eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(
            peer.encode_image(images, True), bundle.model.encode_images(images), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(("name", "size"), [("eva02", 96), ("pe", 80), ("convnext", 96)])
def test_another_image_size_is_that_of_timm(
    build: Callable[[str], Bundle], tmp_path: Path, name: str, size: int
) -> None:
    bundle = build(name)
    bundle.save(tmp_path)
    resized = zebra.load(tmp_path, image_size=size)
    tower: Any = bundle.model.visual
    if hasattr(tower.trunk, "set_input_size"):
        tower.trunk.set_input_size(img_size=(size, size))
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(resized.model.encode_images(images), bundle.model.encode_images(images))


def test_a_trunk_of_another_image_size_than_timms_is_not_written_for_open_clip(
    build: Callable[[str], Bundle], tmp_path: Path
) -> None:
    build("pe").save(tmp_path / "model")
    with pytest.raises(WeightsError, match=r"for timm's image size only, where trunk.pos_embed has shape"):
        export.run(ExportConfig(model=str(tmp_path / "model"), out=str(tmp_path / "peer"), format="open_clip"))


# --- errors ---


def build_clip(name: str, embed_dim: int = 32, image_size: int = 64, **settings: Any) -> CLIP:
    text = TextConfig(width=32, layers=1, heads=1, vocab_size=600, context_length=16)
    vision = TimmVisionConfig(name=name, **settings)
    with torch.device("meta"):
        return CLIP(ModelConfig(embed_dim=embed_dim, image_size=image_size, vision=vision, text=text)).eval()


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("convnext_bass", {}, r"no model 'convnext_bass'. Did you mean 'convnext_base'\?"),
        ("resnet18", {"pool": "token"}, "cannot build resnet18 with pool token"),
        ("vit_tiny_patch16_224", {"pool": "abs_attn", "projection": "none"}, "needs a feature map"),
        ("deit_tiny_distilled_patch16_224", {"pool": "token", "projection": "classifier"}, "several classifiers"),
        ("levit_128s", {"image_size": 100}, "cannot build levit_128s .* images of 100 pixels"),
    ],
)
def test_a_tower_that_timm_does_not_have_is_refused(
    open_clip: ModuleType, name: str, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        build_clip(name, **settings)


def test_vectors_of_another_width_are_refused(open_clip: ModuleType) -> None:
    model = build_clip("convnext_atto", pool="avg", projection="none")
    with pytest.raises(ShapeError, match=r"shape \(1, 320\) instead of vectors of width 32"):
        model.visual(torch.zeros(1, 3, 64, 64, device="meta"))


def test_a_tensor_that_timm_does_not_have_or_lacks_is_named(build: Callable[[str], Bundle]) -> None:
    """As when the installed timm has another version of the trunk."""
    model = build("convnext").model
    tensors = published_state_dict(model)
    with pytest.raises(WeightsError, match=r"a tensor visual.trunk.stem.2.weight that the config does not imply"):
        build_model(model.config, tensors | {"visual.trunk.stem.2.weight": torch.zeros(3)}, "file")
    del tensors["visual.trunk.stem.0.weight"]
    with pytest.raises(WeightsError, match=r"lacks the tensor visual.trunk.stem.0.weight"):
        build_model(model.config, tensors, "file")


def test_a_buffer_that_timm_cannot_compute_is_named(
    build: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("eva02").model
    monkeypatch.delattr(type(model.visual.trunk.rope).__mro__[1], "init_non_persistent_buffers")  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"computes the buffer trunk.rope.bands of this model"):
        build_model(model.config, published_state_dict(model), "file")


# --- training ---


@pytest.mark.parametrize("name", ["convnext", "eva02", "pe", "mobileclip"])
def test_learning_rates_fall_from_head_to_stem(build: Callable[[str], Bundle], name: str) -> None:
    model = build(name).model
    depths = layer_depths(model)
    assert depths.keys() == dict(model.named_parameters()).keys()
    tower: Any = model.visual
    blocks = [name for name, _ in tower._named_blocks()]
    by_block = [
        {depths[f"visual.trunk.{block}.{name}"] for name, _ in tower.trunk.get_submodule(block).named_parameters()}
        for block in blocks
    ]
    assert by_block == [{depth} for depth in range(len(blocks), 0, -1)]
    head = (
        "visual.head.proj.weight" if name == "convnext" else f"visual.trunk.head.{'fc.' * (name == 'mobileclip')}weight"
    )
    assert depths[head] == 0
    stem = next(name for name in depths if "stem" in name or "patch_embed" in name)
    assert depths[stem] == len(blocks) + 1


@pytest.mark.parametrize("name", ["mobileclip", "mobileclip b"])
def test_statistics_of_every_kind_of_batch_norm_are_fixed_in_fine_tuning(
    build: Callable[[str], Bundle], name: str
) -> None:
    model = build(name).model
    names, images = list(model.state_dict()), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = model.encode_images(images)
    freeze(model, "all")
    model.train()
    assert list(model.state_dict()) == names
    before = {name: value.clone() for name, value in model.state_dict().items() if "running_" in name}
    assert before
    torch.testing.assert_close(model.encode_images(images), expected)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("name", ["convnext", "eva01", "mobileclip"])
def test_activation_checkpointing_changes_no_gradient_and_every_weight_has_one(
    build: Callable[[str], Bundle], name: str
) -> None:
    gradients = []
    for is_checkpointed in (False, True):
        model = build(name).model.train()
        if is_checkpointed:
            apply_activation_checkpointing(model)
        torch.manual_seed(0)
        model.encode_images(torch.randn(2, 3, model.config.image_size, model.config.image_size))[:, 0].sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.visual.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0])


def test_lora_adapts_the_layers_that_a_trunk_calls(build: Callable[[str], Bundle]) -> None:
    model = build("convnext").model
    apply_lora(model, ("visual", "text"), rank=2, alpha=4, target_modules=("fc1", "v_proj"))
    adapters = get_adapters(model)
    assert {name.rpartition(".")[2] for name in adapters if name.startswith("visual.")} == {"fc1"}
    model.encode_images(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(adapter.B.grad is not None for name, adapter in adapters.items() if name.startswith("visual."))


def test_lora_refuses_layers_whose_forward_pass_is_not_called(build: Callable[[str], Bundle]) -> None:
    """EVA01 multiplies by the weight of `qkv` itself, so that an adapter would never learn."""
    with pytest.raises(ConfigError, match=r"'qkv', which matches no trainable layer"):
        apply_lora(build("eva01").model, ("visual",), rank=2, alpha=4, target_modules=("qkv",))


def test_lora_refuses_names_that_only_the_other_tower_has(build: Callable[[str], Bundle]) -> None:
    with pytest.raises(
        ConfigError, match=r"matches no layer of visual, which would stay frozen. Add some of its .*fc1"
    ):
        apply_lora(build("convnext").model, ("visual", "text"), rank=2, alpha=4, target_modules=("q_proj",))


@pytest.mark.parametrize(
    ("settings", "named"), [({"parallel": "fsdp"}, "does not shard .*timm"), ({"patch_dropout": 0.5}, "a timm tower")]
)
def test_unsupported_kinds_of_training_are_refused(settings: dict[str, Any], named: str) -> None:
    text = TextConfig(width=32, layers=1, heads=1, vocab_size=600, context_length=16)
    model = ModelConfig(embed_dim=32, image_size=64, vision=TimmVisionConfig(name="convnext_atto"), text=text)
    with pytest.raises(ConfigError, match=named):
        TrainConfig(data="data", out="out", steps=1, model=model, **settings)


def test_a_fine_tuning_run_resumes_exactly(build: Callable[[str], Bundle], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        name = list(COLORS)[number % len(COLORS)]
        pixels = (np.array(COLORS[name]) + rng.integers(-40, 41, (32, 32, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
        (tmp_path / f"images/{number}.txt").write_text(f"a {name} picture, number {number}")
    bundle = build("convnext")
    bundle.save(tmp_path / "start")
    config = TrainConfig(
        data=str(tmp_path / "images"),
        out=str(tmp_path / "whole"),
        model=bundle.model.config,
        steps=6,
        batch_size=8,
        lr=1e-3,
        workers=0,
        precision="fp32",
        val_fraction=0.15,
        finetune=FineTuneConfig(init_from=str(tmp_path / "start"), layer_decay=0.7),
    )
    train.run(config)
    resumed = replace(config, out=str(tmp_path / "parted"), checkpoint_every=2)

    def stop(report: Any, _scores: Any) -> None:
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(resumed, callback=stop)
    train.run(resumed)
    manifests = [(tmp_path / run / "model/MANIFEST.json").read_bytes() for run in ("whole", "parted")]
    assert manifests[0] == manifests[1]
    spec = json.loads(next((tmp_path / "whole/checkpoints").glob("*/state.json")).read_text())
    assert metadata.version("timm") in json.dumps(spec)


# --- ONNX ---


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUNKS)
def test_onnxruntime_computes_the_same_vectors(
    build: Callable[[str], Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    bundle = build(name)
    bundle.save(tmp_path / "model")
    vectors = zebra.load(tmp_path / "model", backend="onnxruntime").encode_images(pictures())
    torch.testing.assert_close(vectors, bundle.encode_images(pictures()), atol=1e-5, rtol=0)
