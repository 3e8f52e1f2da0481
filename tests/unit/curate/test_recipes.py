"""Each recipe builds its stages for images and for links, and drops what its source says."""

from pathlib import Path

import pytest

from zebra.config.curate import CurateConfig
from zebra.config.files import list_recipes, read_recipe
from zebra.config.structure import structure
from zebra.curate.measurements import Measurement
from zebra.curate.pairs import PAIR_SCHEMA
from zebra.workflows.curate_stages import build_stages

LINK_COLUMNS = ["uid", "id", "text", "url", "language", "original_width", "original_height"]


def list_reasons(name: str, columns: list[str], tmp_path: Path) -> list[str]:
    settings = read_recipe(name, "curate") | {"pool": "pool", "out": "set"}
    if name == "metaclip":
        (tmp_path / "entries.txt").write_text("dog\n")
        settings["balance"] |= {"entries": str(tmp_path / "entries.txt")}
    stages = build_stages(structure(CurateConfig, settings), {}, columns)
    return [getattr(stage, "reason", "") for stage in stages if not isinstance(stage, Measurement)]


def test_all_recipes_are_listed() -> None:
    names = {"align", "archive", "cc12m", "cc3m", "coyo", "datacomp-basic", "everything", "laion", "metaclip"}
    assert set(list_recipes("curate")) == names


@pytest.mark.parametrize("columns", [[*PAIR_SCHEMA.names, "language"], LINK_COLUMNS], ids=["images", "links"])
@pytest.mark.parametrize("name", list_recipes("curate"))
def test_a_recipe_builds_its_stages(name: str, columns: list[str], tmp_path: Path) -> None:
    assert list_reasons(name, columns, tmp_path)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("laion", ["caption under 5 characters", "repeated address and caption", "image under 5,120 bytes"]),
        ("coyo", ["caption over 1,000 characters", "caption of over 10 pairs", "aspect ratio over 3"]),
        ("datacomp-basic", ["caption under 6 characters", "caption under 3 words", "language unsure"]),
        ("cc3m", ["image side under 401 pixels", "aspect ratio over 2"]),
        ("cc12m", ["caption repeats over 20% of its words", "caption with a word that occurs under 20 times"]),
        ("align", ["caption of over 10 pairs", "address with over 1,000 captions", "caption over 20 words"]),
        ("metaclip", ["no entry in the caption", "not drawn by any of its entries"]),
    ],
)
def test_a_recipe_has_the_rules_of_its_source(name: str, reasons: list[str], tmp_path: Path) -> None:
    assert set(reasons) <= set(list_reasons(name, LINK_COLUMNS, tmp_path))
