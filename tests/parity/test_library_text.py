"""Text encoders that transformers computes give open_clip's vectors.

Reference: open_clip 3.3.0 (`HFTextEncoder`) with tiny random encoders of transformers 5.24, saved by open_clip's names.
Tolerance: 1e-5 on unit vectors.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from zebra.errors import WeightsError
from zebra.pretrained.load import build_bundle
from zebra.pretrained.open_clip import hf_configs
from zebra.pretrained.open_clip.layout import read_open_clip

T5 = {"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
ENCODERS = {
    "nllb": {
        "model_type": "m2m_100", "vocab_size": 300, "d_model": 32, "encoder_layers": 2, "encoder_ffn_dim": 48,
        "encoder_attention_heads": 4, "decoder_layers": 2, "max_position_embeddings": 64, "torch_dtype": "float16",
    },
    "mt5": {"model_type": "mt5", **T5},
}  # fmt: skip
LENGTHS = [3, 20, 7, 2, 33]


@pytest.fixture
def encoders(monkeypatch, transformers):
    """Give the tiny encoders names that open_clip and zebra resolve."""
    transformers.logging.set_verbosity_error()
    configs = {}
    for name, settings in ENCODERS.items():
        config = {key: value for key, value in settings.items() if key not in ("model_type", "torch_dtype")}
        configs[name] = transformers.AutoConfig.for_model(settings["model_type"], **config)
    monkeypatch.setattr(hf_configs, "KNOWN_CONFIGS", dict(ENCODERS))
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda name, **_: configs[name])


def open_clip_folder(open_clip, folder, embed_dim=24, **text_cfg):
    """Let open_clip build a model with an encoder of transformers, and save it."""
    vision_cfg = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    model_cfg = {"embed_dim": embed_dim, "vision_cfg": vision_cfg, "text_cfg": {"context_length": 38, **text_cfg}}
    config = {"model_cfg": model_cfg, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_hf=False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return model.eval()


def token_rows(pad_id):
    """Return texts of several lengths, padded on the right."""
    rows = torch.randint(3, 300, (len(LENGTHS), 38), generator=torch.Generator().manual_seed(2))
    for row, length in zip(rows, LENGTHS, strict=True):
        row[length:] = pad_id
    return rows


@pytest.mark.parametrize(
    ("name", "text_cfg", "pooling"),
    [
        ("nllb", {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}, "first"),
        ("nllb", {"hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}, "mean"),
        ("nllb", {"hf_pooler_type": None, "hf_proj_type": None, "embed_dim": 32}, "first"),
        ("mt5", {"hf_pooler_type": None, "hf_proj_type": "linear"}, "mean"),
        ("mt5", {}, "mean"),
    ],
)
def test_an_open_clip_folder_gives_the_vectors_of_open_clip(open_clip, encoders, tmp_path, name, text_cfg, pooling):
    peer = open_clip_folder(open_clip, tmp_path, hf_model_name=name, **text_cfg)
    bundle = build_bundle(read_open_clip(tmp_path), tmp_path)
    assert bundle.model.config.text.pooling == pooling
    rows, images = token_rows(pad_id=1 if name == "nllb" else 0), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for actual, reference in (
            (bundle.model.encode_texts(rows), peer.encode_text(rows)),
            (bundle.model.encode_images(images), peer.encode_image(images)),
        ):
            assert reference.std(dim=0).max() > 0.01  # the vectors depend on the input
            torch.testing.assert_close(actual, F.normalize(reference, dim=-1), atol=1e-5, rtol=0)


def test_position_tables_of_older_files_are_computed_anew(open_clip, encoders, tmp_path):
    open_clip_folder(open_clip, tmp_path, hf_model_name="nllb")
    expected = build_bundle(read_open_clip(tmp_path), tmp_path).model.encode_texts(token_rows(1))
    file = tmp_path / "open_clip_model.safetensors"
    tensors = load_file(file) | {"text.transformer.embed_positions.weights": torch.ones(66, 32)}
    save_file(tensors, file)
    actual = build_bundle(read_open_clip(tmp_path), tmp_path).model.encode_texts(token_rows(1))
    assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("encoder", "text_cfg", "message"),
    [
        ({"model_type": "gpt2"}, {}, "hf_model_name.*gpt2"),
        ({"model_type": "m2m_100", "encoder_layers": 10**9}, {}, "the limit is 256"),
        ({"model_type": "m2m_100", "d_model": "wide"}, {}, "refuses the config"),
        ({"model_type": "mt5", **T5, "num_layers": 3}, {"hf_pooler_type": "mean_pooler"}, "lacks the tensor"),
        ({"model_type": "mt5", **T5}, {"hf_pooler_type": "max_pooler"}, "hf_pooler_type is 'max_pooler'"),
        ({"model_type": "mt5", **T5}, {"hf_proj_type": None}, "hf_proj_type is null"),
    ],
)
def test_an_encoder_that_does_not_suit_is_refused(
    open_clip, encoders, monkeypatch, tmp_path, encoder, text_cfg, message
):
    open_clip_folder(open_clip, tmp_path, hf_model_name="mt5")
    monkeypatch.setitem(hf_configs.KNOWN_CONFIGS, "mt5", encoder)
    path = tmp_path / "open_clip_config.json"
    raw = json.loads(path.read_text())
    raw["model_cfg"]["text_cfg"] |= text_cfg
    path.write_text(json.dumps(raw))
    with pytest.raises(WeightsError, match=message):
        build_bundle(read_open_clip(tmp_path), tmp_path)
