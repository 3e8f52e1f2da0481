"""Pairs of an image model and a text model: what fits together, and what is refused by name."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import zebra
from zebra.errors import ConfigError, WeightsError
from zebra.pretrained.open_clip import hf_configs

from ...tiny_model import CAPTIONS, build_tiny_model
from .bundles import random_images

IDENTITY = "torch.nn.modules.linear.Identity"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "horse", "cat", "two", "dogs", "##s"]


def encoder_tensors(width=16, num_positions=10):
    """Return the tensors of a DistilBERT of one block."""
    torch.manual_seed(0)
    block = "transformer.layer.0."
    layers = {f"attention.{name}_lin": (width, width) for name in ("q", "k", "v", "out")}
    layers |= {
        "ffn.lin1": (32, width),
        "ffn.lin2": (width, 32),
        "sa_layer_norm": (width,),
        "output_layer_norm": (width,),
    }
    shapes = {f"{block}{name}": shape for name, shape in layers.items()} | {"embeddings.LayerNorm": (width,)}
    tensors = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": torch.randn(shape[:1]) for name, shape in shapes.items()}
    return tensors | {
        "embeddings.word_embeddings.weight": torch.randn(len(WORDS), width),
        "embeddings.position_embeddings.weight": torch.randn(num_positions, width),
    }


ENCODER = {
    "model_type": "distilbert", "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "vocab_size": len(WORDS),
    "max_position_embeddings": 10,
}  # fmt: skip


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_tokenizer(folder):
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True})


def write_text_model(folder, embed_dim=32):
    """Write a text model as the versions of sentence-transformers before 5.4 did."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    write_json(folder / "modules.json", modules)
    write_json(folder / "config.json", ENCODER)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 8, "do_lower_case": False})
    modes = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, **modes})
    dense = {"in_features": 16, "out_features": embed_dim, "bias": False, "activation_function": IDENTITY}
    write_json(folder / "2_Dense" / "config.json", dense)
    write_tokenizer(folder)
    save_file(encoder_tensors(), folder / "model.safetensors")
    torch.save({"linear.weight": torch.randn(embed_dim, 16)}, folder / "2_Dense" / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    build_tiny_model().save(folder)
    return folder


@pytest.fixture
def text_model(tmp_path):
    return write_text_model(tmp_path / "text")


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_pair_has_the_images_of_one_model_and_the_texts_of_the_other(image_model, text_model, tmp_path):
    pair = zebra.load(image_model, text=text_model)
    image = zebra.load(image_model)
    assert torch.equal(pair.encode_images(random_images(1)), image.encode_images(random_images(1)))
    assert pair.context_length == 8 and pair.logit_scale == image.logit_scale
    pair.save(tmp_path / "saved")
    saved = zebra.load(tmp_path / "saved")
    torch.testing.assert_close(saved.encode_texts(CAPTIONS[:3]), pair.encode_texts(CAPTIONS[:3]))
    assert saved.classify(random_images(1), ["horse", "cat"])[0]


@pytest.mark.parametrize("file", ["model.safetensors", "2_Dense/pytorch_model.bin", "1_Pooling/config.json"])
def test_the_fingerprint_of_a_pair_depends_on_every_file(image_model, text_model, file):
    before = zebra.load(image_model, text=text_model).fingerprint
    assert before == zebra.load(image_model, text=text_model).fingerprint != zebra.load(image_model).fingerprint
    path = text_model / file
    if path.suffix == ".json":
        change(path, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    elif path.suffix == ".bin":
        torch.save({"linear.weight": torch.randn(32, 16)}, path)
    else:
        tensors = load_file(path)
        save_file({name: tensor + 1 for name, tensor in tensors.items()}, path)
    assert zebra.load(image_model, text=text_model).fingerprint != before


def test_models_of_different_widths_are_refused_with_both_numbers(image_model, tmp_path):
    text = write_text_model(tmp_path / "text", embed_dim=24)
    with pytest.raises(ConfigError, match=r"vectors of 32 dimensions, but .*text has 24"):
        zebra.load(image_model, text=text)


def test_a_text_model_alone_needs_an_image_model(text_model):
    with pytest.raises(WeightsError, match=r"without an image tower.*zebra\.load\(IMAGE_MODEL, text="):
        zebra.load(text_model)
    with pytest.raises(WeightsError, match="without an image tower"):
        zebra.load(text_model, text=text_model)


def test_two_image_models_are_refused(image_model):
    with pytest.raises(WeightsError, match=r"is no text model.*without text="):
        zebra.load(image_model, text=image_model)


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, r"pooling is \['max', 'mean'\]"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "'lasttoken'"),
        ("1_Pooling/config.json", {"pooling_mode": {}}, "pooling is {}"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}, "activation_function"),
        ("2_Dense/config.json", {"bias": True}, r"instead of linear\.bias, linear\.weight"),
        ("2_Dense/config.json", {"in_features": 8}, r"has the shape \(32, 16\)"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("config.json", {"model_type": "t5"}, "'t5'"),
        ("config.json", {"n_layers": 2}, r"lacks the tensor transformer\.layer\.1"),
        ("config.json", {"vocab_size": 20}, "word_embeddings"),
    ],
)
def test_settings_that_are_not_computed_are_refused_by_name(image_model, text_model, file, settings, message):
    change(text_model / file, **settings)
    with pytest.raises(WeightsError, match=message):
        zebra.load(image_model, text=text_model)


def test_without_its_key_the_activation_is_tanh_and_refused(image_model, text_model):
    path = text_model / "2_Dense" / "config.json"
    settings = json.loads(path.read_text())
    del settings["activation_function"]
    path.write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="Tanh"):
        zebra.load(image_model, text=text_model)


def test_a_second_projection_is_refused(image_model, text_model):
    modules = json.loads((text_model / "modules.json").read_text())
    (text_model / "modules.json").write_text(json.dumps([*modules, modules[-1]]))
    with pytest.raises(WeightsError, match="Transformer, Pooling, Dense, Dense"):
        zebra.load(image_model, text=text_model)


@pytest.fixture
def m_clip(tmp_path, monkeypatch):
    """A text model of M-CLIP, whose encoder is known by its name."""
    monkeypatch.setitem(hf_configs.KNOWN_CONFIGS, "a-tiny-encoder", ENCODER)
    folder = tmp_path / "m-clip"
    write_json(folder / "config.json", {"model_type": "M-CLIP", "modelBase": "a-tiny-encoder", "numDims": 32})
    tensors = {f"transformer.{name}": tensor for name, tensor in encoder_tensors().items()}
    tensors |= {"LinearTransformation.weight": torch.randn(32, 16), "LinearTransformation.bias": torch.randn(32)}
    torch.save(tensors, folder / "pytorch_model.bin")
    write_tokenizer(folder)
    return folder


def test_a_model_of_m_clip_is_the_mean_of_its_tokens_and_a_linear_layer(image_model, m_clip, text_model):
    """The same encoder and projection as modules of sentence-transformers have the same vectors."""
    weights = torch.load(m_clip / "pytorch_model.bin")
    dense = {f"linear.{part}": weights[f"LinearTransformation.{part}"] for part in ("weight", "bias")}
    torch.save(dense, text_model / "2_Dense" / "pytorch_model.bin")
    change(text_model / "2_Dense" / "config.json", bias=True)
    texts = ["a photo of two cats", "dogs"]
    expected = zebra.load(image_model, text=text_model).encode_texts(texts)
    torch.testing.assert_close(zebra.load(image_model, text=m_clip).encode_texts(texts), expected)


def test_a_model_of_m_clip_is_refused_without_an_image_model_or_a_known_encoder(image_model, m_clip):
    with pytest.raises(WeightsError, match="without an image tower"):
        zebra.load(m_clip)
    change(m_clip / "config.json", modelBase="org/unknown-encoder")
    with pytest.raises(WeightsError, match=r"modelBase is 'org/unknown-encoder'.*hf download"):
        zebra.load(image_model, text=m_clip)


def test_an_incomplete_text_model_is_refused(image_model, text_model):
    shutil.rmtree(text_model / "1_Pooling")
    with pytest.raises(WeightsError, match="1_Pooling"):
        zebra.load(image_model, text=text_model)
