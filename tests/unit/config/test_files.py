"""Recipe files: numbers of YAML 1.2, and a ConfigError for anything else than a mapping."""

import pytest

from zebra.config.files import read_recipe
from zebra.errors import ConfigError


@pytest.fixture
def recipe(tmp_path):
    """Return a function that writes a recipe and reads it."""

    def read(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        return read_recipe(str(path))

    return read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1E6", 1e6),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("010", 10),
        ("+4", 4),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("1e", "1e"),
        ("'64'", "64"),
        ("v1.2", "v1.2"),
    ],
)
def test_decimal_numbers_are_numbers_and_everything_else_is_text(recipe, text, value):
    read = recipe(f"lr: {text}")["lr"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "lr: " + "9" * 5000, "date: 2001-99-99", "lr: !!timestamp x", "lr: !!int 1:30",
     "lr: !!python/name:os.system", "lr: !!int [1]", "? [1]\n: 2", "- 1", "lr", "", "lr: *unknown", "lr: \0"],
)  # fmt: skip
def test_a_file_that_is_no_mapping_is_refused_with_its_path(recipe, text):
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        recipe(text)


def test_a_number_in_base_60_with_many_places_is_text(recipe):
    places = ":".join(["59"] * 20_000)
    assert recipe(f"steps: {places}") == {"steps": places}


def test_a_recipe_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"lr: \xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_recipe(str(tmp_path / "recipe.yaml"))
