"""Prompt templates (CLIP §3.1.4)."""

from zebra.errors import ConfigError

DEFAULT_TEMPLATES = ("a photo of a {}.",)


def fill_template(template: str, label: str) -> str:
    """Return the template with `label` in place of `{}` (OpenAI) or `{c}` (CLIP_benchmark).

    >>> fill_template("a photo of a {}, a type of pet.", "horse")
    'a photo of a horse, a type of pet.'

    Raises:
        ConfigError: If the template has no placeholder, so that all classes would get the same prompt.
    """
    if "{}" not in template and "{c}" not in template:
        raise ConfigError(f"the template {template!r} has no placeholder; write {{}} for the label")
    return template.replace("{c}", label).replace("{}", label)
