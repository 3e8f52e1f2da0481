"""Towers that differ from CLIP's by flags: what training, precisions and files do with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny_model import CAPTIONS
from torch import Tensor, nn

from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure, unstructure
from zebra.config.text_towers import CocaTextConfig, SiglipTextConfig, TextConfig
from zebra.config.train import OptimizerConfig
from zebra.errors import ConfigError, ShapeError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.lora import apply_lora, get_adapters, merge_adapters
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.pos_embed import resize_pos_embed
from zebra.pretrained.weights import build_model, published_state_dict
from zebra.text.bpe import BPETokenizer
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.optimizer import build_optimizer, layer_depths

TOKENIZER = BPETokenizer.train(CAPTIONS, 560, 16)
TEXT = {"width": 64, "layers": 2, "heads": 2, "vocab_size": TOKENIZER.vocab_size, "context_length": 16}
VIT = VisionTransformerConfig(width=64, layers=2, heads=2, patch_size=16)
MODELS = {
    "clipa": ModelConfig(
        embed_dim=32,
        image_size=64,
        vision=replace(VIT, pre_norm=False, pooling="mean", patch_bias=True, projection_bias=True),
        text=SiglipTextConfig(**TEXT, pooling="argmax", projection_bias=False),
    ),
    "coca": ModelConfig(
        embed_dim=32, image_size=64, vision=replace(VIT, pooling="attention"), text=CocaTextConfig(**TEXT)
    ),
    "pooled at eos": ModelConfig(
        embed_dim=32, image_size=64, vision=VIT, text=TextConfig(**TEXT, eos_id=TOKENIZER.eot_token_id)
    ),
}
TEXTS = ["a photo of a horse", "", "two spotted dogs in the snow", "wow! a cat! in the snow"]


def make_bundle(name: str) -> Bundle:
    torch.manual_seed(0)
    model = CLIP(MODELS[name])
    with torch.no_grad():
        for parameter in [*model.visual.parameters(), *model.text.parameters()]:
            parameter.add_(0.02 * torch.randn_like(parameter))
    return Bundle(model.eval(), TOKENIZER, Preprocess(image_size=64))


def make_images(count: int) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def make_tokens(texts: list[str] = TEXTS) -> Tensor:
    return torch.from_numpy(TOKENIZER.encode(texts, truncate=True).ids)


@pytest.mark.parametrize("name", MODELS)
def test_a_config_survives_json(name: str) -> None:
    assert structure(ModelConfig, unstructure(MODELS[name]), "model") == MODELS[name]


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_gives_the_same_vectors_and_passes_its_golden_vectors(name: str, tmp_path: Path) -> None:
    before = make_bundle(name)
    before.save(tmp_path / "model")
    after = load(tmp_path / "model")
    assert after.model.config == MODELS[name]
    assert torch.equal(before.encode_texts(TEXTS), after.encode_texts(TEXTS))
    assert torch.equal(before.model.encode_images(make_images(2)), after.model.encode_images(make_images(2)))


@pytest.mark.parametrize("name", MODELS)
def test_a_text_has_the_same_vector_alone_and_in_a_batch(name: str) -> None:
    bundle = make_bundle(name)
    alone_BE = torch.cat([bundle.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(bundle.encode_texts(TEXTS), alone_BE, atol=1e-6, rtol=0)
    batches = bundle.model.text.inference_batches(make_tokens(TEXTS * 50).numpy())
    assert sorted(np.concatenate(batches)) == list(range(4 * 50))


def test_longer_texts_than_the_context_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"17 tokens .* context length 16"):
        make_bundle("coca").model.text(torch.ones(1, 17, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"17 tokens .* takes exactly 16"):
        make_bundle("clipa").model.text(torch.ones(1, 17, dtype=torch.int64))


@pytest.mark.parametrize("method", ["all", "lora", "checkpointing"])
@pytest.mark.parametrize("name", ["clipa", "coca"])
def test_a_fine_tuning_step_lowers_the_loss(name: str, method: str) -> None:
    model = make_bundle(name).model
    if method == "lora":
        apply_lora(model, ["visual", "text"], rank=4, alpha=4, target_modules=["q_proj", "c_fc"])
    if method == "checkpointing":
        apply_activation_checkpointing(model)
    optimizer = build_optimizer(model, OptimizerConfig(), layer_decay=0.8)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4 * group["lr_scale"]
    images, tokens = make_images(4), make_tokens()

    def loss() -> Tensor:
        image_BE, text_BE, scale = model(images, tokens)
        return nn.functional.cross_entropy(scale * image_BE @ text_BE.T, torch.arange(4))

    before = loss()
    before.backward()
    missing = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert missing == []
    optimizer.step()
    assert loss() < before


def test_merged_adapters_compute_the_same_function() -> None:
    model = make_bundle("coca").model
    apply_lora(model, ["visual", "text"], rank=4, alpha=4, target_modules=["k_proj", "c_proj"])
    for adapter in get_adapters(model).values():
        nn.init.normal_(adapter.B)
    merged = merge_adapters(model)
    torch.testing.assert_close(merged.text(make_tokens()), model.text(make_tokens()), atol=1e-5, rtol=0)
    torch.testing.assert_close(merged.visual(make_images(2)), model.visual(make_images(2)), atol=1e-5, rtol=0)


def test_embeddings_are_the_lowest_layers_and_poolings_the_highest() -> None:
    depths = layer_depths(make_bundle("coca").model) | {
        f"clipa.{name}": depth for name, depth in layer_depths(make_bundle("clipa").model).items()
    }
    lowest = ("visual.class_embedding", "text.cls_emb", "text.positional_embedding", "clipa.visual.conv1.bias")
    highest = ("visual.attn_pool.query", "visual.attn_pool.attn.k_proj_weight", "clipa.visual.proj_bias", "visual.proj")
    assert {depths[name] for name in lowest} == {3}
    assert {depths[name] for name in highest} == {0}


@pytest.mark.parametrize("name", ["clipa", "coca"])
def test_patch_dropout_removes_patches_and_keeps_the_class_token(name: str) -> None:
    tower = make_bundle(name).model.visual
    images = make_images(2)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(tower(images, everything), tower(images), atol=1e-6, rtol=0)
    changed = images.clone()
    changed[:, :, 48:] += 1  # the last four patches
    torch.testing.assert_close(tower(images, everything[:, :12]), tower(changed, everything[:, :12]))
    assert not torch.allclose(tower(images), tower(changed))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("name", ["clipa", "coca"])
def test_vectors_in_a_smaller_precision_are_near_those_of_fp32(name: str, precision: str) -> None:
    exact = make_bundle(name)
    cast = exact.to_precision(precision)
    images = [np.random.default_rng(seed).integers(0, 256, (70, 80, 3), dtype=np.uint8) for seed in range(3)]
    for ours, theirs in (
        (cast.encode_images(images), exact.encode_images(images)),
        (cast.encode_images(images, projected=False), exact.encode_images(images, projected=False)),
        (cast.encode_texts(TEXTS), exact.encode_texts(TEXTS)),
    ):
        assert nn.functional.cosine_similarity(ours, theirs).min() >= 0.999


@pytest.mark.parametrize("name", ["clipa", "coca"])
def test_positions_are_interpolated_for_another_image_size(name: str) -> None:
    model = make_bundle(name).model
    tensors, config = resize_pos_embed(published_state_dict(model), model.config, 96)
    before = published_state_dict(model)["visual.positional_embedding"]
    assert tensors["visual.positional_embedding"].shape == (37, 64)
    assert torch.equal(tensors["visual.positional_embedding"][0], before[0])
    assert build_model(config, tensors, "here").visual(torch.randn(1, 3, 96, 96)).shape == (1, 32)


@pytest.mark.parametrize(
    ("tower", "changes", "message"),
    [
        ("vision", {"pooling_heads": 5}, r"embed_dim \(32\) must be a positive multiple of vision.pooling_heads \(5\)"),
        ("text", {"context_length": 0}, "context_length is 0"),
    ],
)
def test_impossible_flags_are_refused(tower: str, changes: dict[str, int], message: str) -> None:
    config = MODELS["coca"]
    with pytest.raises(ConfigError, match=message):
        replace(config, **{tower: replace(getattr(config, tower), **changes)})
