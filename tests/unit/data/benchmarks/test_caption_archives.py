"""Captioned datasets are read from their authors' layouts, whole or not at all."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.data.benchmarks import caption_layouts as layouts

from zebra.data.benchmarks import json_records
from zebra.data.benchmarks.tasks import MultilingualRetrievalBenchmark, RetrievalBenchmark
from zebra.errors import DataError, MissingSplit
from zebra.evaluators.datasets import load_dataset

WORDS = layouts.WORDS


def captions(benchmark: RetrievalBenchmark) -> list[tuple[str, ...]]:
    return [benchmark.source.read(index).captions for index in range(len(benchmark.source))]


def load_languages(name: str, root: Path) -> MultilingualRetrievalBenchmark:
    benchmark = load_dataset(name, data_root=root)
    assert isinstance(benchmark, MultilingualRetrievalBenchmark)
    return benchmark


def test_crossmodal_has_all_captions_of_each_language(tmp_path: Path) -> None:
    benchmark = load_languages("crossmodal_3600", layouts.write_crossmodal(tmp_path))
    assert tuple(benchmark.captions) == tuple(WORDS)
    assert benchmark.captions["ru"][1] == ("зелёный", "зелёный зелёный")
    assert benchmark.source.sample_id(1) == "images/0000000000000001.jpg"
    assert benchmark.source.read(1).captions == ()
    assert "4 samples, but the catalog expects 3,600" in benchmark.notes[0]
    assert "10 languages, but the catalog expects 36" in benchmark.notes


def test_xtd10_takes_each_language_from_its_folder(tmp_path: Path) -> None:
    benchmark = load_languages("xtd10", layouts.write_xtd10(tmp_path))
    assert list(benchmark.captions) == ["de", "en", "jp", "ko", "ru", "zh"]
    assert benchmark.captions["jp"] == (("赤",), ("緑",), ("青",), ("白",))
    assert benchmark.captions["de"] == tuple((word,) for word in WORDS["de"])


@pytest.mark.parametrize(
    ("name", "folder", "image_list"),
    [("xtd200", "xtd200", "test_image_names.txt"), ("flickr30k_200", "flickr30k-200", "filenames.txt")],
)
def test_the_languages_of_flores_are_files_with_its_codes(tmp_path: Path, name, folder, image_list) -> None:
    benchmark = load_languages(name, layouts.write_flores(tmp_path, folder, image_list))
    assert list(benchmark.captions) == ["deu_Latn", "rus_Cyrl", "zho_Hans", "zho_Hant"]
    assert benchmark.captions["rus_Cyrl"] == tuple((word,) for word in WORDS["ru"])


def test_xflickrco_is_read_from_one_json(tmp_path: Path) -> None:
    benchmark = load_languages("xflickrco", layouts.write_xflickrco(tmp_path))
    assert benchmark.captions == {code: tuple((word,) for word in WORDS[code]) for code in ("de", "zh")}


def test_coco_cn_has_the_images_of_the_split_with_one_or_more_captions(tmp_path: Path) -> None:
    benchmark = load_dataset("coco_cn", data_root=layouts.write_coco_cn(tmp_path))
    assert isinstance(benchmark, RetrievalBenchmark)
    assert captions(benchmark) == [("红",), ("绿", "绿色"), ("蓝",)]
    assert [benchmark.source.sample_id(index).split("/")[0] for index in range(3)] == [
        "train2014",
        "val2014",
        "val2014",
    ]
    assert "captions in Chinese" in benchmark.notes


def test_docci_has_the_split_of_each_record(tmp_path: Path) -> None:
    layouts.write_docci(tmp_path)
    test, train = (load_dataset("docci", split, tmp_path) for split in ("test", "train"))
    assert captions(test) == [("All of it is green. Noise.",), ("All of it is blue. Noise.",)]
    assert captions(train) == [("All of it is red. Noise.",)]
    with pytest.raises(MissingSplit, match="no split 'val'"):
        load_dataset("docci", "val", tmp_path)


def test_imageinwords_joins_three_files(tmp_path: Path) -> None:
    benchmark = load_dataset("iiw", data_root=layouts.write_imageinwords(tmp_path))
    assert captions(benchmark) == [("Red.",), ("Green.",), ("Blue.",)]
    assert [benchmark.source.sample_id(index) for index in range(3)] == [
        "docci/test_00001.jpg",
        "docci_aar/aar_1.jpg",
        "dci/sa_1.jpg",
    ]


def test_urban1k_pairs_files_by_their_number(tmp_path: Path) -> None:
    benchmark = load_dataset("urban1k", data_root=layouts.write_urban1k(tmp_path))
    assert captions(benchmark) == [(f"The image shows something {color}.",) for color in ("blue", "red", "green")]


def test_further_lines_of_a_caption_file_are_counted(tmp_path: Path) -> None:
    (layouts.write_urban1k(tmp_path) / "Urban1k" / "caption" / "2.txt").write_text("First.\n\nSecond.\n")
    benchmark = load_dataset("urban1k", data_root=tmp_path)
    assert captions(benchmark)[1] == ("First.",)
    assert any(note.startswith("1 captions have further lines") for note in benchmark.notes)


def test_sharegpt4v_has_the_first_thousand_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "CHUNK_CHARS", 50)  # so that records continue in the next chunk
    layouts.write_sharegpt4v(tmp_path)
    path = tmp_path / "sharegpt4v" / "data" / "share-captioner_coco_lcs_sam_1246k_1107.json"
    assert captions(load_dataset("sharegpt4v_1k", data_root=tmp_path)) == [(f"No. {n}. E",) for n in range(4)]
    path.write_text(path.read_text()[:-60])
    with pytest.raises(DataError, match="truncated JSON"):
        load_dataset("sharegpt4v_1k", data_root=tmp_path)


def test_records_behind_the_limit_are_not_read(tmp_path: Path) -> None:
    layouts.write_sharegpt4v(tmp_path, 1001)
    for number in range(4, 1000):
        image = tmp_path / "sharegpt4v" / "data" / "sam" / "images" / f"sa_{number}.jpg"
        image.symlink_to("sa_0.jpg")
    benchmark = load_dataset("sharegpt4v_1k", data_root=tmp_path)
    assert len(benchmark.source) == 1000
    assert benchmark.notes == ()


def test_dci_has_descriptions_of_all_splits_and_summaries_of_one(tmp_path: Path) -> None:
    layouts.write_dci(tmp_path)
    assert captions(load_dataset("dci", data_root=tmp_path)) == [(f"Photo {number}. More.",) for number in range(3)]
    assert captions(load_dataset("sdci", data_root=tmp_path)) == [("photo 1",), ("photo 2",)]


def test_the_crops_of_dci_are_those_of_its_authors(tmp_path: Path) -> None:
    layouts.write_dci(tmp_path)
    splits = tmp_path / "densely_captioned_images" / "splits.json"
    splits.write_text(json.dumps({"test": ["0.json", "1.json", "2.json"]}))
    benchmark = load_dataset("sdci_crops", data_root=tmp_path)
    assert isinstance(benchmark, RetrievalBenchmark)
    assert benchmark.metric == "matching_of_8"
    assert [benchmark.source.sample_id(index) for index in range(3)] == ["sa_0.jpg", "sa_0.jpg#0", "sa_1.jpg"]
    assert captions(benchmark) == [("photo 0",), ("the part",), ("photo 1",)]
    assert benchmark.notes == ("left out: 1 images without summaries or negatives, as in the authors' evaluation",)
    photo, crop = (np.asarray(Image.open(io.BytesIO(benchmark.source.read(index).image))) for index in (0, 1))
    margin = int(250 * 0.15)
    assert np.array_equal(crop, photo[50 - margin : 300 + margin, 100 - margin : 350 + margin])


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    layouts.write_crossmodal(tmp_path)
    (tmp_path / "xm3600" / "images" / "0000000000000002.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 4 images, such as images/0000000000000002\.jpg"):
        load_dataset("crossmodal_3600", data_root=tmp_path)


def test_a_file_of_another_length_is_refused(tmp_path: Path) -> None:
    layouts.write_xtd10(tmp_path)
    path = tmp_path / "Cross-lingual-Test-Dataset-XTD10" / "XTD10" / "test_1kcaptions_ru.txt"
    path.write_text("красный\n")
    with pytest.raises(DataError, match=r"test_1kcaptions_ru.txt has 1 lines, but .* lists 4 images"):
        load_dataset("xtd10", data_root=tmp_path)


def test_a_line_separator_inside_a_caption_shifts_no_captions(tmp_path: Path) -> None:
    layouts.write_xtd10(tmp_path)
    path = tmp_path / "Cross-lingual-Test-Dataset-XTD10" / "XTD10" / "test_1kcaptions_ru.txt"
    path.write_text("красный\u2028цвет\r\nзелёный\r\nсиний\r\nбелый", encoding="utf-8", newline="")
    rows = load_languages("xtd10", tmp_path).captions["ru"]
    assert [row[0] for row in rows[1:]] == ["зелёный", "синий", "белый"]


def test_an_image_without_captions_in_any_language_is_left_out_with_a_note(tmp_path: Path) -> None:
    layouts.write_crossmodal(tmp_path, ["de"])
    path = tmp_path / "xm3600" / "captions.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[3]["de"]["caption"] = []
    records[0]["sw"] = {"caption": ["nyekundu"]}
    layouts.write_json_lines(path, records)
    benchmark = load_languages("crossmodal_3600", tmp_path)
    assert benchmark.captions["sw"] == (("nyekundu",), (), ())
    assert "left out: 1 images without a caption" in benchmark.notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "captions.jsonl:1: invalid JSON"),
        ("[]", "record 1: expected an object"),
        ('{"de": {"caption": ["a"]}}', "record 1 has no image/key"),
        ('{"image/key": "0", "de": {"caption": 5}}', "expected a caption or a list of captions"),
        ('{"image/key": "0"}', "no images with captions"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, line: str, message: str) -> None:
    layouts.write_crossmodal(tmp_path)
    (tmp_path / "xm3600" / "captions.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        load_dataset("crossmodal_3600", data_root=tmp_path)


def damage_dci(root: Path) -> None:
    (root / "densely_captioned_images" / "annotations" / "0.json").write_text('{"image": "sa_0.jpg"}')


def remove_list(root: Path) -> None:
    (root / "Cross-lingual-Test-Dataset-XTD10" / "XTD10" / "test_image_names.txt").unlink()


def remove_tab(root: Path) -> None:
    (root / "coco-cn-version1805v1.1" / "imageid.human-written-caption.txt").write_text("COCO_1#0 红")


def drop_row(root: Path) -> None:
    (root / "xflickrco" / "xflickrco.json").write_text('{"images": ["0.jpg"], "captions": {"de": []}}')


def write_latin1(root: Path) -> None:
    (root / "Urban1k" / "caption" / "1.txt").write_bytes(b"caf\xe9")


@pytest.mark.parametrize(
    ("name", "write", "damage", "message"),
    [
        ("dci", layouts.write_dci, damage_dci, "another content than DCI"),
        ("xtd10", layouts.write_xtd10, remove_list, "cannot read .*test_image_names.txt"),
        ("coco_cn", layouts.write_coco_cn, remove_tab, "caption.txt:1: expected image#number"),
        ("xflickrco", layouts.write_xflickrco, drop_row, "captions in de are not those of 1 images"),
        ("urban1k", layouts.write_urban1k, write_latin1, "cannot read .*1.txt"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path: Path, name: str, write: Callable[[Path], Path], damage: Callable[[Path], None], message: str
) -> None:
    damage(write(tmp_path))
    with pytest.raises(DataError, match=message):
        load_dataset(name, data_root=tmp_path)


def test_other_captions_are_another_dataset(tmp_path: Path) -> None:
    first = load_languages("xtd10", layouts.write_xtd10(tmp_path)).source.digest
    path = tmp_path / "Cross-lingual-Test-Dataset-XTD10" / "MIC" / "test_1kcaptions_de.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("rot", "gelb"), encoding="utf-8")
    assert load_languages("xtd10", tmp_path).source.digest != first
