"""The emoji dataset from a folder of packages: concepts, drawings, held-out images, and the pool with noise."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import open_source

NAMES = [f"{color} {thing}" for color in ("red", "green", "blue", "pink") for thing in ("apple", "car", "hat", "fish")]


@pytest.fixture(scope="module")
def emoji(script):
    return script("emoji")


@pytest.fixture
def packages(emoji, tmp_path):
    """Write packages like those of npm: 16 concepts, a flag, a female form; Noto v1 has an alias and lacks one."""
    modules = tmp_path / "packages" / "node_modules"
    entries = [
        {"label": name, "hexcode": f"1F{n:03}-FE0F", "group": 3, "tags": [f"tag {n}"]} for n, name in enumerate(NAMES)
    ]
    entries.append({"label": "flag: Peru", "hexcode": "1F1F5", "group": 9})
    entries.append({"label": "woman running", "hexcode": "1F3C3-200D-2640", "group": 1, "gender": 0})
    for language in ("en", *emoji.LANGUAGES):
        write_json(
            modules / "emojibase-data" / language / "data.json",
            [
                entry | {"label": entry["label"] if language == "en" else f"{language} {entry['label']}"}
                for entry in entries
            ],
        )
    slugs = [name.replace(" ", "-") for name in NAMES]
    write_json(
        modules / "@iconify-json" / "noto" / "chars.json",
        {f"1f{n:03}": slug for n, slug in enumerate(slugs)}
        | {"1f1f5": "flag-peru", "1f3c3-200d-2640": "woman-running"},
    )
    for artist in emoji.ARTISTS:
        icons = {slug: {"body": f"<circle cx='8' cy='8' r='{n / 4}'/>"} for n, slug in enumerate(slugs)}
        document = {"icons": icons, "width": 16, "height": 16}
        if artist == "noto-v1":
            del icons[slugs[0]]
            document["aliases"] = {slugs[1].replace("-", ""): {"parent": slugs[2], "hFlip": True}}
            del icons[slugs[1]]
        write_json(modules / "@iconify-json" / artist / "icons.json", document)
    return tmp_path / "packages"


@pytest.fixture
def drawn(emoji, monkeypatch):
    """Draw an image of noise that depends on the SVG, without the renderer; return the drawn documents."""
    documents = []

    def draw(svg):
        documents.append(svg)
        image = Image.effect_noise((16, 16), 20 + len(documents)).convert("RGB")
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    monkeypatch.setattr(emoji, "_draw", draw)
    return documents


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def world(emoji, packages, drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(emoji, "NUM_HELD_OUT_CONCEPTS", 3)
    counts = emoji.write_emoji(packages, tmp_path / "world", seed=0)
    return tmp_path / "world", counts


def read_rows(world):
    with (world / "train.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_flags_and_female_forms_are_no_concepts(emoji, packages):
    assert [concept.name for concept in emoji.read_concepts(packages)] == NAMES


def test_training_rows_have_keywords_and_names_in_ten_languages(world):
    row = read_rows(world[0])[0]
    number = NAMES.index(row["caption"])
    assert row["keywords"] == f"tag {number}"
    assert (row["de"], row["zh"]) == (f"de {NAMES[number]}", f"zh {NAMES[number]}")
    assert (world[0] / row["filepath"]).is_file()


def test_held_out_concepts_and_artist_are_not_trained_on(emoji, world):
    out, counts = world
    rows = read_rows(out)
    held_out = read_classification(out / "evaluation" / "unseen-concepts")
    labels = {held_out.source.read(n).label for n in range(len(held_out.source))}
    assert len(labels) == counts["held_out_concepts"] == 3
    assert not {held_out.classnames[label] for label in labels} & {row["caption"] for row in rows}
    assert emoji.HELD_OUT_ARTIST not in {row["artist"] for row in rows}
    assert counts["evaluation"]["unseen-artist"] == 13


def test_words_of_held_out_concepts_occur_in_training(world):
    out, _ = world
    held_out = read_classification(out / "evaluation" / "unseen-concepts")
    words = {word for row in read_rows(out) for word in row["caption"].split()}
    names = {held_out.classnames[held_out.source.read(n).label] for n in range(len(held_out.source))}
    assert {word for name in names for word in name.split()} <= words


def test_missing_drawings_are_counted_and_aliases_drawn_mirrored(world, drawn):
    assert world[1]["skipped"] == {"noto-v1 does not have it": 1}
    assert world[1]["images"]["noto-v1"] == 15
    assert sum("scale(-1 1)" in svg for svg in drawn) == 1


def test_an_svg_that_cannot_be_drawn_is_counted(emoji, packages, monkeypatch):
    monkeypatch.setattr(emoji, "_draw", lambda _svg: None)
    drawings = emoji.draw_all(packages, emoji.read_concepts(packages))
    assert drawings.skipped["openmoji: cannot be drawn"] == len(NAMES)


def test_the_pool_has_the_noise_that_the_truth_says(emoji, world):
    out, _ = world
    counts = emoji.write_pool(out, seed=0)
    truth = {row["key"]: row for row in pq.read_table(out / "truth.parquet").to_pylist()}
    source = open_source(str(out / "pool"), DataConfig())
    records = {source.sample_id(n).split("/")[1]: source.read(n) for n in range(len(source))}
    assert set(counts) == set(emoji.POOL_SHARES)
    assert {key: record.captions for key, record in records.items()} == {
        key: (row["caption"],) for key, row in truth.items()
    }
    for key, row in truth.items():
        is_name = row["caption"] == row["animal"]
        assert is_name == (row["noise"] not in (emoji.WRONG_CAPTION, emoji.BOILERPLATE))
        same_bytes = records[key].image == records[row["original"]].image
        assert same_bytes == (row["noise"] != emoji.NEAR_COPY)
