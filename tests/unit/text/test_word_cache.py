"""Words met before give the ids they gave the first time, whatever comes between."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zebra.text import word_cache
from zebra.text.bpe import Tokenizer
from zebra.text.clean import clean, clean_words
from zebra.text.word_cache import WordMemory

CAPTIONS = ["a horse's mane, 2 of them", "the café isn't open", "striped horses in the snow"] * 4
WORDS = Tokenizer.train(CAPTIONS, 600)
TEXT = st.text() | st.text(alphabet="ab'st <|endoftext>1é\u00a0\u0345\n&;", max_size=40)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=8))
@example(["<|endoftext|> a<|startoftext|>b", "it's 's s'", "x\u2028y z", "\x1ca\x1f b\x85c", ""])
def test_ids_are_those_of_the_whole_text_encoded_at_once(texts):
    """The outside truth is the Rust tokenizer on the clean text, SOT and EOT around it."""
    expected = [row.ids for row in WORDS._rust.encode_batch_fast([clean(text) for text in texts])]
    encoded = WORDS.encode(texts, truncate=True)
    rows = [row[:length].tolist() for row, length in zip(encoded.ids, encoded.lengths, strict=True)]
    assert rows == [row if len(row) <= 77 else [*row[:76], WORDS.eot] for row in expected]


@given(TEXT)
def test_clean_words_are_the_clean_text_divided_at_its_spaces(text):
    assert " ".join(clean_words(text)) == clean(text)


def test_a_word_is_encoded_once_however_often_it_comes():
    asked = []
    met = WordMemory(lambda words: [[len(word)] for word in asked.extend(words) or words])
    first = met.rows([["a", "bb", "a"], ["bb"]], 0, 9)
    assert first == met.rows([["a", "bb", "a"], ["bb"]], 0, 9) == [[0, 1, 2, 1, 9], [0, 2, 9]]
    assert asked == ["a", "bb"]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(word_cache, "MOST_WORDS", 10)
    met = WordMemory(lambda words: [[1] for _ in words])
    for number in range(50):
        met.rows([[f"word{number}"]], 0, 9)
        assert len(met._known) <= 11
