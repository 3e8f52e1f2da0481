"""A dataset of real images: emoji of nine artists with human names, keywords and translations.

    npm install --prefix PACKAGES emojibase-data @iconify-json/{noto,noto-v1,twemoji,openmoji,fluent-emoji} \
        @iconify-json/{fluent-emoji-flat,emojione,emojione-v1,fxemoji} cldr-annotations-{full,derived-full}
    pip install resvg-py
    python benchmarks/emoji.py PACKAGES --out WORLD

WORLD/train.csv lists the images of all artists but one and of all concepts but 150: `filepath`, `caption` (the English
name), `keywords`, `artist`, `concept`, and the name in nine more languages, or nineteen with CLDR's packages.
WORLD/names.parquet has CLDR's names and keywords in all its languages. WORLD/evaluation/ holds CLIP_benchmark folders:

    unseen-artist    the images of Twemoji, with the names of all concepts as classes
    unseen-concepts  the 150 concepts by the other artists, with the same classes
    keywords         retrieval between the images of unseen-artist and their English keywords
    names-LANGUAGE   retrieval between these images and their names in one of ten languages, English among them

A concept whose text another one has too is left out of a retrieval set. Nothing of the packages is in this repository;
WORLD/licenses.json has the license of each.

WORLD/pool/ and WORLD/truth.parquet are a pool for benchmarks/curation.py: the training images with wrong captions,
boilerplate and copies mixed in, and the truth about each pair.

Concepts are emoji without flags, skin tones and the male and female forms of others: 1,398 single emoji and 138
sequences, such as families, occupations and "person running: facing right". Images of an SVG that the renderer
cannot draw are skipped and counted.
"""

import argparse
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emoji_names import Annotation, distinct_texts, read_annotations, write_names
from emoji_pool import encode_png, write_pool
from zebra.data.benchmarks.writer import write_classification, write_retrieval

ARTISTS = (
    "noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "emojione", "emojione-v1", "fxemoji",
)  # fmt: skip
HELD_OUT_ARTIST = "twemoji"
NUM_HELD_OUT_CONCEPTS = 150
LANGUAGES = ("de", "es", "fr", "hi", "ja", "ko", "pt", "ru", "zh")
CLDR_LANGUAGES = ("ar", "bn", "id", "it", "nl", "pl", "sw", "th", "tr", "vi")
"""Further columns, from CLDR."""
COMPONENTS, FLAGS = 2, 9
"""Groups of emojibase that are no concepts of their own."""
SIDE = 96
TEMPLATES = ("{c}",)


@dataclass(frozen=True, slots=True)
class Concept:
    """An emoji, apart from how an artist draws it."""

    code: str
    icon: str
    """Its name in the packages of artists."""
    name: str
    keywords: tuple[str, ...]
    translations: Mapping[str, str]


@dataclass(slots=True)
class Drawings:
    """The images that could be drawn."""

    png_by_artist: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Artist → code → PNG."""
    skipped: Counter[str] = field(default_factory=Counter)


def read_concepts(packages: Path) -> list[Concept]:
    """Read the concepts with a name that occurs once."""
    modules = packages / "node_modules"
    entries = _read_json(modules / "emojibase-data" / "en" / "data.json")
    icon_by_code = _read_json(modules / "@iconify-json" / "noto" / "chars.json")
    translated = {
        language: {
            entry["hexcode"]: entry["label"]
            for entry in _read_json(modules / "emojibase-data" / language / "data.json")
        }
        for language in LANGUAGES
    }
    concepts: dict[str, Concept] = {}
    for entry in entries:
        code = entry["hexcode"].lower().replace("-fe0f", "")
        is_concept = entry.get("group", COMPONENTS) not in (COMPONENTS, FLAGS) and "gender" not in entry
        if is_concept and code in icon_by_code:
            translations = {language: names[entry["hexcode"]] for language, names in translated.items()}
            name = entry["label"]
            concepts.setdefault(
                name, Concept(code, icon_by_code[code], name, tuple(entry.get("tags", ())), translations)
            )
    return list(concepts.values())


def draw_all(packages: Path, concepts: list[Concept]) -> Drawings:
    """Draw every concept by every artist who has it, on white."""
    drawings = Drawings()
    for artist in ARTISTS:
        icons = IconSet(packages / "node_modules" / "@iconify-json" / artist / "icons.json")
        drawings.png_by_artist[artist] = {}
        for concept in concepts:
            svg = icons.find_svg(concept.icon)
            if svg is None:
                drawings.skipped[f"{artist} does not have it"] += 1
                continue
            png = _draw(svg)
            if png is None:
                drawings.skipped[f"{artist}: cannot be drawn"] += 1
            else:
                drawings.png_by_artist[artist][concept.code] = png
    return drawings


class IconSet:
    """The drawings of an artist, from an Iconify package."""

    def __init__(self, path: Path) -> None:
        self._document = _read_json(path)
        self._icons, self._aliases = self._document["icons"], self._document.get("aliases", {})
        self._name_by_letters = {name.replace("-", ""): name for name in (*self._aliases, *self._icons)}

    def find_svg(self, name: str) -> str | None:
        """Return an icon as a document; None if the artist has none of this name. Hyphens do not matter."""
        found = self._name_by_letters.get(name.replace("-", ""))
        is_mirrored = False
        while found in self._aliases:
            is_mirrored ^= self._aliases[found].get("hFlip", False)
            found = self._aliases[found]["parent"]
        if found is None:
            return None
        icon = self._icons[found]
        width, height = (icon.get(side, self._document.get(side, 16)) for side in ("width", "height"))
        body = f'<g transform="translate({width} 0) scale(-1 1)">{icon["body"]}</g>' if is_mirrored else icon["body"]
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{body}</svg>'
        )


def choose_held_out(concepts: list[Concept], seed: int) -> set[str]:
    """Return the codes of random concepts whose every word occurs in the names of at least two others."""
    count = Counter(word for concept in concepts for word in set(split_words(concept.name)))
    candidates = [
        concept.code
        for concept in concepts
        if len(split_words(concept.name)) > 1 and all(count[word] > 2 for word in split_words(concept.name))
    ]
    rng = np.random.default_rng(seed)
    return set(rng.choice(candidates, min(NUM_HELD_OUT_CONCEPTS, len(candidates) // 2), replace=False).tolist())


def split_words(name: str) -> list[str]:
    """Return the words of a name in lower case."""
    return re.findall(r"\w+", name.lower())


def write_emoji(packages: Path, out: Path, seed: int) -> dict[str, Any]:
    """Write images, tables and evaluation sets; return the counts."""
    concepts = read_concepts(packages)
    annotations = read_annotations(packages, [concept.code for concept in concepts])
    drawings, held_out = draw_all(packages, concepts), choose_held_out(concepts, seed)
    rows = list(_write_images(out, concepts, drawings, held_out, annotations))
    with (out / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    names = [concept.name for concept in concepts]
    by_artist = drawings.png_by_artist
    evaluation = {
        "unseen-artist": [
            (by_artist[HELD_OUT_ARTIST][concept.code], "png", label)
            for label, concept in enumerate(concepts)
            if concept.code in by_artist[HELD_OUT_ARTIST] and concept.code not in held_out
        ],
        "unseen-concepts": [
            (images[concept.code], "png", label)
            for artist, images in by_artist.items()
            if artist != HELD_OUT_ARTIST
            for label, concept in enumerate(concepts)
            if concept.code in held_out and concept.code in images
        ],
    }
    for name, samples in evaluation.items():
        write_classification(out / "evaluation" / name, samples, names, TEMPLATES)
    unseen_by_code = {code: png for code, png in by_artist[HELD_OUT_ARTIST].items() if code not in held_out}
    texts_by_set = {"keywords": {concept.code: ", ".join(concept.keywords) for concept in concepts}}
    texts_by_set["names-en"] = {concept.code: concept.name for concept in concepts}
    for language in LANGUAGES:
        texts_by_set[f"names-{language}"] = {concept.code: concept.translations[language] for concept in concepts}
    num_retrieval = {}
    for name, text_by_code in texts_by_set.items():
        texts = distinct_texts(text_by_code, list(unseen_by_code))
        num_retrieval[name] = len(texts)
        write_retrieval(
            out / "evaluation" / name, [(unseen_by_code[code], "png", (text,)) for code, text in texts.items()]
        )
    if annotations:
        write_names(out / "names.parquet", annotations)
    licenses = read_licenses(packages)
    (out / "licenses.json").write_text(json.dumps(licenses, indent=1) + "\n", encoding="utf-8")
    return {
        "concepts": len(concepts),
        "held_out_concepts": len(held_out),
        "images": {artist: len(images) for artist, images in by_artist.items()},
        "train": len(rows),
        "evaluation": {name: len(samples) for name, samples in evaluation.items()} | num_retrieval,
        "languages in names.parquet": len(annotations),
        "licenses": licenses,
        "skipped": dict(sorted(drawings.skipped.items())),
    }


def read_licenses(packages: Path) -> dict[str, str]:
    """Return the license of each package, as its package.json names it."""
    paths = sorted((packages / "node_modules").glob("**/package.json"))
    documents = [_read_json(path) for path in paths]
    return {document["name"]: document.get("license", "unknown") for document in documents if "name" in document}


def _write_images(
    out: Path,
    concepts: list[Concept],
    drawings: Drawings,
    held_out: set[str],
    annotations: Mapping[str, Mapping[str, Annotation]],
) -> Iterator[dict[str, str]]:
    """Write the training images; yield a row for each. A language without a name of the concept has an empty cell."""
    languages = [language for language in CLDR_LANGUAGES if language in annotations]
    for artist in ARTISTS:
        if artist == HELD_OUT_ARTIST:
            continue
        (out / "images" / artist).mkdir(parents=True, exist_ok=True)
        for concept in concepts:
            png = drawings.png_by_artist[artist].get(concept.code)
            if png is None or concept.code in held_out:
                continue
            path = Path("images") / artist / f"{concept.code}.png"
            (out / path).write_bytes(png)
            yield {
                "filepath": str(path),
                "caption": concept.name,
                "keywords": ", ".join(concept.keywords),
                "artist": artist,
                "concept": concept.code,
                **concept.translations,
                **{
                    language: names[concept.code].name if concept.code in names else ""
                    for language in languages
                    for names in (annotations[language],)
                },
            }


def _draw(svg: str) -> bytes | None:
    """Return a PNG of SIDE × SIDE pixels on white; None if the renderer refuses the document or panics."""
    from resvg_py import svg_to_bytes

    try:
        rendered = svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE, background="#ffffff", skip_system_fonts=True)
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return None
    return encode_png(Image.open(io.BytesIO(rendered)).convert("RGB"))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Write the dataset and print its counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts = write_emoji(args.packages, args.out, args.seed)
    print(json.dumps(counts | {"pool": write_pool(args.out, args.seed)}, indent=1))


if __name__ == "__main__":
    main()
