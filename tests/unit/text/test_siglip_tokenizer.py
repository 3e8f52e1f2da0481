"""SigLIP's tokenizers: encoding, files and unsupported files."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from zebra.errors import ConfigError, DataError, WeightsError
from zebra.text import BPETokenizer, SiglipTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyzσς"


def unigram() -> tokenizers.Tokenizer:
    """Build a vocabulary like T5's: ids 0 <pad>, 1 </s>, 2 <unk>, then the space and letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("▁", -2.0), ("▁zebra", -1.0)]
    backend = tokenizers.Tokenizer(models.Unigram([*pieces, *((letter, -3.0) for letter in LETTERS)], unk_id=2))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return backend


def bpe(byte_fallback: bool = True) -> tokenizers.Tokenizer:
    """Build a vocabulary like Gemma's: ids 0 <pad>, 1 <eos>, 2 <bos>, 3 <unk>, then bytes, the space and letters."""
    symbols = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS]
    vocab = {symbol: index for index, symbol in enumerate(symbols)}
    backend = tokenizers.Tokenizer(models.BPE(vocab, [], unk_token="<unk>", fuse_unk=True, byte_fallback=byte_fallback))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    return backend


@pytest.fixture
def siglip(tmp_path: Path) -> SiglipTokenizer:
    unigram().save(str(tmp_path / "tokenizer.json"))
    return SiglipTokenizer.load(tmp_path, 8)


@pytest.fixture
def siglip2(tmp_path: Path) -> SiglipTokenizer:
    bpe().save(str(tmp_path / "tokenizer.json"))
    return SiglipTokenizer.load(tmp_path, 8)


def rows(tokenizer: SiglipTokenizer, *texts: str) -> list[list[int]]:
    ids: list[list[int]] = tokenizer.encode(texts, truncate=True).ids.tolist()
    return ids


# Encoding


def test_siglip_ends_and_pads_with_the_same_token(siglip: SiglipTokenizer) -> None:
    assert rows(siglip, "Zebra!", "") == [[4, 1, 1, 1, 1, 1, 1, 1], [1] * 8]
    assert (siglip.eos_token_id, siglip.pad_token_id) == (1, 1)


def test_siglip2_ends_with_eos_pads_with_pad_and_lower_cases(siglip2: SiglipTokenizer) -> None:
    a = siglip2._backend.token_to_id("a")
    assert rows(siglip2, "A", "") == [[a, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert (siglip2.eos_token_id, siglip2.pad_token_id) == (1, 0)


def test_lengths_include_the_end_token_but_no_padding(siglip: SiglipTokenizer) -> None:
    encoded = siglip.encode(["zebra", "", "zebra zebra"], truncate=False)
    assert encoded.ids.dtype == encoded.lengths.dtype == np.int64
    assert encoded.lengths.tolist() == [2, 1, 3]


def test_truncation_keeps_the_start_and_the_end_token(siglip: SiglipTokenizer) -> None:
    encoded = siglip.encode(["zebra " * 7, "zebra " * 8], truncate=True)
    assert encoded.ids.tolist() == [[4] * 7 + [1]] * 2
    assert encoded.num_truncated == 1


def test_a_text_that_is_too_long_is_refused_without_truncation(siglip: SiglipTokenizer) -> None:
    with pytest.raises(DataError, match=r"texts\[1\] 'zebra .* has 9 tokens, more than the context of 8"):
        siglip.encode(["zebra", "zebra " * 8], truncate=False)


def test_no_texts_give_no_rows(siglip: SiglipTokenizer) -> None:
    assert siglip.encode([], truncate=False).ids.shape == (0, 8)


def test_a_bare_string_is_refused(siglip: SiglipTokenizer) -> None:
    with pytest.raises(ConfigError, match="pass a list"):
        siglip.encode("zebra", truncate=True)


def test_the_text_of_a_control_token_is_ordinary_text(siglip2: SiglipTokenizer) -> None:
    (row,) = rows(siglip2, "<eos>")
    assert row.index(1) == 5
    assert row[:5] == [siglip2._backend.token_to_id(symbol) for symbol in ("<0x3C>", "e", "o", "s", "<0x3E>")]


@pytest.mark.parametrize("text", ["half \ud83d", "\udc00"])
def test_a_lone_surrogate_is_replaced(siglip2: SiglipTokenizer, text: str) -> None:
    replaced = text.replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd")
    assert rows(siglip2, text) == rows(siglip2, replaced)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_gives_the_same_ids(
    siglip: SiglipTokenizer, duplicate: Callable[[SiglipTokenizer], SiglipTokenizer]
) -> None:
    texts = ["</s> zebra", "ΟΣ!", "a_b"]
    assert rows(duplicate(siglip), *texts) == rows(siglip, *texts)


# Files


def test_the_saved_file_contains_every_rule(siglip: SiglipTokenizer, tmp_path: Path) -> None:
    siglip.save(tmp_path / "saved.json")
    document = json.loads((tmp_path / "saved.json").read_text(encoding="utf-8"))
    assert document["truncation"]["max_length"] == document["padding"]["strategy"]["Fixed"] == 8
    assert (document["padding"]["pad_id"], document["padding"]["direction"]) == (1, "Right")
    steps = [step["type"] for step in document["normalizer"]["normalizers"]]
    assert steps == ["Lowercase", "Replace", "Replace", "Strip", "NFKC"]
    assert document["post_processor"]["single"][1]["SpecialToken"]["id"] == "</s>"


@pytest.mark.parametrize("cleaning", ["lower", "whitespace", "canonicalize", "siglip"])
def test_the_cleaning_is_recognized_in_the_saved_file(cleaning: str, tmp_path: Path) -> None:
    """The normalizer of the file would lower-case a final sigma differently."""
    tokenizer = SiglipTokenizer(unigram(), 8, eos_token="</s>", pad_token="</s>", cleaning=cleaning)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = SiglipTokenizer.load(tmp_path, 8)
    assert loaded._cleaning == cleaning
    assert loaded.fingerprint == tokenizer.fingerprint
    assert rows(loaded, "ΣΣ a&amp;b_c") == rows(tokenizer, "ΣΣ a&amp;b_c")


def test_equal_tokenizers_give_equal_files(siglip: SiglipTokenizer, tmp_path: Path) -> None:
    siglip.save(tmp_path / "one.json")
    SiglipTokenizer.load(tmp_path / "one.json", 8).save(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@pytest.mark.parametrize("token", ["<pad>", {"content": "<pad>", "lstrip": True}])
def test_tokenizer_config_json_sets_the_padding(token: object, tmp_path: Path) -> None:
    unigram().save(str(tmp_path / "tokenizer.json"))
    config = json.dumps({"pad_token": token, "padding_side": "left"})
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    assert rows(SiglipTokenizer.load(tmp_path, 4), "zebra") == [[0, 0, 4, 1]]


def test_padding_in_the_tokenizer_file_has_priority(tmp_path: Path) -> None:
    SiglipTokenizer(unigram(), 6, eos_token="</s>", pad_token="<pad>").save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "</s>"}', encoding="utf-8")
    assert rows(SiglipTokenizer.load(tmp_path, 4), "zebra") == [[4, 1, 0, 0]]


def write_open_clip_dir(directory: Path, text: object) -> None:
    bpe().save(str(directory / "tokenizer.json"))
    config = json.dumps({"model_cfg": {"text_cfg": text}})
    (directory / "open_clip_config.json").write_text(config, encoding="utf-8")


def test_open_clip_config_json_sets_the_cleaning(tmp_path: Path) -> None:
    write_open_clip_dir(tmp_path, {"tokenizer_kwargs": {"clean": "canonicalize"}})
    tokenizer = SiglipTokenizer.load(tmp_path, 8)
    assert rows(tokenizer, "A_b!") == rows(tokenizer, "a b")


def test_open_clip_keeps_the_case_by_default(tmp_path: Path) -> None:
    write_open_clip_dir(tmp_path, {})
    tokenizer = SiglipTokenizer.load(tmp_path, 8)
    assert rows(tokenizer, "A") != rows(tokenizer, "a")
    assert rows(tokenizer, " a  b") == rows(tokenizer, "a b")


def test_an_unknown_cleaning_of_open_clip_is_refused(tmp_path: Path) -> None:
    write_open_clip_dir(tmp_path, {"tokenizer_kwargs": {"clean": "scrub"}})
    with pytest.raises(WeightsError, match=r"open_clip_config\.json: .*'scrub'; zebra knows canonicalize"):
        SiglipTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("{"), r"tokenizer\.json is not a tokenizer\.json"),
        (lambda path: path.write_text("[]"), r"tokenizer\.json is not a tokenizer\.json"),
        (lambda path: None, r"tokenizer file not found: .*tokenizer\.json"),
        (lambda path: bpe(byte_fallback=False).save(str(path)), "unsupported BPE tokenizer"),
        (
            lambda path: tokenizers.Tokenizer(models.WordLevel({"a": 0})).save(str(path)),
            "unsupported WordLevel tokenizer",
        ),
        (
            lambda path: tokenizers.Tokenizer(models.Unigram([("a", -1.0)], unk_id=0)).save(str(path)),
            "tokenizer.json: the vocabulary lacks '</s>'",
        ),
    ],
)
def test_an_unsupported_file_is_named_in_the_error(
    write: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "tokenizer.json")
    with pytest.raises(WeightsError, match=message):
        SiglipTokenizer.load(tmp_path)


def test_an_unknown_padding_side_is_refused(tmp_path: Path) -> None:
    unigram().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"padding_side": "middle"}', encoding="utf-8")
    with pytest.raises(WeightsError, match="side 'middle'"):
        SiglipTokenizer.load(tmp_path)


def test_a_context_without_room_for_the_end_token_is_refused(tmp_path: Path) -> None:
    unigram().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="context_length is 0"):
        SiglipTokenizer.load(tmp_path, 0)


def test_vocab_size_is_the_highest_id_plus_one(siglip: SiglipTokenizer, siglip2: SiglipTokenizer) -> None:
    assert (siglip.vocab_size, siglip2.vocab_size) == (5 + len(LETTERS), 261 + len(LETTERS))


def test_a_clip_tokenizer_is_refused(tmp_path: Path) -> None:
    BPETokenizer([]).save(tmp_path / "tokenizer.json")
    with pytest.raises(WeightsError, match="unsupported BPE tokenizer"):
        SiglipTokenizer.load(tmp_path)
