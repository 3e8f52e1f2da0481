"""OpenAI's vocabulary is found in installed packages and the hub's cache, and verified by its digest."""

import json
import sys
from types import ModuleType

import pytest
import torch
from huggingface_hub import constants

import zebra
from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.errors import WeightsError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.weights import published_state_dict
from zebra.text import clip_vocabulary
from zebra.text.bpe import BPETokenizer
from zebra.text.clip_vocabulary import FETCH_COMMAND, find_openai_tokenizer

MERGES = [("a", "b"), ("ab", "c</w>"), ("d", "e")]
OTHER_MERGES = [("a", "c")]


@pytest.fixture(autouse=True)
def vocabulary(monkeypatch, tmp_path):
    """A short vocabulary in the place of OpenAI's, an empty hub cache, and no packages."""
    lines = "\n".join(" ".join(pair) for pair in MERGES)
    digest = clip_vocabulary.hashlib.sha256(lines.encode()).hexdigest()
    monkeypatch.setattr(clip_vocabulary, "MERGES_SHA256", digest)
    monkeypatch.setattr(clip_vocabulary, "PACKAGES", ("a_package_with_merges",))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def write_merges(path, merges=MERGES):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n", encoding="utf-8")


def snapshot(tmp_path, repository="openai--clip"):
    folder = tmp_path / "hub" / f"models--{repository}" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    return folder


def test_a_package_that_contains_the_vocabulary_is_read_but_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "a_package_with_merges"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    write_merges(package / "bpe_simple_vocab_16e6.txt")
    monkeypatch.setattr(clip_vocabulary, "OPENAI_MERGES_FILE", "bpe_simple_vocab_16e6.txt")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = find_openai_tokenizer(77, tmp_path)
    assert found.fingerprint == BPETokenizer(MERGES).fingerprint


def test_an_imported_module_without_a_package_on_disk_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "a_package_with_merges", ModuleType("a_package_with_merges"))
    assert find_openai_tokenizer(77, tmp_path) is None


def test_a_merges_file_in_the_hub_cache_is_read(tmp_path):
    write_merges(snapshot(tmp_path, "another--model") / "merges.txt", OTHER_MERGES)
    write_merges(snapshot(tmp_path) / "merges.txt")
    assert find_openai_tokenizer(20, tmp_path).fingerprint == BPETokenizer(MERGES, 20).fingerprint


@pytest.mark.parametrize("pairs", [[list(pair) for pair in MERGES], [" ".join(pair) for pair in MERGES]])
def test_a_tokenizer_json_in_the_hub_cache_is_read(tmp_path, pairs):
    (snapshot(tmp_path) / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "merges": pairs}}))
    assert find_openai_tokenizer(77, tmp_path).fingerprint == BPETokenizer(MERGES).fingerprint


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"model": null}',
        '{"model": {"merges": [1]}}',
        '{"model": {"merges": "ab"}}',
        '{"model": {"merges": [[1, 2]]}}',
    ],
)
def test_damaged_and_other_files_of_the_cache_are_ignored(tmp_path, content):
    folder = snapshot(tmp_path)
    (folder / "tokenizer.json").write_text(content)
    write_merges(folder / "merges.txt", OTHER_MERGES)
    assert find_openai_tokenizer(77, tmp_path) is None


def write_model(folder, text_cfg=None):
    """Write an open_clip folder with a CLIP text tower of the full vocabulary and no tokenizer."""
    text = TextConfig(width=8, layers=1, heads=1, vocab_size=49_408, context_length=16)
    vision = VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16)
    config = ModelConfig(embed_dim=8, image_size=32, vision=vision, text=text)
    torch.manual_seed(0)
    tensors = published_state_dict(CLIP(config))
    write_open_clip(folder, config=config, tensors=tensors, preprocess=Preprocess(image_size=32), tokenizer=None)
    path = folder / "open_clip_config.json"
    raw = json.loads(path.read_text())
    del raw["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    raw["model_cfg"]["text_cfg"] |= text_cfg or {}
    path.write_text(json.dumps(raw))


def test_a_model_without_tokenizer_files_reads_texts_with_the_vocabulary_of_the_cache(tmp_path):
    write_model(tmp_path / "model")
    with pytest.raises(WeightsError, match=f"`{FETCH_COMMAND}`"):
        zebra.load(tmp_path / "model").encode_texts(["abc"])
    write_merges(snapshot(tmp_path) / "merges.txt")
    assert zebra.load(tmp_path / "model").encode_texts(["abc"]).shape == (1, 8)


def test_a_model_that_names_another_tokenizer_gets_no_vocabulary(tmp_path):
    write_model(tmp_path / "model", {"hf_tokenizer_name": "another/tokenizer"})
    write_merges(snapshot(tmp_path) / "merges.txt")
    assert zebra.load(tmp_path / "model").tokenizer is None
