"""Prompts: a template and a class name in, a sentence out (CLIP §3.1.4)."""

from zebra.errors import ConfigError

DEFAULT_TEMPLATES = ("a photo of a {}.",)


def fill_template(template: str, label: str) -> str:
    """Put `label` into a template written with `{}` (OpenAI) or `{c}` (CLIP_benchmark).

    >>> fill("a photo of a {}, a type of pet.", "horse")
    'a photo of a horse, a type of pet.'

    Raises:
        ConfigError: The template has no placeholder, so every class would get the same sentence.
    """
    if "{}" not in template and "{c}" not in template:
        raise ConfigError(f"the template {template!r} has no {{}} where the label goes")
    return template.replace("{c}", label).replace("{}", label)
