"""Every pretrained tag of open_clip 3.3 and every dual encoder of transformers 5.24 gives its vectors, or is refused.

Reference: open_clip 3.3.0 with timm 1.0.31 and transformers 5.24 on torch 2.13.0. No published weights: open_clip
builds each architecture with random weights and saves it in its hub layout, with small widths and depths. Architectures
and tags that differ only in sizes share one comparison of vectors; their tensors are compared at full size without
weights. Models of transformers are tiny.
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

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from zebra.errors import ConfigError, WeightsError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.known_models import list_libraries
from zebra.pretrained.open_clip import hf_configs, layout, read_open_clip
from zebra.pretrained.open_clip import timm as open_clip_timm
from zebra.pretrained.open_clip.config import parse_open_clip_config
from zebra.pretrained.open_clip.tags import OpenClipTag, find_tag, read_architectures, read_tags
from zebra.pretrained.open_clip.timm_vit import TIMM_VITS
from zebra.pretrained.transformers import read_transformers
from zebra.pretrained.transformers_models import TRANSFORMERS_MODELS, TransformersModel
from zebra.pretrained.weights import build_model

Config = dict[str, Any]

TOLERANCE = 1e-5
"""Of components of unit vectors in fp32: the order of sums differs, nothing else."""
VOCAB_SIZE = 1000
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
"""Sizes of the encoders of transformers."""
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


def add_noise(model: nn.Module, matrices: float = 0) -> None:
    """Add noise to parameters that are initialized with 0 or 1, so that none hides a misplaced tensor.

    Args:
        matrices: Standard deviation of noise on all others.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim <= 1 and "logit" not in name:
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.abs_().mul_(0.2)  # otherwise signals fade in an untrained network
            if tensor.ndim > 1:
                tensor.add_(matrices * torch.randn(tensor.shape, generator=generator))


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


def photos() -> list[Image.Image]:
    """Return a portrait and a landscape image of noise."""
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((301, 223), (97, 410))]


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


# --- the dual encoders of transformers ---

IDS = 540
"""Size of the vocabularies; the last id ends the texts of causal towers."""
TEXT = {**SMALL, "vocab_size": IDS, "max_position_embeddings": 77}
CAUSAL_TEXT = {**TEXT, "bos_token_id": IDS - 2, "eos_token_id": IDS - 1, "pad_token_id": IDS - 1}
BERT_TEXT = {**TEXT, "pad_token_id": 0}
BLIP_TEXT = {**BERT_TEXT, "encoder_hidden_size": 32, "bos_token_id": 1, "sep_token_id": 2}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
SQUARE = {"height": 32, "width": 32}
CLIP_PROCESSOR = ("CLIPImageProcessorPil", {"size": 32, "crop_size": 32})
MODELS: dict[str, tuple[Config, tuple[str, Config]]] = {
    "clip": ({"text_config": CAUSAL_TEXT, "vision_config": VISION, "projection_dim": 24}, CLIP_PROCESSOR),
    "siglip": (
        {"text_config": TEXT | {"max_position_embeddings": 10}, "vision_config": VISION},
        ("SiglipImageProcessorPil", {"size": SQUARE}),
    ),
    "siglip2": (
        {
            "text_config": TEXT | {"max_position_embeddings": 10},
            "vision_config": SMALL | {"num_patches": 16, "patch_size": 8},
        },
        ("Siglip2ImageProcessorPil", {"max_num_patches": 16, "patch_size": 8}),
    ),
    "metaclip_2": (
        {
            "text_config": TEXT | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
            "vision_config": VISION,
            "projection_dim": 24,
        },
        CLIP_PROCESSOR,
    ),
    "chinese_clip": (
        {"text_config": BERT_TEXT, "vision_config": VISION, "projection_dim": 24},
        ("ChineseCLIPImageProcessorPil", {"size": SQUARE, "crop_size": SQUARE, "do_center_crop": False}),
    ),
    "altclip": (
        {"text_config": TEXT | {"pad_token_id": 1, "project_dim": 24}, "vision_config": VISION, "projection_dim": 24},
        CLIP_PROCESSOR,
    ),
    "tipsv2": ({"text_config": BERT_TEXT, "vision_config": VISION}, ("Tipsv2ImageProcessor", {"size": SQUARE})),
    "align": (
        {
            "text_config": BERT_TEXT,
            "vision_config": {"width_coefficient": 0.2, "depth_coefficient": 0.2, "hidden_dim": 64},
            "projection_dim": 64,
        },
        (
            "EfficientNetImageProcessorPil",
            {
                "size": {"height": 40, "width": 40},
                "crop_size": SQUARE,
                "do_center_crop": True,
                "resample": 2,
                "rescale_factor": 1 / 127.5,
                "rescale_offset": True,
                "do_normalize": False,
                "include_top": False,
            },
        ),
    ),
    "aimv2": ({"text_config": CAUSAL_TEXT, "vision_config": VISION, "projection_dim": 24}, CLIP_PROCESSOR),
    "groupvit": (
        {
            "text_config": CAUSAL_TEXT,
            "vision_config": VISION
            | {
                "depths": [1, 1, 1],
                "num_hidden_layers": 3,
                "num_group_tokens": [4, 2, 0],
                "num_output_groups": [4, 2, 0],
            },
            "projection_dim": 24,
            "projection_intermediate_dim": 40,
        },
        CLIP_PROCESSOR,
    ),
    "flava": (
        {"text_config": BERT_TEXT, "image_config": VISION, "multimodal_config": SMALL, "projection_dim": 24},
        ("FlavaImageProcessorPil", {"size": SQUARE, "crop_size": SQUARE}),
    ),
    "blip": (
        {"text_config": BLIP_TEXT, "vision_config": VISION, "image_text_hidden_size": 24},
        ("BlipImageProcessorPil", {"size": SQUARE}),
    ),
    "blip-2": (
        {
            "text_config": {"model_type": "opt", **SMALL, "vocab_size": IDS, "word_embed_proj_dim": 32, "ffn_dim": 64},
            "vision_config": VISION,
            "qformer_config": BLIP_TEXT | {"encoder_hidden_size": 32},
            "image_text_hidden_size": 24,
            "num_query_tokens": 4,
        },
        ("BlipImageProcessorPil", {"size": SQUARE}),
    ),
}
"""Settings of a tiny model and of its image processor, by model type."""


def save_transformers_model(transformers: ModuleType, folder: Path, model: TransformersModel) -> nn.Module:
    """Save a tiny random model and its image processor by the library's own `save_pretrained`."""
    torch.manual_seed(0)
    model_class = getattr(transformers, model.class_name)
    if model.model_type == "vision-text-dual-encoder":
        vision, text = transformers.CLIPVisionConfig(**VISION), transformers.BertConfig(**BERT_TEXT)
        config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=24)
        processor, settings = CLIP_PROCESSOR
    else:
        model_settings, (processor, settings) = MODELS[model.model_type]
        config = model_class.config_class(**deepcopy(model_settings))
    peer: nn.Module = model_class(config).eval()
    add_noise(peer, matrices=0.05)
    peer.save_pretrained(folder)
    getattr(transformers, processor)(**settings).save_pretrained(folder)
    return peer


def transformers_rows(model_type: str) -> torch.Tensor:
    """Return ids of two texts, with the padding of the model's tokenizer."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(3, IDS - 3, (2, 10), generator=generator)
    start, end, padding = {"metaclip_2": (0, 2, 1), "altclip": (0, 2, 1)}.get(model_type, (IDS - 2, IDS - 1, 0))
    if not model_type.startswith("siglip"):
        rows[:, 0] = start
        for row, length in zip(rows, (4, 10), strict=True):
            row[length - 1] = end
            row[length:] = padding
    return rows


def transformers_vectors(
    transformers: ModuleType, peer: Any, model: TransformersModel, folder: Path, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the library's unit vectors of the photos and of the texts."""
    processor, _ = MODELS.get(model.model_type, (None, CLIP_PROCESSOR))[1]
    inputs = getattr(transformers, processor).from_pretrained(folder)(photos(), return_tensors="pt")
    padding = 1 if model.model_type in ("metaclip_2", "altclip") else 0
    mask = (rows != padding).long()
    if model.class_name == "BlipForImageTextRetrieval":
        image = peer.vision_proj(peer.vision_model(**inputs).last_hidden_state[:, 0])
        states = peer.text_encoder(input_ids=rows, attention_mask=mask).last_hidden_state
        text = peer.text_proj(states[:, 0])
    else:
        image = peer.get_image_features(**inputs).pooler_output
        masks = {} if model.model_type.startswith("siglip") else {"attention_mask": mask}
        text = peer.get_text_features(input_ids=rows, **masks).pooler_output
        image, text = (vectors[:, 0] if vectors.ndim == 3 else vectors for vectors in (image, text))
    return nn.functional.normalize(image, dim=-1), nn.functional.normalize(text, dim=-1)


@pytest.mark.parametrize("model", TRANSFORMERS_MODELS, ids=lambda model: model.model_type)
def test_a_dual_encoder_of_transformers_gives_the_same_vectors_or_is_refused(
    transformers: ModuleType, tmp_path: Path, model: TransformersModel
) -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    peer = save_transformers_model(transformers, tmp_path, model)
    if model.refused:
        with pytest.raises(WeightsError, match=re.escape(model.model_type)):
            read_transformers(tmp_path)
        return
    checkpoint = read_transformers(tmp_path)
    assert list_libraries(checkpoint.config) == model.libraries
    own = Bundle(
        build_model(checkpoint.config, checkpoint.tensors, model.model_type).eval(), None, checkpoint.preprocess
    )
    rows = transformers_rows(model.model_type)
    with torch.inference_mode():
        image_BE, text_BE = transformers_vectors(transformers, peer, model, tmp_path, rows)
        own_text_BE = own.model.encode_texts(rows)
    torch.testing.assert_close(own.encode_images(photos()), image_BE, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(own_text_BE, text_BE, atol=TOLERANCE, rtol=0)
    assert (text_BE[0] - text_BE[1]).abs().max() > 1e-3, "the vectors must depend on the texts"
