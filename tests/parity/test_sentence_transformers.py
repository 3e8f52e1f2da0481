"""Folders of sentence-transformers, written by either library, have the same vectors in both.

Reference: sentence-transformers 6.2 on transformers 5.24. Models are random. Tolerance: 1e-5 on unit vectors.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Rust

import zebra
from zebra.config.export import ExportConfig
from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.open_clip import hf_configs
from zebra.text.siglip_tokenizer import SiglipTokenizer
from zebra.workflows import export

from ..tiny_model import CAPTIONS, build_siglip2_tokenizer, build_tiny_model

TEXTS = ["a horse", "two spotted dogs", "", "a photo of a striped cat in the snow"]


@pytest.fixture(scope="module")
def sentence_transformers(transformers):
    """Return sentence-transformers without the progress bars of transformers."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return pytest.importorskip("sentence_transformers")


def build_siglip_tokenizer():
    rust = Rust(models.Unigram())
    rust.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    rust.train_from_iterator(CAPTIONS, trainer)
    return SiglipTokenizer(rust, 64, eos_token="</s>", pad_token="</s>", cleaning="siglip")


def build_siglip(tokenizer, vision=SiglipVisionConfig, **preprocess):
    """Build a SigLIP model of 32-pixel images and texts of 64 tokens."""
    sizes = {"width": 32, "layers": 1, "heads": 2}
    text = SiglipTextConfig(**sizes, vocab_size=tokenizer.vocab_size, context_length=64)
    torch.manual_seed(0)
    config = ModelConfig(embed_dim=32, image_size=32, vision=vision(**sizes, patch_size=8), text=text, logit_bias=True)
    half = (0.5, 0.5, 0.5)
    preprocess = {"resize": "squash"} | preprocess
    return Bundle(CLIP(config), tokenizer, Preprocess(image_size=32, mean=half, std=half, **preprocess))


@pytest.fixture(scope="module", params=["clip", "siglip"])
def exported(request, tmp_path_factory):
    """Return a model and its folder of sentence-transformers; noise shows misplaced tensors."""
    root = tmp_path_factory.mktemp(request.param)
    bundle = build_tiny_model() if request.param == "clip" else build_siglip(build_siglip_tokenizer())
    with torch.no_grad():
        for parameter in bundle.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    bundle.save(root / "zebra")
    settings = ExportConfig(model=str(root / "zebra"), format="sentence-transformers", out=str(root / "exported"))
    return bundle, export.run(settings)


def images():
    """Return images that are resized and cropped by an even margin."""
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in ((96, 64), (100, 300))]


def assert_equal_vectors(peer, bundle):
    """Compare unit vectors, of texts one at a time, so that the peer does not pad them to the longest."""
    for theirs, ours in (
        (np.concatenate([peer.encode([text]) for text in TEXTS]), bundle.encode_texts(TEXTS)),
        (peer.encode(images()), bundle.encode_images(images())),
    ):
        np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
        assert np.ptp(theirs, axis=0).max() > 0.01  # the vectors differ


def test_an_exported_model_has_the_same_vectors_in_both_libraries(sentence_transformers, exported):
    bundle, folder = exported
    assert_equal_vectors(sentence_transformers.SentenceTransformer(str(folder), device="cpu"), bundle)
    assert_equal_vectors(sentence_transformers.SentenceTransformer(str(folder), device="cpu"), zebra.load(folder))


def test_images_of_a_naflex_model_keep_their_aspect_ratio_in_both_libraries(sentence_transformers, tmp_path):
    preprocess = {"resize": "naflex", "interpolation": "bilinear", "patch_size": 8, "max_num_patches": 16}
    bundle = build_siglip(build_siglip2_tokenizer(), NaflexVisionConfig, **preprocess)
    bundle.save(tmp_path / "zebra")
    settings = ExportConfig(model=str(tmp_path / "zebra"), format="sentence-transformers", out=str(tmp_path / "out"))
    folder = export.run(settings)
    peer = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    peer.save(str(tmp_path / "saved"))
    saved = zebra.load(tmp_path / "saved", tokenizer=folder / "0_Transformer" / "tokenizer.json")
    for model in (bundle, zebra.load(folder), saved):
        np.testing.assert_allclose(peer.encode(images()), model.encode_images(images()), atol=1e-5)
        np.testing.assert_allclose(peer.encode(TEXTS), model.encode_texts(TEXTS), atol=1e-5)


def test_a_model_that_the_library_saves_is_read(sentence_transformers, exported, tmp_path):
    """The library moves the model to the root of the folder, or to another subfolder."""
    bundle, folder = exported
    peer = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    peer.save(str(tmp_path / "saved"))
    loaded = zebra.load(tmp_path / "saved")
    torch.testing.assert_close(loaded.encode_texts(TEXTS), bundle.encode_texts(TEXTS))
    torch.testing.assert_close(loaded.encode_images(images()), bundle.encode_images(images()))


TOKEN_TEXT = "a the horse cat dog photo of striped spotted two in snow grass un caballo 馬 лошадь"
ENCODERS = {
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "Bert": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
}


def save_wordpiece(transformers, folder):
    """Save a WordPiece tokenizer that pads with the id 1, as XLM-R's does, and return its vocabulary."""
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted(set(TOKEN_TEXT) - {" "})
    vocabulary = list(dict.fromkeys([*special, *TOKEN_TEXT.split(), *letters, *(f"##{letter}" for letter in letters)]))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    return vocabulary


def save_text_model(transformers, peer, folder, encoder="DistilBert", pooling="mean", dense=True, max_seq_length=12):
    """Save a random multilingual text model with vectors of width 32, as `clip-ViT-B-32-multilingual-v1` is built."""
    base = folder.parent / f"{folder.name}-base"
    base.mkdir()
    vocabulary = save_wordpiece(transformers, base)
    torch.manual_seed(0)
    config = getattr(transformers, f"{encoder}Config")(
        vocab_size=len(vocabulary), pad_token_id=1, max_position_embeddings=40, **ENCODERS[encoder]
    )
    model = getattr(transformers, f"{encoder}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(base)
    modules = peer.sentence_transformer.modules
    parts = [modules.Transformer(str(base), max_seq_length=max_seq_length), modules.Pooling(32, pooling_mode=pooling)]
    if dense:
        parts.append(modules.Dense(32, 32, bias=encoder == "Bert", activation_function=torch.nn.Identity()))
    theirs = peer.SentenceTransformer(modules=parts, device="cpu")
    theirs.save(str(folder))
    return theirs


@pytest.mark.parametrize(
    ("encoder", "pooling", "dense", "max_seq_length"),
    [("DistilBert", "mean", True, 12), ("Bert", "cls", True, 12), ("Bert", "mean", False, None)],
)
def test_a_text_model_is_paired_with_an_image_model(
    transformers, sentence_transformers, tmp_path, encoder, pooling, dense, max_seq_length
):
    theirs = save_text_model(
        transformers, sentence_transformers, tmp_path / "text", encoder, pooling, dense, max_seq_length
    )
    image = build_tiny_model()
    image.save(tmp_path / "image")
    pair = zebra.load(tmp_path / "image", text=tmp_path / "text")
    texts = [*TEXTS, "un caballo 馬", "лошадь in the snow " * 20]
    reference = theirs.encode(texts)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    with pytest.warns(UserWarning, match="truncated"):
        np.testing.assert_allclose(pair.encode_texts(texts), reference, atol=1e-5)
    assert (pair.encode_images(images()) == image.encode_images(images())).all()
    assert pair.fingerprint not in ("", zebra.load(tmp_path / "image").fingerprint)
    pair.save(tmp_path / "saved")
    loaded = zebra.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.encode_texts(TEXTS), reference[: len(TEXTS)], atol=1e-5)


def test_a_text_model_of_m_clip_has_the_vectors_of_its_encoder(transformers, tmp_path, monkeypatch):
    """Reference: the formula of M-CLIP, computed with `XLMRobertaModel`."""
    folder = tmp_path / "text"
    folder.mkdir()
    vocabulary = save_wordpiece(transformers, folder)
    torch.manual_seed(0)
    sizes = {**ENCODERS["Bert"], "vocab_size": len(vocabulary), "max_position_embeddings": 40, "pad_token_id": 1}
    encoder = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**sizes)).eval()
    linear = torch.nn.Linear(32, 32)
    state = {f"transformer.{name}": value for name, value in encoder.state_dict().items()}
    state |= {f"LinearTransformation.{part}": value for part, value in linear.state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    monkeypatch.setitem(hf_configs.KNOWN_CONFIGS, "tiny-xlm-r", {"model_type": "xlm-roberta", **sizes})
    (folder / "config.json").write_text(json.dumps({"model_type": "M-CLIP", "modelBase": "tiny-xlm-r"}))
    build_tiny_model().save(tmp_path / "image")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        mask = tokens["attention_mask"][..., None]
        mean = (encoder(**tokens)[0] * mask).sum(dim=1) / mask.sum(dim=1)
        expected = torch.nn.functional.normalize(linear(mean), dim=-1)
    vectors = zebra.load(tmp_path / "image", text=folder).encode_texts(TEXTS)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
