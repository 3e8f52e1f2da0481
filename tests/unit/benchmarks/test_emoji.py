"""The emoji dataset from a folder of packages: concepts, drawings, held-out images, and the pool with noise."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from zebra.cli.main import main
from zebra.config.data import DataConfig
from zebra.config.files import read_recipe
from zebra.config.serve import ServeConfig
from zebra.data.benchmarks.clip_benchmark import read_classification, read_retrieval
from zebra.data.sources import open_source
from zebra.store import Store

NAMES = [f"{color} {thing}" for color in ("red", "green", "blue", "pink") for thing in ("apple", "car", "hat", "fish")]


CODES_AND_NAMES = [(int(f"{n:03}", 16), name) for n, name in enumerate(NAMES)]
EXAMPLE = Path(__file__).parents[3] / "examples" / "emoji"


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
        write_json(modules / "@iconify-json" / artist / "package.json", {"name": f"@x/{artist}", "license": "MIT"})
    texts = {chr(0x1F000 + n) if n else "\U0001f000\ufe0f": name for n, name in CODES_AND_NAMES}
    for language in (*emoji.CLDR_LANGUAGES, "de-XX"):
        names = dict(list(texts.items())[:1]) if language == "de-XX" else dict(list(texts.items())[:15])
        entries = {text: {"tts": [f"{language} {name}"], "default": [name]} for text, name in names.items()}
        folder = modules / "cldr-annotations-full" / "annotations" / language
        write_json(folder / "annotations.json", {"annotations": {"annotations": entries | {"x": {"default": ["y"]}}}})
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


def test_a_further_language_has_an_empty_cell_where_cldr_has_no_name(world):
    """And a variant that lists few names, de-XX, is left out."""
    rows = read_rows(world[0])
    last = f"1f{len(NAMES) - 1:03}"
    assert {row["ar"] for row in rows if row["concept"] == last} <= {""}
    assert all(row["ar"] == f"ar {row['caption']}" for row in rows if row["concept"] != last)
    names = pq.read_table(world[0] / "names.parquet").to_pylist()
    assert {row["language"] for row in names} == {"ar", "bn", "id", "it", "nl", "pl", "sw", "th", "tr", "vi"}
    assert names[0] == {"concept": "1f000", "language": "ar", "name": f"ar {NAMES[0]}", "keywords": [NAMES[0]]}


def test_retrieval_sets_have_the_texts_that_only_one_concept_has(emoji, packages, drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(emoji, "NUM_HELD_OUT_CONCEPTS", 3)
    monkeypatch.setattr(emoji, "LANGUAGES", ("de",))
    path = packages / "node_modules" / "emojibase-data" / "de" / "data.json"
    entries = json.loads(path.read_text())
    held_out = emoji.choose_held_out(emoji.read_concepts(packages), 0)
    first, second = [entry for entry in entries if entry["hexcode"].lower().removesuffix("-fe0f") not in held_out][:2]
    first["label"] = second["label"] = "gleich"
    write_json(path, entries)
    counts = emoji.write_emoji(packages, tmp_path / "world", seed=0)["evaluation"]
    assert (counts["names-en"], counts["names-de"], counts["keywords"]) == (13, 11, 13)
    source = read_retrieval(tmp_path / "world" / "evaluation" / "names-de").source
    captions = [source.read(index).captions for index in range(len(source))]
    assert len(set(captions)) == 11
    assert all(caption.startswith("de ") for (caption,) in captions)


def test_the_license_of_each_package_is_written(emoji, world):
    licenses = json.loads((world[0] / "licenses.json").read_text())
    assert licenses == {f"@x/{artist}": "MIT" for artist in emoji.ARTISTS} == world[1]["licenses"]


def list_example_commands(out):
    """Return the zebra commands of build.sh, as lists of arguments."""
    script = (EXAMPLE / "build.sh").read_text().replace("\\\n", " ")
    values = {"here": str(EXAMPLE), "out": str(out), "evaluation": f"{out}/world/evaluation"}
    lines = [line.replace('"$@"', "") for line in script.splitlines() if line.startswith("zebra ")]
    return [shlex.split(re.sub(r"\$(\w+)", lambda match: values[match[1]], line))[1:] for line in lines]


def test_the_example_trains_and_embeds_a_small_world(emoji, packages, drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(emoji, "NUM_HELD_OUT_CONCEPTS", 3)
    emoji.write_emoji(packages, tmp_path / "world", seed=0)
    train, embed = list_example_commands(tmp_path)
    assert main([*train, "--steps", "1", "--batch-size", "8", "--workers", "0", "--precision", "fp32"]) == 0
    assert main([*embed, "--workers", "1", "--precision", "fp32"]) == 0
    with Store.open(tmp_path / "store") as store:
        assert len(store) == 13


def test_the_columns_of_the_example_are_twenty_languages(emoji):
    columns = read_recipe(str(EXAMPLE / "recipe.yaml"))["data_options"]["caption_columns"]
    assert sorted(columns) == sorted(("caption", *emoji.LANGUAGES, *emoji.CLDR_LANGUAGES))
    assert len(columns) == 20


def test_the_commands_of_the_example_are_those_of_its_page(emoji):
    commands = re.findall(r"^```sh\n(.*?)^```", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    install, build, serve = commands[0].splitlines()
    assert install.endswith("--prefix examples/emoji")
    assert build == "sh examples/emoji/build.sh"
    args = shlex.split(serve)
    assert args[:2] == ["zebra", "serve"]
    config = ServeConfig(**{name.removeprefix("--"): value for name, value in zip(args[2::2], args[3::2], strict=True)})
    train, embed = list_example_commands("runs/emoji")
    assert config.model == f"{train[train.index('--out') + 1]}/model" == embed[1]
    assert config.store == embed[embed.index("--out") + 1]
    packages = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]
    assert {f"@iconify-json/{artist}" for artist in emoji.ARTISTS} < set(packages)


def test_missing_drawings_are_counted_and_aliases_drawn_mirrored(world, drawn):
    assert world[1]["skipped"] == {"noto-v1 does not have it": 1}
    assert world[1]["images"]["noto-v1"] == 15
    assert sum("scale(-1 1)" in svg for svg in drawn) == 1


def test_an_svg_that_cannot_be_drawn_is_counted(emoji, packages, monkeypatch):
    monkeypatch.setattr(emoji, "_draw", lambda _svg: None)
    drawings = emoji.draw_all(packages, emoji.read_concepts(packages))
    assert drawings.skipped["openmoji: cannot be drawn"] == len(NAMES)


def test_the_pool_has_the_noise_that_the_truth_says(script, world):
    emoji_pool, (out, _) = script("emoji_pool"), world
    counts = emoji_pool.write_pool(out, seed=0)
    truth = {row["key"]: row for row in pq.read_table(out / "truth.parquet").to_pylist()}
    source = open_source(str(out / "pool"), DataConfig())
    records = {source.sample_id(n).split("/")[1]: source.read(n) for n in range(len(source))}
    assert set(counts) == set(emoji_pool.POOL_SHARES)
    assert {key: record.captions for key, record in records.items()} == {
        key: (row["caption"],) for key, row in truth.items()
    }
    for key, row in truth.items():
        is_name = row["caption"] == row["animal"]
        assert is_name == (row["noise"] not in (emoji_pool.WRONG_CAPTION, emoji_pool.BOILERPLATE))
        same_bytes = records[key].image == records[row["original"]].image
        assert same_bytes == (row["noise"] != emoji_pool.NEAR_COPY)
