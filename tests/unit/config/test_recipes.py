"""Recipes: their headers, commands and settings."""

import re
import shlex
from importlib import resources
from pathlib import Path

import pytest
import torch

from zebra.cli.main import VERBS
from zebra.cli.train import parse_recipe_flags, parse_train_config
from zebra.config.files import list_recipes
from zebra.models import CLIP

HEADINGS = ("command", "data", "hardware", "time", "expect", "source")
PAGE = Path(__file__).parents[3] / "docs" / "recipes.md"
SIZES = {
    "rn50-cc3m": 102_007_137,
    "vit-b16-cc12m": 149_620_737,
    "siglip-b16-cc12m": 149_620_737 + 1,  # the bias
    "vit-b32-yfcc15m": 151_277_313,
    "vit-b32-datacomp-small": 151_277_313,
    "vit-b32-laion400m": 151_277_313,
}
OWN_RECIPES = ("demo", "tiny")


def header(name):
    """Return the text of a recipe and the entries of its header by heading."""
    text = (resources.files("zebra") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    entries, last = {}, None
    for line in text.splitlines():
        if heading := re.match(r"#   (\w+)\s+(\S.*)", line):
            last = heading[1]
            entries[last] = heading[2]
        elif last and (more := re.match(r"#      +(\S.*)", line)):
            entries[last] += " " + more[1]
        else:
            last = None
    return text, entries


def config(command):
    """Parse a command as `zebra train` does."""
    program, verb, *args = shlex.split(command)
    assert (program, verb) == ("zebra", "train")
    return parse_train_config(parse_recipe_flags(args))


def test_all_recipes_but_our_own_have_a_published_size():
    assert {*SIZES, *OWN_RECIPES} == set(list_recipes())


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_has_a_complete_header(name):
    text, entries = header(name)
    assert set(HEADINGS) <= set(entries), f"{name} lacks {set(HEADINGS) - set(entries)}"
    assert entries["expect"]
    assert ("not run here" in text.lower()) == (name not in OWN_RECIPES)


@pytest.mark.parametrize("name", list_recipes())
def test_the_command_of_a_recipe_is_valid(name):
    command = header(name)[1]["command"]
    if name == "demo":
        assert command == "zebra demo"
        assert "demo" in VERBS
        return
    parsed = config(command)
    assert (f"--recipe {name}" in command) == (name != "tiny")
    assert parsed.data
    assert parsed.out


@pytest.mark.parametrize("name", SIZES)
def test_a_recipe_has_the_published_number_of_parameters(name):
    parsed = config(header(name)[1]["command"])
    with torch.device("meta"):
        model = CLIP(parsed.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_the_variants_of_a_recipe_are_valid_flags(name):
    _, entries = header(name)
    base = config(entries["command"])
    variants = entries["variants"]
    options = re.findall(r'--[a-z][\w.-]* (?:"[^"]+"|[\w./-]+)', variants)
    assert options
    for option in options:
        assert config(f"{entries['command']} {option}") != base, option


@pytest.mark.parametrize("name", SIZES)
def test_published_recipes_use_bf16_without_gradient_clipping(name):
    parsed = config(header(name)[1]["command"])
    assert parsed.optimizer.grad_clip_norm == 0
    assert parsed.precision == "bf16"


def test_the_sigmoid_recipe_differs_from_its_counterpart_only_in_the_bias():
    from zebra.config.structure import diff_configs, unstructure

    softmax, sigmoid = (config(header(name)[1]["command"]) for name in ("vit-b16-cc12m", "siglip-b16-cc12m"))
    changed = {line.split(":")[0] for line in diff_configs(unstructure(softmax), unstructure(sigmoid))}
    assert changed == {"model.logit_bias", "out"}


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_is_in_the_table_of_the_page_with_its_score(name):
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` ")]
    assert len(rows) == 1
    scores = re.findall(r"\d+\.\d(?= %| to| and)", header(name)[1]["expect"])
    assert all(score in rows[0] for score in scores), scores
