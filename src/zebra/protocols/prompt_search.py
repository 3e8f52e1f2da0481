"""Greedy search for the best prompt templates of a dataset.

Forward selection as in OpenAI's prompt notebook, where 7 templates are slightly better than 80. The gain is measured on
images that the selection did not use.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError, DataError
from zebra.protocols.paired_test import PairedComparison, SampleScores, compare_paired
from zebra.protocols.prompts import normalize_rows
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.values import Embeddings


@dataclass(frozen=True, slots=True)
class PromptSearchResult:
    """The selected templates and their gain on test images."""

    best_templates: tuple[int, ...]
    """Indices of the selected templates, in the order of their selection."""
    template_order: tuple[int, ...]
    """Indices of the templates in the order of all steps; starts with `best_templates`."""
    validation_accuracies: tuple[float, ...]
    """Top-1 on the validation images after each step; biased upwards, because the search selects by it."""
    validation_accuracy_all: float
    """Top-1 on the validation images with all templates."""
    gain: PairedComparison
    """Selected templates against all templates, on the test images."""


def search_prompts(
    template_TCE: NDArray[np.float32], validation: Embeddings, test: Embeddings, *, max_steps: int = 10
) -> PromptSearchResult:
    """Add templates one by one, each time the one with the highest accuracy on the validation images.

    The result is the first step with the highest accuracy. Of equal templates, the one with the lower index wins.

    Args:
        template_TCE: Unit vector of every class in every template; synonyms averaged.
        validation: Labeled images for the selection.
        test: Other labeled images, on which the gain is measured.
        max_steps: Largest number of templates.

    Raises:
        DataError: Validation and test share an image, which would bias the gain; or see `classify_zero_shot`.
        ConfigError: Fewer than two templates, or no steps.
    """
    if len(template_TCE) < 2 or max_steps < 1:
        raise ConfigError(
            f"a prompt search needs at least two templates and one step; got {len(template_TCE)} and {max_steps}"
        )
    shared = set(validation.ids) & set(test.ids)
    if shared:
        raise DataError(
            f"{len(shared)} images are in both validation and test, such as {min(shared)}. Use separate images, or "
            "the gain is biased."
        )
    template_order: list[int] = []
    accuracies: list[float] = []
    sum_CE = np.zeros_like(template_TCE[0])
    for _ in range(min(max_steps, len(template_TCE))):
        candidates = [t for t in range(len(template_TCE)) if t not in template_order]
        candidate_accuracies = [_top1_accuracy(validation, sum_CE + template_TCE[t]) for t in candidates]
        best = int(np.argmax(candidate_accuracies))
        template_order.append(candidates[best])
        accuracies.append(candidate_accuracies[best])
        sum_CE = sum_CE + template_TCE[candidates[best]]
    best_templates = template_order[: int(np.argmax(accuracies)) + 1]
    sample_scores = [
        SampleScores(test.ids, classify_zero_shot(test, normalize_rows(subset_TCE.sum(axis=0))).correct_N)
        for subset_TCE in (template_TCE[best_templates], template_TCE)
    ]
    return PromptSearchResult(
        best_templates=tuple(best_templates),
        template_order=tuple(template_order),
        validation_accuracies=tuple(accuracies),
        validation_accuracy_all=_top1_accuracy(validation, template_TCE.sum(axis=0)),
        gain=compare_paired(sample_scores[0], sample_scores[1]),
    )


def _top1_accuracy(images: Embeddings, sum_CE: NDArray[np.float32]) -> float:
    return float(classify_zero_shot(images, normalize_rows(sum_CE)).correct_N.mean())
