"""Names, homes and scripts of the languages of evaluation datasets."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from zebra.errors import DataError, list_names, suggest_name

ALL_LANGUAGES = "all"
OTHER_CODES = {"jp": "ja", "cn": "zh", "iw": "he", "in": "id"}
"""Codes of datasets that are not those of ISO 639, or no longer."""
SCRIPT_NAMES = {"cjk": "Han", "hiragana": "Kana", "katakana": "Kana", "arabic": "Arabic"}
"""First word of a character's name in Unicode → name of the script, where they differ."""
SCRIPT_SAMPLES = 50
"""Texts that are read to find a script."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language, as `languages.tsv` gives it."""

    code: str
    """ISO 639-1, or 639-3 for languages without such a code."""
    iso3: str
    name: str
    home: tuple[float, float] | None = None
    """About where most of its speakers live, or where it comes from: latitude and longitude in degrees."""


@cache
def load_languages() -> dict[str, Language]:
    """Return code → language; languages with two codes are listed under both."""
    text = (resources.files("zebra.data.benchmarks") / "languages.tsv").read_text(encoding="utf-8")
    languages: dict[str, Language] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            code, iso3, name, *home = line.split("\t")
            language = Language(code, iso3, name, (float(home[0]), float(home[1])) if home else None)
            languages.setdefault(code, language)
            languages.setdefault(iso3, language)
    return languages


def find_language(code: str) -> Language | None:
    """Return the language of a code such as `de`, `DE`, `deu`, `deu_Latn` or `zh-CN`; None if it is not listed.

    >>> find_language("deu_Latn").name, find_language("jp").name, find_language("xx")
    ('German', 'Japanese', None)
    """
    primary = re.split(r"[_-]", code.lower())[0]
    return load_languages().get(OTHER_CODES.get(primary, primary))


def name_language(code: str) -> str:
    """Return the English name of a language, with its script if the code names one; an unknown code as it is.

    >>> name_language("zho_Hant"), name_language("sw"), name_language("xx")
    ('Chinese (Hant)', 'Swahili', 'xx')
    """
    language, script = find_language(code), re.search(r"_([A-Z][a-z]{3})$", code)
    if language is None:
        return code
    return f"{language.name} ({script[1]})" if script else language.name


def select_languages(
    available: Sequence[str], requested: Sequence[str], dataset: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the codes of a dataset that the user asks for, in the dataset's order, and the requests it cannot meet.

    A requested code selects the same code, or each code of the same language: `de` selects `deu_Latn`, and `zh` selects
    `zho_Hans` and `zho_Hant`. No request, and `all`, select all.

    Raises:
        DataError: The dataset has none of the languages, or one is no code of a language.
    """
    if not requested or ALL_LANGUAGES in requested:
        return tuple(available), ()
    selected: set[str] = set()
    missing: list[str] = []
    for code in requested:
        language = find_language(code)
        matches = [name for name in available if name.lower() == code.lower()] or [
            name for name in available if language is not None and find_language(name) == language
        ]
        if not matches and language is None:
            raise DataError(
                f"{dataset} has no language {code!r}, which is no code of a language that is known."
                f"{suggest_name(code, available)} It has {list_names(available)}"
            )
        selected.update(matches)
        missing += [code] * (not matches)
    if not selected:
        raise DataError(f"{dataset} has no {', '.join(map(name_language, requested))}. It has {list_names(available)}")
    return tuple(name for name in available if name in selected), tuple(missing)


def detect_script(texts: Iterable[str]) -> str:
    """Return the script of most letters in the first texts, such as "Latin"; "" without letters.

    >>> detect_script(["ein Haus"]), detect_script(["一只猫"]), detect_script(["猫がいる"])
    ('Latin', 'Han', 'Kana')
    """
    counts: Counter[str] = Counter()
    for _, text in zip(range(SCRIPT_SAMPLES), texts, strict=False):
        for character in text:
            if unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lo", "Mc", "Mn"):
                word = re.split(r"[ -]", unicodedata.name(character, ""))[0].lower()
                counts[SCRIPT_NAMES.get(word, word.capitalize())] += 1
    for mark in ("", "Combining"):
        del counts[mark]
    if counts["Kana"] > counts["Han"] / 10:  # Japanese mixes both
        return "Kana"
    return counts.most_common(1)[0][0] if counts else ""
