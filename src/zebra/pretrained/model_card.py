"""The model card: README.md of a model folder."""

from collections.abc import Mapping, Sequence

from zebra.config.model import ModelConfig

MODEL_TITLE = "# A CLIP model"
MODEL_PLACEHOLDER = "path/to/this/folder"
"""Stands for the model in the card's code; a card on the hub has its name."""


def describe_dimensions(config: ModelConfig) -> str:
    """Return the sizes of the vectors as text."""
    smaller = f"; also the first {', '.join(map(str, config.dimensions))}" if config.dimensions else ""
    return f"{config.embed_dim} dimensions{smaller}"


def render_model_card(
    config: ModelConfig, num_parameters: int, metadata: Mapping[str, str], templates: Sequence[str]
) -> str:
    """Return a description of a model in Markdown; without time, path and host, so that equal runs write equal bytes.

    Args:
        metadata: Entries on training, data, seed and scores, by name.
        templates: The model's prompt templates.
    """
    entries = [f"- {name}: {value}" for name, value in metadata.items()] or ["- not recorded"]
    lines = [
        MODEL_TITLE,
        "",
        f"- image tower: {config.vision.describe(config.image_size)}",
        f"- text tower: {config.text.describe()}",
        f"- embedding: {describe_dimensions(config)}; {num_parameters:,} parameters in all",
        "",
        "## Training and scores",
        "",
        *entries,
        "",
        "## Intended use",
        "",
        "Zero-shot classification of images, search of images by text or by example, and fine-tuning.",
        "",
        "```python",
        "import zebra",
        "",
        f'clip = zebra.load("{MODEL_PLACEHOLDER}")',
        'clip.classify(["photo.jpg"], ["horse", "cat"])',
        "```",
        "",
        f"Its prompt templates, which `classify` uses unless others are given: {' | '.join(templates)}",
        "",
        "## Limitations",
        "",
        "The model recognizes only what its training captions describe. Scores compare the given labels: one of them",
        "comes first even if none fits. Models of this kind are weak at counting, distances and fine-grained classes,",
        "and they reproduce the biases of their captions. Before you rely on the model, evaluate it on your own",
        "images, for every group of people that its predictions affect.",
        "",
    ]
    return "\n".join(lines)
