"""Text encoders of the BERT family: what is refused, and how their configs are found."""

import json
import re
from pathlib import Path

import pytest
import torch

from zebra.config.text_towers import BertTextConfig
from zebra.errors import ConfigError, WeightsError
from zebra.pretrained.bert import MODEL_DEFAULTS, bert_from_transformers, parse_bert_config
from zebra.pretrained.open_clip.config import parse_open_clip_config
from zebra.pretrained.open_clip.hf_configs import KNOWN_CONFIGS, read_encoder_config
from zebra.pretrained.transformers.bert_dual_encoders import convert_bert_dual_encoder, parse_bert_dual_encoder

PATH = Path("config.json")

BERT = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50,
    "intermediate_size": 24, "max_position_embeddings": 12, "type_vocab_size": 2,
}  # fmt: skip
ROBERTA = BERT | {"model_type": "roberta", "max_position_embeddings": 14, "type_vocab_size": 1}
DISTILBERT = {
    "model_type": "distilbert", "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24, "vocab_size": 50,
    "max_position_embeddings": 12,
}  # fmt: skip


def encoder_tensors(raw):
    """Return random tensors of an encoder under transformers' names."""
    layers = {"attention.output.dense": (16, 16), "attention.output.LayerNorm": (16,), "output.LayerNorm": (16,)}
    layers |= {f"attention.self.{name}": (16, 16) for name in ("query", "key", "value")}
    layers |= {"intermediate.dense": (24, 16), "output.dense": (16, 24)}
    prefix, norm = "encoder.layer.0.", {"embeddings.LayerNorm": (16,)}
    tables = {"word": 50, "position": raw["max_position_embeddings"], "token_type": raw.get("type_vocab_size", 0)}
    if raw["model_type"] == "distilbert":
        layers = {f"attention.{name}_lin": (16, 16) for name in ("q", "k", "v", "out")}
        layers |= {"sa_layer_norm": (16,), "output_layer_norm": (16,), "ffn.lin1": (24, 16), "ffn.lin2": (16, 24)}
        prefix = "transformer.layer.0."
        del tables["token_type"]
    shapes = norm | {f"{prefix}{name}": shape for name, shape in layers.items()}
    tensors = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    return tensors | {f"embeddings.{name}_embeddings.weight": torch.randn(rows, 16) for name, rows in tables.items()}


@pytest.mark.parametrize("raw", [BERT, ROBERTA, DISTILBERT], ids=lambda raw: raw["model_type"])
def test_positions_start_at_the_first_token_and_include_the_sentence_type(raw):
    tensors = encoder_tensors(raw)
    config, converted = bert_from_transformers(raw, tensors, "the folder", pooling="mean")
    assert (config.context_length, config.projection) == (12, "none")
    expected = tensors["embeddings.position_embeddings.weight"][-12:]
    if raw is not DISTILBERT:
        expected = expected + tensors["embeddings.token_type_embeddings.weight"][0]
    assert torch.equal(converted["positional_embedding"], expected)


def test_a_projection_and_a_shorter_context_are_part_of_the_tower():
    weight, bias = torch.randn(8, 16), torch.randn(8)
    config, converted = bert_from_transformers(
        BERT, encoder_tensors(BERT), "the folder", pooling="cls", projection=(weight, bias), context_length=5
    )
    assert (config.context_length, config.projection, config.projection_bias) == (5, "linear", True)
    assert len(converted["positional_embedding"]) == 5
    assert converted["text_projection.weight"] is weight
    assert converted["text_projection.bias"] is bias


def test_an_unused_dense_layer_and_old_buffers_are_dropped():
    extra = {"pooler.dense.weight": torch.randn(16, 16), "pooler.dense.bias": torch.randn(16)}
    extra |= {"embeddings.position_ids": torch.arange(12)[None]}
    tensors = encoder_tensors(BERT) | extra
    _, without = bert_from_transformers(BERT, tensors, "the folder", pooling="cls")
    _, used = bert_from_transformers(BERT, tensors, "the folder", pooling="pooler")
    assert used.keys() - without.keys() == {"pooler.weight", "pooler.bias"}


WEIGHTS_OF_ANOTHER_MODEL = [
    (BERT, ROBERTA, r"position_embeddings.weight has shape \(12, 16\), but the config implies \(14, 16\)"),
    (ROBERTA, BERT, r"position_embeddings.weight has shape \(14, 16\), but the config implies \(12, 16\)"),
    (DISTILBERT, BERT, "lacks the tensor embeddings.token_type_embeddings.weight"),
    (BERT, DISTILBERT, "lacks the tensor transformer.layer.0.attention.q_lin.weight"),
    (BERT, BERT | {"type_vocab_size": 1}, r"has shape \(2, 16\), but the config implies \(1, 16\)"),
    (
        BERT,
        BERT | {"vocab_size": 49},
        r"word_embeddings.weight has shape \(50, 16\), but the config implies \(49, 16\)",
    ),
    (BERT, BERT | {"hidden_size": 8}, r"has shape \(12, 16\), but the config implies \(12, 8\)"),
    (BERT, BERT | {"intermediate_size": 16}, r"intermediate.dense.weight has shape \(24, 16\)"),
    (BERT, BERT | {"num_hidden_layers": 2}, "lacks the tensor encoder.layer.1.attention.self.query.weight"),
]


@pytest.mark.parametrize(("weights", "raw", "message"), WEIGHTS_OF_ANOTHER_MODEL)
def test_weights_of_another_encoder_are_refused(weights, raw, message):
    with pytest.raises(WeightsError, match=message):
        bert_from_transformers(raw, encoder_tensors(weights), "the folder", pooling="cls")


def test_unknown_tensors_are_refused():
    tensors = encoder_tensors(BERT | {"num_hidden_layers": 1}) | {"encoder.layer.1.output.dense.bias": torch.zeros(16)}
    with pytest.raises(WeightsError, match=r"a tensor encoder.layer.1.output.dense.bias that its config"):
        bert_from_transformers(BERT, tensors, "the folder", pooling="cls")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "nomic_bert"}, "model_type is 'nomic_bert'"),
        ({"model_type": ["bert"]}, "model_type is"),
        ({"auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"}}, "does not run"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type is 'alibi'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"hidden_act": "relu"}, "activation is 'relu'"),
        ({"hidden_act": {}}, "activation is {}"),
        ({"max_position_embeddings": "512"}, "max_position_embeddings is '512'"),
        ({"type_vocab_size": 0}, "type_vocab_size is 0"),
        ({"pad_token_id": 50}, "pad_id is 50"),
        ({"pad_token_id": -1}, "pad_token_id is -1"),
        ({"num_attention_heads": 3}, r"width \(16\) must be a positive multiple of heads \(3\)"),
        ({"layer_norm_eps": "small"}, "norm_eps must be a finite number"),
        ({"max_position_embeddings": 1 << 17}, "context_length is 131072"),
    ],
)
def test_settings_that_change_the_function_are_refused(change, message):
    with pytest.raises(ConfigError, match=re.escape(message) if "(" not in message else message):
        parse_bert_config(BERT | change, "config.json")


def test_a_context_beyond_the_positions_is_refused():
    with pytest.raises(ConfigError, match=r"context length is 13, but the encoder has 12 positions"):
        parse_bert_config(ROBERTA, "config.json", context_length=13)


def open_clip_config(**text_cfg):
    vision_cfg = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    return {"model_cfg": {"embed_dim": 512, "vision_cfg": vision_cfg, "text_cfg": text_cfg}}


def parse_text(**text_cfg) -> BertTextConfig:
    return parse_open_clip_config(open_clip_config(**text_cfg))[0].text


def test_published_encoders_have_heads_of_64_channels_and_512_positions():
    encoders = {name: raw for name, raw in KNOWN_CONFIGS.items() if raw["model_type"] in MODEL_DEFAULTS}
    assert len(encoders) == 14
    for name, raw in encoders.items():
        text = parse_bert_config(raw, name)
        assert text.width == 64 * text.heads
        assert text.context_length == 512
        assert text.pad_id == (0 if raw["model_type"] == "bert" else 1)


def test_a_name_with_its_organization_is_the_same_encoder():
    assert parse_text(hf_model_name="FacebookAI/xlm-roberta-large") == parse_text(hf_model_name="xlm-roberta-large")
    assert read_encoder_config("google-bert/bert-base-uncased") == read_encoder_config("bert-base-uncased")


def test_the_image_towers_activation_is_not_the_encoders():
    raw = open_clip_config(hf_model_name="roberta-base")
    raw["model_cfg"]["quick_gelu"] = True
    config, _ = parse_open_clip_config(raw)
    assert (config.vision.activation, config.text.activation) == ("quick_gelu", "gelu")


@pytest.mark.parametrize(
    ("text_cfg", "message"),
    [
        ({"hf_model_name": "bert-base-uncased", "hf_pooler_type": "max_pooler"}, "max_pooler"),
        ({"hf_model_name": "bert-base-uncased", "hf_proj_type": "none"}, "hf_proj_type is 'none'"),
        ({"hf_model_name": "bert-base-uncased", "hf_proj_type": None}, "hf_proj_type is None"),
        ({"hf_model_name": "bert-base-uncased", "context_length": 513}, "512 positions"),
        ({"hf_model_name": "bert-base-uncased", "output_tokens": True}, "output_tokens is True"),
        ({"hf_model_name": "bert-base-uncased", "hf_adapter": "x"}, "hf_adapter is 'x'"),
        ({"hf_model_name": "org/unknown"}, "hf download org/unknown config.json"),
        ({"hf_model_name": "/home/me/my bert"}, "whose config is not in the folder"),
        ({"hf_model_name": 3}, "hf_model_name must be text"),
    ],
)
def test_encoders_that_zebra_does_not_compute_are_refused(text_cfg, message, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        parse_text(**text_cfg)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Return a function that puts a config.json into an empty cache of huggingface_hub, for org/bert."""

    def write(content: str) -> None:
        repository = tmp_path / "models--org--bert"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (repository / "snapshots" / ("0" * 40) / "config.json").write_text(content)

    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    return write


def test_the_config_of_another_encoder_comes_from_the_hub_cache(hub_cache):
    hub_cache(json.dumps(BERT))
    text = parse_text(hf_model_name="org/bert", context_length=10)
    assert (text.width, text.heads, text.context_length) == (16, 2, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is not a JSON object"),
        (json.dumps(BERT | {"model_type": "gpt2"}), "org/bert.*gpt2"),
        (json.dumps(DISTILBERT), "org/bert.*distilbert"),
    ],
)
def test_a_wrong_config_in_the_hub_cache_is_refused(hub_cache, content, message):
    hub_cache(content)
    with pytest.raises(ConfigError, match=message):
        parse_text(hf_model_name="org/bert", context_length=10)


VISION = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
DUAL_ENCODERS = {
    "chinese_clip": BERT | {"model_type": "chinese_clip_text_model"},
    "altclip": ROBERTA | {"model_type": "altclip_text_model", "project_dim": 10},
    "vision-text-dual-encoder": BERT,
}


def dual_encoder_config(model_type="chinese_clip", text=None, vision=None):
    text_config = DUAL_ENCODERS[model_type] | (text or {})
    return {"model_type": model_type, "text_config": text_config, "vision_config": VISION | (vision or {})}


@pytest.mark.parametrize("model_type", DUAL_ENCODERS)
def test_a_dual_encoder_without_an_embedding_dimension_has_that_of_its_class(model_type):
    config = parse_bert_dual_encoder(dual_encoder_config(model_type), PATH)
    assert config.embed_dim == (768 if model_type == "altclip" else 512)
    assert (config.image_size, config.vision.activation) == (32, "quick_gelu")
    assert config.text.context_length == 12


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (dual_encoder_config(vision={"model_type": "vit"}), "vision_config.model_type is 'vit'"),
        (dual_encoder_config(vision={"num_channels": 1}), "num_channels is 1"),
        (dual_encoder_config(text={"hidden_act": "relu"}), "activation is 'relu'"),
        (dual_encoder_config("vision-text-dual-encoder", text={"model_type": "distilbert"}), "no dense layer"),
        (dual_encoder_config("vision-text-dual-encoder", text={"model_type": "gpt2"}), "model_type is 'gpt2'"),
        (dual_encoder_config() | {"text_config": 3}, "text_config must be a JSON object"),
        (dual_encoder_config() | {"projection_dim": 1 << 20}, "embed_dim is 1048576"),
    ],
)
def test_dual_encoders_that_zebra_does_not_compute_are_refused(raw, message):
    with pytest.raises(WeightsError, match=message):
        parse_bert_dual_encoder(raw, PATH)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"pre_LN.weight": (16,), "pre_LN.bias": (16,)}, "lacks the tensor text_model.transformation.weight"),
        (
            {
                "pre_LN.weight": (16,),
                "pre_LN.bias": (16,),
                "transformation.weight": (9, 16),
                "transformation.bias": (9,),
            },
            "the shapes of text_projection and text_model.transformation do not fit",
        ),
    ],
)
def test_projections_that_do_not_fit_are_refused(shapes, message):
    raw = dual_encoder_config("altclip")
    tensors = {f"text_model.roberta.{name}": tensor for name, tensor in encoder_tensors(ROBERTA).items()}
    tensors |= {f"text_model.{name}": torch.randn(shape) for name, shape in shapes.items()}
    tensors["text_projection.weight"] = torch.randn(768, 10)
    with pytest.raises(WeightsError, match=message):
        convert_bert_dual_encoder(tensors, raw, parse_bert_dual_encoder(raw, PATH), PATH, PATH)
