"""Every pretrained tag of open_clip 3.3 gives the vectors of open_clip, or is refused.

Reference: open_clip 3.3.0 with timm 1.0.31 and transformers 5.24 on torch 2.13.0. No published weights: open_clip
builds each architecture with random weights and saves it in its hub layout, with small widths and depths. Architectures
and tags that differ only in sizes share one comparison of vectors; their tensors are compared at full size without
weights.
`python docs/model_tables.py` writes the result into docs/layouts.md.
"""

import functools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.parity.random_models import SMALL, TOLERANCE, add_noise, photos
from torch import nn

from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.known_models import list_libraries
from zebra.pretrained.open_clip import hf_configs, layout
from zebra.pretrained.open_clip import timm as open_clip_timm
from zebra.pretrained.open_clip.config import parse_open_clip_config
from zebra.pretrained.open_clip.layout import read_open_clip
from zebra.pretrained.open_clip.tags import OpenClipTag, find_tag, read_architectures, read_tags
from zebra.pretrained.open_clip.timm_vit import TIMM_VITS
from zebra.pretrained.weights import build_model

Config = dict[str, Any]

VOCAB_SIZE = 1000
SMALL_M2M = {"d_model": 32, "encoder_ffn_dim": 64, "encoder_layers": 2, "encoder_attention_heads": 2}
"""Sizes of NLLB's encoder."""
SMALL_TRUNKS: dict[str, Config] = {
    "convnext": {"depths": (1, 1, 1, 1), "dims": (16, 32, 64, 128)},
    "fastvit_mci[34]": {"layers": (1, 1, 1, 1, 1), "embed_dims": (16, 32, 64, 128, 256)},
    "fastvit": {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 128)},
    "eva": {"depth": 1, "embed_dim": 128, "num_heads": 2},
    "vit_pe": {"depth": 1, "embed_dim": 128, "num_heads": 2},
    "vitamin": {"depth": 1, "embed_dim": 64, "num_heads": 2},
    "vit": {"depth": 1},
}
"""Arguments of `timm.create_model` that reduce a trunk, by a pattern of its name."""


# --- which tags open ---


def is_open(tag: OpenClipTag) -> bool:
    try:
        parse_open_clip_config(tag.open_clip_config())
    except ConfigError:
        return False
    return True


def reduce_config(config: Config) -> Config:
    """Return a config of the same function with a small model, equal for models that differ only in sizes."""
    config = deepcopy(config)
    vision, text = config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"]
    if "hf_model_name" not in text:
        width = config["model_cfg"]["embed_dim"] if text.get("proj_type", "linear") == "none" else 64
        text |= {"layers": 2, "vocab_size": VOCAB_SIZE, "context_length": 16, "width": width, "heads": 2}
    if "timm_model_name" not in vision:
        config["model_cfg"]["embed_dim"] = 40
        is_resnet = isinstance(vision["layers"], list)
        vision |= {"layers": [1, 1, 1, 1], "width": 16} if is_resnet else {"layers": 2, "width": 128, "patch_size": 16}
        vision |= {"image_size": 64} | ({} if is_resnet else {"head_width": 32})
    for ignored in ("timm_drop", "timm_drop_path", "timm_model_pretrained"):
        vision.pop(ignored, None)
    if "multimodal_cfg" in config["model_cfg"]:
        config["model_cfg"]["multimodal_cfg"] |= {"layers": 1, "vocab_size": VOCAB_SIZE, "width": 64, "heads": 2}
        vision |= {"attn_pooler_heads": 2}
    return config


def function_key(config: Config) -> str:
    """Return a key that configs of the same function share: timm's trunks of several image sizes are one function."""
    config = deepcopy(config)
    vision, text = config["model_cfg"]["vision_cfg"], config["model_cfg"]["text_cfg"]
    for ignored in ("hf_tokenizer_name", "tokenizer_kwargs"):
        text.pop(ignored, None)
    if name := vision.get("timm_model_name"):
        siglip, _ = open_clip_timm.TIMM_TOWERS.get(name, (None, None))
        vision["timm_model_name"] = f"siglip {siglip.activation}" if siglip else re.sub(r"_\d+$", "", name)
        del vision["image_size"]
        if siglip or vision.get("timm_proj", "linear") in ("linear", "mlp"):
            del config["model_cfg"]["embed_dim"]
    return json.dumps(config, sort_keys=True)


@functools.cache
def comparisons() -> dict[str, OpenClipTag]:
    """Return one tag for each distinct function, by its name."""
    by_key = {function_key(reduce_config(tag.open_clip_config())): tag for tag in reversed(read_tags().values())}
    return {tag.name: tag for tag in reversed(by_key.values())}


@functools.cache
def full_size_architectures() -> dict[str, OpenClipTag]:
    """Return one tag for each architecture that zebra computes, leaving out other image sizes of the same towers.

    All sizes of the other towers come from the peers' libraries.
    """
    by_key: dict[str, OpenClipTag] = {}
    for tag in filter(is_open, reversed(read_tags().values())):
        config = deepcopy(tag.open_clip_config())
        if list_libraries(parse_open_clip_config(config)[0]) != ("zebra",):
            continue
        vision = config["model_cfg"]["vision_cfg"]
        del vision["image_size"]
        if name := vision.get("timm_model_name"):
            vision["timm_model_name"] = re.sub(r"_\d+$", "", name)
        by_key[json.dumps(config["model_cfg"], sort_keys=True)] = tag
    return {tag.architecture: tag for tag in reversed(by_key.values())}


# --- comparison ---


@pytest.fixture
def small_trunks(open_clip: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm build small trunks, for open_clip and for zebra."""
    import timm
    from timm.models.vitamin import VitCfg, VitConvCfg

    create_model = timm.create_model
    convolutions = VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6)
    stem = VitCfg(embed_dim=(16, 32, 64), depths=(1, 1, 1), stem_width=16, conv_cfg=convolutions, head_type="1d")

    def create_small(name: str, **settings: Any) -> nn.Module:
        sizes = next(sizes for pattern, sizes in SMALL_TRUNKS.items() if re.match(pattern, name))
        if name.startswith("vitamin"):
            sizes = sizes | {"embed_cfg": stem}
        trunk: nn.Module = create_model(name, **settings | sizes)
        return trunk

    monkeypatch.setattr(timm, "create_model", create_small)
    for table in (open_clip_timm.TIMM_TOWERS, TIMM_VITS):
        for name, (tower, size) in table.items():
            monkeypatch.setitem(table, name, (replace(tower, layers=1), size))


def patch_encoders(transformers: ModuleType, monkeypatch: pytest.MonkeyPatch, **sizes: Any) -> None:
    """Let open_clip and zebra find the configs of text encoders without a network, with some sizes replaced."""
    configs = {name: config | sizes for name, config in hf_configs.KNOWN_CONFIGS.items()}
    if sizes:
        for config in configs.values():
            config.update(SMALL_M2M if config["model_type"] == "m2m_100" else SMALL)
    monkeypatch.setattr(hf_configs, "KNOWN_CONFIGS", configs)

    def from_pretrained(name: str, **_: Any) -> Any:
        settings = dict(configs[name])
        return transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)


@pytest.fixture
def small_encoders(transformers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let open_clip and zebra build small text encoders."""
    patch_encoders(transformers, monkeypatch, vocab_size=VOCAB_SIZE)


@pytest.fixture(autouse=True)
def _tidy(tmp_path: Path) -> Iterator[None]:
    """Delete weights at once, because pytest would keep those of its last three runs."""
    yield
    shutil.rmtree(tmp_path)


def save_peer(open_clip: ModuleType, folder: Path, config: Config) -> tuple[nn.Module, Callable[[Image.Image], Any]]:
    """Let open_clip build a config with random weights, and save them in its hub layout."""
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}", pretrained_hf=False)
    add_noise(model, matrices=0.05)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return model.eval(), transform


def token_rows(text_cfg: Config) -> torch.Tensor:
    """Return ids of two texts as the tower's tokenizer pads them."""
    length, vocab_size = text_cfg.get("context_length", 16), text_cfg.get("vocab_size", VOCAB_SIZE)
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(3, vocab_size - 2, (2, length), generator=generator)
    if text_cfg.get("pool_type") == "last":  # padding is part of the text
        return words
    start, end, padding = (0, text_cfg["eos_id"], 1) if "eos_id" in text_cfg else (vocab_size - 2, vocab_size - 1, 0)
    if "hf_model_name" in text_cfg:
        start, end, padding = 0, 2, 1
    rows = torch.full((2, length), padding)
    for row, text, num_words in zip(rows, words, (4, length - 2), strict=True):
        row[: num_words + 2] = torch.tensor([start, *text[:num_words].tolist(), end])
    return rows


def assert_equal_vectors(peer: nn.Module, transform: Callable[[Image.Image], Any], own: Bundle, rows: Any) -> None:
    with torch.inference_mode():
        peer_image_BE = peer.encode_image(torch.stack([transform(photo) for photo in photos()]), normalize=True)
        peer_text_BE = peer.encode_text(rows, normalize=True)
        text_BE = own.model.encode_texts(rows)
    image_BE = own.encode_images(photos())
    torch.testing.assert_close(image_BE, peer_image_BE, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(text_BE, peer_text_BE, atol=TOLERANCE, rtol=0)
    assert (peer_image_BE[0] - peer_image_BE[1]).abs().max() > 1e-3, "the vectors must depend on the images"
    assert (peer_text_BE[0] - peer_text_BE[1]).abs().max() > 1e-3, "the vectors must depend on the texts"


@pytest.mark.parametrize("name", [name for name, tag in comparisons().items() if is_open(tag)])
def test_a_tag_of_open_clip_gives_the_same_vectors(
    open_clip: ModuleType, small_trunks: None, small_encoders: None, tmp_path: Path, name: str
) -> None:
    config = reduce_config(comparisons()[name].open_clip_config())
    peer, transform = save_peer(open_clip, tmp_path, config)
    checkpoint = read_open_clip(tmp_path)
    model = build_model(checkpoint.config, checkpoint.tensors, name).eval()
    own = Bundle(model, None, checkpoint.preprocess)
    assert_equal_vectors(peer, transform, own, token_rows(config["model_cfg"]["text_cfg"]))


def test_biomed_clip_gives_the_same_vectors(
    open_clip: ModuleType, small_trunks: None, small_encoders: None, tmp_path: Path
) -> None:
    encoder = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    vision_cfg = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    text_cfg = {
        "hf_model_name": encoder,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 16,
    }
    model_cfg = {"embed_dim": 40, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    peer, transform = save_peer(open_clip, tmp_path, {"model_cfg": model_cfg, "preprocess_cfg": {}})
    checkpoint = read_open_clip(tmp_path)
    model = build_model(checkpoint.config, checkpoint.tensors, "BiomedCLIP").eval()
    rows = token_rows(text_cfg)
    rows[:, 0] = 3
    rows[rows == 1] = 0  # BERT's padding
    assert_equal_vectors(peer, transform, Bundle(model, None, checkpoint.preprocess), rows)


@pytest.mark.parametrize("name", full_size_architectures())
def test_an_architecture_has_open_clips_tensors_at_full_size(
    open_clip: ModuleType, transformers: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    patch_encoders(transformers, monkeypatch)
    with torch.device("meta"):
        peer = open_clip.create_model(name, device="meta", pretrained_hf=False)
    monkeypatch.setattr(layout, "read_tensors", lambda _: dict(peer.state_dict()))
    (tmp_path / "open_clip_config.json").write_text(json.dumps(full_size_architectures()[name].open_clip_config()))
    (tmp_path / "open_clip_model.safetensors").touch()
    checkpoint = read_open_clip(tmp_path)
    with torch.device("meta"):
        build_model(checkpoint.config, checkpoint.tensors, name)  # compares names and shapes


# --- the table of open_clip's names ---


def test_the_table_has_open_clips_tags_and_configs(open_clip: ModuleType) -> None:
    if open_clip.__version__ != "3.3.0":
        pytest.skip(f"the table is of open_clip 3.3.0, not {open_clip.__version__}")
    from open_clip.pretrained import get_pretrained_cfg

    names = [f"{name}/{tag}" for name, tag in open_clip.list_pretrained()]
    assert [name for name in names if "-quickgelu/" not in name] == list(read_tags())
    assert all(find_tag(name) for name in names)
    for name, architecture in read_architectures().items():
        assert open_clip.get_model_config(name) == architecture.model_cfg
    for tag in read_tags().values():
        theirs = get_pretrained_cfg(tag.architecture, tag.tag)
        ours = tag.open_clip_config()
        assert theirs["hf_hub"] == f"{tag.repository}/{tag.file}"
        assert theirs.get("quick_gelu", False) == tag.quick_gelu
        assert {key: theirs[key] for key in ours["preprocess_cfg"]} == ours["preprocess_cfg"]
