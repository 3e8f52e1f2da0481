"""Names and keywords of emoji in more than a hundred languages, from Unicode's CLDR.

    npm install --prefix PACKAGES cldr-annotations-full cldr-annotations-derived-full

The second package has the sequences, such as "man: red hair". Both are optional.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FOLDERS = {
    "cldr-annotations-full/annotations": "annotations",
    "cldr-annotations-derived-full/annotationsDerived": "annotationsDerived",
}
"""Folder of a package → key of its files."""
MIN_NAMES = 1000
"""A language with fewer names is left out: most of these are regional variants that list the differences only."""
SCHEMA = pa.schema(
    {"concept": pa.string(), "language": pa.string(), "name": pa.string(), "keywords": pa.list_(pa.string())}
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """How a language calls an emoji."""

    name: str
    keywords: tuple[str, ...]


def read_annotations(packages: Path, codes: Iterable[str]) -> dict[str, dict[str, Annotation]]:
    """Return language → code → annotation for these emoji; empty without CLDR's packages.

    Args:
        packages: The folder with node_modules.
        codes: Code points in hexadecimal with hyphens, without variation selectors, as "1f600".
    """
    wanted = set(codes)
    by_language: dict[str, dict[str, Annotation]] = {}
    for folder, key in FOLDERS.items():
        for path in sorted((packages / "node_modules" / folder).glob("*/annotations.json")):
            entries = json.loads(path.read_text(encoding="utf-8"))[key].get("annotations", {})
            for text, entry in entries.items():
                code = make_code(text)
                if code in wanted and "tts" in entry:
                    keywords = tuple(entry.get("default", ()))
                    by_language.setdefault(path.parent.name, {})[code] = Annotation(entry["tts"][0], keywords)
    most = max(map(len, by_language.values()), default=0)
    return {language: names for language, names in by_language.items() if len(names) >= min(MIN_NAMES, most)}


def make_code(text: str) -> str:
    """Return the code points of an emoji in hexadecimal, without variation selectors.

    >>> make_code("❤️")
    '2764'
    """
    return "-".join(f"{ord(character):x}" for character in text.replace("\ufe0f", ""))


def write_names(path: Path, annotations: Mapping[str, Mapping[str, Annotation]]) -> None:
    """Write a row for each concept and language."""
    rows = [
        {"concept": code, "language": language, "name": annotation.name, "keywords": list(annotation.keywords)}
        for language, names in sorted(annotations.items())
        for code, annotation in sorted(names.items())
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def distinct_texts(text_by_code: Mapping[str, str], codes: Sequence[str]) -> dict[str, str]:
    """Return the texts of these concepts that are not blank and that no other concept has."""
    texts = {code: text_by_code[code].strip() for code in codes if text_by_code.get(code, "").strip()}
    count = Counter(texts.values())
    return {code: text for code, text in texts.items() if count[text] == 1}
