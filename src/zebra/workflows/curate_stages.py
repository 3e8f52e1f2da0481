"""The stages of `zebra curate`, in order."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from zebra.config.cores import usable_cores
from zebra.config.curate import BalanceRules, CurateConfig
from zebra.curate.address_rules import address_rules
from zebra.curate.balance import balance_rules, match_stages
from zebra.curate.clean import cleaning_stages
from zebra.curate.column_rules import column_rules, require_columns
from zebra.curate.copy_rules import copy_rules, signature_stages
from zebra.curate.decontamination import decontamination_rule, sign_evaluation_images
from zebra.curate.digest_lists import REMOVALS_FILE, DigestLists, link_list_rules, read_digest_lists
from zebra.curate.image_lists import hash_list_stages, image_list_rules
from zebra.curate.image_rules import duplicate_rules, image_rules, published_size_rules
from zebra.curate.language import language_rules
from zebra.curate.match import EntryMatcher
from zebra.curate.pairs import PAIR_SCHEMA
from zebra.curate.pipeline import Stage
from zebra.curate.privacy import privacy_rules
from zebra.curate.queries.entry_list import read_entries
from zebra.curate.rules import ReasonRule
from zebra.curate.semantic import semantic_rules
from zebra.curate.subset import subset_rules
from zebra.curate.text_rules import text_rules
from zebra.curate.word_rules import word_rules
from zebra.curate.write import ACCOUNT_FILE
from zebra.data.sources import Source
from zebra.errors import ConfigError
from zebra.evaluators.datasets import load_dataset


def build_stages(
    config: CurateConfig,
    lists: Mapping[str, DigestLists],
    columns: Collection[str] = PAIR_SCHEMA.names,
    *,
    download_stages: Sequence[Stage] = (),
    image_stages: Sequence[Stage] = (),
    with_images: bool = True,
) -> list[Stage]:
    """Return the stages in order: cheap ones first, and duplicates among what the other rules keep.

    Args:
        lists: Stage → what must not be in the set.
        columns: Columns of the pool.
        download_stages: What makes columns of images from links.
        image_stages: What reads the images again, to compare or encode them.
        with_images: Whether images are judged.

    Raises:
        ConfigError: A file cannot be read, or the pool lacks a column that a condition is on.
    """
    require_columns(config.columns, columns)
    match, balance = _balance_stages(config.balance)
    stages = [
        ReasonRule("read", "reason"),
        *cleaning_stages(config.text),
        *privacy_rules(config.privacy),
        *subset_rules(config.subset),
        *(address_rules(config.address) if "url" in columns else []),
        *(rule for stage, content in lists.items() for rule in link_list_rules(content, stage, columns)),
        *column_rules(config.columns),
        *published_size_rules(config.image, columns),
        *text_rules(config.text),
        *word_rules(config.text),
        *language_rules(config.language, columns),
        *match,
    ]
    if not with_images:
        return stages
    return [
        *stages,
        *download_stages,
        *image_list_rules(lists, columns),
        *image_rules(config.image),
        *duplicate_rules(config.image),
        *image_stages,
        *balance,
    ]


def build_image_stages(
    config: CurateConfig,
    lists: Mapping[str, DigestLists],
    source: Source,
    folder: Path,
    callback: Callable[[int, int, str], None],
) -> list[Stage]:
    """Return the stages that read images again: near duplicates before vectors, so that fewer images need them."""
    return [
        *hash_list_stages(lists, source, config.data_options.max_image_pixels),
        *_copy_stages(config, source, folder, callback),
        *_vector_stages(config, source),
    ]


def _copy_stages(
    config: CurateConfig, source: Source, folder: Path, callback: Callable[[int, int, str], None]
) -> list[Stage]:
    """Return the stages that need signatures of images."""
    copies, max_pixels = config.copies, config.data_options.max_image_pixels
    if copies.max_distance is None and not copies.avoid and not config.split.validation:
        return []
    crops = copies.crops or bool(copies.avoid)
    datasets = {name: load_dataset(name, "test", copies.avoid_root).source for name in copies.avoid}
    num_threads = 1 if config.engine == "ray" else usable_cores()
    return [
        *signature_stages(source, crops=crops, max_pixels=max_pixels, num_threads=num_threads),
        *(
            decontamination_rule(name, partial(sign_evaluation_images, images, folder, usable_cores(), callback))
            for name, images in datasets.items()
        ),
        *copy_rules(copies),
    ]


def _vector_stages(config: CurateConfig, source: Source) -> list[Stage]:
    """Return the stages that need the vectors of a model."""
    if config.model is None:
        return []
    from zebra.curate.score_rules import score_stages  # these import torch, which other rules do not need
    from zebra.workflows.score import open_scorer

    scorer = open_scorer(
        config.model,
        flipped=config.score.needs_flipped,
        store=config.score.store,
        precision=config.score.precision,
        device=config.device,
        max_pixels=config.data_options.max_image_pixels,
    )
    return [*score_stages(config.score, scorer, source), *semantic_rules(config.semantic)]


def read_lists(config: CurateConfig) -> dict[str, DigestLists]:
    """Return what must not be in the set: removals, also those of a pool that an earlier run wrote, and blocklists."""
    pool = Path(config.pool)
    carried = [
        folder / REMOVALS_FILE
        for folder in (pool, pool.parent)  # a shard or a split of a set
        if (folder / ACCOUNT_FILE).is_file() and (folder / REMOVALS_FILE).is_file()
    ]
    return {
        "removals": read_digest_lists([*map(Path, config.removals), *carried]),
        "blocklist": read_digest_lists(map(Path, config.blocklist)),
    }


def _balance_stages(config: BalanceRules) -> tuple[list[Stage], list[Stage]]:
    """Return the stages that find entries, and those that balance by them."""
    if config.entries is None:
        if config.max_per_entry is not None or config.keep is not None:
            raise ConfigError("balancing needs entries. Give a file with one per line as balance.entries.")
        return [], []
    try:
        matcher = EntryMatcher(read_entries(Path(config.entries)))
    except ConfigError as error:
        raise ConfigError(f"{config.entries}: {error}") from error
    return match_stages(matcher), balance_rules(matcher, config.max_per_entry, config.keep, config.seed)
