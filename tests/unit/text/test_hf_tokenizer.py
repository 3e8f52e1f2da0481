"""Tokenizers of Hugging Face's library: rows, files, settings beside the files and unsupported files."""

import copy
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from zebra.errors import ConfigError, DataError, WeightsError
from zebra.text import BPETokenizer, HFTokenizer, SiglipTokenizer, Tokenizer, find_tokenizer, load_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "zebra", "##s", "Zebra", "é", "e", "!"]
XLMR_PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁zebra", "s", "▁"]
BERT_ENDS = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))


def write_bert(folder: Path, **options: Any) -> Path:
    """Write a tokenizer.json of BERT."""
    vocab = {token: index for index, token in enumerate(BERT_TOKENS)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(**options)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = BERT_ENDS
    backend.add_special_tokens(BERT_TOKENS[:4])
    return write(folder, backend)


def write_xlmr(folder: Path, pieces: Sequence[str] = XLMR_PIECES) -> Path:
    """Write a tokenizer.json of XLM-R."""
    backend = tokenizers.Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    backend.add_special_tokens(list(pieces[:4]))
    return write(folder, backend)


def byte_level(
    merges: Sequence[tuple[str, str]] = (), specials: Sequence[str] = ("<s>", "<pad>", "</s>")
) -> models.BPE:
    symbols = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    return models.BPE({symbol: index for index, symbol in enumerate(symbols)}, list(merges))


def write_roberta_files(folder: Path) -> None:
    """Write vocab.json and merges.txt of RoBERTa."""
    byte_level([("z", "e"), ("Ġ", "ze")]).save(str(folder))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}', encoding="utf-8")


def write(folder: Path, backend: tokenizers.Tokenizer) -> Path:
    backend.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def write_settings(folder: Path, name: str = "tokenizer_config.json", **values: Any) -> None:
    (folder / name).write_text(json.dumps(values), encoding="utf-8")


def write_open_clip(folder: Path, **text_cfg: Any) -> None:
    write_settings(folder, "open_clip_config.json", model_cfg={"text_cfg": text_cfg})


def open_folder(folder: Path, context_length: int = 6) -> HFTokenizer:
    tokenizer = find_tokenizer(folder, context_length)
    assert type(tokenizer) is HFTokenizer
    return tokenizer


def rows(tokenizer: Tokenizer, *texts: str) -> list[list[int]]:
    ids: list[list[int]] = tokenizer.encode(texts, truncate=True).ids.tolist()
    return ids


@pytest.fixture
def bert(tmp_path: Path) -> HFTokenizer:
    write_bert(tmp_path)
    return open_folder(tmp_path)


# Rows


def test_bert_adds_start_end_and_padding(bert: HFTokenizer) -> None:
    assert rows(bert, "zebras!", "") == [[2, 4, 5, 9, 3, 0], [2, 3, 0, 0, 0, 0]]


def test_xlm_roberta_pads_with_one(tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    assert rows(open_folder(tmp_path), "zebras") == [[0, 4, 5, 2, 1, 1]]


def test_roberta_encodes_bytes_between_start_and_end(tmp_path: Path) -> None:
    write_roberta_files(tmp_path)
    tokenizer = open_folder(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert rows(tokenizer, "ze ze") == [[0, vocab["ze"], vocab["Ġze"], 2, 1, 1]]


def test_truncation_keeps_the_start_and_the_end(bert: HFTokenizer) -> None:
    encoded = bert.encode(["zebra " * 4, "zebra " * 5], truncate=True)
    assert encoded.ids.tolist() == [[2, 4, 4, 4, 4, 3]] * 2
    assert encoded.num_truncated == 1


def test_a_text_that_is_too_long_is_refused_without_truncation(bert: HFTokenizer) -> None:
    with pytest.raises(DataError, match=r"texts\[1\] 'zebra .* has 7 tokens, more than the context of 6"):
        bert.encode(["zebra", "zebra " * 5], truncate=False)


def test_lengths_include_start_and_end_but_no_padding(bert: HFTokenizer) -> None:
    encoded = bert.encode(["zebras", "", "!"], truncate=False)
    assert encoded.ids.dtype == encoded.lengths.dtype == np.int64
    assert encoded.lengths.tolist() == [4, 2, 3]


def test_no_texts_give_no_rows(bert: HFTokenizer) -> None:
    assert bert.encode([], truncate=False).ids.shape == (0, 6)


def test_the_text_of_a_control_token_is_ordinary_text(bert: HFTokenizer) -> None:
    assert rows(bert, "[SEP]") == [[2, 1, 1, 1, 3, 0]]


@pytest.mark.parametrize("text", ["</s>", "zebra</s>", "<pad> <s>", "<unk>"])
def test_the_text_of_a_control_token_is_unknown_to_unigram(text: str, tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    (row,) = open_folder(tmp_path).encode([text], truncate=True).ids.tolist()
    length = row.index(2) + 1
    assert row[0] == 0
    assert set(row[1 : length - 1]) <= {3, 4, 6}
    assert row[length:] == [1] * (6 - length)


def test_a_context_without_room_for_start_and_end_is_refused(tmp_path: Path) -> None:
    write_bert(tmp_path)
    with pytest.raises(ConfigError, match="context_length is 1; it must be at least 2"):
        find_tokenizer(tmp_path, 1)


def test_the_vocabulary_size_is_the_highest_id_plus_one(bert: HFTokenizer) -> None:
    assert (bert.vocab_size, bert.context_length, bert.pad_token_id) == (len(BERT_TOKENS), 6, 0)


WILD_CHARACTERS = st.characters() | st.sampled_from("\ud83d\udc00\x00\u200d\ufeff")
WILD_TEXTS = st.lists(WILD_CHARACTERS | st.sampled_from(["[SEP]", "[PAD]", "</s>", "<pad>"]), max_size=40).map("".join)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> list[HFTokenizer]:
    """Return a tokenizer of each kind of vocabulary."""
    folders = [tmp_path_factory.mktemp(name) for name in ("bert", "xlmr", "roberta")]
    write_bert(folders[0])
    write_xlmr(folders[1])
    write_roberta_files(folders[2])
    return [open_folder(folder) for folder in folders]


@given(st.lists(WILD_TEXTS, max_size=5))
def test_any_text_gives_a_row_with_start_and_end(families: list[HFTokenizer], texts: list[str]) -> None:
    for tokenizer in families:
        encoded = tokenizer.encode(texts, truncate=True)
        (start,), (end,) = tokenizer.template.prefix, tokenizer.template.suffix
        assert encoded.ids.shape == (len(texts), 6)
        for row, length in zip(encoded.ids, encoded.lengths, strict=True):
            assert (row[0], row[length - 1]) == (start[1], end[1])
            assert not {end[1], tokenizer.pad_token_id} & set(row[1 : length - 1].tolist())
            assert (row[length:] == tokenizer.pad_token_id).all()


@pytest.mark.parametrize("unit", ["a", "zebra ", "é", "\x00", "🦓"])
def test_a_text_of_100_000_characters_is_truncated(families: list[HFTokenizer], unit: str) -> None:
    for tokenizer in families:
        encoded = tokenizer.encode([unit * (100_000 // len(unit))], truncate=True)
        assert encoded.ids.shape == (1, 6)


# Saved files


@pytest.mark.parametrize("cleaning", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("write_files", [write_bert, write_xlmr, write_roberta_files])
def test_a_saved_tokenizer_loads_as_an_equal_one(
    write_files: Callable[[Path], object], cleaning: str, tmp_path: Path
) -> None:
    write_files(tmp_path)
    write_open_clip(tmp_path, tokenizer_kwargs={"clean": cleaning})
    tokenizer = open_folder(tmp_path)
    (tmp_path / "saved").mkdir()
    tokenizer.save(tmp_path / "saved/tokenizer.json")
    loaded = open_folder(tmp_path / "saved")
    texts = ["A  Zebra's_ΟΔΟΣ &amp; é!", "zebra " * 9, ""]
    assert rows(loaded, *texts) == rows(tokenizer, *texts)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.template, loaded._cleaning) == (tokenizer.template, cleaning)


def test_the_cleaning_of_a_tokenizer_that_lower_cases_survives_saving(tmp_path: Path) -> None:
    """The steps of "whitespace" and Lowercase are those of "lower", which treats a final sigma differently."""
    write_xlmr(tmp_path, [*XLMR_PIECES, "σ", "ς"])
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.normalizer = normalizers.Lowercase()
    write(tmp_path, backend)
    write_open_clip(tmp_path)
    tokenizer = open_folder(tmp_path)
    (tmp_path / "saved").mkdir()
    tokenizer.save(tmp_path / "saved/tokenizer.json")
    loaded = open_folder(tmp_path / "saved")
    assert rows(loaded, "ΣΣ") == rows(tokenizer, "ΣΣ")
    assert loaded.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_gives_the_same_ids(bert: HFTokenizer, duplicate: Callable[[HFTokenizer], HFTokenizer]) -> None:
    assert rows(duplicate(bert), "zebras [SEP]") == rows(bert, "zebras [SEP]")


def test_tokenizers_with_other_rules_have_other_fingerprints(tmp_path: Path) -> None:
    write_bert(tmp_path)
    plain = open_folder(tmp_path).fingerprint
    write_settings(tmp_path, do_lower_case=False)
    cased = open_folder(tmp_path).fingerprint
    write_open_clip(tmp_path, tokenizer_kwargs={"strip_sep_token": True})
    assert len({plain, cased, open_folder(tmp_path).fingerprint, open_folder(tmp_path, 7).fingerprint}) == 4


# Files and the settings beside them


def test_vocab_txt_is_read_as_bert(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\r\n".join([*BERT_TOKENS, ""]), encoding="utf-8", newline="")
    expected = [[2, 4, 5, 9, 3, 0]]
    assert rows(open_folder(tmp_path), "ZEBRAS!") == expected
    assert rows(load_tokenizer(tmp_path / "vocab.txt", 6), "ZEBRAS!") == expected


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, [4, 8]),
        ({"do_lower_case": False}, [6, 7]),
        ({"do_lower_case": False, "strip_accents": True}, [6, 8]),
        ({"strip_accents": False}, [4, 7]),
        ({"tokenizer_class": "BertTokenizerFast"}, [4, 8]),
        ({"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False}, [4, 8]),
    ],
)
def test_tokenizer_config_json_sets_the_case_and_the_accents_of_bert(
    settings: Mapping[str, Any], ids: list[int], tmp_path: Path
) -> None:
    write_bert(tmp_path)
    write_settings(tmp_path, **settings)
    assert rows(open_folder(tmp_path), "Zebra é") == [[2, *ids, 3, 0, 0]]


def test_chinese_characters_are_words_unless_tokenizer_config_json_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*BERT_TOKENS, "斑", "##马", "马"]), encoding="utf-8")
    assert rows(open_folder(tmp_path), "斑马") == [[2, 10, 12, 3, 0, 0]]
    write_settings(tmp_path, tokenize_chinese_chars=False)
    assert rows(open_folder(tmp_path), "斑马") == [[2, 10, 11, 3, 0, 0]]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("token", ["[UNK]", {"content": "[UNK]", "lstrip": False}])
def test_the_files_beside_it_name_the_padding_token(name: str, token: object, tmp_path: Path) -> None:
    write_bert(tmp_path)
    write_settings(tmp_path, name, pad_token=token)
    assert rows(open_folder(tmp_path), "zebra") == [[2, 4, 3, 1, 1, 1]]


def test_padding_may_be_on_the_left(tmp_path: Path) -> None:
    write_bert(tmp_path)
    write_settings(tmp_path, padding_side="left")
    assert rows(open_folder(tmp_path), "zebra") == [[0, 0, 0, 2, 4, 3]]


def test_roberta_adds_a_space_before_the_first_word_only_on_request(tmp_path: Path) -> None:
    write_roberta_files(tmp_path)
    without = rows(open_folder(tmp_path), "ze")
    write_settings(tmp_path, tokenizer_class="RobertaTokenizer", add_prefix_space=True)
    assert rows(open_folder(tmp_path), "ze") != without
    assert rows(open_folder(tmp_path), "ze") == rows(open_folder(tmp_path), " ze")


@pytest.mark.parametrize(
    ("settings", "ids"),
    [({}, [7, 4, 2]), ({"src_lang": "fra_Latn"}, [8, 4, 2]), ({"legacy_behaviour": True}, [4, 2, 7])],
)
def test_nllb_adds_the_language(settings: Mapping[str, Any], ids: list[int], tmp_path: Path) -> None:
    write_xlmr(tmp_path, [*XLMR_PIECES, "eng_Latn", "fra_Latn"])
    write_settings(tmp_path, tokenizer_class="NllbTokenizerFast", **settings)
    assert rows(open_folder(tmp_path), "zebra") == [[*ids, 1, 1, 1]]


@pytest.mark.parametrize("tokenizer_class", ["NllbTokenizer", "XLMRobertaTokenizer"])
def test_the_language_of_open_clip_which_has_no_effect_there_is_refused(tokenizer_class: str, tmp_path: Path) -> None:
    write_xlmr(tmp_path, [*XLMR_PIECES, "eng_Latn", "fra_Latn"])
    write_settings(tmp_path, tokenizer_class=tokenizer_class)
    write_open_clip(tmp_path, tokenizer_kwargs={"language": "fra_Latn"})
    with pytest.raises(WeightsError, match="language is 'fra_Latn', which open_clip does not apply"):
        find_tokenizer(tmp_path, 6)


def test_the_language_of_open_clip_may_be_that_of_the_tokenizer(tmp_path: Path) -> None:
    write_xlmr(tmp_path, [*XLMR_PIECES, "eng_Latn"])
    write_settings(tmp_path, tokenizer_class="NllbTokenizer")
    write_open_clip(tmp_path, tokenizer_kwargs={"language": "eng_Latn"})
    assert rows(open_folder(tmp_path), "zebra") == [[7, 4, 2, 1, 1, 1]]


def test_a_language_that_the_vocabulary_lacks_is_refused(tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    write_settings(tmp_path, tokenizer_class="NllbTokenizer")
    with pytest.raises(WeightsError, match="lacks 'eng_Latn'"):
        find_tokenizer(tmp_path, 6)


def test_a_stripped_separator_is_zero_and_saved(tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    write_open_clip(tmp_path, hf_tokenizer_name="x", tokenizer_kwargs={"strip_sep_token": True})
    tokenizer = open_folder(tmp_path)
    assert rows(tokenizer, "zebra", "zebra " * 9) == [[0, 4, 0, 1, 1, 1], [0, 4, 4, 4, 4, 0]]
    (tmp_path / "saved").mkdir()
    tokenizer.save(tmp_path / "saved/tokenizer.json")
    assert open_folder(tmp_path / "saved").fingerprint == tokenizer.fingerprint


def test_the_model_says_how_texts_are_cleaned_if_the_tokenizer_is_from_another_folder(tmp_path: Path) -> None:
    for name in ("model", "tokenizer"):
        (tmp_path / name).mkdir()
    write_bert(tmp_path / "tokenizer")
    write_open_clip(tmp_path / "model", tokenizer_kwargs={"clean": "canonicalize"})
    tokenizer = find_tokenizer(tmp_path / "tokenizer", 6, tmp_path / "model")
    assert tokenizer is not None
    assert rows(tokenizer, "zebra!") == [[2, 4, 3, 0, 0, 0]]


@pytest.mark.parametrize(("pad", "kind"), [("<pad>", HFTokenizer), ("</s>", SiglipTokenizer)])
def test_siglip_is_told_from_t5_by_the_padding_token(pad: str, kind: type[HFTokenizer], tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(models.Unigram([(p, -1.0) for p in ("<pad>", "</s>", "<unk>", "▁Z")], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    write(tmp_path, backend)
    write_settings(tmp_path, tokenizer_class="T5Tokenizer", eos_token="</s>", pad_token=pad)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json", 4)
    assert type(tokenizer) is kind
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").unlink()
    assert type(load_tokenizer(tmp_path / "tokenizer.json", 4)) is kind


def test_the_post_processor_may_have_several_steps(tmp_path: Path) -> None:
    path = write_bert(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(path))
    backend.post_processor = processors.Sequence([processors.ByteLevel(), BERT_ENDS])
    write(tmp_path, backend)
    assert rows(open_folder(tmp_path), "zebra") == [[2, 4, 3, 0, 0, 0]]


def test_clip_files_are_not_read_as_roberta(tmp_path: Path) -> None:
    clip = BPETokenizer([("z", "e")], 16)
    vocab = {symbol: index for index, symbol in enumerate(clip._symbols)}
    write_settings(tmp_path, "vocab.json", **vocab)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nz e\n", encoding="utf-8")
    assert isinstance(find_tokenizer(tmp_path, 16), BPETokenizer)


@pytest.mark.parametrize(
    "text_cfg",
    [
        {"tokenizer_kwargs": {"clean": "canonicalize"}},
        {"tokenizer_kwargs": {"clean": "whitespace"}},
        {"tokenizer_kwargs": {"strip_sep_token": True}},
        {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"language": "eng_Latn"}},
    ],
)
def test_rules_that_the_tokenizer_of_clip_does_not_follow_are_refused(
    text_cfg: Mapping[str, Any], tmp_path: Path
) -> None:
    BPETokenizer([], 16).save(tmp_path / "tokenizer.json")
    write_open_clip(tmp_path, **text_cfg)
    with pytest.raises(WeightsError, match=r"open_clip_config\.json: tokenizer_kwargs are not supported for CLIP's"):
        find_tokenizer(tmp_path, 16)


@pytest.mark.parametrize(
    "text_cfg",
    [
        {},
        {"tokenizer_kwargs": {"clean": "lower"}},
        {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "whitespace"}},
    ],
)
def test_rules_that_the_tokenizer_of_clip_follows_are_accepted(text_cfg: Mapping[str, Any], tmp_path: Path) -> None:
    BPETokenizer([], 16).save(tmp_path / "tokenizer.json")
    write_open_clip(tmp_path, **text_cfg)
    assert isinstance(find_tokenizer(tmp_path, 16), BPETokenizer)


# Unsupported files


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update(normalizer={"type": "Fancy"}), "normalizer.type is 'Fancy', which the installed"),
        (
            lambda file: file.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "X"}]}),
            "normalizer.type is 'X'",
        ),
        (lambda file: file.update(pre_tokenizer={"type": "Jieba"}), "pre_tokenizer.type is 'Jieba'"),
        (lambda file: file.update(post_processor={"type": "Y"}), "post_processor.type is 'Y'"),
        (lambda file: file["model"].update(type="Neural"), "model.type is 'Neural'"),
        (lambda file: file["model"]["vocab"].pop("[UNK]"), "no token for unknown characters .*UNK"),
        (lambda file: (file["model"]["vocab"].pop("[PAD]"), file["added_tokens"].pop(0)), "has no pad_token"),
        (
            lambda file: file.update(model={"type": "WordLevel", "vocab": {"[UNK]": 1}, "unk_token": "[UNK]"}),
            "unsupported WordLevel tokenizer",
        ),
        (
            lambda file: file.update(
                post_processor={
                    "type": "TemplateProcessing",
                    "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2,
                    "pair": [],
                    "special_tokens": {},
                }
            ),
            "unsupported post_processor",
        ),
    ],
)
def test_an_unsupported_part_of_the_file_is_named(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    write_bert(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(WeightsError, match=message):
        find_tokenizer(tmp_path, 6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.Unigram([("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("a", -1.0)]), "unk_id. is missing"),
        (models.BPE({"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3}, []), "unknown characters such as '𐌰'"),
        (models.BPE({"<s>": 0, "a": 1}, [], unk_token="<unk>"), "Unk token `<unk>` not found"),
        (models.BPE({"<s>": 0, "a": 1}, [], unk_token="a", dropout=0.1), r"model\.dropout is 0\.1"),
    ],
)
def test_a_vocabulary_that_would_lose_characters_is_refused(model: Any, message: str, tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(model)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    write(tmp_path, backend)
    with pytest.raises(WeightsError, match=message):
        find_tokenizer(tmp_path, 6)


def test_a_byte_level_vocabulary_without_some_byte_is_refused(tmp_path: Path) -> None:
    write_roberta_files(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    del vocab["ÿ"]
    write_settings(tmp_path, "vocab.json", **vocab)
    with pytest.raises(WeightsError, match=r"vocab\.json has no token for unknown characters such as 'ÿ'"):
        find_tokenizer(tmp_path, 6)


@pytest.mark.parametrize("merges", ["z\n", "z e b\n", "z q\n"])
def test_merges_that_do_not_match_the_vocabulary_are_refused(merges: str, tmp_path: Path) -> None:
    write_roberta_files(tmp_path)
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"merges\.txt are not a vocabulary and its merges"):
        find_tokenizer(tmp_path, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncation_side": "left"}, "truncation_side is 'left'"),
        ({"padding_side": "middle"}, "padding side 'middle'"),
        ({"pad_token": "[NOTHING]"}, r"lacks '\[NOTHING\]'"),
        ({"add_eos_token": False}, "add_eos_token is False"),
        ({"tokenizer_class": "XLMRobertaTokenizer", "add_prefix_space": False}, "add_prefix_space is False"),
    ],
)
def test_an_unsupported_setting_is_named(settings: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    write_bert(tmp_path)
    write_settings(tmp_path, **settings)
    with pytest.raises(WeightsError, match=message):
        find_tokenizer(tmp_path, 6)


@pytest.mark.parametrize(
    ("text_cfg", "message"),
    [
        ({"tokenizer_kwargs": {"clean": "scrub"}}, "clean is 'scrub'; zebra knows canonicalize"),
        ({"tokenizer_kwargs": {"add_eos_token": True}}, "tokenizer_kwargs.add_eos_token is True"),
        ({"tokenizer_mode": "clips"}, "tokenizer_mode is 'clips'"),
    ],
)
def test_an_unknown_rule_of_open_clip_is_named(text_cfg: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    write_bert(tmp_path)
    write_open_clip(tmp_path, **text_cfg)
    with pytest.raises(WeightsError, match=message):
        find_tokenizer(tmp_path, 6)


SETTINGS = [
    "tokenizer_class", "do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space", "pad_token",
    "sep_token", "cls_token", "unk_token", "src_lang", "legacy_behaviour", "padding_side", "truncation_side",
    "add_bos_token",
]  # fmt: skip


@pytest.mark.parametrize("junk", ["x", [], {}, -1, 0, 1.5, True, [1, 2], 10**30, {"content": 3}, "a" * 1000])
def test_invalid_settings_are_refused_or_ignored(junk: object, tmp_path: Path) -> None:
    for name, write_files in (("bert", write_bert), ("xlmr", write_xlmr), ("roberta", write_roberta_files)):
        folder = tmp_path / name
        folder.mkdir()
        write_files(folder)
        for setting in SETTINGS:
            for tokenizer_class in (None, "NllbTokenizer", "RobertaTokenizer"):
                settings: dict[str, Any] = {"tokenizer_class": tokenizer_class, setting: junk}
                (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
                open_or_refuse(folder)
        (folder / "tokenizer_config.json").unlink()
        for config in ({"model_cfg": junk}, {"model_cfg": {"text_cfg": junk}}):
            (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
            open_or_refuse(folder)
        for setting in ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode"):
            write_open_clip(folder, **{setting: junk})
            open_or_refuse(folder)
        for setting in ("clean", "strip_sep_token", "language"):
            write_open_clip(folder, tokenizer_kwargs={setting: junk})
            open_or_refuse(folder)


def open_or_refuse(folder: Path) -> None:
    try:
        tokenizer = find_tokenizer(folder, 6)
    except WeightsError as error:
        assert str(folder) in str(error)
        assert len(str(error)) < 700
    else:
        assert tokenizer is not None
        tokenizer.encode(["zebra"], truncate=True)
