"""A model with a text tower of the BERT family, from its folder to vectors, precisions and exports."""

import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tests.tiny_model import build_tiny_model

import zebra
from zebra.config.text_towers import BertTextConfig
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError, WeightsError
from zebra.models import CLIP
from zebra.models.init import initialize_bert
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.transformers.layout import write_transformers
from zebra.pretrained.weights import published_state_dict
from zebra.text.tokenizers import find_tokenizer
from zebra.train.setup import initialize_bundle

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "horse", "cat", "two", "dogs", "!", "[", "]", "pad"]
TEXTS = ["a photo of a horse", "two dogs", "a cat", "a photo of two dogs! a photo of a cat! a photo of a horse!"]


def write_vocabulary(folder, words=WORDS):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    tokenizer = find_tokenizer(write_vocabulary(tmp_path / "vocabulary"), 12)
    text = BertTextConfig(
        width=64, layers=2, heads=2, vocab_size=len(WORDS), context_length=12, pooling="pooler", projection="mlp"
    )
    tiny = build_tiny_model()
    torch.manual_seed(0)
    model = CLIP(replace(tiny.model.config, text=text)).eval()
    initialize_bert(model.text)
    return Bundle(model, tokenizer, tiny.preprocess)


@pytest.fixture
def folder(bundle, tmp_path):
    bundle.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_has_the_same_vectors_and_passes_its_golden_vectors(bundle, folder):
    loaded = zebra.load(folder)
    assert loaded.model.config == bundle.model.config
    assert torch.equal(loaded.encode_texts(TEXTS[:3]), bundle.encode_texts(TEXTS[:3]))
    assert loaded.fingerprint == bundle.fingerprint != ""
    assert loaded.describe()["text tower"].startswith("bert, 2 layers of width 64")
    assert "pooling pooler, projection mlp" in loaded.describe()["text tower"]


def test_a_text_has_the_same_vector_among_others(bundle):
    alone = torch.cat([bundle.encode_texts([text]) for text in TEXTS[:3]])
    torch.testing.assert_close(bundle.encode_texts(TEXTS[:3]), alone, atol=1e-6, rtol=0)


def test_padding_tokens_written_in_a_text_are_ordinary_text(bundle):
    plain, with_padding = bundle.encode_texts(["a cat", "a [PAD] cat"])
    assert (plain - with_padding).abs().max() > 1e-3


def test_texts_beyond_the_positions_are_truncated_with_a_warning(bundle):
    with pytest.warns(UserWarning, match="1 of 4 texts were truncated to 12 tokens"):
        vectors = bundle.encode_texts(TEXTS)
    assert vectors.shape == (4, 32)
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_small_precisions_stay_close(bundle, folder, precision):
    small = zebra.load(folder, precision=precision)
    cosine = (small.encode_texts(TEXTS[:3]) * bundle.encode_texts(TEXTS[:3])).sum(dim=1)
    assert cosine.min() > 0.999


def test_images_are_classified_by_texts(bundle):
    [predictions] = bundle.classify([Image.new("RGB", (80, 70), "teal")], ["horse", "cat", "two dogs"])
    assert sum(prediction.score for prediction in predictions) == pytest.approx(1)


def test_layouts_that_cannot_hold_the_tower_say_so(bundle, tmp_path):
    parts = {
        "config": bundle.model.config,
        "tensors": published_state_dict(bundle.model),
        "preprocess": bundle.preprocess,
        "tokenizer": bundle.tokenizer,
    }
    for write in (write_open_clip, write_transformers):
        with pytest.raises(WeightsError, match="Use --format zebra"):
            write(tmp_path / "export", **parts)
    assert not (tmp_path / "export").exists()


def test_a_tokenizer_that_does_not_suit_the_tower_is_refused(folder, tmp_path):
    swapped = write_vocabulary(tmp_path / "swapped", [WORDS[1], WORDS[0], *WORDS[2:]])
    with pytest.raises(WeightsError, match=r"pads with the id 1, but .* ignores the id 0"):
        zebra.load(folder, tokenizer=swapped)
    larger = write_vocabulary(tmp_path / "larger", [*WORDS, "zebra"])
    with pytest.raises(WeightsError, match=r"the tokenizer has 16 ids, but the text tower .* has 15"):
        zebra.load(folder, tokenizer=larger)


def test_the_tokenizer_of_clip_is_refused(bundle, folder, tmp_path):
    clip = build_tiny_model()
    text = replace(bundle.model.config.text, vocab_size=600)
    Bundle(CLIP(replace(bundle.model.config, text=text)).eval(), bundle.tokenizer, bundle.preprocess).save(folder)
    shutil.rmtree(tmp_path / "clip", ignore_errors=True)
    clip.save(tmp_path / "clip")
    with pytest.raises(WeightsError, match="the tokenizer is CLIP's, which has no token for padding"):
        zebra.load(folder, tokenizer=tmp_path / "clip" / "tokenizer.json")


def test_training_from_random_weights_is_refused(bundle):
    config = TrainConfig(model=bundle.model.config, data="pairs", out="run", steps=1)
    with pytest.raises(ConfigError, match=r"model.text.kind is bert.*Fine-tune a model"):
        initialize_bundle(config, build_tiny_model().tokenizer, torch.device("cpu"))
