"""Tests of the choice of prompt templates on held-out captions."""

from typing import cast

import numpy as np
import pytest
import torch

from zebra.evaluators.template_selection import TemplateSelection, select_templates
from zebra.pretrained.bundle import Bundle
from zebra.values import Embeddings

LABELS = [f"animal{index}" for index in range(30)]


class KnowsOneTemplate:
    """A model whose text vectors are those of the label in known templates, and random in others."""

    def __init__(self, *known: str) -> None:
        rng = np.random.default_rng(0)
        self.vectors = dict(zip(LABELS, _unit(rng.normal(size=(len(LABELS), 16))), strict=True))
        self.known = {template.format(label): label for template in known for label in LABELS}

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        rng = np.random.default_rng(1)
        noise = _unit(rng.normal(size=(len(texts), 16)))
        rows = [
            self.vectors[self.known[text]] if text in self.known else row
            for text, row in zip(texts, noise, strict=True)
        ]
        return torch.from_numpy(np.stack(rows).astype(np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def select(clip: KnowsOneTemplate, caption: str, frames: tuple[str, ...] = ()) -> TemplateSelection | None:
    images = Embeddings(np.stack(list(clip.vectors.values())).astype(np.float32), tuple(LABELS))
    captions = [caption.format(label) for label in LABELS]
    return select_templates(cast(Bundle, clip), images, captions, range(len(LABELS)), frames)


@pytest.mark.parametrize(
    ("known", "frames"), [("{}", ()), ("a photo of a {}.", ("a photo of a {}.",)), ("{}の写真", ("{}の写真",))]
)
def test_the_template_of_the_captions_is_chosen(known: str, frames: tuple[str, ...]) -> None:
    selection = select(KnowsOneTemplate(known), known, frames)
    assert selection is not None
    assert selection.templates == (known,)
    assert selection.mean_reciprocal_rank == 1
    assert next(iter(selection.candidates)) == known
    assert (selection.num_images, selection.num_labels) == (30, 30)


def test_of_equal_templates_the_bare_name_is_chosen_alone() -> None:
    selection = select(KnowsOneTemplate("{}", "a {}", "a photo of a {}."), "{}")
    assert selection is not None
    assert selection.templates == ("{}",)


def test_nothing_is_chosen_on_few_different_captions() -> None:
    clip = KnowsOneTemplate("{}")
    images = Embeddings(np.stack(list(clip.vectors.values())).astype(np.float32), tuple(LABELS))
    assert select_templates(cast(Bundle, clip), images, ["dog", "cat"] * 15, range(30), ()) is None
