"""Names of clusters: the words that distinguish a cluster from the others.

Candidates are the words and phrases of the captions, scored by counting, or a list of words, scored by their vectors.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_WORDS = 5
"""Most words per cluster."""
MAX_NAME_WORDS = 3
MAX_CAPTIONS = 100_000
"""Captions that are counted; of more, a random sample."""
MIN_CAPTIONS_PER_WORD = 2
MAX_PHRASE_WORDS = 2
MIN_COVERAGE = 0.1
"""Share of the captions of a cluster that have a word; rarer words count only if no better word is so frequent."""
WORD_PATTERN = re.compile(r"\w[\w'’-]*")


@dataclass(frozen=True, slots=True)
class ClusterWords:
    """The name of a cluster, and the words that it was chosen from."""

    name: str
    """Differs from the names of the other clusters."""
    words: tuple[str, ...]
    """Best first; none if nothing distinguishes the cluster."""


def words_from_captions(
    captions: Sequence[str | None], cluster_N: NDArray[np.int64], num_clusters: int, seed: int = 0
) -> list[ClusterWords]:
    """Choose words and two-word phrases that many captions of a cluster have and few others.

    The score of a word is the harmonic mean of its coverage (share of the captions of the cluster that have it) and its
    precision (share of the captions with it that are of the cluster), times the relative difference of the coverage in
    the cluster and elsewhere. The latter is 0 for words that are as frequent everywhere, such as articles.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    row_M = np.flatnonzero([bool(caption) for caption in captions])
    if len(row_M) > MAX_CAPTIONS:
        row_M = np.sort(np.random.default_rng(seed).choice(row_M, MAX_CAPTIONS, replace=False))
    vectorizer = CountVectorizer(analyzer=_iter_phrases, binary=True, min_df=MIN_CAPTIONS_PER_WORD)
    try:
        has_word_MW = vectorizer.fit_transform([captions[row] or "" for row in row_M.tolist()])
    except ValueError:  # no word is in two captions
        return number_clusters(num_clusters)
    cluster_M = cluster_N[row_M]
    is_member_MK = np.eye(num_clusters)[cluster_M]
    count_KW = (has_word_MW.T @ is_member_MK).T
    num_captions_K1 = np.bincount(cluster_M, minlength=num_clusters)[:, None]
    coverage_KW = count_KW / num_captions_K1.clip(min=1)
    total_W = count_KW.sum(axis=0)
    precision_KW = count_KW / total_W
    elsewhere_KW = (total_W - count_KW) / (len(row_M) - num_captions_K1).clip(min=1)
    score_KW = 2 * coverage_KW * precision_KW / (coverage_KW + precision_KW).clip(min=1e-12)
    score_KW *= ((coverage_KW - elsewhere_KW) / coverage_KW.clip(min=1e-12)).clip(min=0)
    is_frequent_KW = coverage_KW >= MIN_COVERAGE
    has_frequent_K1 = (is_frequent_KW & (score_KW > 0)).any(axis=1, keepdims=True)
    score_KW[has_frequent_K1 & ~is_frequent_KW] = 0
    return _name_clusters(_pick_words(score_KW, list(vectorizer.get_feature_names_out())))


def words_from_vectors(
    words: Sequence[str], word_vectors_WE: NDArray[np.float32], centers_KE: NDArray[np.float32]
) -> list[ClusterWords]:
    """Choose words whose cosine with the center of a cluster exceeds that with the other centers most.

    Args:
        words: W distinct words.
        word_vectors_WE: Their unit vectors.
        centers_KE: Unit vectors.
    """
    cosine_KW = centers_KE @ word_vectors_WE.T
    mean_1W = cosine_KW.mean(axis=0, keepdims=True) if len(centers_KE) > 1 else -np.ones((1, len(words)))
    return _name_clusters(_pick_words(cosine_KW - mean_1W, list(words)))


def number_clusters(num_clusters: int) -> list[ClusterWords]:
    """Return names without words: "cluster 1", "cluster 2" and so on."""
    return _name_clusters([()] * num_clusters)


def _iter_phrases(caption: str) -> Iterator[str]:
    """Yield the words of a caption and its phrases of adjacent words, without function words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = WORD_PATTERN.findall(caption.lower())
    for length in range(1, MAX_PHRASE_WORDS + 1):
        for start in range(len(words) - length + 1):
            phrase = words[start : start + length]
            if ENGLISH_STOP_WORDS.isdisjoint(phrase):
                yield " ".join(phrase)


def _pick_words(score_KW: NDArray[np.floating], words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the words of each cluster with the highest positive scores; no two of a cluster share a word."""
    picked = []
    num_parts_W = np.array([word.count(" ") for word in words])  # of equal scores, a word comes before a phrase with it
    for score_W in score_KW:
        chosen: list[str] = []
        used: set[str] = set()
        for index in np.lexsort((np.arange(len(words)), num_parts_W, -score_W)).tolist():
            parts = set(words[index].split())
            if score_W[index] <= 0 or len(chosen) == NUM_WORDS:
                break
            if used.isdisjoint(parts):
                chosen.append(words[index])
                used |= parts
        picked.append(tuple(chosen))
    return picked


def _name_clusters(words_K: Sequence[tuple[str, ...]]) -> list[ClusterWords]:
    """Give each cluster its first word as name; to clusters of equal names, further words, then a number."""
    names = [", ".join(words[:1]) or "cluster" for words in words_K]
    for length in range(2, MAX_NAME_WORDS + 1):
        repeated = {name for name in names if names.count(name) > 1}
        names = [
            ", ".join(words[:length]) if name in repeated and words else name
            for name, words in zip(names, words_K, strict=True)
        ]
    numbers: dict[str, int] = {}
    unique = []
    for name in names:
        number = numbers[name] = numbers.get(name, 0) + 1
        is_repeated = names.count(name) > 1
        unique.append(f"{name} {number}" if is_repeated else name)
    return [ClusterWords(name, words) for name, words in zip(unique, words_K, strict=True)]
