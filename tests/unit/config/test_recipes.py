"""Every recipe says what to expect, and its commands are ones that `zebra train` takes."""

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
OURS = ("demo", "tiny")


def header(name):
    """Return the lines of a recipe's header by their headings."""
    text = (resources.files("zebra") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    found, last = {}, None
    for line in text.splitlines():
        if heading := re.match(r"#   (\w+)\s+(\S.*)", line):
            last = heading[1]
            found[last] = heading[2]
        elif last and (more := re.match(r"#      +(\S.*)", line)):
            found[last] += " " + more[1]
        else:
            last = None
    return text, found


def config(command):
    """Read a command as `zebra train` does."""
    zebra, verb, *words = shlex.split(command)
    assert (zebra, verb) == ("zebra", "train")
    return parse_train_config(parse_recipe_flags(words))


def test_the_recipes_with_a_published_size_are_all_but_ours():
    assert {*SIZES, *OURS} == set(list_recipes())


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_says_what_to_expect(name):
    text, found = header(name)
    assert set(HEADINGS) <= set(found), f"{name} lacks {set(HEADINGS) - set(found)}"
    assert found["expect"]
    assert ("not run here" in text.lower()) == (name not in OURS)


@pytest.mark.parametrize("name", list_recipes())
def test_the_command_of_a_recipe_is_one_that_zebra_takes(name):
    command = header(name)[1]["command"]
    if name == "demo":
        assert command == "zebra demo"
        assert "demo" in VERBS
        return
    told = config(command)
    assert (f"--recipe {name}" in command) == (name != "tiny")
    assert told.data
    assert told.out


@pytest.mark.parametrize("name", SIZES)
def test_a_recipe_has_the_published_number_of_weights(name):
    told = config(header(name)[1]["command"])
    with torch.device("meta"):
        model = CLIP(told.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_the_variants_of_a_recipe_are_flags_that_zebra_takes(name):
    _, found = header(name)
    base = config(found["command"])
    told = found["variants"]
    options = re.findall(r'--[a-z][\w.-]* (?:"[^"]+"|[\w./-]+)', told)
    assert options
    for option in options:
        assert config(f"{found['command']} {option}") != base, option


@pytest.mark.parametrize("name", SIZES)
def test_published_runs_are_not_clipped_and_compute_in_bf16(name):
    told = config(header(name)[1]["command"])
    assert told.optimizer.grad_clip_norm == 0
    assert told.precision == "bf16"


def test_the_sigmoid_recipe_differs_from_its_partner_in_the_bias_alone():
    from zebra.config.structure import diff_configs, unstructure

    theirs, ours = (config(header(name)[1]["command"]) for name in ("vit-b16-cc12m", "siglip-b16-cc12m"))
    changed = {line.split(":")[0] for line in diff_configs(unstructure(theirs), unstructure(ours))}
    assert changed == {"model.logit_bias", "out"}


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_stands_in_the_table_of_the_page_with_its_score(name):
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` ")]
    assert len(rows) == 1
    scores = re.findall(r"\d+\.\d(?= %| to| and)", header(name)[1]["expect"])
    assert all(score in rows[0] for score in scores), scores
