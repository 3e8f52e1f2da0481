"""Arms of the curation experiment: which pairs of the pool each keeps, and what each stage found.

A  raw                          the pool
B  random                       a random part of A, of F's size
C  rules                        text, language and image rules
D  + duplicates                 without exact and near copies
E  + alignment                  the share of D with the highest cosine of image and caption
F  + balance                    balanced by entries
F' without decontamination      F with the evaluation images that its rules keep
G  oracle                       the clean pairs, by the truth
T  trusted scorer               as E, with a scorer that was trained on clean pairs only

The evaluation images in the pool are taken out of every arm but F', so that the arms differ in curation only.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation_training import Experiment, export_arm, load_arm, save_arm
from wild_menagerie import CLEAN, EVALUATION_IMAGE, EXACT_COPY, NEAR_COPY, SHARES
from zebra.config.curate import BalanceRules, CurateConfig
from zebra.config.data import DataConfig
from zebra.config.files import read_recipe
from zebra.config.structure import structure
from zebra.data.sources import open_source
from zebra.pretrained.bundle import Bundle
from zebra.workflows import curate

COPY_STAGES = ("duplicates", "copies")
"""Stages of `zebra curate` that compare images; those before them are rules."""
ALIGNED_SHARE = 0.6
"""Share of D that E keeps. It was set knowing how many captions of the pool are true; on other pools, look at some."""
BALANCED_SHARE = 0.6
"""Share of E that F keeps."""
NUM_FOLDS = 2
NUM_TRUSTED = 2_000
SCORER_SEED = 100


class Truth:
    """What is wrong with each of the N pairs of the pool."""

    def __init__(self, world: Path) -> None:
        table = pq.read_table(world / "truth.parquet")
        self.noise_N = np.array(table["noise"].to_pylist())
        self.original_N = np.array(table["original"].to_pylist(), np.int64)
        self.kind_N = np.array(
            [
                f"{coat} {animal}"
                for animal, coat in zip(*table.select(["animal", "coat"]).to_pydict().values(), strict=True)
            ]
        )

    def is_leak(self, position_K: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which pairs show an evaluation image."""
        is_leak_K: NDArray[np.bool_] = self.noise_N[position_K] == EVALUATION_IMAGE
        return is_leak_K


def select_by_rules(experiment: Experiment, truth: Truth) -> None:
    """Curate the pool by rules and duplicates with `zebra curate`; save A, C, D and G."""
    world, out = experiment.world, experiment.world / "curated"
    if not (out / "account.json").exists():
        curate.run(replace(experiment.curation, pool=str(world / "pool"), out=str(out), balance=BalanceRules()))
    stage_N = read_stages(out, len(truth.noise_N))
    position_N = np.arange(len(stage_N))
    is_leak_N = truth.is_leak(position_N)
    save_arm(world, "A", np.flatnonzero(~is_leak_N))
    save_arm(world, "C", np.flatnonzero(~is_leak_N & np.isin(stage_N, ("", *COPY_STAGES))))
    save_arm(world, "D", np.flatnonzero(~is_leak_N & (stage_N == "")))
    save_arm(world, "D with leaks", np.flatnonzero(stage_N == ""))
    save_arm(world, "G", np.flatnonzero(truth.noise_N == CLEAN))


def read_stages(curated: Path, num_pairs: int) -> NDArray[np.str_]:
    """Return the stage that dropped each pair of the pool, [N]; empty if none did."""
    table = pq.read_table(curated / "decisions.parquet", columns=["id", "stage"])
    stage_N = np.full(num_pairs, "", dtype="U16")
    for sample_id, stage in zip(table["id"].to_pylist(), table["stage"].to_pylist(), strict=True):
        stage_N[int(sample_id.rsplit("/", 1)[-1])] = stage or ""
    return stage_N


def score_by_folds(experiment: Experiment) -> NDArray[np.float32]:
    """Return the cosine of image and caption of each pair of "D with leaks", by a model trained on the other folds."""
    path = experiment.world / "arms" / "scores.npy"
    if not path.exists():
        position_K = load_arm(experiment.world, "D with leaks")
        fold_K, score_K = assign_folds(position_K), np.zeros(len(position_K), np.float32)
        for fold in range(NUM_FOLDS):
            clip = train_fold(experiment, fold)
            score_K[fold_K == fold] = score_pairs(clip, experiment.world, position_K[fold_K == fold])
        np.save(path, score_K)
    return np.load(path)


def assign_folds(position_K: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fold of each pair, at random."""
    return np.random.default_rng(SCORER_SEED).integers(NUM_FOLDS, size=len(position_K))


def train_fold(experiment: Experiment, fold: int) -> Bundle:
    """Train the scorer of a fold on the pairs of D in the other folds; return it, also of an earlier run."""
    world, name = experiment.world, f"fold {fold}"
    position_K = load_arm(world, "D with leaks")
    save_arm(world, name, np.intersect1d(position_K[assign_folds(position_K) != fold], load_arm(world, "D")))
    return experiment.train_model(export_arm(world, name), world / "runs" / name, SCORER_SEED + fold)


def score_by_trusted(experiment: Experiment, truth: Truth) -> NDArray[np.float32]:
    """Return the cosines by a model that was trained on a few clean pairs."""
    world = experiment.world
    path = world / "arms" / "trusted_scores.npy"
    if not path.exists():
        clean_K = np.flatnonzero(truth.noise_N == CLEAN)
        save_arm(world, "trusted", np.random.default_rng(SCORER_SEED).choice(clean_K, NUM_TRUSTED, replace=False))
        clip = experiment.train_model(export_arm(world, "trusted"), world / "runs" / "trusted", SCORER_SEED)
        np.save(path, score_pairs(clip, world, load_arm(world, "D with leaks")))
    return np.load(path)


def score_pairs(
    clip: Bundle, world: Path, position_K: NDArray[np.int64], block_size: int = 1_000
) -> NDArray[np.float32]:
    """Return the cosine of image and caption of some pairs of the pool."""
    source = open_source(str(world / "pool"), DataConfig())
    cosines = []
    for start in range(0, len(position_K), block_size):
        records = [source.read(position) for position in position_K[start : start + block_size].tolist()]
        image_BE = clip.encode_images(record.image for record in records)
        text_BE = clip.encode_texts(record.captions[0] for record in records)
        cosines.append((image_BE * text_BE).sum(1).numpy())
    return np.concatenate(cosines)


def select_aligned(world: Path, arm: str, score_K: NDArray[np.float32], truth: Truth) -> None:
    """Save the pairs of D above the threshold that keeps ALIGNED_SHARE of them, and those with the leaked images."""
    position_K = load_arm(world, "D with leaks")
    is_leak_K = truth.is_leak(position_K)
    is_kept_K = score_K >= np.quantile(score_K[~is_leak_K], 1 - ALIGNED_SHARE)
    save_arm(world, arm, position_K[is_kept_K & ~is_leak_K])
    save_arm(world, f"{arm} with leaks", position_K[is_kept_K])


def select_balanced(experiment: Experiment, arm: str, source_arm: str) -> None:
    """Balance an arm by entries with `zebra curate`; keep BALANCED_SHARE of it."""
    world, out = experiment.world, experiment.world / f"balanced {arm}"
    if not (out / "account.json").exists():
        settings = read_recipe("everything", "curate") | {"pool": str(export_arm(world, source_arm)), "out": str(out)}
        keep = round(BALANCED_SHARE * len(load_arm(world, source_arm)))
        config = structure(CurateConfig, settings, "recipe everything")
        curate.run(replace(config, balance=replace(experiment.curation.balance, keep=keep)))
    table = pq.read_table(out / "decisions.parquet", columns=["id", "stage"])
    keys = [key for key, stage in zip(*table.to_pydict().values(), strict=True) if stage is None]
    save_arm(world, arm, np.array([int(key.rsplit("/", 1)[-1]) for key in keys], np.int64))


def find_wrong_drops(truth: Truth, present_K: NDArray[np.int64], dropped_K: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the dropped pairs that a perfect curator keeps: the first of the present ones with each clean image."""
    is_true_K = np.isin(truth.noise_N[present_K], (CLEAN, EXACT_COPY, NEAR_COPY))
    _, first = np.unique(truth.original_N[present_K[is_true_K]], return_index=True)
    return np.intersect1d(dropped_K, present_K[is_true_K][first])


def count_by_noise(truth: Truth, position_K: NDArray[np.int64]) -> dict[str, int]:
    """Return the number of pairs by noise."""
    return {noise: int((truth.noise_N[position_K] == noise).sum()) for noise in SHARES}


def rare_kinds(truth: Truth) -> Sequence[str]:
    """Return the quarter of the kinds with the fewest clean pairs."""
    kind_K = truth.kind_N[(truth.noise_N == CLEAN) & (truth.kind_N != " ")]
    kinds, count_U = np.unique(kind_K, return_counts=True)
    return [str(kind) for kind in kinds[np.argsort(count_U, kind="stable")[: max(1, len(kinds) // 4)]]]
