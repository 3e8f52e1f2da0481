"""Tokens without meaning and truncated texts are counted as the tokenizers produce them."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tests.tiny_model import build_siglip2_tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from zebra.errors import ConfigError
from zebra.text import BPETokenizer, load_tokenizer
from zebra.text.vocabulary import byte_values


@pytest.fixture(scope="module")
def clip() -> BPETokenizer:
    return BPETokenizer.train(["a photo of a horse", "ein Pferd in Köln"] * 5, 560, 8)


def load(folder: Path, backend: tokenizers.Tokenizer, context_length: int = 8):
    backend.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder / "tokenizer.json", context_length)


def test_a_byte_symbol_stands_for_the_byte_that_the_decoder_gives() -> None:
    values = byte_values()
    assert sorted(values.values()) == list(range(256))
    for character in "a ä д 写":
        symbols = [symbol for byte in character.encode() for symbol, value in values.items() if value == byte]
        assert decoders.ByteLevel().decode(symbols) == character


def test_clip_knows_the_words_it_was_trained_on(clip: BPETokenizer) -> None:
    counts = clip.count_tokens(["a photo of a horse"])
    assert (counts.num_unknown, counts.num_fragments) == (0, 0)
    assert counts.describe_coverage() == counts.describe_truncation() == ()


def test_clip_has_only_parts_of_characters_for_an_unknown_script(clip: BPETokenizer) -> None:
    counts = clip.count_tokens(["写真"])  # three bytes each
    assert (counts.num_tokens, counts.num_fragments) == (6, 6)
    assert counts.describe_coverage("zh")[0].startswith("zh: 100% of the tokens are parts of characters")


def test_a_merged_character_is_no_part_of_one(clip: BPETokenizer) -> None:
    assert clip.count_tokens(["Köln"]).num_fragments == 0


def test_lengths_equal_those_of_the_encoding(clip: BPETokenizer) -> None:
    texts = ["a horse", "", "a photo"]
    counts = clip.count_tokens(texts)
    assert np.array_equal(counts.lengths, clip.encode(texts, truncate=False).lengths)


def test_tokens_over_the_context_are_lost(clip: BPETokenizer) -> None:
    counts = clip.count_tokens(["a photo", "a photo of a horse in a photo of a horse"])
    assert (
        counts.num_truncated == clip.encode(["a photo of a horse in a photo of a horse"], truncate=True).num_truncated
    )
    assert counts.num_lost == counts.lengths.max() - 8 > 0
    assert "1 of 2 texts are longer than the context of 8 tokens" in counts.describe_truncation()[0]


def test_no_texts_have_no_tokens(clip: BPETokenizer) -> None:
    counts = clip.count_tokens([])
    assert (counts.num_tokens, counts.num_truncated, counts.describe_coverage()) == (0, 0, ())


def test_a_single_string_is_refused(clip: BPETokenizer) -> None:
    with pytest.raises(ConfigError, match="pass a list"):
        clip.count_tokens("a horse")


def test_fallback_bytes_are_parts_of_characters() -> None:
    counts = build_siglip2_tokenizer().count_tokens(["Ä"])
    assert (counts.num_tokens, counts.num_fragments) == (2, 2)


def test_a_word_piece_vocabulary_counts_unknown_words(tmp_path: Path) -> None:
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "zebra"])}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    counts = load(tmp_path, backend).count_tokens(["zebra зебра", "zebra"])
    assert (counts.num_tokens, counts.num_unknown, counts.num_fragments) == (3, 1, 0)


def test_a_unigram_vocabulary_counts_unknown_characters(tmp_path: Path) -> None:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁zebra", "▁"]
    backend = tokenizers.Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    backend.add_special_tokens(pieces[:4])
    counts = load(tmp_path, backend).count_tokens(["zebra зебра"])
    assert counts.num_unknown == 1
    assert "33% of the tokens are unknown" in counts.describe_coverage()[0]


def test_a_byte_level_vocabulary_counts_parts_of_characters(tmp_path: Path) -> None:
    symbols = ["<s>", "<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    model = models.BPE({symbol: index for index, symbol in enumerate(symbols)}, [])
    model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}', encoding="utf-8")
    counts = load_tokenizer(tmp_path / "vocab.json", 8).count_tokens(["aд"])
    assert (counts.num_tokens, counts.num_fragments) == (3, 2)
