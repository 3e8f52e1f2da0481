"""Captions with rare words, or without a noun, are found whatever the form of their words."""

from pathlib import Path

import pyarrow as pa
import pytest

from zebra.config.curate_text import TextRules
from zebra.curate import word_rules as module
from zebra.curate.rules import find_alone
from zebra.curate.word_rules import is_noun, read_nouns, word_rules
from zebra.errors import ConfigError

NOUNS = frozenset(["dog", "pony", "wolf", "knife", "woman", "box", "bus", "glass"])


def find(*units: list[str], **settings: object) -> list[bool]:
    [rule] = word_rules(TextRules(**settings))
    return find_alone(rule, [pa.table({"text": pa.array(texts, pa.string())}) for texts in units]).tolist()


@pytest.mark.parametrize("max_counts", [1, 1 << 22])
def test_words_are_counted_over_the_whole_pool(monkeypatch: pytest.MonkeyPatch, max_counts: int) -> None:
    monkeypatch.setattr(module, "MAX_UNMERGED_COUNTS", max_counts)
    units = ["a dog", "A Dog, a cat!", "…"], [], ["a zebra", ""], ["the cat"]
    assert find(*units, min_word_count=2) == [False, False, False, True, False, True]
    assert find(*units, min_word_count=5) == [True, True, False, True, False, True]
    assert word_rules(TextRules()) == []


@pytest.mark.parametrize("word", ["dog", "dogs", "ponies", "wolves", "knives", "women", "boxes", "buses", "glasses"])
def test_regular_plurals_are_nouns(word: str) -> None:
    assert is_noun(word, NOUNS)


@pytest.mark.parametrize("word", ["", "s", "es", "do", "dogged", "wolving", "run"])
def test_other_words_are_no_nouns(word: str) -> None:
    assert not is_noun(word, NOUNS)


def test_captions_without_a_noun_are_found(tmp_path: Path) -> None:
    path = tmp_path / "nouns.txt"
    path.write_text("dog\nZebra\n\n")
    texts = ["a red dog.", "ZEBRAS!", "very nice", "", "catalog"]
    assert find(texts, [], nouns=str(path)) == [False, False, True, True, True]


def test_the_index_of_wordnet_is_read_without_its_license(tmp_path: Path) -> None:
    path = tmp_path / "index.noun"
    path.write_text(
        "  1 This software and database is provided\ndog n 7 5 @ ~ #m #p %p 7 1 02086723\nhot_dog n 3 2 @ ~\n"
    )
    assert read_nouns(path) == {"dog", "hot_dog"}
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("empty.txt", "none.txt"):
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            read_nouns(tmp_path / name)
