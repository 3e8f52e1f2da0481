"""OpenAI's `.pt` files are recognized by their tensors, and the published ones by their digests."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.openai import layout
from zebra.pretrained.openai.layout import (
    OPENAI_SHA256,
    OPENAI_TENSORS,
    published_file_name,
    read_openai,
    verify_published_digest,
)
from zebra.pretrained.weights import build_model, published_state_dict

VISION = {
    "vit": VisionTransformerConfig(width=128, layers=2, heads=2, patch_size=16),
    "resnet": ResNetConfig(width=8, layers=(1, 2, 1, 1), heads=4),
}

OPENAI_NUMBERS = {name: torch.tensor(1) for name in OPENAI_TENSORS}


def weights(kind="vit"):
    torch.manual_seed(0)
    text = TextConfig(width=64, layers=3, heads=1, vocab_size=100, context_length=12)
    config = ModelConfig(embed_dim=32, image_size=64, vision=VISION[kind], text=text)
    return config, published_state_dict(CLIP(config))


def saved(tensors, folder):
    """Save tensors with the numbers that show that they are from OpenAI."""
    return saved_by_others(tensors | OPENAI_NUMBERS, folder)


def saved_by_others(tensors, folder):
    torch.save(tensors, folder / "model.pt")
    return folder / "model.pt"


@pytest.mark.parametrize("name", OPENAI_SHA256)
def test_the_nine_published_architectures_are_inferred_from_their_shapes(name, monkeypatch):
    with torch.device("meta"):
        state = CLIP(get_preset(name)).state_dict()
    tensors = {key.removeprefix("text."): value for key, value in state.items()}
    monkeypatch.setattr(layout, "read_archive", lambda path: tensors | OPENAI_NUMBERS)
    read = read_openai(Path("model.pt"))
    assert read.config == get_preset(name)
    assert read.preprocess == Preprocess(image_size=get_preset(name).image_size, decode="reference")


def add_prefix(tensors):
    return {f"module.{name}": value for name, value in tensors.items()}


@pytest.mark.parametrize("kind", VISION)
def test_a_state_dict_gives_its_model(kind, tmp_path):
    config, tensors = weights(kind)
    path = saved(tensors, tmp_path)
    read = read_openai(path)
    assert (read.layout, read.config, read.files) == ("openai", config, (path,))
    model = build_model(read.config, read.tensors, str(path))
    assert all(torch.equal(value, tensors[name]) for name, value in published_state_dict(model).items())


def test_long_clips_two_tables_of_positions_become_one(tmp_path):
    """Reference: `positional_embedding * mask1 + positional_embedding_res * mask2`, where mask1 is 1 for 20 rows."""
    config, tensors = weights()
    first, second = torch.randn(248, 64), torch.randn(248, 64)
    long = tensors | {"positional_embedding": first, "positional_embedding_res": second}
    path = saved_by_others(long, tmp_path)
    read = read_openai(path)
    assert read.config == replace(config, text=replace(config.text, context_length=248))
    mask = (torch.arange(248) < 20).float()[:, None]
    assert torch.equal(read.tensors["positional_embedding"], first * mask + second * (1 - mask))
    build_model(read.config, read.tensors, str(path))


@pytest.mark.parametrize("table", [torch.zeros(200, 64), torch.zeros(248)])
def test_tables_of_positions_of_two_shapes_are_refused(tmp_path, table):
    _, tensors = weights()
    positions = {"positional_embedding": torch.zeros(248, 64), "positional_embedding_res": table}
    with pytest.raises(WeightsError, match="Long-CLIP must be tables of one shape"):
        read_openai(saved_by_others(tensors | positions, tmp_path))


def test_redundant_tensors_are_ignored(tmp_path):
    _, tensors = weights()
    extra = {"transformer.resblocks.0.attn_mask": torch.zeros(12, 12)}
    assert read_openai(saved(tensors | extra, tmp_path)).tensors.keys() == tensors.keys()


def test_batch_counters_may_be_missing(tmp_path):
    _, tensors = weights("resnet")
    without_counters = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    assert len(without_counters) < len(tensors)
    read = read_openai(saved(without_counters, tmp_path))
    model = build_model(read.config, read.tensors, "model.pt")
    assert int(model.visual.bn1.num_batches_tracked) == 0


@pytest.mark.parametrize("name", ["logit_bias", "text_model.x", "visual_projection.weight"])
def test_a_tensor_of_another_layout_is_named(name, tmp_path):
    _, tensors = weights()
    with pytest.raises(WeightsError, match=f"has a tensor {name}"):
        read_openai(saved({name: torch.ones(2)} | tensors, tmp_path))


@pytest.mark.parametrize("wrap", [lambda tensors: {"epoch": 3, "state_dict": tensors}, add_prefix])
def test_for_a_training_checkpoint_the_message_says_how_to_make_a_folder(wrap, tmp_path):
    _, tensors = weights()
    with pytest.raises(WeightsError, match=r"is a training checkpoint.*FOLDER/open_clip_pytorch_model\.bin"):
        read_openai(saved_by_others(wrap(tensors), tmp_path))


@pytest.mark.parametrize("kind", VISION)
@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}, {"heads": (4, 1)}])
def test_a_state_dict_of_another_trainer_needs_its_activation_and_heads(kind, options, tmp_path):
    _, tensors = weights(kind)
    message = r"not from OpenAI.*zebra\.load\('.*model\.pt', activation='gelu'" + (
        "" if "heads" in options else ", heads="
    )
    with pytest.raises(WeightsError, match=message):
        read_openai(saved_by_others(tensors, tmp_path), **options)


@pytest.mark.parametrize("kind", VISION)
def test_activation_and_heads_may_be_given(kind, tmp_path):
    config, tensors = weights(kind)
    read = read_openai(saved_by_others(tensors, tmp_path), activation="gelu", heads=(4, 2))
    assert (read.config.vision.heads, read.config.text.heads, read.config.text.activation) == (4, 2, "gelu")
    assert kind == "resnet" or read.config.vision.activation == "gelu"
    assert read_openai(saved(tensors, tmp_path)).config == config
    with pytest.raises(ConfigError, match="heads"):
        read_openai(saved_by_others(tensors, tmp_path), activation="gelu", heads=(7, 1))


def test_a_published_shape_needs_only_the_activation(monkeypatch):
    with torch.device("meta"):
        state = CLIP(get_preset("ViT-B/32")).state_dict()
    tensors = {key.removeprefix("text."): value for key, value in state.items()}
    monkeypatch.setattr(layout, "read_archive", lambda path: tensors)
    with pytest.raises(WeightsError, match=r"it does not contain the activation\. Write a model folder"):
        read_openai(Path("model.pt"))
    assert read_openai(Path("model.pt"), activation="quick_gelu").config == get_preset("ViT-B/32")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("vit", "visual.conv1.weight"),
        ("vit", "visual.positional_embedding"),
        ("vit", "token_embedding.weight"),
        ("vit", "positional_embedding"),
        ("vit", "text_projection"),
        ("resnet", "visual.layer1.0.conv1.weight"),
        ("resnet", "visual.attnpool.positional_embedding"),
    ],
)
def test_a_missing_tensor_is_named(kind, name, tmp_path):
    _, tensors = weights(kind)
    del tensors[name]
    with pytest.raises(WeightsError, match=f"lacks the tensor {name}"):
        read_openai(saved(tensors, tmp_path))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("visual.conv1.weight", (128,)),
        ("visual.conv1.weight", (32, 3, 16, 16)),
        ("visual.positional_embedding", (0, 128)),
        ("positional_embedding", (1, 64)),
        ("token_embedding.weight", (100, 0)),
    ],
)
def test_shapes_of_no_model_are_refused(name, shape, tmp_path):
    _, tensors = weights()
    with pytest.raises(WeightsError, match="not those of OpenAI's CLIP"):
        read_openai(saved(tensors | {name: torch.zeros(shape)}, tmp_path))


def test_an_empty_file_of_weights_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="lacks the tensor"):
        read_openai(saved({}, tmp_path))


def test_damage_gives_a_model_or_a_weights_error(tmp_path):
    _, tensors = weights("resnet")
    content = saved(tensors, tmp_path).read_bytes()
    start = content.index(b"data.pkl")
    rng = random.Random(0)
    for index in range(200):
        changed = bytearray(content)
        for _ in range(3):
            changed[start + rng.randrange(8000)] = rng.randrange(256)
        path = tmp_path / f"{index}.pt"
        path.write_bytes(changed)
        try:
            read = read_openai(path)
            build_model(read.config, read.tensors, str(path))
        except WeightsError:
            continue


@pytest.mark.parametrize("name", OPENAI_SHA256)
def test_a_file_with_a_published_name_must_have_the_published_bytes(name, tmp_path):
    path = tmp_path / published_file_name(name)
    verify_published_digest(path, lambda _: OPENAI_SHA256[name])
    with pytest.raises(WeightsError, match=f"not OpenAI's {name}.*{'0' * 64}.*{OPENAI_SHA256[name]}"):
        verify_published_digest(path, lambda _: "0" * 64)


def test_files_with_other_names_are_not_read():
    verify_published_digest(Path("own.pt"), lambda _: pytest.fail("no digest is recorded"))


def test_published_file_names_are_those_of_the_downloads():
    assert [published_file_name(name) for name in OPENAI_SHA256] == [
        "RN50.pt",
        "RN101.pt",
        "RN50x4.pt",
        "RN50x16.pt",
        "RN50x64.pt",
        "ViT-B-32.pt",
        "ViT-B-16.pt",
        "ViT-L-14.pt",
        "ViT-L-14-336px.pt",
    ]
