"""The model card written into a model folder: a config and a few facts in, README.md out."""

from collections.abc import Mapping

from zebra.config.model import ModelConfig


def render_model_card(config: ModelConfig, num_parameters: int, metadata: Mapping[str, str]) -> str:
    """Describe a model in Markdown; no time, path or host, so that equal runs write equal bytes.

    Args:
        metadata: What is known of its origin, by name: training, data, seed, scores.
    """
    known = [f"- {name}: {value}" for name, value in metadata.items()] or ["- not recorded"]
    lines = [
        "# A CLIP model",
        "",
        f"- image tower: {config.vision.kind}, {config.image_size} × {config.image_size} pixels",
        f"- text tower: {config.text.layers} layers of width {config.text.width}, "
        f"{config.text.vocab_size} token ids, at most {config.text.context_length} tokens",
        f"- embedding: {config.embed_dim} dimensions; {num_parameters:,} parameters in all",
        "",
        "## Training and scores",
        "",
        *known,
        "",
        "## Intended use",
        "",
        "Classify pictures by labels in words, search them by text or by example, or start a fine-tune.",
        "",
        "```python",
        "import zebra",
        "",
        'clip = zebra.load("path/to/this/folder")',
        'clip.classify(["photo.jpg"], ["horse", "cat"], templates=["a photo of a {}."])',
        "```",
        "",
        "## Limits",
        "",
        "The model knows what its captions talked about and nothing else. Scores compare the labels that were",
        "offered: one of them comes first also when none fits. Counting, distance and fine distinctions are known",
        "weaknesses of this family of models, and it repeats whatever its captions associate. Measure it on pictures",
        "of your own, for every group of people it will judge, before you rely on it.",
        "",
    ]
    return "\n".join(lines)
