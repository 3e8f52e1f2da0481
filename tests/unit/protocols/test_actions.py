"""Tests of the weighted and sampled average precision of RareAct."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from zebra.data.benchmarks.tasks import ActionAnnotations
from zebra.errors import DataError
from zebra.protocols.actions import score_actions

ACTIONS = (("cut", "cable"), ("cut", "phone"), ("blend", "phone"), ("hammer", "egg"), ("lick", "egg"))


def make_annotations(n=240, videos=30, seed=0):
    rng = np.random.default_rng(seed)
    class_N = rng.integers(0, 4, n)  # no clip was annotated for the last action
    return ActionAnnotations(rng.integers(0, videos, n), class_N, rng.integers(0, 5, n), ACTIONS)


def make_scores(annotations, seed=0):
    """Return scores with ties that are higher for clips that show the action."""
    noise_NC = np.random.default_rng(seed).integers(0, 12, (len(annotations.class_N), len(ACTIONS))) / 10
    shows_NC = (annotations.class_N[:, None] == np.arange(len(ACTIONS))) & (annotations.annotation_N == 1)[:, None]
    return (noise_NC + 0.3 * shows_NC).astype(np.float32)


def groups_of(label, annotations):
    """Return the positives, hard negatives and negatives of an action, as the dataset's paper defines them."""
    groups = {"positive": [], "hard": [], "negative": []}
    for row, (other, value) in enumerate(zip(annotations.class_N, annotations.annotation_N, strict=True)):
        shared = sum(x == y for x, y in zip(ACTIONS[label], ACTIONS[other], strict=True))
        if other == label:
            groups["positive" if value == 1 else "negative" if value == 0 else "hard"].append(row)
        elif value == 1:
            groups["hard" if shared == 1 else "negative"].append(row)
    return groups


def weighted_precision(label, score_NC, annotations):
    """Return scikit-learn's average precision with weights that share 1 among the clips of a video in a group."""
    groups = groups_of(label, annotations)
    rows = [row for group in groups.values() for row in group]
    weights = []
    for group in groups.values():
        videos = annotations.video_N[group].tolist()
        weights += [1 / videos.count(video) for video in videos]
    is_positive = np.arange(len(rows)) < len(groups["positive"])
    return average_precision_score(is_positive, score_NC[rows, label], sample_weight=weights)


def test_weighted_precision_is_that_of_scikit_learn():
    annotations = make_annotations()
    score_NC = make_scores(annotations)
    expected = np.mean([weighted_precision(label, score_NC, annotations) for label in range(4)])
    scores = score_actions(score_NC, annotations)
    assert scores["mwap"].value == pytest.approx(expected, abs=1e-6)
    assert scores["mwap"].low < expected < scores["mwap"].high
    assert scores["mwap"].n == len(set(annotations.video_N[annotations.annotation_N == 1]))


def test_sampled_precision_with_one_clip_per_video_and_group_equals_the_weighted_one():
    annotations = replace(make_annotations(), video_N=np.arange(240))
    score_NC = make_scores(annotations)
    scores = score_actions(score_NC, annotations)
    assert scores["msap"].value == pytest.approx(scores["mwap"].value, abs=1e-6)


def test_sampled_precision_is_the_mean_over_draws_of_one_clip_per_video():
    """One action with one positive; its video has a good and a bad clip, drawn equally often."""
    annotations = ActionAnnotations(np.array([0, 0, 1]), np.zeros(3, int), np.array([1, 1, 0]), ACTIONS[:1])
    score_NC = np.array([[0.9], [0.1], [0.5]], np.float32)
    assert score_actions(score_NC, annotations)["msap"].value == pytest.approx(0.75, abs=0.15)


def test_clips_that_are_repeated_in_their_video_add_no_certainty():
    annotations = make_annotations()
    score_NC = make_scores(annotations)
    once = score_actions(score_NC, annotations)["mwap"]
    repeated = ActionAnnotations(
        *(np.repeat(values, 5) for values in (annotations.video_N, annotations.class_N, annotations.annotation_N)),
        ACTIONS,
    )
    five_times = score_actions(np.repeat(score_NC, 5, axis=0), repeated)["mwap"]
    assert five_times.value == pytest.approx(once.value)
    assert five_times.high - five_times.low == pytest.approx(once.high - once.low, rel=1e-3)


def test_annotations_without_a_positive_and_nan_are_refused():
    annotations = make_annotations()
    score_NC = make_scores(annotations)
    with pytest.raises(DataError, match="a clip that shows its action"):
        score_actions(score_NC, replace(annotations, annotation_N=np.zeros(240, int)))
    with pytest.raises(DataError, match="NaN"):
        score_actions(np.full_like(score_NC, np.nan), annotations)
