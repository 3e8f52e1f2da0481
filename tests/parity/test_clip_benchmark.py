"""Scores agree with CLIP_benchmark 1.6.2 on random vectors.

Where the definitions are the same, both agree to fp32. Where they differ, a test shows the difference and the reason.
CLIP_benchmark's evaluation takes a model and a loader; here the model returns given vectors.
"""

import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from zebra.protocols.compositionality import Choices, evaluate_choices
from zebra.protocols.retrieval import compute_retrieval_ranks
from zebra.protocols.zero_shot import classify_zero_shot, score_zero_shot_multilabel
from zebra.values import Embeddings

NEAR = 1e-6


@pytest.fixture(scope="module")
def metrics() -> SimpleNamespace:
    """The three modules with CLIP_benchmark's metrics (pip install --no-deps clip-benchmark)."""
    names = ("zeroshot_classification", "zeroshot_retrieval", "image_caption_selection")
    for package in ("clip_benchmark", "tqdm"):
        pytest.importorskip(package)
    modules = {name: importlib.import_module(f"clip_benchmark.metrics.{name}") for name in names}
    # NumPy 2.4 no longer converts an array of one element to a number, which their accuracy relies on.
    modules["zeroshot_classification"].float = lambda value: np.asarray(value).item()
    return SimpleNamespace(**modules)


class VectorModel:
    """A model whose images are their vectors, and whose texts are indices of vectors."""

    def __init__(self, text_ME: torch.Tensor) -> None:
        self.text_ME = text_ME

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def encode_text(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.text_ME[numbers]


def tokenizer(texts: list[str]) -> torch.Tensor:
    return torch.tensor([int(text) for text in texts])


def unit(seed: int, *shape: int) -> torch.Tensor:
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def embeddings(vectors: torch.Tensor, labels: torch.Tensor | None = None) -> Embeddings:
    ids = tuple(str(n) for n in range(len(vectors)))
    return Embeddings(vectors.numpy(), ids, None if labels is None else labels.numpy())


class Loader:
    """Batches of 100, and the dataset attributes that CLIP_benchmark reads."""

    def __init__(self, images: torch.Tensor, targets: Any, classes: int = 0) -> None:
        self.images, self.targets = images, targets
        self.dataset = SimpleNamespace(classes=[str(c) for c in range(classes)])

    def __iter__(self) -> Iterator[tuple[torch.Tensor, Any]]:
        for start in range(0, len(self.images), 100):
            yield self.images[start : start + 100], self.targets[start : start + 100]


def classification(metrics, image_NE, target, class_CE):
    classes = len(class_CE)
    return metrics.zeroshot_classification.evaluate(
        VectorModel(class_CE),
        Loader(image_NE, target, classes),
        tokenizer,
        [str(c) for c in range(classes)],
        ["{c}"],
        "cpu",
        amp=False,
    )


def test_zero_shot_accuracy(metrics):
    image_NE, class_CE = unit(0, 950, 16), unit(1, 12, 16)
    labels = (image_NE @ class_CE.T + 0.2 * unit(2, 950, 12)).argmax(dim=1)
    theirs = classification(metrics, image_NE, labels, class_CE)
    ours = classify_zero_shot(embeddings(image_NE, labels), class_CE.numpy()).scores()
    assert ours["top1"].value == pytest.approx(theirs["acc1"], abs=NEAR)
    assert ours["top5"].value == pytest.approx(theirs["acc5"], abs=NEAR)
    assert ours["mean_per_class"].value == pytest.approx(theirs["mean_per_class_recall"], abs=NEAR)


def test_with_five_classes_they_report_a_top5_of_1_and_we_none(metrics):
    image_NE, class_CE = unit(0, 50, 8), unit(1, 5, 8)
    labels = torch.arange(50) % 5
    assert classification(metrics, image_NE, labels, class_CE)["acc5"] == 1
    assert "top5" not in classify_zero_shot(embeddings(image_NE, labels), class_CE.numpy()).scores()


def test_mean_average_precision(metrics):
    image_NE, class_CE = unit(0, 300, 16), unit(1, 7, 16)
    truth = image_NE @ class_CE.T + 0.5 * unit(2, 300, 7) > 0.3
    assert truth.any(dim=0).all()
    theirs = classification(metrics, image_NE, truth.long(), class_CE)
    ours = score_zero_shot_multilabel(embeddings(image_NE), truth.numpy(), class_CE.numpy()).scores()
    assert ours["map"].value == pytest.approx(theirs["mean_average_precision"], abs=NEAR)


def test_a_class_without_an_image_counts_as_0_for_them_and_is_left_out_by_us(metrics):
    """A dataset may lack a class. A score of 0 would lower the mean of every model equally."""
    image_NE, class_CE = unit(0, 300, 16), unit(1, 8, 16)
    truth = image_NE @ class_CE.T > 0.3
    truth[:, 7] = False
    theirs = classification(metrics, image_NE, truth.long(), class_CE)
    ours = score_zero_shot_multilabel(embeddings(image_NE), truth.numpy(), class_CE.numpy()).scores()
    assert theirs["mean_average_precision"] == pytest.approx(7 / 8 * ours["map"].value, abs=NEAR)


def retrieval(metrics, image_NE, text_ME, captions):
    targets = [[str(m) for m in own] for own in captions]
    return metrics.zeroshot_retrieval.evaluate(
        VectorModel(text_ME), Loader(image_NE, targets), tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10]
    )


def test_retrieval_with_several_captions_per_image(metrics):
    image_NE = unit(0, 250, 16)
    owners = torch.arange(250).repeat_interleave(torch.arange(250) % 5 + 1)
    text_ME = image_NE[owners] + 2 * unit(1, len(owners), 16)
    text_ME /= text_ME.norm(dim=1, keepdim=True)
    captions = [torch.nonzero(owners == n).flatten().tolist() for n in range(250)]
    theirs = retrieval(metrics, image_NE, text_ME, captions)
    ours = compute_retrieval_ranks(embeddings(image_NE), embeddings(text_ME), owners.numpy()).scores()
    for k in (1, 5, 10):
        assert 0.1 < theirs[f"text_retrieval_recall@{k}"] < 1
        assert ours[f"image_to_text_recall@{k}"].value == pytest.approx(theirs[f"text_retrieval_recall@{k}"], abs=NEAR)
        assert ours[f"text_to_image_recall@{k}"].value == pytest.approx(theirs[f"image_retrieval_recall@{k}"], abs=NEAR)


def test_a_collapsed_model_has_hits_by_their_sort_and_none_by_ours(metrics):
    """Their order of equal scores is that of topk, so some correct candidates are among the first."""
    point = torch.ones(40, 4) / 2
    theirs = retrieval(metrics, point, point, [[n] for n in range(40)])
    ours = compute_retrieval_ranks(embeddings(point), embeddings(point), np.arange(40)).scores()
    assert theirs["text_retrieval_recall@10"] > 0
    assert ours["image_to_text_recall@10"].value == 0


def compositionality(metrics, image_NiE, caption_NcE):
    """Run CLIP_benchmark; its loader yields images as [B, i, C, H, W], and a vector is an image of one row."""
    n, c, width = caption_NcE.shape
    images = image_NiE[:, :, None, None, :]
    texts = [[str(m * c + position) for position in range(c)] for m in range(n)]
    model = VectorModel(caption_NcE.reshape(-1, width))
    return metrics.image_caption_selection.evaluate(model, Loader(images, texts), tokenizer, "cpu", amp=False)


def choices(image_NiE: torch.Tensor, caption_NcE: torch.Tensor, image_of_caption: tuple[int | None, ...]) -> Choices:
    (n, i, width), c = image_NiE.shape, caption_NcE.shape[1]
    captions = caption_NcE / caption_NcE.norm(dim=-1, keepdim=True)  # they normalize vectors; ours expects unit vectors
    return evaluate_choices(
        image_NiE.reshape(-1, width).numpy(),
        captions.reshape(-1, width).numpy(),
        np.arange(n * i).reshape(n, i),
        np.arange(n * c).reshape(n, c),
        image_of_caption,
    )


def test_text_image_and_group_scores_of_pairs(metrics):
    images, captions = unit(0, 230, 2, 8), unit(1, 230, 2, 8) + unit(0, 230, 2, 8)
    theirs = compositionality(metrics, images, captions)
    ours = choices(images, captions, (0, 1)).correct
    assert ours["text"].mean() == pytest.approx(theirs["text_acc"], abs=NEAR)
    assert ours["image"].mean() == pytest.approx(theirs["image_acc"], abs=NEAR)
    assert ours["group"].mean() == pytest.approx(theirs["acc"], abs=NEAR)


@pytest.mark.parametrize("num_captions", [2, 5])
def test_the_choice_of_the_correct_caption(metrics, num_captions):
    images, captions = unit(0, 230, 1, 8), unit(1, 230, num_captions, 8)
    theirs = compositionality(metrics, images, captions)
    ours = choices(images, captions, (0, *(None,) * (num_captions - 1))).correct
    assert ours["accuracy"].mean() == pytest.approx(theirs["text_acc"], abs=NEAR)


def test_a_tie_is_correct_for_them_and_wrong_for_us(metrics):
    """Their argmax takes the first of equal scores, the correct caption: a constant model is always correct."""
    images, captions = unit(0, 50, 1, 8), unit(1, 50, 1, 8).repeat(1, 2, 1)
    assert compositionality(metrics, images, captions)["text_acc"] > 0.9
    assert not choices(images, captions, (0, None)).correct["accuracy"].any()
