"""Weighted average precision of actions (RareAct; Miech et al. 2020)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from zebra.data.benchmarks.tasks import ActionAnnotations
from zebra.errors import DataError
from zebra.protocols.metrics import Z95, proportion
from zebra.values import Score

NEGATIVE, POSITIVE = 0, 1
"""Values of an annotation; higher ones are hard negatives."""
NUM_SAMPLINGS = 100
"""Draws of one clip per video for mSAP, as in the authors' evaluation."""
NUM_RESAMPLES, MIN_RESAMPLES = 1000, 100


@dataclass(frozen=True, slots=True)
class _RankedClips:
    """Clips that count for one action, by decreasing score."""

    video_M: NDArray[np.int64]
    group_M: NDArray[np.int64]
    """0: positive, 1: negative, 2: hard negative."""
    last_M: NDArray[np.int64]
    """Position of the last clip with the same score."""


def score_actions(score_NC: NDArray[np.floating], annotations: ActionAnnotations, *, seed: int = 0) -> dict[str, Score]:
    """Return mwap and msap: the mean over actions of weighted and of sampled average precision.

    A clip that shows an action is a negative of every action with another verb and another noun, and a hard negative
    of every action with the same verb or the same noun. In mwap the clips of one video share the weight 1 in each of
    the three groups; msap is the mean over 100 draws of one clip per video and group. Clips with equal scores count
    together. Actions that no clip shows are left out.

    The intervals are logit(score) ± 1.96 standard deviations of the logits over 1000 bootstrap resamples of the videos;
    those of msap include the draw of one clip per video, which makes them slightly too wide. n is the number of videos
    that show an action.

    Raises:
        DataError: No clip shows an action, or a score is NaN.
    """
    if np.isnan(score_NC).any():
        raise DataError("a score is NaN. The model has diverged.")
    ranked = list(_rank_clips(score_NC, annotations))
    if not ranked:
        raise DataError("mean average precision needs a clip that shows its action; got none")
    rng = np.random.default_rng(seed)
    num_videos = int(annotations.video_N.max()) + 1
    multiplicity_VB = np.stack(
        [np.bincount(rng.integers(0, num_videos, num_videos), minlength=num_videos) for _ in range(NUM_RESAMPLES)],
        axis=1,
    ).astype(np.float32)
    num_positive = len(np.unique(annotations.video_N[annotations.annotation_N == POSITIVE]))
    wap, sap, wap_B, sap_B = [], [], [], []
    for clips in ranked:
        weight_M1 = _share_weight(clips)[:, None]
        multiplicity_MB = multiplicity_VB[clips.video_M]
        wap.append(_average_precision(clips, weight_M1)[0])
        wap_B.append(_average_precision(clips, weight_M1 * multiplicity_MB))
        sap.append(_average_precision(clips, _draw_clips(clips, NUM_SAMPLINGS, rng)).mean())
        sap_B.append(_average_precision(clips, _draw_clips(clips, NUM_RESAMPLES, rng) * multiplicity_MB))
    return {
        "mwap": _mean_with_interval(np.array(wap), np.stack(wap_B), num_positive),
        "msap": _mean_with_interval(np.array(sap), np.stack(sap_B), num_positive),
    }


def _rank_clips(score_NC: NDArray[np.floating], annotations: ActionAnnotations) -> Iterator[_RankedClips]:
    """Yield the clips of each action that a clip shows."""
    verb_C, noun_C = (
        np.unique([action[part] for action in annotations.actions], return_inverse=True)[1] for part in (0, 1)
    )
    class_N, annotation_N = annotations.class_N, annotations.annotation_N
    shows_N = annotation_N == POSITIVE
    for label in range(len(annotations.actions)):
        own_N = class_N == label
        same_verb_N, same_noun_N = verb_C[class_N] == verb_C[label], noun_C[class_N] == noun_C[label]
        positive_N = own_N & shows_N
        if not positive_N.any():
            continue
        negative_N = (own_N & (annotation_N == NEGATIVE)) | (shows_N & ~same_verb_N & ~same_noun_N)
        hard_N = (own_N & (annotation_N > POSITIVE)) | (shows_N & (same_verb_N ^ same_noun_N))
        rows_M = np.concatenate([np.flatnonzero(mask_N) for mask_N in (positive_N, negative_N, hard_N)])
        group_M = np.repeat([0, 1, 2], [positive_N.sum(), negative_N.sum(), hard_N.sum()])
        score_M = score_NC[rows_M, label]
        order_M = np.argsort(-score_M, kind="stable")
        descending_M = -score_M[order_M]
        last_M = np.searchsorted(descending_M, descending_M, side="right") - 1
        yield _RankedClips(annotations.video_N[rows_M][order_M], group_M[order_M], last_M)


def _share_weight(clips: _RankedClips) -> NDArray[np.float64]:
    """Return the weight of each clip: 1 for all clips of a video in a group."""
    _, key_M, count_K = np.unique(
        np.stack([clips.group_M, clips.video_M]), axis=1, return_inverse=True, return_counts=True
    )
    weight_M: NDArray[np.float64] = 1 / count_K[np.ravel(key_M)]
    return weight_M


def _draw_clips(clips: _RankedClips, num_draws: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the weights [M, D] of draws of one clip per video and group: 1 for those that are drawn."""
    _, key_M = np.unique(np.stack([clips.group_M, clips.video_M]), axis=1, return_inverse=True)
    order_M = np.argsort(np.ravel(key_M), kind="stable")
    drawn_MD = np.zeros((len(key_M.ravel()), num_draws), np.float32)
    for rows in np.split(order_M, np.flatnonzero(np.diff(np.ravel(key_M)[order_M])) + 1):
        drawn_MD[rows[rng.integers(0, len(rows), num_draws)], np.arange(num_draws)] = 1
    return drawn_MD


def _average_precision(clips: _RankedClips, weight_MB: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the average precision [B] under each weighting; NaN if no positive clip has weight."""
    positive_MB = weight_MB * (clips.group_M == 0)[:, None]
    true_MB, all_MB = (x.cumsum(axis=0, dtype=np.float64)[clips.last_M] for x in (positive_MB, weight_MB))
    total_B = positive_MB.sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_MB = np.where(all_MB > 0, true_MB / all_MB, 0)
        precision_B: NDArray[np.float64] = (precision_MB * positive_MB).sum(axis=0) / total_B
    return precision_B


def _mean_with_interval(value_C: NDArray[np.float64], resample_CB: NDArray[np.float64], n: int) -> Score:
    value = float(value_C.mean())
    mean_B = np.nanmean(resample_CB[:, ~np.isnan(resample_CB).all(axis=0)], axis=0)
    if value == 1 or len(mean_B) < MIN_RESAMPLES:  # resamples do not vary, or there are too few to say how much
        interval = proportion(round(value * n), n)
        return Score(value, min(interval.low, value), max(interval.high, value), n)
    margin = 0.5 / (n + 1)  # keeps logits finite
    center, logit_B = (logit(np.clip(x, margin, 1 - margin)) for x in (value, mean_B))
    half_width = Z95 * float(logit_B.std(ddof=1))
    low, high = expit(center - half_width), expit(center + half_width)
    return Score(value, min(float(low), value), max(float(high), value), n)
