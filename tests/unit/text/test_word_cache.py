"""The word cache returns the ids of uncached encoding and stays bounded."""

from hypothesis import example, given
from hypothesis import strategies as st

from zebra.text import word_cache
from zebra.text.bpe import BPETokenizer
from zebra.text.clean import clean_and_split, clean_text
from zebra.text.word_cache import WordCache

CAPTIONS = ["a horse's mane, 2 of them", "the café isn't open", "striped horses in the snow"] * 4
TOKENIZER = BPETokenizer.train(CAPTIONS, 600)
TEXT = st.text() | st.text(alphabet="ab'st <|endoftext>1é\u00a0\u0345\n&;", max_size=40)


@given(st.lists(TEXT, max_size=8))
@example(["<|endoftext|> a<|startoftext|>b", "it's 's s'", "x\u2028y z", "\x1ca\x1f b\x85c", ""])
def test_ids_are_those_of_the_full_text_encoded_at_once(texts):
    """Compare with the Rust tokenizer on the clean text."""
    expected = [row.ids for row in TOKENIZER._backend.encode_batch_fast([clean_text(text) for text in texts])]
    encoded = TOKENIZER.encode(texts, truncate=True)
    rows = [row[:length].tolist() for row, length in zip(encoded.ids, encoded.lengths, strict=True)]
    assert rows == [row if len(row) <= 77 else [*row[:76], TOKENIZER.eot_token_id] for row in expected]


@given(TEXT)
def test_clean_and_split_gives_the_words_of_the_clean_text(text):
    assert " ".join(clean_and_split(text)) == clean_text(text)


def test_a_word_is_encoded_only_once():
    encoded_words = []
    cache = WordCache(lambda words: [[len(word)] for word in encoded_words.extend(words) or words])
    first = cache.encode([["a", "bb", "a"], ["bb"]], 0, 9)
    assert first == cache.encode([["a", "bb", "a"], ["bb"]], 0, 9) == [[0, 1, 2, 1, 9], [0, 2, 9]]
    assert encoded_words == ["a", "bb"]


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(word_cache, "MAX_WORDS", 10)
    cache = WordCache(lambda words: [[1] for _ in words])
    for number in range(50):
        cache.encode([[f"word{number}"]], 0, 9)
        assert len(cache._ids_by_word) <= 11
