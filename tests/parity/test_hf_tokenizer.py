"""Token ids of BERT's, RoBERTa's, XLM-R's, T5's and NLLB's tokenizers, compared with transformers and open_clip.

References: transformers 5.24.0 (`AutoTokenizer`) and open_clip 3.3.0 (`HFTokenizer`, as its models configure it), each
padded and truncated to the context length.
The published vocabularies are not available offline. The tests train toy vocabularies of up to 3,000 ids with the same
library, layout, special tokens and normalizer. The real ones were not run.
Strings: 2,000 generated ones per family for transformers and 600 for open_clip, in ten scripts, with emoji, control
characters, white space and random code points. Tolerance: none, ids are integers.
Alphabet: without lone surrogates, for which the peers raise.
Deliberate difference: the text of a control token ("</s>", "[SEP]") is no control token here, so no string contains
one.
"""

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from zebra.pretrained.transformers.tokenizer import write_tokenizer
from zebra.text import HFTokenizer, find_tokenizer

LENGTH, NUM_IDS, NUM_TEXTS, NUM_OPEN_CLIP_TEXTS = 24, 3000, 2000, 600
SCRIPTS = {
    "Latin": "abcdefghijklmnopqrstuvwxyzABCDE",
    "accented": "aeiouàéîõüçñšłøÅÉß",
    "Cyrillic": "абвгдежзиклмнопрстуфхцчшыьэюяАБВГ",
    "Greek": "αβγδεζηθικλμνξοπρσςτυφχψωάέΣΩ",
    "Arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي\u064e\u0651",
    "Hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "Devanagari": "कखगघचजटडतदनपबमयरलवसहािीुे\u094d\u0902",
    "Thai": "กขคงจชดตทนบปพมยรลวสหอาิีุเแโ\u0e48\u0e49",
    "Hangul": "가나다라마바사아자차카타파하한국말",
    "Han and Kana": "斑马图片中国東京猫犬あいうえおかきくけこタワー",
}
ODDITIES = [
    "🦓", "👩‍👩‍👧", "🏳️‍🌈", "\x00", "\x1c", "\x85", "\ufeff", "\u200b", "\u200d", "\u00ad", "\u3000",
    "\u00a0", "\n", "\t", "  ", "\r\n", "&amp;", "&lt;b&gt;", "schÃ¶n", "don’t", "“A”", "x_y", "e\u0301", "ﬁ", "½",
    "①", "…", "—", "！", "▁", "##s", "Ġ", "İ", "ΟΔΟΣ", "ſ", "\u0345", "12,345.67", "http://a.b/c?d=e", "\ue000",
    "\U0010fffd", "<", ">", "[", "]", "a" * 120, "!!!", "'s", "ab" * 60,
]  # fmt: skip
SPECIALS = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "fairseq": ["<s>", "<pad>", "</s>", "<unk>"]}
Encode = Callable[[list[str]], list[list[int]]]


def draw_words(rng: random.Random) -> list[str]:
    """Draw 200 words of each script."""
    return ["".join(rng.choices(letters, k=rng.randint(1, 8))) for letters in SCRIPTS.values() for _ in range(200)]


def draw_text(rng: random.Random, words: list[str]) -> str:
    """Draw a text of words, oddities and random characters, joined by spaces or by nothing."""
    parts = []
    for _ in range(rng.choice([0, 1, 3, 8, 8, 20, 60])):
        kind = rng.random()
        if kind < 0.75:
            parts.append(rng.choice(words))
        elif kind < 0.9:
            parts.append(rng.choice(ODDITIES))
        else:
            code = rng.choice([rng.randrange(0x250), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])
            parts.append(chr(code))
    return rng.choice([" ", " ", ""]).join(parts)


WORDS = draw_words(random.Random(0))
CORPUS = [" ".join(random.Random(seed).choices(WORDS, k=8)) for seed in range(1500)]
TEXTS = ["", " ", *(draw_text(rng, WORDS) for rng in [random.Random(1)] for _ in range(NUM_TEXTS - 2))]


@pytest.fixture(scope="module")
def folders(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Return a function that writes the files of a tokenizer once."""
    makers: dict[str, Callable[[Path], object]] = {
        "bert uncased": lambda folder: write_bert(transformers.BertTokenizer, folder, do_lower_case=True),
        "bert cased": lambda folder: write_bert(transformers.BertTokenizer, folder, do_lower_case=False),
        "distilbert": lambda folder: write_bert(transformers.DistilBertTokenizer, folder, do_lower_case=False),
        "chinese vocab.txt": write_vocab_txt,
        "cased vocab.txt": lambda folder: write_vocab_txt(folder, do_lower_case=False, strip_accents=True),
        "roberta": lambda folder: write_roberta(transformers, folder).save_pretrained(folder),
        "roberta vocab.json": lambda folder: write_roberta(transformers, folder),
        "xlm-roberta": lambda folder: convert(transformers.XLMRobertaTokenizer, write_xlm_roberta(folder)),
        "xlm-roberta model": write_xlm_roberta,
        "mt5": lambda folder: convert(transformers.T5Tokenizer, write_t5(folder)),
        "mt5 model": write_t5,
        "nllb": lambda folder: write_nllb(transformers, folder),
    }
    made: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp("tokenizer")
            makers[family](made[family])
        return made[family]

    yield folder_of


FAMILIES = [
    "bert uncased", "bert cased", "distilbert", "chinese vocab.txt", "cased vocab.txt", "roberta", "roberta vocab.json",
    "xlm-roberta", "xlm-roberta model", "mt5", "mt5 model", "nllb",
]  # fmt: skip


def train(backend: tokenizers.Tokenizer, trainer: trainers.Trainer) -> dict[str, Any]:
    """Return the model of a `tokenizer.json`."""
    backend.train_from_iterator(CORPUS, trainer)
    model: dict[str, Any] = json.loads(backend.to_str())["model"]
    return model


@cache
def train_wordpiece(*, lowercase: bool) -> dict[str, int]:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=NUM_IDS, special_tokens=SPECIALS["bert"], show_progress=False)
    vocab: dict[str, int] = train(backend, trainer)["vocab"]
    return vocab


def write_bert(tokenizer_class: Any, folder: Path, *, do_lower_case: bool) -> None:
    vocab = train_wordpiece(lowercase=do_lower_case)
    tokenizer_class(vocab=vocab, do_lower_case=do_lower_case).save_pretrained(folder)


def write_vocab_txt(folder: Path, **settings: bool) -> None:
    """Write a folder as Chinese-CLIP's: vocab.txt, and config.json with the model type."""
    vocab = train_wordpiece(lowercase=settings.get("do_lower_case", True))
    lines = sorted(vocab, key=lambda token: vocab[token])
    (folder / "vocab.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "chinese_clip"}', encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_roberta(transformers: ModuleType, folder: Path) -> Any:
    """Write vocab.json and merges.txt; return the tokenizer of transformers."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_IDS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[*SPECIALS["fairseq"], "<mask>"], show_progress=False,
    )  # fmt: skip
    train(backend, trainer)
    backend.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}', encoding="utf-8")
    return transformers.RobertaTokenizer.from_pretrained(folder)


@cache
def train_sentencepiece(**ids: int) -> bytes:
    """Return a Unigram model; all but its first ids are the same."""
    sentencepiece, model = pytest.importorskip("sentencepiece"), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=NUM_IDS, model_type="unigram",
        normalization_rule_name="nmt_nfkc", character_coverage=0.999, hard_vocab_limit=False, minloglevel=2,
        num_threads=1, **ids,
    )  # fmt: skip
    return model.getvalue()


def write_xlm_roberta(folder: Path) -> Path:
    """Write sentencepiece.bpe.model with the ids of fairseq."""
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}', encoding="utf-8")
    (folder / "sentencepiece.bpe.model").write_bytes(train_sentencepiece(unk_id=0, bos_id=1, eos_id=2))
    return folder


def write_t5(folder: Path) -> Path:
    """Write spiece.model and the settings of mT5."""
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "pad_token": "<pad>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "spiece.model").write_bytes(train_sentencepiece(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    return folder


def convert(tokenizer_class: Any, folder: Path) -> None:
    """Write tokenizer.json in the place of the SentencePiece model."""
    tokenizer = tokenizer_class.from_pretrained(folder)
    for path in folder.iterdir():
        path.unlink()
    tokenizer.save_pretrained(folder)
    assert (folder / "tokenizer.json").is_file()


def write_nllb(transformers: ModuleType, folder: Path) -> None:
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    model = train(
        backend, trainers.BpeTrainer(vocab_size=NUM_IDS, special_tokens=SPECIALS["fairseq"], show_progress=False)
    )
    merges = [tuple(pair) for pair in model["merges"]]
    transformers.NllbTokenizer(vocab=model["vocab"], merges=merges, src_lang="fra_Latn").save_pretrained(folder)


def encode(folder: Path, texts: list[str], length: int = LENGTH) -> list[list[int]]:
    tokenizer = find_tokenizer(folder, length)
    assert type(tokenizer) is HFTokenizer
    rows: list[list[int]] = tokenizer.encode(texts, truncate=True).ids.tolist()
    return rows


def assert_equal(ours: list[list[int]], theirs: list[list[int]]) -> None:
    different = [(text, a, b) for text, a, b in zip(TEXTS, ours, theirs, strict=False) if a != b]
    assert not different, f"{len(different)} of {len(ours)}, such as {different[0]}"
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_equal_those_of_transformers(folders: Callable[[str], Path], transformers: ModuleType, family: str) -> None:
    peer = transformers.AutoTokenizer.from_pretrained(folders(family))
    padded = peer(TEXTS, padding="max_length", truncation=True, max_length=LENGTH)
    assert_equal(encode(folders(family), TEXTS), padded["input_ids"])


@pytest.mark.parametrize(
    ("family", "options"),
    [
        pytest.param("bert uncased", {"strip_sep_token": True}, id="CLIPA"),
        pytest.param("bert uncased", {}, id="BiomedCLIP"),
        pytest.param("xlm-roberta", {}, id="XLM-R and MetaCLIP 2 with XLM-V"),
        pytest.param("mt5", {"clean": "canonicalize"}, id="MetaCLIP 2 with mT5"),
        pytest.param("roberta", {"clean": "lower"}, id="RoBERTa"),
        pytest.param("nllb", {"language": "fra_Latn"}, id="NLLB-CLIP"),
    ],
)
def test_ids_equal_those_of_open_clip(
    folders: Callable[[str], Path], open_clip: ModuleType, tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    shutil.copytree(folders(family), tmp_path, dirs_exist_ok=True)
    text_cfg = {"hf_tokenizer_name": "x", "context_length": LENGTH, "tokenizer_kwargs": options}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text_cfg}}), encoding="utf-8")
    peer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    texts = TEXTS[:NUM_OPEN_CLIP_TEXTS]
    assert_equal(encode(tmp_path, texts), peer(texts).tolist())


@pytest.mark.parametrize(
    ("family", "options"),
    [("bert uncased", {"strip_sep_token": True}), ("xlm-roberta", {}), ("roberta", {}), ("nllb", {})],
)
def test_written_files_give_the_same_ids_in_open_clip(
    folders: Callable[[str], Path], open_clip: ModuleType, tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    shutil.copytree(folders(family), tmp_path / "in")
    text_cfg = {"hf_tokenizer_name": "x", "tokenizer_kwargs": options}
    (tmp_path / "in/open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text_cfg}}))
    tokenizer = find_tokenizer(tmp_path / "in", LENGTH)
    assert tokenizer is not None
    (tmp_path / "out").mkdir()
    write_tokenizer(tmp_path / "out", tokenizer, context_length=LENGTH)
    peer = open_clip.tokenizer.HFTokenizer(str(tmp_path / "out"), context_length=LENGTH)
    texts = TEXTS[:100]
    assert_equal(encode(tmp_path / "in", texts), peer(texts).tolist())
    reopened = find_tokenizer(tmp_path / "out", LENGTH)
    assert reopened is not None
    assert reopened.fingerprint == tokenizer.fingerprint
