"""Text towers of the BERT family compute the same vectors in zebra as in the library that published them.

Reference: open_clip 3.3.0 (`HFTextEncoder`) and transformers 5.24 on torch 2.13.0. Models are random, with noise on
every parameter, so that no 0 or 1 hides a misplaced tensor; widths and depths are small.
Tolerance: 1e-5 on components of unit vectors in fp32, since the kernels add in another order and zebra computes no
padding.
"""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from zebra.pretrained.open_clip import hf_configs
from zebra.pretrained.open_clip.layout import read_open_clip
from zebra.pretrained.transformers.layout import read_transformers
from zebra.pretrained.weights import build_model

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80,
    "vocab_size": 300, "max_position_embeddings": 40,
}  # fmt: skip
ENCODERS = {
    "bert": {"model_type": "bert", **SMALL},
    "roberta": {"model_type": "roberta", **SMALL, "layer_norm_eps": 1e-5, "type_vocab_size": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", **SMALL, "layer_norm_eps": 1e-5, "type_vocab_size": 1},
}
VISION_CFG = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
LENGTHS = [3, 20, 7, 7, 2, 33]


@pytest.fixture(scope="module")
def peer(transformers):
    """Return transformers without its progress bars and warnings."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def noisy(model):
    """Add noise to every parameter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def token_rows(pad_id, width=38):
    """Return texts of several lengths, padded on the right."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(3, 300, (len(LENGTHS), width), generator=generator)
    for row, length in zip(rows, LENGTHS, strict=True):
        row[length:] = pad_id
    return rows


def assert_equal_vectors(own, reference):
    torch.testing.assert_close(own, F.normalize(reference, dim=-1), atol=1e-5, rtol=0)
    assert (own[0] - own[1]).abs().max() > 1e-3, "the vectors must depend on the input"


@pytest.fixture
def encoders(monkeypatch, peer):
    """Give the small encoders names that open_clip and zebra resolve."""
    monkeypatch.setattr(hf_configs, "KNOWN_CONFIGS", ENCODERS)
    configs = {}
    for name, settings in ENCODERS.items():
        config = {key: value for key, value in settings.items() if key != "model_type"}
        configs[name] = peer.AutoConfig.for_model(settings["model_type"], **config)
    monkeypatch.setattr(peer.AutoConfig, "from_pretrained", lambda name, **_: configs[name])


def open_clip_folder(open_clip, folder, embed_dim=24, **text_cfg):
    """Let open_clip build a model with an encoder of transformers, and save it."""
    text_cfg = {"context_length": 38, "hf_model_pretrained": False, **text_cfg}
    model_cfg = {"embed_dim": embed_dim, "vision_cfg": VISION_CFG, "text_cfg": text_cfg}
    torch.manual_seed(0)
    config = {"model_cfg": model_cfg, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = noisy(open_clip.create_model(f"local-dir:{folder}", pretrained_hf=False))
    save_file(
        {name: tensor.clone() for name, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return model


@pytest.mark.parametrize(
    ("name", "text_cfg"),
    [
        ("bert", {"hf_pooler_type": "cls_last_hidden_state_pooler", "hf_proj_type": "mlp"}),
        ("bert", {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}),
        ("bert", {"hf_pooler_type": None, "hf_proj_type": None, "embed_dim": 32}),
        ("roberta", {}),
        ("roberta", {"hf_pooler_type": None, "hf_proj_type": "linear"}),
        ("xlm-roberta", {"hf_pooler_type": "mean_pooler"}),
        ("xlm-roberta", {"hf_pooler_type": "cls_pooler", "context_length": 30}),
    ],
)
def test_an_open_clip_folder_gives_the_vectors_of_open_clip(open_clip, encoders, tmp_path, name, text_cfg):
    peer_model = open_clip_folder(open_clip, tmp_path, hf_model_name=name, **text_cfg)
    checkpoint = read_open_clip(tmp_path)
    own = build_model(checkpoint.config, checkpoint.tensors, "the folder").eval()
    rows = token_rows(pad_id=0 if name == "bert" else 1)[:, : text_cfg.get("context_length", 38)]
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert_equal_vectors(own.encode_texts(rows), peer_model.encode_text(rows))
        assert_equal_vectors(own.encode_images(images), peer_model.encode_image(images))


VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


def chinese_clip(peer):
    config = peer.ChineseCLIPConfig(text_config=SMALL, vision_config=VISION, projection_dim=24)
    return peer.ChineseCLIPModel(config), peer.ChineseCLIPImageProcessorPil


def alt_clip(peer):
    config = peer.AltCLIPConfig(text_config={**SMALL, "project_dim": 20}, vision_config=VISION, projection_dim=24)
    return peer.AltCLIPModel(config), peer.CLIPImageProcessorPil


def vision_text(peer, text_model_type="bert", **text):
    text_config = peer.AutoConfig.for_model(text_model_type, **SMALL, **text)
    config = peer.VisionTextDualEncoderConfig.from_vision_text_configs(
        peer.CLIPVisionConfig(**VISION), text_config, projection_dim=24
    )
    return peer.VisionTextDualEncoderModel(config), peer.CLIPImageProcessorPil


@pytest.mark.parametrize(
    "build",
    [
        chinese_clip,
        alt_clip,
        vision_text,
        lambda peer: vision_text(peer, "roberta", layer_norm_eps=1e-5, type_vocab_size=1),
        lambda peer: vision_text(peer, "xlm-roberta", layer_norm_eps=1e-5, pad_token_id=2),
    ],
    ids=["chinese_clip", "altclip", "bert", "roberta", "xlm-roberta"],
)
def test_a_folder_of_transformers_gives_its_features(peer, tmp_path, build):
    torch.manual_seed(0)
    model, processor = build(peer)
    noisy(model).save_pretrained(tmp_path)
    processor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path)
    checkpoint = read_transformers(tmp_path)
    own = build_model(checkpoint.config, checkpoint.tensors, "the folder").eval()
    rows, images = token_rows(pad_id=checkpoint.config.text.pad_id, width=36), torch.randn(2, 3, 32, 32)
    mask = (rows != checkpoint.config.text.pad_id).long()
    with torch.inference_mode():
        text_features = model.get_text_features(rows, attention_mask=mask).pooler_output
        assert_equal_vectors(own.encode_texts(rows), text_features)
        assert_equal_vectors(own.encode_images(images), model.get_image_features(images).pooler_output)
    assert own.logit_scale == model.logit_scale
