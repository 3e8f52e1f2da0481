"""The reader of WinoGAViL's layout, and its bad input."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from zebra.data.benchmarks.association import is_association_dataset, read_association
from zebra.data.benchmarks.catalog import find_catalog_entry, read_catalog_dataset
from zebra.errors import DataError

HEADER = [
    "", "candidates", "cue", "associations", "score_fool_the_ai", "num_associations", "annotation_index",
    "num_candidates", "solvers_jaccard_mean", "solvers_jaccard_std", "images_source", "ID",
]  # fmt: skip
FIVE = ["eagle", "tea party", "factory", "metal", "ash"]
TEN = [*FIVE, "owl", "moon", "sun", "reed", "jet"]


def write_winogavil(folder: Path, rows: list[tuple[str, object, object]]) -> Path:
    """Write a table in the authors' columns, and an image for each known name."""
    images = folder / "winogavil_images"
    images.mkdir(parents=True)
    for number, name in enumerate(TEN):
        Image.new("RGB", (8, 8), (25 * number, 0, 0)).save(images / f"{name}.jpg")
    with (folder / "winogavil_dataset.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number, (cue, candidates, associations) in enumerate(rows):
            cells = [x if isinstance(x, str) else json.dumps(x) for x in (candidates, associations)]
            writer.writerow([number, cells[0], cue, cells[1], 0, 2, number, 5, 1.0, 0.0, "swow", number])
    return folder


def test_the_authors_layout_is_read_with_each_image_once(tmp_path):
    folder = write_winogavil(tmp_path / "winogavil", [("bald", FIVE, ["eagle", "ash"]), ("night", TEN, ["moon"])])
    assert is_association_dataset(folder)
    benchmark = read_catalog_dataset(find_catalog_entry("WinoGAViL"), tmp_path)
    assert (benchmark.name, benchmark.metric) == ("winogavil", "jaccard_10-12")
    assert len(benchmark.source) == 10
    assert benchmark.source.sample_id(1) == "tea party.jpg"
    bald, night = benchmark.questions
    assert (bald.cue, bald.candidates, bald.associated) == ("bald", (0, 1, 2, 3, 4), (0, 4))
    assert night.candidates == tuple(range(10))


def test_another_question_on_the_same_images_changes_the_digest(tmp_path):
    first = read_association(write_winogavil(tmp_path / "a", [("bald", FIVE, ["eagle"])]))
    second = read_association(write_winogavil(tmp_path / "b", [("bald", FIVE, ["ash"])]))
    assert first.source.digest != second.source.digest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("bald", FIVE, ["owl"]), "csv:2: the association 'owl' is no candidate"),
        (("", FIVE, ["ash"]), "csv:2 has no cue"),
        (("bald", FIVE, []), "associations must be a list of image names; got '\\[\\]'"),
        (("bald", "eagle, ash", ["ash"]), "candidates is no JSON list"),
        (("bald", [*FIVE, "ash"], ["ash"]), "candidates names an image twice"),
        (("bald", [*FIVE, 3], ["ash"]), "candidates must be a list of image names"),
        (("bald", [*FIVE, "zebra"], ["ash"]), "the image 'zebra' is missing"),
        (("bald", [*FIVE, "../winogavil_dataset.csv"], ["ash"]), "is missing"),
    ],
)
def test_a_bad_row_is_an_error_that_names_the_line(tmp_path, row, message):
    folder = write_winogavil(tmp_path / "winogavil", [row])
    with pytest.raises(DataError, match=message):
        read_association(folder)


def test_without_rows_or_images_there_is_an_error(tmp_path):
    folder = write_winogavil(tmp_path / "winogavil", [])
    with pytest.raises(DataError, match="has no rows"):
        read_association(folder)
    (folder / "winogavil_images").rename(folder / "pictures")
    table = folder / "winogavil_dataset.csv"
    table.write_text('cue,candidates,associations\nbald,"[""eagle""]","[""eagle""]"\n')
    with pytest.raises(DataError, match="no folder of images beside"):
        read_association(folder)
    assert not is_association_dataset(folder / "pictures")
