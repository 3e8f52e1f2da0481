"""Rules for pairs whose image and caption do not match."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.curate_score import ScoreName, ScoreRules
from zebra.curate.column_rules import find_threshold
from zebra.curate.measurements import Measurement
from zebra.curate.pair_scorer import PairScorer
from zebra.curate.partners import draw_partners, neg_clip_loss
from zebra.curate.pipeline import Stage
from zebra.curate.prompt_scores import PromptClassifier, build_classifiers, read_prompts
from zebra.curate.rules import PairRule, PoolReader, PoolRule, ReasonRule
from zebra.curate.vectors import ALIGNMENT, FLIPPED_ALIGNMENT, IMAGE_VECTOR, SCORE_REASON, TEXT_VECTOR, to_vectors
from zebra.data.sources import Source

STAGE = "score"
SCORE_COLUMNS = {
    "alignment": (ALIGNMENT,),
    "flipped": (FLIPPED_ALIGNMENT,),
    "neg-clip-loss": ("uid", IMAGE_VECTOR, TEXT_VECTOR),
}
"""Columns from which each score of `ScoreRules.rank_by` is computed."""


def score_stages(config: ScoreRules, scorer: PairScorer, source: Source) -> list[Stage]:
    """Return the measurement of vectors and scores, and the rules that use them.

    Args:
        source: The pool, by the column `index`.
    """
    stages: list[Stage] = [
        Measurement(
            STAGE, scorer.key, ("index", "text"), scorer.schema, lambda table: score_table(scorer, source, table)
        ),
        ReasonRule(STAGE, SCORE_REASON),
    ]
    if config.min_alignment is not None:
        stages.append(
            PairRule(
                STAGE,
                f"alignment under {config.min_alignment:g}",
                (ALIGNMENT,),
                lambda table: pc.less(table[ALIGNMENT], config.min_alignment),
            )
        )
    if config.max_flipped_gain is not None:
        stages.append(
            PairRule(
                STAGE,
                f"alignment over {config.max_flipped_gain:g} above that of the mirrored image",
                (ALIGNMENT, FLIPPED_ALIGNMENT),
                lambda table: pc.greater(
                    pc.subtract(table[ALIGNMENT], table[FLIPPED_ALIGNMENT]), config.max_flipped_gain
                ),
            )
        )
    if config.prompts is not None:
        classifiers = build_classifiers(scorer.clip, read_prompts(Path(config.prompts)))
        stages.extend(_prompt_rule(classifier, config.max_prompt) for classifier in classifiers)
    if config.keep_fraction is not None:
        stages.append(_rank_rule(config, config.keep_fraction, scorer.clip.logit_scale))
    return stages


def score_table(scorer: PairScorer, source: Source, table: pa.Table) -> pa.Table:
    """Return the vectors and scores of some pairs; each image is encoded once.

    Args:
        table: The columns `index`, a position in the source, and `text`.
    """
    indices, image_N = np.unique(table["index"].to_numpy(), return_inverse=True)
    images = scorer.encode_images(source, indices.tolist())
    return scorer.score([images[image] for image in image_N], table["text"].to_pylist())


def _prompt_rule(classifier: PromptClassifier, max_prompt: float) -> PairRule:
    def find(table: pa.Table) -> pa.BooleanArray:
        return pa.array(classifier(to_vectors(table[IMAGE_VECTOR])) > max_prompt)

    return PairRule(STAGE, f"{classifier.name} over {max_prompt:g}", (IMAGE_VECTOR,), find)


def _rank_rule(config: ScoreRules, keep_fraction: float, logit_scale: float) -> PoolRule:
    def find(reader: PoolReader) -> Iterator[NDArray[np.bool_]]:
        scores = list(_read_scores(config.rank_by, reader, logit_scale))
        threshold = find_threshold(scores, keep_fraction)
        return (score_N < threshold for score_N in scores)

    reason = f"{config.rank_by} not in the top {keep_fraction:.4g} of the pairs"
    return PoolRule(STAGE, reason, SCORE_COLUMNS[config.rank_by], find)


def _read_scores(rank_by: ScoreName, reader: PoolReader, logit_scale: float) -> Iterable[NDArray[np.floating[Any]]]:
    if rank_by == "neg-clip-loss":
        score = partial(neg_clip_loss, partners=draw_partners(reader()), logit_scale=logit_scale)
        return reader.map(score)
    (column,) = SCORE_COLUMNS[rank_by]
    return (table[column].to_numpy() for table in reader())
