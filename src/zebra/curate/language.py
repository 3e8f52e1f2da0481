"""Languages of captions, and the rules that keep some of them.

Captions are short, so the most probable language is often wrong: of 400 English names of emoji, it is another one for a
third. A caption counts as another language only if the languages to keep are improbable; otherwise it is unsure.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from zebra.config.curate_text import LanguageRules
from zebra.curate.measurements import Measurement
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PairRule
from zebra.errors import ConfigError, MissingExtra, suggest_name

STAGE = "language"
LANGUAGE_VERSION = 1
"""Changes when a detected language may change."""
MAX_CHARS = 1_000
"""Characters of a caption that are looked at."""
MIN_CONFIDENCE = 0.5
"""Probability below which `language` is undetermined."""
UNDETERMINED = "und"
_SCHEMA = pa.schema(
    {
        "language": pa.string(),  # ISO 639; "und" if no language is probable
        "language_score": pa.float32(),  # probability of the most probable language; null if the pool has the language
        "keep_probability": pa.float32(),  # that it is one of the languages to keep
    }
)
Detector = Callable[[str], list[tuple[str, float]]]
"""Returns all languages of a text with their probabilities, the most probable first."""


def language_rules(config: LanguageRules, columns: Collection[str]) -> list[Stage]:
    """Return the stages that detect languages and drop captions in others than those of the config.

    Args:
        columns: Columns of the pool; its column `language` is used where it has a value.

    Raises:
        ConfigError: A language is unknown.
        MissingExtra: py3langid is not installed, and the pool has no languages.
    """
    if not config.keep:
        return []
    keep = tuple(sorted(map(normalize_language, config.keep)))
    if "language" not in columns:
        require_languages(keep)
    rules: list[Stage] = [
        Measurement(
            STAGE,
            f"language {LANGUAGE_VERSION} {keep}",
            ("text", *({"language"} & set(columns))),
            _SCHEMA,
            lambda table: _measure_languages(table, keep),
            is_parallel=True,
        ),
        PairRule(
            STAGE,
            "caption in another language",
            ("keep_probability",),
            lambda table: pc.less(table["keep_probability"], pa.scalar(config.min_probability, pa.float32())),
        ),
    ]
    if not config.keep_unsure:
        rules.append(
            PairRule(
                STAGE,
                "language unsure",
                ("keep_probability", "language_score"),
                lambda table: pc.less(table["keep_probability"], table["language_score"]),
            )
        )
    return rules


def normalize_language(code: str) -> str:
    """Return the language of a code without script and region.

    >>> normalize_language("en-US"), normalize_language(" zh_Hant")
    ('en', 'zh')
    """
    return code.strip().lower().replace("_", "-").partition("-")[0]


def require_languages(languages: Sequence[str]) -> None:
    """Raise ConfigError if the detector does not know a language."""
    known = {language for language, _ in load_detector()("")}
    for language in languages:
        if language not in known:
            raise ConfigError(f"language.keep: {language!r} cannot be detected.{suggest_name(language, known)}")


@cache
def load_detector() -> Detector:
    """Load the language detector, which takes a second.

    Raises:
        MissingExtra: py3langid is not installed.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingExtra("py3langid", "detecting languages", "curate") from error
    detector: Detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).rank
    return detector


def _measure_languages(table: pa.Table, keep: Sequence[str]) -> pa.Table:
    given = table["language"].to_pylist() if "language" in table.column_names else [None] * len(table)
    rows = list(_iter_languages(table["text"].to_pylist(), given, keep))
    columns = zip(*rows, strict=True) if rows else [[]] * len(_SCHEMA)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], _SCHEMA)


def _iter_languages(
    texts: Sequence[str], given: Sequence[str | None], keep: Sequence[str]
) -> Iterator[tuple[str, float | None, float]]:
    for text, language in zip(texts, given, strict=True):
        if code := normalize_language(language or ""):
            yield code, None, float(code in keep)
            continue
        ranking = load_detector()(text[:MAX_CHARS])
        best, score = ranking[0]
        keep_probability = score if best in keep else sum(value for name, value in ranking if name in keep)
        yield best if score >= MIN_CONFIDENCE else UNDETERMINED, score, keep_probability
