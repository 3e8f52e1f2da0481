"""Every dual encoder of transformers 5.24 for images and texts gives the vectors of the library, or is refused.

Reference: `get_image_features` and `get_text_features` of transformers 5.24 and its image processors on the Pillow
backend. Models are tiny and random, saved by `save_pretrained`. `python docs/model_tables.py` writes the result into
docs/layouts.md.
"""

import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.parity.random_models import SMALL, TOLERANCE, add_noise, photos
from torch import nn

from zebra.errors import WeightsError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.known_models import list_libraries
from zebra.pretrained.transformers.layout import read_transformers
from zebra.pretrained.transformers_models import TRANSFORMERS_MODELS, TransformersModel
from zebra.pretrained.weights import build_model

Config = dict[str, Any]

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


@pytest.fixture(autouse=True)
def _tidy(tmp_path: Path) -> Iterator[None]:
    """Delete weights at once, because pytest would keep those of its last three runs."""
    yield
    shutil.rmtree(tmp_path)


def save_peer(transformers: ModuleType, folder: Path, model: TransformersModel) -> nn.Module:
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


def token_rows(model_type: str) -> torch.Tensor:
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


def reference_vectors(
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
    peer = save_peer(transformers, tmp_path, model)
    if model.refused:
        with pytest.raises(WeightsError, match=re.escape(model.model_type)):
            read_transformers(tmp_path)
        return
    checkpoint = read_transformers(tmp_path)
    assert list_libraries(checkpoint.config) == model.libraries
    own = Bundle(
        build_model(checkpoint.config, checkpoint.tensors, model.model_type).eval(), None, checkpoint.preprocess
    )
    rows = token_rows(model.model_type)
    with torch.inference_mode():
        image_BE, text_BE = reference_vectors(transformers, peer, model, tmp_path, rows)
        own_text_BE = own.model.encode_texts(rows)
    torch.testing.assert_close(own.encode_images(photos()), image_BE, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(own_text_BE, text_BE, atol=TOLERANCE, rtol=0)
    assert (text_BE[0] - text_BE[1]).abs().max() > 1e-3, "the vectors must depend on the texts"
