"""The cost of a request is bounded before any work."""

import json

import pytest

from zebra.serve import limits
from zebra.serve.cost import (
    BYTES_PER_SCORE,
    require_affordable_images,
    require_affordable_prompts,
    require_affordable_scores,
    require_affordable_texts,
    require_affordable_vectors,
)
from zebra.serve.errors import HTTPError
from zebra.serve.responses import LabelScore
from zebra.text.templates import fill_template


def message(call, *args, status=422):
    with pytest.raises(HTTPError) as raised:
        call(*args)
    assert raised.value.status_code == status
    return str(raised.value)


def test_usual_requests_are_affordable():
    labels = [f"a breed of dog, number {number}" for number in range(1000)]
    require_affordable_prompts(labels, ["a photo of a {}, a type of pet."] * 10)
    require_affordable_scores(labels, limits.MAX_INPUTS)
    require_affordable_texts(["word " * 90] * limits.MAX_EMBEDDING_INPUTS)
    require_affordable_images([1_500_000] * limits.MAX_INPUTS)
    require_affordable_images([limits.MAX_PIXELS])
    require_affordable_vectors(limits.MAX_INPUTS, 4096)
    require_affordable_vectors(limits.MAX_EMBEDDING_INPUTS, 512)


@pytest.mark.parametrize(
    ("labels", "templates"),
    [
        (["x" * 2000] * 10, ["y" * 1997 + "{}"] * 100),
        (["x" * 2000] * 1000, ["{}"]),
        (["x"] * 1000, ["y" * 1990 + "{}"]),
        (["{}" * 1000] * 6, ["{c}" * 666] * 100),
    ],
)
def test_prompts_are_counted_in_characters_after_formatting(labels, templates):
    assert "characters" in message(require_affordable_prompts, labels, templates)


def test_the_count_is_that_of_the_formatted_prompts():
    labels, templates = ["a" * 1000] * 10, ["b" * 90 + "{}"] * 92
    prompts = [fill_template(template, label) for label in labels for template in templates]
    num_chars = sum(map(len, prompts)) + 2 * len(prompts)  # the placeholder counts too
    assert f"{num_chars:,} characters" in message(require_affordable_prompts, labels, templates)


@pytest.mark.parametrize("char", ["\x01", "é", "\U0001f993", '"', "x" * 6])
def test_a_response_is_as_long_as_its_labels_are_in_json(char):
    labels = [char * 300 + str(number) for number in range(1000)]
    assert "response" in message(require_affordable_scores, labels, 64)
    score = LabelScore(label=labels[0], score=-1.2345678901234567e-100).model_dump_json()
    assert len(score.encode()) <= len(json.dumps(labels[0], ensure_ascii=False).encode()) + BYTES_PER_SCORE


def test_texts_pixels_and_vectors_are_counted_together():
    assert "too much text" in message(require_affordable_texts, ["x" * 2000] * 501)
    assert "too many pixels" in message(require_affordable_images, [limits.MAX_PIXELS] * 4, status=400)
    assert "base64" in message(require_affordable_vectors, limits.MAX_EMBEDDING_INPUTS, 1024)
