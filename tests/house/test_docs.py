"""Prose that names files, targets and flags names ones that exist."""

import re
from pathlib import Path

import pytest

from zebra.cli.main import VERBS
from zebra.config.files import list_recipes, read_recipe
from zebra.config.structure import structure
from zebra.config.train import TrainConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_that_are_mentioned_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", page.read_text())) <= targets | {"it", "and", "the"}


def test_every_verb_of_the_command_line_is_in_the_interface_page():
    page = (ROOT / "docs" / "interface.md").read_text()
    for verb in VERBS:
        assert f"zebra {verb}" in page


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_a_valid_config(name):
    structure(TrainConfig, read_recipe(name) | {"data": "x", "out": "y"})


def test_rows_of_measurements_name_no_folder_of_a_machine():
    rows = (ROOT / "benchmarks" / "results").glob("*.jsonl")
    paths = {
        f"{path.name}: {match}"
        for path in rows
        for match in re.findall(r"(?<![\w./])/(?:tmp|home|work|root)/[\w./-]*", path.read_text(encoding="utf-8"))
    }
    assert paths == set()
