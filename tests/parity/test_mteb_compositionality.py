"""Compositional scores agree with mteb 2.26 on random vectors: ARO, SugarCrepe, Winoground.

mteb's evaluator takes images and texts; here an image is one pixel with the number of a vector, and a text is a number.
"""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.protocols.compositionality import evaluate_choices

pytest.importorskip("mteb", reason="pip install mteb")
from mteb._evaluators import ImageTextPairClassificationEvaluator
from mteb.abstasks.image.image_text_pair_classification import AbsTaskImageTextPairClassification
from mteb.tasks import AROCocoOrder, AROFlickrOrder, AROVisualAttribution, AROVisualRelation, SugarCrepe, Winoground

NUM_QUESTIONS, WIDTH = 120, 8


class VectorModel:
    """A model whose images and texts are numbers of vectors."""

    def __init__(self, image_ME: torch.Tensor, text_KE: torch.Tensor) -> None:
        self.image_ME, self.text_KE = image_ME, text_KE

    def encode(self, inputs: Any, **_: Any) -> torch.Tensor:
        vectors = []
        for batch in inputs:
            vectors += [self.image_ME[image.getpixel((0, 0))[0]] for image in batch.get("image", ())]
            vectors += [self.text_KE[int(text)] for text in batch.get("text", ())]
        return torch.stack(vectors)


def names(columns: str | tuple[str, ...]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def score_by_mteb(
    task: type[AbsTaskImageTextPairClassification], image_NIE: torch.Tensor, text_NCE: torch.Tensor
) -> Any:
    (n, num_images, _), num_texts = image_NIE.shape, text_NCE.shape[1]
    image_columns, text_columns = names(task.images_column_names), names(task.texts_column_names)
    assert (len(image_columns), len(text_columns)) == (num_images, num_texts)
    rows = [
        {column: Image.new("RGB", (1, 1), (row * num_images + i, 0, 0)) for i, column in enumerate(image_columns)}
        | {column: str(row * num_texts + c) for c, column in enumerate(text_columns)}
        for row in range(n)
    ]
    evaluator = ImageTextPairClassificationEvaluator(
        rows,
        images_column_names=image_columns,
        texts_column_names=text_columns,
        num_images_per_sample=num_images,
        num_texts_per_sample=num_texts,
        task_metadata=task.metadata,
        hf_split="test",
        hf_subset="default",
        timer=lambda *_, **__: nullcontext(),
    )
    model = VectorModel(image_NIE.reshape(-1, WIDTH), text_NCE.reshape(-1, WIDTH))
    scores = evaluator(model, encode_kwargs={"batch_size": 32})
    return task._compute_metrics(SimpleNamespace(), scores, num_images, num_texts)


@pytest.mark.parametrize(
    ("task", "image_of_caption", "score"),
    [
        (AROVisualRelation, (0, None), "accuracy"),
        (AROVisualAttribution, (0, None), "accuracy"),
        (AROCocoOrder, (0, None, None, None, None), "accuracy"),
        (AROFlickrOrder, (0, None, None, None, None), "accuracy"),
        (SugarCrepe, (0, None), "accuracy"),
        (Winoground, (0, 1), "text"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_scores_equal_those_of_mteb(task, image_of_caption, score) -> None:
    num_images, num_texts = (2 if score == "text" else 1), len(image_of_caption)
    generator = torch.Generator().manual_seed(0)
    image_NIE, text_NCE = (
        torch.nn.functional.normalize(torch.randn(NUM_QUESTIONS, count, WIDTH, generator=generator), dim=-1)
        for count in (num_images, num_texts)
    )
    theirs = score_by_mteb(task, image_NIE, text_NCE)
    ours = evaluate_choices(
        image_NIE.reshape(-1, WIDTH).numpy(),
        text_NCE.reshape(-1, WIDTH).numpy(),
        np.arange(NUM_QUESTIONS * num_images).reshape(-1, num_images),
        np.arange(NUM_QUESTIONS * num_texts).reshape(-1, num_texts),
        image_of_caption,
    ).correct
    assert 0.1 < theirs["text_acc"] < 0.9
    assert ours[score].mean() == pytest.approx(theirs["text_acc"], abs=1e-6)
    if score == "text":
        assert ours["image"].mean() == pytest.approx(theirs["image_acc"], abs=1e-6)
        assert ours["group"].mean() == pytest.approx(theirs["accuracy"], abs=1e-6)
