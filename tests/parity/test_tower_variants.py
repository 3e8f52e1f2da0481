"""Texts and images of towers with flags, from strings to unit vectors, as in open_clip and transformers.

Reference: open_clip 3.3.0 and transformers 5.24 with their own tokenizers and random weights. `test_open_clip.py`
compares each flag; here folders are opened as users do. Tolerance: 1e-5 on components of unit vectors, fp32.
The vocabulary of OpenAI is that of open_clip. Those of BERT and XLM-V are toys of the same layout.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from PIL import Image
from safetensors.torch import save_file

import zebra
from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.transformers.layout import write_transformers
from zebra.pretrained.weights import published_state_dict
from zebra.text import HFTokenizer, find_tokenizer

TEXTS = ["a photo of a zebra", "", "Two horses, and a cat!", "wow! it's a zebra " * 20]
VISION = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
TEXT = {"width": 64, "heads": 2, "layers": 2}
CLIPA_VISION = {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}
COCA = {"multimodal_cfg": {"width": 64, "heads": 2, "layers": 1, "vocab_size": 49_408, "context_length": 76}}
MODELS: dict[str, dict[str, Any]] = {
    "clipa": {
        "vision_cfg": CLIPA_VISION,
        "text_cfg": {
            "context_length": 32,
            "vocab_size": 300,
            "hf_tokenizer_name": "bert-base-uncased",
            "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last",
            "no_causal_mask": True,
        },
    },
    "mobileclip": {"custom_text": True, "text_cfg": {"no_causal_mask": True}},
    "coca": {
        "custom_text": True,
        "vision_cfg": {"attentional_pool": True, "attn_pooler_queries": 4, "output_tokens": True},
        "text_cfg": {"context_length": 76, "embed_cls": True, "output_tokens": True},
        **COCA,
    },
}


def write_wordpiece(transformers: ModuleType, folder: Path) -> None:
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False
    )
    rust = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    rust.train_from_iterator([text.lower() for text in TEXTS], trainer)
    transformers.BertTokenizer(vocab=rust.get_vocab(), do_lower_case=True).save_pretrained(folder)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*not read. CoCa's decoder", "ignore:1 of 4 texts were truncated")
def test_a_folder_of_open_clip_gives_the_vectors_of_strings_and_images(
    open_clip: ModuleType, transformers: ModuleType, tmp_path: Path, name: str
) -> None:
    changes = MODELS[name]
    cfg = {"embed_dim": 32} | changes
    cfg |= {"vision_cfg": VISION | changes.get("vision_cfg", {}), "text_cfg": TEXT | changes["text_cfg"]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": {}}))
    if name == "clipa":
        write_wordpiece(transformers, tmp_path)
    torch.manual_seed(0)
    peer, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    save_file(peer.eval().state_dict(), tmp_path / "open_clip_model.safetensors")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    with torch.inference_mode():
        text_BE = peer.encode_text(open_clip.get_tokenizer(f"local-dir:{tmp_path}")(TEXTS), True)
        image_BE = peer.encode_image(transform(image)[None], True)
    own = zebra.load(tmp_path)
    torch.testing.assert_close(own.encode_texts(TEXTS), text_BE, atol=1e-5, rtol=0)
    torch.testing.assert_close(own.encode_images([image]), image_BE, atol=1e-5, rtol=0)
    assert (text_BE[0] - text_BE[2]).abs().max() > 1e-3


@pytest.fixture
def xlm_tokenizer(transformers: ModuleType, tmp_path: Path) -> HFTokenizer:
    """Return a toy tokenizer with the layout of XLM-V: `<s> text </s>`, whose end token has the id 2."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece, -float(rank)) for rank, piece in enumerate(["▁", "▁a", "▁zebra", "horse", *"abcdeoprst"], 1)]
    transformers.XLMRobertaTokenizer(vocab=pieces).save_pretrained(tmp_path / "tokenizer")
    tokenizer = find_tokenizer(tmp_path / "tokenizer", 16)
    assert isinstance(tokenizer, HFTokenizer)
    return tokenizer


def test_an_exported_metaclip_2_model_gives_the_vectors_of_strings(
    open_clip: ModuleType, transformers: ModuleType, tmp_path: Path, xlm_tokenizer: HFTokenizer
) -> None:
    vision = VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16)
    text = TextConfig(width=64, layers=2, heads=2, vocab_size=xlm_tokenizer.vocab_size, context_length=16, eos_id=2)
    config = ModelConfig(embed_dim=32, image_size=32, vision=vision, text=text)
    torch.manual_seed(0)
    own = CLIP(config).eval()
    parts: dict[str, Any] = {
        "config": config, "tensors": published_state_dict(own), "preprocess": Preprocess(image_size=32),
        "tokenizer": xlm_tokenizer,
    }  # fmt: skip
    write_transformers(tmp_path / "transformers", **parts)
    write_open_clip(tmp_path / "open_clip", **parts)
    with torch.inference_mode():
        expected_BE = own.encode_texts(torch.from_numpy(xlm_tokenizer.encode(TEXTS, truncate=True).ids))
        peer = transformers.AutoModel.from_pretrained(tmp_path / "transformers").eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "transformers")
        inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt")
        theirs_BE = peer.get_text_features(**inputs).pooler_output
        other = open_clip.create_model(f"local-dir:{tmp_path / 'open_clip'}").eval()
        other_BE = other.encode_text(open_clip.get_tokenizer(f"local-dir:{tmp_path / 'open_clip'}")(TEXTS), True)
    torch.testing.assert_close(torch.nn.functional.normalize(theirs_BE, dim=-1), expected_BE, atol=1e-5, rtol=0)
    torch.testing.assert_close(other_BE, expected_BE, atol=1e-5, rtol=0)
    assert (expected_BE[0] - expected_BE[2]).abs().max() > 1e-3
