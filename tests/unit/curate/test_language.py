"""Captions in other languages are dropped only if the languages to keep are improbable."""

import pyarrow as pa
import pytest

from zebra.config.curate_text import LanguageRules
from zebra.curate import language
from zebra.curate.language import language_rules
from zebra.curate.rules import find_alone
from zebra.errors import ConfigError

SURE = {
    "en": ["a photo of a dog on the beach", "two zebras walking through the high grass"],
    "de": ["ein blauer Hund läuft über die Wiese", "Schloss Neuschwanstein im Winter bei Nacht"],
    "fr": ["un cheval noir dans le pré", "la tour Eiffel vue de la rue"],
    "ru": ["лошадь на лугу"],
    "ja": ["日本の馬"],
}


def run(texts: list[str], columns: dict[str, list[str | None]] | None = None, **settings: object) -> list[str | None]:
    """Return the reason for which each pair is dropped."""
    measurement, *rules = language_rules(LanguageRules(**settings), ["text", *(columns or {})])
    table = pa.table({"text": pa.chunked_array([texts], pa.string()), **(columns or {})})
    measured = measurement.compute(table.select(measurement.columns)).cast(measurement.schema)
    reasons: list[str | None] = [None] * len(texts)
    for rule in reversed(rules):
        is_dropped = find_alone(rule, [measured])
        reasons = [rule.reason if drop else reason for drop, reason in zip(is_dropped, reasons, strict=True)]
    return reasons


@pytest.mark.parametrize("keep", list(SURE))
def test_sentences_in_other_languages_are_dropped(keep: str) -> None:
    texts = [(name, text) for name, group in SURE.items() for text in group]
    reasons = run([text for _, text in texts], keep=(keep,))
    assert reasons == [None if name == keep else "caption in another language" for name, _ in texts]


@pytest.mark.parametrize("text", ["dog", "IMG 12", "12345", "", "🦓", "iPhone 12 case", "Blue dress size XL", "a\x00b"])
def test_captions_without_a_clear_language_are_unsure_and_kept_by_default(text: str) -> None:
    assert run([text], keep=("en",)) == [None]


def test_without_unsure_captions_the_most_probable_language_decides() -> None:
    assert run(["dog", *SURE["en"]], keep=("en",), keep_unsure=False) == ["language unsure", None, None]
    assert run(["dog"], keep=("en",), min_probability=0.5) == ["caption in another language"]


def test_several_languages_are_kept_together() -> None:
    assert run([*SURE["en"], *SURE["de"], *SURE["ru"]], keep=("en", "de-AT"), keep_unsure=False) == [
        *[None] * 4,
        "caption in another language",
    ]


def test_a_language_of_the_pool_is_used_where_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*SURE["de"], *SURE["de"]]
    columns = {"language": ["EN-us", "fr", None, " "]}
    other = "caption in another language"
    assert run(texts, columns, keep=("en",)) == [None, other, other, other]

    def fail() -> None:
        raise AssertionError("the detector was loaded")

    monkeypatch.setattr(language, "load_detector", fail)
    assert run(texts[:2], {"language": ["en", "de"]}, keep=("en",), keep_unsure=False) == [None, other]


def test_measured_languages_name_what_is_probable_only() -> None:
    measurement, *_ = language_rules(LanguageRules(keep=("en",)), ["text"])
    texts = [SURE["ja"][0], "dog", "x" * 10**6]
    measured = measurement.compute(pa.table({"text": texts})).to_pydict()
    assert measured["language"] == ["ja", "und", "und"]
    assert measured["language_score"][0] > 0.5 > measured["language_score"][1]
    assert measurement.compute(pa.table({"text": pa.chunked_array([[]], pa.string())})).schema == measurement.schema


def test_an_unknown_language_is_refused_before_the_pool_is_read() -> None:
    with pytest.raises(ConfigError, match="'english' cannot be detected"):
        language_rules(LanguageRules(keep=("english",)), ["text"])
    assert language_rules(LanguageRules(), ["text"]) == []
    with pytest.raises(ConfigError, match="min_probability"):
        LanguageRules(min_probability=2)
