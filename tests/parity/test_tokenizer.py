"""Token ids of CLIP's tokenizer, compared with a reference implementation and with open_clip.

References: CLIP's tokenizer (§2.4: lower-case byte-level BPE), implemented here as plain loops over Python strings with
the `regex` library, on merges trained in the test and on OpenAI's published merges; and `SimpleTokenizer` of open_clip
3.3.0, whose wheel contains that file. Without open_clip the tests that need it are skipped.
Strings: 10,000 generated ones for the reference, 10,000 for open_clip.
Tolerance: none, ids are integers.
Alphabet: code points that are unassigned in Unicode 14 are excluded, because the two regex engines have different
versions of Unicode and disagree on newer letters.
Deliberate difference: the text of a control token is ordinary text here. The peers encode it as the token; OpenAI and
transformers write it "<|endoftext|>", open_clip "<end_of_text>".
"""

import gzip
import html
import importlib.util
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import ftfy
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from zebra.text import BPETokenizer

PATTERN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
CAPTIONS = [
    "a photo of a zebra, it's standing on the grass",
    "they're horses with black and white stripes & we've seen 12 of them",
    "un café près de l'église; Straße, naïve, Ελλάδα, Привет мир",
    "東京の猫とタワー 🦓🦓 🏳️‍🌈 :-) !!! --- 2024",
]
PIECES = [*" ".join(CAPTIONS).split(), "'S", "'ſ", "'LL", "''", "&amp;", "&amp;lt;", "&#128563;", "&nbsp;",
          "<|endoftext|>", "<|startoftext|>", "</w>", "schÃ¶n", "â€œ", "ΟΔΟΣ", "İ", "ﬁ", "½", "१२", "\u0345",
          "e\u0301", "\u200d", "\x00", "\x1c", "\x85", "\ufeff", "\n", "\t", "  "]  # fmt: skip
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"])


def is_assigned(text: str) -> bool:
    """Return whether the text has no unassigned code point after ftfy; "Õ˜" becomes one."""
    fixed = html.unescape(html.unescape(ftfy.fix_text(text)))
    return all(unicodedata.category(character) != "Cn" for character in fixed)


TEXTS = (
    st.text(CHARACTERS, max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join)
    | st.lists(st.sampled_from(PIECES) | CHARACTERS, max_size=20).map("".join)
).filter(is_assigned)
VERY_LONG = st.sampled_from(PIECES).map(lambda piece: piece * 300)
BATCHES = st.tuples(*[TEXTS] * 9, VERY_LONG).map(list)


class Reference:
    """CLIP's byte-level BPE, written as plain loops."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        symbol_of_byte = {b: chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174}
        order = list(symbol_of_byte)
        for byte in range(256):
            if byte not in symbol_of_byte:
                symbol_of_byte[byte] = chr(256 + len(symbol_of_byte) - 188)
                order.append(byte)
        symbols = [symbol_of_byte[byte] for byte in order]
        symbols = symbols + [s + "</w>" for s in symbols] + [left + right for left, right in merges]
        self.symbol_of_byte = symbol_of_byte
        self.ids = {symbol: index for index, symbol in enumerate(symbols)}
        self.rank = {pair: index for index, pair in enumerate(merges)}
        self.sot, self.eot = len(symbols), len(symbols) + 1
        self.bpe = cache(self.bpe)

    def bpe(self, word: str) -> tuple[str, ...]:
        """Merge the pair with the lowest rank, everywhere from left to right, until none is left."""
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = min(pairwise(parts), key=lambda p: self.rank.get(p, len(self.rank)))
            if pair not in self.rank:
                break
            merged = []
            while parts:
                step = 2 if tuple(parts[:2]) == pair else 1
                merged.append("".join(parts[:step]))
                parts = parts[step:]
            parts = merged
        return tuple(parts)

    def encode(self, text: str) -> list[int]:
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        text = regex.sub(r"\s+", " ", text).strip().lower()
        ids = [self.sot]
        for word in PATTERN.findall(text):
            ids += [self.ids[s] for s in self.bpe("".join(self.symbol_of_byte[b] for b in word.encode("utf-8")))]
        return [*ids, self.eot]


def encode(tokenizer: BPETokenizer, texts: list[str]) -> list[list[int]]:
    encoded = tokenizer.encode(texts, truncate=False)
    return [row[:length].tolist() for row, length in zip(encoded.ids, encoded.lengths, strict=True)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[BPETokenizer, Reference]:
    """Train a vocabulary on a few captions; write and read it as a merges file."""
    trained = BPETokenizer.train(CAPTIONS * 2, vocab_size=800)
    path = tmp_path_factory.mktemp("toy") / "merges.txt"
    path.write_text("\n".join(["header", *map(" ".join, trained._merges), ""]), encoding="utf-8")
    merges = [(left, right) for left, right in map(str.split, path.read_text(encoding="utf-8").split("\n")[1:-1])]
    return BPETokenizer.from_merges(path, context_length=100_000), Reference(merges)


@given(BATCHES)
@example(["".join(c for c in map(chr, range(0x3000)) if unicodedata.category(c) != "Cn")])
def test_ids_equal_the_reference(toy: tuple[BPETokenizer, Reference], texts: list[str]) -> None:
    tokenizer, reference = toy
    assert encode(tokenizer, texts) == [reference.encode(text) for text in texts]


def test_start_end_and_size_equal_the_reference(toy: tuple[BPETokenizer, Reference]) -> None:
    tokenizer, reference = toy
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id) == (reference.sot, reference.eot)
    assert tokenizer.vocab_size == reference.eot + 1


@pytest.fixture(scope="module")
def published() -> tuple[BPETokenizer, Reference]:
    """Return OpenAI's tokenizer, from the merges file in open_clip's package."""
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        pytest.skip("OpenAI's merges file is part of open_clip_torch, which is not installed")
    path = Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1:48_895]
    merges = [(left, right) for left, right in map(str.split, lines)]
    return BPETokenizer.from_merges(path, context_length=100_000), Reference(merges)


@given(BATCHES)
def test_ids_of_the_published_vocabulary_equal_the_reference(
    published: tuple[BPETokenizer, Reference], texts: list[str]
) -> None:
    tokenizer, reference = published
    assert encode(tokenizer, texts) == [reference.encode(text) for text in texts]


def test_the_published_vocabulary_has_the_published_ids(published: tuple[BPETokenizer, Reference]) -> None:
    tokenizer, _ = published
    assert (tokenizer.vocab_size, tokenizer.sot_token_id, tokenizer.eot_token_id) == (49_408, 49_406, 49_407)
    assert encode(tokenizer, ["a photo of a cat"]) == [[49406, 320, 1125, 539, 320, 2368, 49407]]


# open_clip


@given(BATCHES)
def test_ids_equal_those_of_open_clip(
    published: tuple[BPETokenizer, Reference], open_clip: ModuleType, texts: list[str]
) -> None:
    tokenizer, peer = published[0], open_clip.tokenizer._tokenizer
    assert encode(tokenizer, texts) == [[49406, *peer.encode(text), 49407] for text in texts]


def test_long_texts_are_truncated_as_in_open_clip(
    published: tuple[BPETokenizer, Reference], open_clip: ModuleType
) -> None:
    tokenizer = BPETokenizer(published[0]._merges, context_length=77)
    texts = ["zebra " * count for count in (0, 1, 74, 75, 76, 77, 500)]
    ids = tokenizer.encode(texts, truncate=True).ids
    assert ids.tolist() == open_clip.tokenize(texts).tolist()


def test_a_control_token_in_a_text_ends_it_in_open_clip_but_not_here(
    published: tuple[BPETokenizer, Reference], open_clip: ModuleType
) -> None:
    tokenizer, peer = published[0], open_clip.tokenizer._tokenizer
    assert 49407 in peer.encode("a <end_of_text> b")
    for text in ("a <end_of_text> b", "a <|endoftext|> b"):
        (ids,) = encode(tokenizer, [text])
        assert ids.index(49407) == len(ids) - 1
