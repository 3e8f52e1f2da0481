"""The search for the templates that suit a task."""

import numpy as np
import pytest

from zebra.errors import ConfigError, DataError
from zebra.protocols.prompt_search import search_prompts
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.values import Embeddings

CLASSES, WIDTH = 6, 16


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def world(noise, images=400, seed=0):
    """Classes as directions; templates see them through noise of their own, images through more."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(CLASSES, WIDTH))
    templates = unit(truth + np.array(noise)[:, None, None] * rng.normal(size=(len(noise), CLASSES, WIDTH)))

    def pictures(prefix):
        labels = rng.integers(0, CLASSES, images)
        vectors = unit(truth[labels] + 1.5 * rng.normal(size=(images, WIDTH)))
        return Embeddings(vectors, tuple(f"{prefix}{n}" for n in range(images)), labels)

    return templates, pictures("validation"), pictures("test")


def top1(images, templates):
    return classify_zero_shot(images, unit(templates.sum(axis=0))).correct_N.mean()


def test_a_good_template_is_selected_and_its_gain_holds_on_new_images():
    found = search_prompts(*world([9, 9, 0.1, 9, 9, 9]))
    assert found.best_templates[0] == 2
    assert found.gain.difference.low > 0


def test_every_step_adds_the_best_template():
    templates, validation, test = world([2, 2, 2, 2, 2])
    found = search_prompts(templates, validation, test, max_steps=3)
    for step in range(3):
        before = list(found.template_order[:step])
        left = [t for t in range(5) if t not in before]
        best = max(top1(validation, templates[[*before, t]]) for t in left)
        assert found.validation_accuracies[step] == pytest.approx(best)
        assert top1(validation, templates[list(found.template_order[: step + 1])]) == pytest.approx(best)


def test_the_selection_ends_at_the_best_step_and_the_gain_is_over_all_templates():
    templates, validation, test = world([2, 2, 2, 2, 2])
    found = search_prompts(templates, validation, test)
    assert len(found.template_order) == 5
    assert found.best_templates == found.template_order[: np.argmax(found.validation_accuracies) + 1]
    assert found.validation_accuracy_all == found.validation_accuracies[-1]
    gain = top1(test, templates[list(found.best_templates)]) - top1(test, templates)
    assert found.gain.difference.value == pytest.approx(gain)


def test_of_equal_templates_the_first_is_taken():
    templates, validation, test = world([1])
    assert search_prompts(templates[[0, 0, 0]], validation, test).best_templates == (0,)


def test_with_equal_templates_validation_is_biased_and_the_gain_is_not():
    """Validation rises by choosing luck; on new images the interval of nearly every world holds 0 or less."""
    flattered, claimed = [], 0
    for seed in range(12):
        found = search_prompts(*world([3] * 8, images=60, seed=seed), max_steps=3)
        flattered.append(max(found.validation_accuracies) - found.validation_accuracy_all)
        claimed += found.gain.difference.low > 0
    assert np.mean(flattered) > 0
    assert claimed <= 2


def test_shared_validation_and_test_images_are_refused():
    templates, validation, _ = world([1, 1])
    with pytest.raises(DataError, match="400 images are in both validation and test"):
        search_prompts(templates, validation, validation)


def test_a_search_needs_two_templates_and_one_step():
    templates, validation, test = world([1, 1])
    with pytest.raises(ConfigError, match="needs at least two templates and one step"):
        search_prompts(templates[:1], validation, test)
    with pytest.raises(ConfigError, match="needs at least two templates and one step"):
        search_prompts(templates, validation, test, max_steps=0)
