"""Tests of the prompt search."""

import numpy as np
import pytest

from zebra.errors import ConfigError, DataError
from zebra.protocols.prompt_search import search_prompts
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.values import Embeddings

NUM_CLASSES, DIM = 6, 16


def normalize(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_dataset(noise, images=400, seed=0):
    """Return template vectors and images, all noisy copies of one center per class."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(NUM_CLASSES, DIM))
    templates = normalize(center + np.array(noise)[:, None, None] * rng.normal(size=(len(noise), NUM_CLASSES, DIM)))

    def make_images(prefix):
        labels = rng.integers(0, NUM_CLASSES, images)
        vectors = normalize(center[labels] + 1.5 * rng.normal(size=(images, DIM)))
        return Embeddings(vectors, tuple(f"{prefix}{n}" for n in range(images)), labels)

    return templates, make_images("validation"), make_images("test")


def top1(images, templates):
    return classify_zero_shot(images, normalize(templates.sum(axis=0))).correct_N.mean()


def test_a_good_template_is_selected_and_its_gain_holds_on_new_images():
    result = search_prompts(*make_dataset([9, 9, 0.1, 9, 9, 9]))
    assert result.best_templates[0] == 2
    assert result.gain.difference.low > 0


def test_every_step_adds_the_best_template():
    templates, validation, test = make_dataset([2, 2, 2, 2, 2])
    result = search_prompts(templates, validation, test, max_steps=3)
    for step in range(3):
        before = list(result.template_order[:step])
        candidates = [t for t in range(5) if t not in before]
        best = max(top1(validation, templates[[*before, t]]) for t in candidates)
        assert result.validation_accuracies[step] == pytest.approx(best)
        assert top1(validation, templates[list(result.template_order[: step + 1])]) == pytest.approx(best)


def test_the_selection_ends_at_the_best_step_and_the_gain_is_over_all_templates():
    templates, validation, test = make_dataset([2, 2, 2, 2, 2])
    result = search_prompts(templates, validation, test)
    assert len(result.template_order) == 5
    assert result.best_templates == result.template_order[: np.argmax(result.validation_accuracies) + 1]
    assert result.validation_accuracy_all == result.validation_accuracies[-1]
    gain = top1(test, templates[list(result.best_templates)]) - top1(test, templates)
    assert result.gain.difference.value == pytest.approx(gain)


def test_of_equal_templates_the_first_is_taken():
    templates, validation, test = make_dataset([1])
    assert search_prompts(templates[[0, 0, 0]], validation, test).best_templates == (0,)


def test_with_equal_templates_validation_is_biased_and_the_gain_is_not():
    """Selection raises the validation accuracy by chance; on test images, almost no gain is significant."""
    biases, num_significant = [], 0
    for seed in range(12):
        result = search_prompts(*make_dataset([3] * 8, images=60, seed=seed), max_steps=3)
        biases.append(max(result.validation_accuracies) - result.validation_accuracy_all)
        num_significant += result.gain.difference.low > 0
    assert np.mean(biases) > 0
    assert num_significant <= 2


def test_shared_validation_and_test_images_are_refused():
    templates, validation, _ = make_dataset([1, 1])
    with pytest.raises(DataError, match="400 images are in both validation and test"):
        search_prompts(templates, validation, validation)


def test_a_search_needs_two_templates_and_one_step():
    templates, validation, test = make_dataset([1, 1])
    with pytest.raises(ConfigError, match="needs at least two templates and one step"):
        search_prompts(templates[:1], validation, test)
    with pytest.raises(ConfigError, match="needs at least two templates and one step"):
        search_prompts(templates, validation, test, max_steps=0)
