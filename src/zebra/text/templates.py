"""Prompt templates (CLIP §3.1.4)."""

from zebra.errors import ConfigError

DEFAULT_TEMPLATES = ("a photo of a {}.",)
PLACEHOLDERS = ("{}", "{c}")
"""OpenAI's, and CLIP_benchmark's."""
MAX_QUOTED_LENGTH = 100
"""Characters of a template in an error."""


def fill_template(template: str, label: str) -> str:
    """Return the template with `label` in place of its one `{}` or `{c}`; braces in the label stay as they are.

    >>> fill_template("a photo of a {}, a type of pet.", "horse")
    'a photo of a horse, a type of pet.'

    Raises:
        ConfigError: The template has no placeholder, so that all classes would get the same prompt, or more than one.
    """
    if sum(map(template.count, PLACEHOLDERS)) != 1:
        quoted = repr(template) if len(template) <= MAX_QUOTED_LENGTH else f"{template[:MAX_QUOTED_LENGTH]!r}…"
        problem = "more than one" if any(name in template for name in PLACEHOLDERS) else "no"
        raise ConfigError(f"the template {quoted} has {problem} placeholder; write {{}} once, for the label")
    return template.replace(PLACEHOLDERS["{c}" in template], label)
