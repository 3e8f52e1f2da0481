"""The BERT text tower: batches without padding, poolings, projections, and what training does with its blocks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure, unstructure
from zebra.config.text_towers import BertTextConfig
from zebra.config.train import OptimizerConfig
from zebra.errors import ConfigError, ShapeError
from zebra.models import CLIP
from zebra.models.init import initialize_bert
from zebra.models.lora import apply_lora, get_adapters, merge_adapters
from zebra.models.text.bert import BertText
from zebra.models.transformer import TransformerBlock
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.freeze import freeze
from zebra.train.optimizer import build_optimizer, layer_depths

TEXT = BertTextConfig(width=32, layers=2, heads=2, vocab_size=600, context_length=16, pad_id=1)
HEADS = {
    "mean": {},
    "cls": {"pooling": "cls", "projection_bias": True, "projection_norm": True},
    "pooler": {"pooling": "pooler", "projection": "mlp"},
    "no projection": {"projection": "none"},
}


def make_tower(config: BertTextConfig = TEXT) -> BertText:
    torch.manual_seed(0)
    tower = BertText(config, 32 if config.projection == "none" else 24)
    initialize_bert(tower)
    for parameter in tower.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)  # no gain of 1 or bias of 0 hides a missing one
    return tower


def make_texts(lengths: list[int], width: int = 16) -> Tensor:
    draw = torch.Generator().manual_seed(sum(lengths))
    tokens_BL = torch.randint(2, 600, (len(lengths), width), generator=draw)
    for row, length in zip(tokens_BL, lengths, strict=True):
        row[length:] = TEXT.pad_id
    return tokens_BL


def reference(tower: BertText, tokens_L: Tensor, heads: int = 2) -> Tensor:
    """Return the embedding [E] of one text without padding, with explicit attention heads."""
    x_LD = tower.ln_pre(tower.token_embedding(tokens_L) + tower.positional_embedding[: len(tokens_L)])
    for block in tower.transformer.blocks():
        query, key, value = block.attn.project_qkv(x_LD).unflatten(-1, (3, heads, -1)).unbind(1)
        mixed = [
            (query[:, h] @ key[:, h].T / query.shape[-1] ** 0.5).softmax(dim=-1) @ value[:, h] for h in range(heads)
        ]
        x_LD = block.ln_1(x_LD + block.attn.out_proj(torch.cat(mixed, dim=-1)))
        x_LD = block.ln_2(x_LD + block.mlp(x_LD))
    return tower.project(x_LD.mean(dim=0) if tower.pooling == "mean" else x_LD[0])


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_batch_of_texts_equals_each_text_alone(head):
    tower = make_tower(replace(TEXT, **head))
    lengths = [5, 16, 1, 5, 9, 16]
    tokens_BL = make_texts(lengths)
    expected = torch.stack([reference(tower, row[:length]) for row, length in zip(tokens_BL, lengths, strict=True)])
    torch.testing.assert_close(tower(tokens_BL), expected, atol=1e-5, rtol=0)


def test_gradients_equal_those_of_each_text_alone():
    tower, lengths = make_tower().double(), [3, 16, 3, 8]
    tokens_BL = make_texts(lengths)
    tower(tokens_BL).sin().sum().backward()
    packed = {name: parameter.grad.clone() for name, parameter in tower.named_parameters()}
    tower.zero_grad()
    sum(reference(tower, row[:n]).sin().sum() for row, n in zip(tokens_BL, lengths, strict=True)).backward()
    for name, parameter in tower.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, atol=1e-9, rtol=1e-9, msg=name)


@given(st.lists(st.integers(1, 16), max_size=40), st.integers(0, 20))
@example([], 0)
def test_inference_batches_hold_each_text_once_and_similar_lengths_together(lengths, extra_padding):
    tower = BertText(TEXT, 24)
    batches = tower.inference_batches(make_texts(lengths, 16 + extra_padding).numpy())
    order = np.concatenate([*batches, np.zeros(0, np.int64)]).tolist()
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths)


def test_padding_beyond_the_longest_text_changes_nothing():
    tower, tokens_BL = make_tower(), make_texts([4, 9])
    wide_BL = torch.nn.functional.pad(tokens_BL, (0, 50), value=TEXT.pad_id)
    assert torch.equal(tower(wide_BL), tower(tokens_BL))


def test_long_empty_and_wrongly_padded_texts_are_refused():
    tower = make_tower()
    with pytest.raises(ShapeError, match=r"17 tokens .* context length 16"):
        tower(make_texts([3, 17], 17))
    left = make_texts([5, 7]).flip(1)
    inside = make_texts([9, 9])
    inside[1, 4] = TEXT.pad_id
    for tokens_BL, position in ((left, 0), (inside, 1), (make_texts([2, 0]), 1)):
        with pytest.raises(ShapeError, match=rf"text {position} is empty, or has the padding id 1"):
            tower(tokens_BL)
        with pytest.raises(ShapeError, match="pads on the right"):
            tower.inference_batches(tokens_BL.numpy())


def make_clip(**text) -> CLIP:
    torch.manual_seed(0)
    vision = VisionTransformerConfig(width=32, layers=1, heads=2, patch_size=8)
    return CLIP(ModelConfig(embed_dim=24, image_size=16, vision=vision, text=replace(TEXT, **text)))


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"embed_dim is 24; .* without a projection .*32"):
        make_clip(projection="none")
    with pytest.raises(ConfigError, match="projection_bias is true, but the projection is mlp"):
        make_clip(projection="mlp", projection_bias=True)
    with pytest.raises(ConfigError, match=r"pad_id is 600; .* between 0 and 599"):
        make_clip(pad_id=600)


def test_a_config_survives_json():
    config = make_clip(pooling="pooler").config
    assert structure(ModelConfig, unstructure(config), "model") == config


def test_layer_wise_learning_rates_and_blocks_include_the_tower():
    model = make_clip(pooling="pooler", projection_norm=True)
    depths = layer_depths(model)
    assert {depths[f"text.{name}"] for name in ("token_embedding.weight", "positional_embedding", "ln_pre.bias")} == {3}
    assert [depths[f"text.transformer.resblocks.{index}.mlp.c_fc.weight"] for index in (0, 1)] == [2, 1]
    assert {depths[f"text.{name}.weight"] for name in ("pooler", "ln_final", "text_projection")} == {0}
    assert sum(isinstance(module, TransformerBlock) for module in model.text.modules()) == 2


@pytest.mark.parametrize("method", ["all", "text only", "lora", "checkpointing"])
def test_a_fine_tuning_step_lowers_the_loss(method):
    model = make_clip(pooling="pooler")
    freeze(model, "text" if method == "text only" else "all")
    if method == "lora":
        apply_lora(model, ["text"], rank=4, alpha=4, target_modules=["q_proj", "v_proj", "out_proj", "c_fc"])
    if method == "checkpointing":
        apply_activation_checkpointing(model)
    optimizer = build_optimizer(model, OptimizerConfig(), layer_decay=0.8)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4 * group["lr_scale"]
    images, tokens = torch.randn(6, 3, 16, 16), make_texts([3, 9, 16, 9, 4, 12])

    def loss() -> Tensor:
        image_BE, text_BE, scale = model(images, tokens)
        return nn.functional.cross_entropy(scale * image_BE @ text_BE.T, torch.arange(6))

    before = loss()
    before.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("text.transformer.resblocks.0.") for name in trained)
    assert any(name.startswith("visual.") for name in trained) == (method in ("all", "checkpointing"))
    optimizer.step()
    assert loss() < before


def test_merged_adapters_compute_the_same_texts():
    model, tokens = make_clip(), make_texts([3, 9, 16])
    apply_lora(model, ["text"], rank=4, alpha=4, target_modules=["k_proj", "c_proj"])
    for adapter in get_adapters(model).values():
        nn.init.normal_(adapter.B)
    torch.testing.assert_close(merge_adapters(model).text(tokens), model.text(tokens), atol=1e-5, rtol=0)
