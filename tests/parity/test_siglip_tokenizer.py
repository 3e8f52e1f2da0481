"""Token ids of SigLIP's tokenizers, compared with transformers and open_clip.

References: transformers 5.24.0 (`SiglipTokenizer` on sentencepiece 0.2.3, `Siglip2Tokenizer`) and open_clip 3.3.0
(`HFTokenizer` with clean="canonicalize", as its SigLIP models configure it), each padded and truncated to a context of
16 or 512.
The published vocabularies (32,000 ids Unigram, 256,000 ids BPE with byte fallback) are not available offline. The tests
train toy vocabularies with the same special ids, normalizer, splitting and fallback. The real ones were not run.
Strings: 1,500 generated ones per peer. Tolerance: none, ids are integers.
Alphabet: as in `test_tokenizer`, without lone surrogates, for which the peers raise.
One exception: if two segmentations of a run of letters ("sss" as "ss" "s" or "s" "ss") have the same score, rounding
decides. sentencepiece adds in single precision; the Rust library, which open_clip uses too, in double.
Deliberate difference: the text of a control token ("</s>", "<eos>") is ordinary text here, so such strings are
excluded.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, trainers

from zebra.text import SiglipTokenizer, find_tokenizer

LENGTH, LONG = 16, 512
CAPTIONS = [
    "a photo of a zebra standing on the grass",
    "they are horses with black and white stripes and we have seen 12 of them",
    "un café près de l église straße naïve ελλάδα οδος σσσ привет мир",
    "東京の猫とタワー 2024",
    "two spotted cats and one small dog in the garden",
] * 20
PIECES = [*" ".join(CAPTIONS[:5]).split(), "It's", "don’t", "“A”", "x_y", "&amp;", "&lt;b&gt;", "schÃ¶n", "ΟΔΟΣ",
          "ΑΣ!Β", "İ", "ﬁ", "½", "…", "—", "！", "▁", "\u200b", "\u3000", "\u00a0", "\x00", "\x1c", "e\u0301", "🦓",
          "...", "\n", "\t", "  ", " "]  # fmt: skip
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"])
TEXTS = (
    st.text(CHARACTERS, max_size=30)
    | st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join)
    | st.lists(st.sampled_from(PIECES) | CHARACTERS, max_size=20).map("".join)
)
BATCHES = st.lists(TEXTS, min_size=10, max_size=10)
LENGTH_TEXTS = [
    " ".join(["zebra", "and", "dog"][i % 3] for i in range(count)) for count in (0, 1, 5, 15, 16, 17, 40, 100)
]
Peer = Callable[..., NDArray[np.int64]]


def encode(tokenizer: SiglipTokenizer, texts: list[str]) -> list[list[int]]:
    rows: list[list[int]] = tokenizer.encode(texts, truncate=True).ids.tolist()
    return rows


# SigLIP: Unigram


@pytest.fixture(scope="module")
def spiece(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder in transformers' layout: spiece.model and tokenizer_config.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("siglip")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS), model_prefix=str(folder / "spiece"), vocab_size=200, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, hard_vocab_limit=False, minloglevel=2,
        num_threads=1,
    )  # fmt: skip
    transformers.SiglipTokenizer(str(folder / "spiece.model")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def unigram(spiece: Path, transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same vocabulary as tokenizer.json, with the conversion of transformers."""
    folder = tmp_path_factory.mktemp("unigram")
    converted = transformers.T5Tokenizer.from_pretrained(spiece, extra_ids=0, pad_token="</s>")
    converted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip(spiece: Path, transformers: ModuleType) -> Peer:
    peer = transformers.SiglipTokenizer.from_pretrained(spiece)

    def ids(texts: list[str], length: int = LENGTH) -> NDArray[np.int64]:
        padded = peer(texts, padding="max_length", max_length=length, truncation=True)
        return np.array(padded["input_ids"])

    return ids


@pytest.fixture(scope="module")
def score(spiece: Path) -> Callable[[list[int]], float]:
    """Return the log probability of a segmentation, which SentencePiece maximizes."""
    processor = pytest.importorskip("sentencepiece").SentencePieceProcessor(str(spiece / "spiece.model"))
    return lambda row: sum(processor.get_score(index) for index in row)


@given(BATCHES)
def test_siglip_ids_equal_those_of_transformers(
    unigram_long: SiglipTokenizer, siglip: Peer, score: Callable[[list[int]], float], texts: list[str]
) -> None:
    assume(not any("</s>" in text or "<unk>" in text for text in texts))
    ours, theirs = encode(unigram_long, texts), siglip(texts, LONG).tolist()
    for row, other in zip(ours, theirs, strict=True):
        assert row == other or score(row) == pytest.approx(score(other), abs=1e-4)


@pytest.fixture(scope="module")
def unigram_long(unigram: Path) -> SiglipTokenizer:
    return SiglipTokenizer.load(unigram, LONG)


def test_texts_without_ties_equal_those_of_transformers(unigram_long: SiglipTokenizer, siglip: Peer) -> None:
    texts = [*CAPTIONS[:5], *PIECES, " ".join(PIECES), "".join(PIECES)]
    assert encode(unigram_long, texts) == siglip(texts, LONG).tolist()


def test_siglip_texts_of_any_number_of_words_equal_those_of_transformers(unigram: Path, siglip: Peer) -> None:
    assert encode(SiglipTokenizer.load(unigram, LENGTH), LENGTH_TEXTS) == siglip(LENGTH_TEXTS).tolist()


def test_siglip_pads_with_its_end_token(unigram: Path) -> None:
    tokenizer = SiglipTokenizer.load(unigram, LENGTH)
    assert encode(tokenizer, [""]) == [[1] * LENGTH]


def test_a_spiece_model_is_read_as_the_tokenizer_json_that_transformers_makes_of_it(
    spiece: Path, unigram_long: SiglipTokenizer
) -> None:
    tokenizer = find_tokenizer(spiece, LONG)
    assert isinstance(tokenizer, SiglipTokenizer)
    texts = [*CAPTIONS[:5], *PIECES, " ".join(PIECES), "".join(PIECES)]
    assert encode(tokenizer, texts) == encode(unigram_long, texts)


@pytest.fixture(scope="module")
def open_clip_siglip(unigram: Path, open_clip: ModuleType) -> Peer:
    return open_clip_peer(open_clip, unigram, extra_ids=0)


@pytest.fixture(scope="module")
def unigram_of_open_clip(unigram: Path, tmp_path_factory: pytest.TempPathFactory) -> SiglipTokenizer:
    return as_open_clip(unigram, tmp_path_factory.mktemp("unigram_of_open_clip"))


@given(BATCHES)
def test_siglip_ids_equal_those_of_open_clip(
    unigram_of_open_clip: SiglipTokenizer, open_clip_siglip: Peer, texts: list[str]
) -> None:
    texts = [*texts, *LENGTH_TEXTS]
    assert encode(unigram_of_open_clip, texts) == open_clip_siglip(texts).tolist()


def open_clip_peer(open_clip: ModuleType, folder: Path, **options: object) -> Peer:
    peer = open_clip.tokenizer.HFTokenizer(str(folder), context_length=LENGTH, clean="canonicalize", **options)

    def ids(texts: list[str]) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = peer(texts).numpy()
        return rows

    return ids


def as_open_clip(source: Path, folder: Path) -> SiglipTokenizer:
    """Load a copy of the tokenizer from a folder with open_clip's cleaning config."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    config = {"model_cfg": {"text_cfg": {"tokenizer_kwargs": {"clean": "canonicalize"}}}}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return SiglipTokenizer.load(folder, LENGTH)


# SigLIP 2: BPE with byte fallback


@pytest.fixture(scope="module")
def gemma(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder in transformers' layout of SigLIP 2."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(
        CAPTIONS, trainers.BpeTrainer(vocab_size=450, special_tokens=specials, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    folder = tmp_path_factory.mktemp("gemma")
    transformers.Siglip2Tokenizer(
        vocab=model["vocab"], merges=merges, add_bos_token=False, add_eos_token=True, padding_side="right"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip2(gemma: Path, transformers: ModuleType) -> Peer:
    peer = transformers.AutoTokenizer.from_pretrained(gemma)
    assert type(peer).__name__ == "Siglip2Tokenizer"

    def ids(texts: list[str]) -> NDArray[np.int64]:
        padded = peer(texts, padding="max_length", max_length=LENGTH, truncation=True)
        return np.array(padded["input_ids"])

    return ids


@pytest.fixture(scope="module")
def bpe(gemma: Path) -> SiglipTokenizer:
    return SiglipTokenizer.load(gemma, LENGTH)


@given(BATCHES)
def test_siglip2_ids_equal_those_of_transformers(bpe: SiglipTokenizer, siglip2: Peer, texts: list[str]) -> None:
    texts = [*texts, *LENGTH_TEXTS]
    assert encode(bpe, texts) == siglip2(texts).tolist()


def test_siglip2_ends_with_eos_and_pads_with_zero_on_the_right(bpe: SiglipTokenizer) -> None:
    (row,) = encode(bpe, [""])
    assert row == [1] + [0] * (LENGTH - 1)


def test_siglip2_lower_cases(bpe: SiglipTokenizer) -> None:
    assert encode(bpe, ["A Zebra"]) == encode(bpe, ["a zebra"])


@pytest.fixture(scope="module")
def open_clip_siglip2(gemma: Path, open_clip: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Peer:
    """Return open_clip's tokenizer: the class GemmaTokenizer does not lower-case; canonicalize does."""
    folder = tmp_path_factory.mktemp("gemma_of_open_clip")
    (folder / "tokenizer.json").write_bytes((gemma / "tokenizer.json").read_bytes())
    config = json.loads((gemma / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "GemmaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return open_clip_peer(open_clip, folder)


@pytest.fixture(scope="module")
def bpe_of_open_clip(gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> SiglipTokenizer:
    return as_open_clip(gemma, tmp_path_factory.mktemp("bpe_of_open_clip"))


@given(BATCHES)
def test_siglip2_ids_equal_those_of_open_clip(
    bpe_of_open_clip: SiglipTokenizer, open_clip_siglip2: Peer, texts: list[str]
) -> None:
    texts = [*texts, *LENGTH_TEXTS]
    assert encode(bpe_of_open_clip, texts) == open_clip_siglip2(texts).tolist()


# What zebra writes


@pytest.mark.parametrize("kind", ["unigram", "gemma"])
def test_the_saved_file_contains_all_rules(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Padding, truncation, EOS and cleaning are in the file, so the Rust library alone gives the same ids."""
    tokenizer = SiglipTokenizer.load(request.getfixturevalue(kind), LENGTH)
    tokenizer.save(tmp_path / "tokenizer.json")
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [*CAPTIONS[:5], *LENGTH_TEXTS, "  A Zebra,\n it's (small)! "]
    assert [row.ids for row in peer.encode_batch(texts)] == encode(tokenizer, texts)


@given(BATCHES)
@pytest.mark.parametrize("kind", ["unigram", "bpe", "unigram_of_open_clip", "bpe_of_open_clip"])
def test_a_saved_tokenizer_gives_the_same_ids(
    saved: dict[str, tuple[SiglipTokenizer, SiglipTokenizer]], kind: str, texts: list[str]
) -> None:
    before, after = saved[kind]
    assert encode(after, texts) == encode(before, texts)


@pytest.fixture(scope="module")
def saved(
    unigram: Path,
    bpe: SiglipTokenizer,
    unigram_of_open_clip: SiglipTokenizer,
    bpe_of_open_clip: SiglipTokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[SiglipTokenizer, SiglipTokenizer]]:
    """Return each tokenizer with the one loaded from its saved file."""
    tokenizers_by_kind = {
        "unigram": SiglipTokenizer.load(unigram, LENGTH),
        "bpe": bpe,
        "unigram_of_open_clip": unigram_of_open_clip,
        "bpe_of_open_clip": bpe_of_open_clip,
    }
    pairs = {}
    for kind, tokenizer in tokenizers_by_kind.items():
        path = tmp_path_factory.mktemp(kind) / "tokenizer.json"
        tokenizer.save(path)
        pairs[kind] = (tokenizer, SiglipTokenizer.load(path, LENGTH))
    return pairs
