"""Predictions as tables, one row per image or question."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.protocols.few_shot import FewShotResult
from zebra.protocols.paired_test import SampleScores
from zebra.protocols.retrieval import RetrievalRanks
from zebra.protocols.zero_shot import ClassificationResult, MultilabelResult


def build_classification_predictions(
    ids: Sequence[str], result: ClassificationResult, classnames: Sequence[str], groups: Mapping[str, str] | None = None
) -> pa.Table:
    """Return the label, the highest-ranked classes and whether the first one is right.

    Columns: id, label, label_name, predicted_name, ranked (class indices, best first) and correct; if the result has
    probabilities, predicted_probability and label_probability (of the true class); if the images have groups, group.

    Args:
        groups: Image id → group.
    """
    columns = {
        "id": list(ids),
        "label": result.label_N,
        "label_name": [classnames[label] for label in result.label_N],
        "predicted_name": [classnames[label] for label in result.ranked_NK[:, 0]],
        "ranked": list(result.ranked_NK),
        "correct": result.correct_N,
    }
    if result.probability_N2 is not None:
        columns |= dict(zip(("predicted_probability", "label_probability"), result.probability_N2.T, strict=True))
    if groups is not None:
        columns["group"] = [groups[sample_id] for sample_id in ids]
    return pa.table(columns)


def build_few_shot_predictions(ids: Sequence[str], result: FewShotResult, classnames: Sequence[str]) -> pa.Table:
    """Return the columns id, label, label_name and correct: the fraction of draws whose probe is right."""
    label_N = result.results[0].label_N
    label_names = [classnames[label] for label in label_N]
    correct_NR = np.stack([draw.correct_N for draw in result.results], axis=1)
    return pa.table({"id": list(ids), "label": label_N, "label_name": label_names, "correct": correct_NR.mean(axis=1)})


def build_multilabel_predictions(ids: Sequence[str], result: MultilabelResult, classnames: Sequence[str]) -> pa.Table:
    """Return the columns id, labels and label_names (classes that are present), and scores (one per class)."""
    labels = [np.flatnonzero(label_C) for label_C in result.label_NC]
    label_names = [[classnames[label] for label in row.tolist()] for row in labels]
    scores = list(result.score_NC.astype(np.float32))
    return pa.table({"id": list(ids), "labels": labels, "label_names": label_names, "scores": scores})


def build_retrieval_predictions(ids: Sequence[str], ranks: RetrievalRanks, captions: Sequence[str]) -> pa.Table:
    """Return the ranks in both directions, with the captions that the model prefers for each image.

    Columns: id, text_rank (of the best caption of the image), caption (this one), retrieved_caption (the one with the
    highest score: the same at rank 1) and image_ranks (one per caption of the image).

    Args:
        ids: Ids of the N images.
        captions: The M captions, in the order of the ranks.
    """
    order_M = np.argsort(ranks.image_of_text_M, kind="stable")
    num_captions_N = np.bincount(ranks.image_of_text_M, minlength=len(ids))
    image_ranks = np.split(ranks.image_rank_M[order_M], np.cumsum(num_captions_N)[:-1])
    columns = {
        "id": list(ids),
        "text_rank": ranks.text_rank_N,
        "caption": [captions[text] for text in ranks.own_text_N.tolist()],
        "retrieved_caption": [captions[text] for text in ranks.retrieved_text_N.tolist()],
        "image_ranks": image_ranks,
    }
    return pa.table(columns)


def build_compositionality_predictions(
    ids: Sequence[str],
    correct: Mapping[str, NDArray[np.bool_]],
    by_category: str,
    category_N: Sequence[str],
    weight_N: NDArray[np.float64],
) -> pa.Table:
    """Return the answers to questions.

    Columns: id, category, category_weight (in the mean over categories), correct (by the score that categories have),
    and one for each further score.

    Args:
        correct: Score → whether each question is answered correctly.
        by_category: The score that categories have.
        category_N: Categories; "" for none.
        weight_N: Weights of the questions in the mean over categories.
    """
    answers = {name: values for name, values in correct.items() if name != "accuracy"}
    columns = {"category": list(category_N), "category_weight": weight_N, "correct": correct[by_category], **answers}
    return pa.table({"id": list(ids), **columns})


def get_sample_scores(predictions: pa.Table, metric: str) -> SampleScores | None:
    """Return one value per row whose mean is a metric; None if the metric is no mean over rows."""
    if "category_weight" in predictions.column_names and (scores := _get_category_scores(predictions, metric)):
        return scores
    value_N = _get_values(predictions, metric)
    return None if value_N is None else SampleScores(tuple(predictions["id"].to_pylist()), value_N)


def _get_category_scores(predictions: pa.Table, metric: str) -> SampleScores | None:
    """Return the scores of a category, a kind of categories or the mean over categories; None for other metrics."""
    name = "" if metric.startswith("macro_") else metric
    category_N = predictions["category"].to_pylist()
    is_member_N = np.array([not name or f"{category}/".startswith(f"{name}/") for category in category_N])
    weight_N = np.asarray(predictions["category_weight"])
    rows = np.flatnonzero(is_member_N & (weight_N > 0))
    if not len(rows):
        return None
    ids, correct_N = (np.asarray(predictions[column])[rows] for column in ("id", "correct"))
    # Weights make the mean over rows the mean over categories. In one category all are 1.
    weight_N = weight_N[rows] / weight_N[rows].mean()
    is_one_category = len({category_N[row] for row in rows}) == 1
    return SampleScores(tuple(ids.tolist()), correct_N if is_one_category else correct_N * weight_N)


def _get_values(predictions: pa.Table, metric: str) -> NDArray[np.generic] | None:
    columns = predictions.column_names
    if "ranked" in columns and metric == "top5":
        label_N1 = np.asarray(predictions["label"])[:, None]
        is_correct_N: NDArray[np.bool_] = (np.stack(predictions["ranked"].to_pylist()) == label_N1).any(axis=1)
        return is_correct_N
    if "correct" in columns and metric in ("top1", "accuracy"):
        return np.asarray(predictions["correct"])
    if metric in columns:
        return np.asarray(predictions[metric])
    direction, _, k = metric.partition("_recall@")
    if direction == "image_to_text" and "text_rank" in columns:
        return np.asarray(predictions["text_rank"]) <= int(k)
    if direction == "text_to_image" and "image_ranks" in columns:
        # The captions of one image are one cluster. Weights make the mean over images the mean over captions.
        ranks = [np.asarray(row) for row in predictions["image_ranks"].to_pylist()]
        mean_captions = sum(map(len, ranks)) / len(ranks)
        return np.array([np.count_nonzero(rank <= int(k)) / mean_captions for rank in ranks])
    return None
