"""README.md of a model on the hub: front matter, card and code that opens it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from zebra.errors import ConfigError
from zebra.pretrained.model_card import MODEL_PLACEHOLDER, MODEL_TITLE

USAGE = {
    "transformers": 'from transformers import AutoModel, AutoProcessor\n\nmodel = AutoModel.from_pretrained("{repo}")\n'
    'processor = AutoProcessor.from_pretrained("{repo}")',
    "open_clip": 'import open_clip\n\nmodel, preprocess = open_clip.create_model_from_pretrained("hf-hub:{repo}")\n'
    'tokenizer = open_clip.get_tokenizer("hf-hub:{repo}")',
    "sentence-transformers": "from sentence_transformers import SentenceTransformer\n\n"
    'model = SentenceTransformer("{repo}")',
}
"""Layout → code of the library that opens a repository of this layout."""
LIBRARY_NAMES = {"zebra": "zebra-clip", "open_clip": "open_clip"}
"""Layout → the hub's name of its library, where it is another one."""
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_USAGE_TITLE = "## Open this model"


def render_hub_card(
    text: str,
    repo: str,
    layout: str,
    *,
    license_id: str | None = None,
    scores: str = "",
    model_index: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the model card of a repository.

    What `text` says is kept: entries of its front matter, except for the license and the model index if they are given,
    and its sections.

    Args:
        text: README.md of the model, with or without front matter.
        repo: "org/name".
        layout: zebra, transformers, open_clip or sentence-transformers.
        license_id: Identifier of the license on the hub.
        scores: A section in Markdown, put before the commands that open the model.
        model_index: The same scores as the hub shows them, for the front matter.

    Raises:
        ConfigError: The front matter is not valid.
    """
    match = _FRONT_MATTER.match(text)
    front_matter = {
        "library_name": LIBRARY_NAMES.get(layout, layout),
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip"],
        **(_parse_front_matter(match[1]) if match else {}),
    }
    if license_id is not None:
        front_matter["license"] = license_id
    if model_index:
        front_matter["model-index"] = list(model_index)
    body = text[match.end() :] if match else text
    body = body.replace(MODEL_TITLE, f"# {repo.partition('/')[2]}", 1).replace(MODEL_PLACEHOLDER, f"hf:{repo}")
    if _USAGE_TITLE in body:
        body = body[: body.index(_USAGE_TITLE)]
    sections = [body.strip(), scores.strip(), _render_usage(repo, layout)]
    header = yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def has_license(card: str) -> bool:
    """Return whether the front matter of a card names a license."""
    match = _FRONT_MATTER.match(card)
    return match is not None and bool(_parse_front_matter(match[1]).get("license"))


def _parse_front_matter(text: str) -> Mapping[str, Any]:
    try:
        front_matter = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"the front matter of README.md is not YAML ({error}). Correct or delete it.") from error
    if not isinstance(front_matter, dict):
        raise ConfigError("the front matter of README.md is not a mapping of names to values. Correct or delete it.")
    return front_matter


def _render_usage(repo: str, layout: str) -> str:
    lines = [_USAGE_TITLE, "", "```python", f'import zebra\n\nclip = zebra.load("hf:{repo}")', "```", ""]
    if layout in USAGE:
        lines += [f"In {layout}:", "", "```python", USAGE[layout].format(repo=repo), "```"]
    else:
        lines += ["zebra writes it for other libraries:", "", "```", "pip install zebra-clip"]
        lines += [f"zebra export hf:{repo} --format open_clip --out model", "```"]
    return "\n".join(lines)
