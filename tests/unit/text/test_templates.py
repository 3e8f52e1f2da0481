"""A template takes its label once, whatever the label holds."""

import pytest

from zebra.errors import ConfigError
from zebra.text.templates import fill_template


@pytest.mark.parametrize("placeholder", ["{}", "{c}"])
@pytest.mark.parametrize("label", ["horse", "{}", "{c}", "{c}{}" * 100, "{", "a{0}b", "{{}}", "\\1"])
def test_braces_of_a_label_are_text(placeholder, label):
    assert fill_template(f"a photo of a {placeholder}.", label) == f"a photo of a {label}."


@pytest.mark.parametrize("template", ["{}{}", "{c} {c}", "a {} of {c}", "{c}" * 666])
def test_a_template_has_one_placeholder(template):
    with pytest.raises(ConfigError, match="more than one placeholder"):
        fill_template(template, "horse")


@pytest.mark.parametrize("template", ["", "a photo", "{d}", "{ }", "{c"])
def test_a_template_without_a_placeholder_is_refused(template):
    with pytest.raises(ConfigError, match="has no placeholder"):
        fill_template(template, "horse")


def test_an_error_quotes_the_beginning_of_a_long_template():
    with pytest.raises(ConfigError) as raised:
        fill_template("x" * 10**6, "horse")
    assert len(str(raised.value)) < 300
