"""The task `zebra curate`: a training set from a pool of image-text pairs."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zebra
from zebra.atomic_io import PARTIAL_SUFFIX, is_disk_full
from zebra.config.curate import CurateConfig
from zebra.config.structure import unstructure
from zebra.curate.croissant import CROISSANT_FILE, describe_set
from zebra.curate.datasheet import DATASHEET_FILE, ENTRIES_FILE, count_entry_pairs, count_hosts, format_datasheet
from zebra.curate.digest_lists import REMOVALS_FILE, DigestLists, write_digest_lists
from zebra.curate.look import RuleLook, look_at_rules
from zebra.curate.measurements import Measurement
from zebra.curate.pairs import Pairs
from zebra.curate.pipeline import RuleCount, Stage, apply_stages
from zebra.curate.pools.pool import Pool, open_pool
from zebra.curate.queries.entry_list import read_entries
from zebra.curate.split import SPLIT_NAMES, add_splits
from zebra.curate.subset import SUBSET_FILE, write_subset
from zebra.curate.write import (
    ACCOUNT_FILE,
    DECISIONS_FILE,
    SHARD_SCHEMA,
    count_located_images,
    write_account,
    write_decisions,
    write_document,
    write_shards,
)
from zebra.data.ignored import Ignored
from zebra.engines import ThreadEngine, open_engine
from zebra.engines.ray import require_ray
from zebra.errors import ConfigError, DataError
from zebra.file_lock import lock_folder
from zebra.store import Store
from zebra.workflows.curate_stages import build_image_stages, build_stages, read_lists

SHARD_FILE_PATTERN = re.compile(r"\d{5,}(\.tar|\.parquet|_stats\.json)")
LOOK_SAMPLES = 2_000
"""Samples that a look reads."""
OTHER_FILES = {
    *(DECISIONS_FILE, SUBSET_FILE, REMOVALS_FILE, DATASHEET_FILE, ENTRIES_FILE, CROISSANT_FILE),
    *SPLIT_NAMES,
}
"""What an interrupted run may leave beside the shards."""
COUNTED_COLUMNS = ("cleaned", "masked", "language")
"""Columns whose values are counted among the kept pairs."""
MAX_NAMED_RULES = 3
"""Rules that an error names."""
UNRECORDED_SETTINGS = ("engine", "workers", "device")
"""Settings that do not change the set."""
SCAN_FOLDER = ".scan"
"""Scanned units in the output folder until the set is complete; a dot hides them from readers of the shards."""


@dataclass(frozen=True, slots=True)
class CurateResult:
    """What a curation kept and dropped."""

    out: Path
    counts: list[RuleCount]
    num_pairs: int
    num_kept: int
    num_images: int
    """Images of the kept pairs."""
    caption_counts: dict[str, dict[str, int]]
    """Column → value → number of kept captions: changes by cleaning, masked personal data, languages."""
    ignored: tuple[Ignored, ...]
    """Files of the pool that are no part of a sample."""
    unused: tuple[Ignored, ...]
    """What was found in web pages and tables and is no pair, such as images without a text."""


def run(
    config: CurateConfig, callback: Callable[[int, int, str], None] = lambda _done, _total, _stage: None
) -> CurateResult:
    """Read the pool, apply the rules and write the set to `config.out`.

    An interrupted run continues when it is started again; the result has the same bytes.

    Args:
        callback: Called with the number of samples, units or stages done, their total and the stage.

    Raises:
        ConfigError: The directory holds a finished set or anything else, or another process writes to it.
        DataError: The pool cannot be read, no pair is left, or the disk is full.
        MissingExtra: `engine` is "ray", and Ray is not installed.
    """
    if config.engine == "ray":
        require_ray("zebra curate --engine ray")
    out = Path(config.out)
    _require_free(out)
    lists = read_lists(config)
    with _open_pool(config, out / SCAN_FOLDER) as pool:
        # Before the pool is read, so that a wrong file name costs no wait.
        stages = build_stages(
            *(config, lists, pool.columns),
            download_stages=pool.download_stages,
            image_stages=build_image_stages(config, lists, pool.source, out / SCAN_FOLDER, callback),
        )
        with _lock_output(out):
            return _curate(config, out, pool, lists["removals"], stages, callback)


def _open_pool(config: CurateConfig, folder: Path) -> AbstractContextManager[Pool]:
    source = None
    if Store.exists(Path(config.pool)):
        from zebra.search.stored_images import StoredImages  # imports what other pools do not need

        source = StoredImages(Store.open(Path(config.pool)))
    return open_pool(config.pool, config.data_options, config.fetch, folder, source)


@contextmanager
def _lock_output(out: Path) -> Iterator[None]:
    """Let no other process write to the output folder, and explain errors of a full disk."""
    try:
        with lock_folder(out, out / SCAN_FOLDER / "lock"):
            _require_free(out)  # another process may have finished meanwhile
            yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DataError(
            f"cannot write to {out}: {error.strerror or error}. Free disk space and run the same command again; it "
            "continues."
        ) from error


def _curate(
    config: CurateConfig,
    out: Path,
    pool: Pool,
    removals: DigestLists,
    stages: Sequence[Stage],
    callback: Callable[[int, int, str], None],
) -> CurateResult:
    _remove_leftovers(out)
    with open_engine(config.engine, config.workers) as engine:
        pairs = pool.scan(callback, engine)
        counts = apply_stages(pairs, stages, out / SCAN_FOLDER, callback, engine)
    write_decisions(out, pairs, counts)
    if not pairs.num_kept:
        raise DataError(
            f"no pair of {config.pool} is left of {len(pairs):,}: {_name_largest(counts)}. {out / DECISIONS_FILE} has "
            "the reason for each pair. Relax the rules that drop most."
        )
    caption_counts = {column: pairs.count_values(column) for column in COUNTED_COLUMNS}
    write_subset(out / SUBSET_FILE, pairs)
    if removals:
        write_digest_lists(out / REMOVALS_FILE, removals)
    num_locations_removed = count_located_images(pairs) if config.privacy.locations == "remove" else 0
    remove_locations = config.privacy.locations == "remove"
    if config.split.validation:
        add_splits(pairs, config.split, out / SCAN_FOLDER)
    num_images_by_split = {
        split: write_shards(
            *(out / (split or ""), pool.source, pairs, config.samples_per_shard, callback),
            remove_locations=remove_locations,
            split=split,
        )
        for split in (SPLIT_NAMES if config.split.validation else (None,))
    }
    num_images = sum(num_images_by_split.values())
    account = {
        "zebra": zebra.__version__,
        "config": {name: value for name, value in unstructure(config).items() if name not in UNRECORDED_SETTINGS},
        "pool_sha256": pool.source.digest,
        "pairs": {"found": len(pairs), "kept": pairs.num_kept, "dropped": len(pairs) - pairs.num_kept},
        "captions": caption_counts,
        "images": {"found": len(pool.source), "kept": num_images, "locations_removed": num_locations_removed},
        "splits": {split: count for split, count in num_images_by_split.items() if split},
        "rules": [
            {"stage": count.stage, "reason": count.reason, "found": count.found, "dropped": count.dropped}
            for count in counts
        ],
        "measurements": {stage.stage: stage.key for stage in stages if isinstance(stage, Measurement)},
        "ignored_files": [{"reason": item.reason, "count": item.count} for item in pool.source.ignored],
        "unused": [{"reason": item.reason, "count": item.count} for item in pool.unused],
    }
    _write_datasheet(out, account, pairs, config)
    write_account(out, account)
    shutil.rmtree(out / SCAN_FOLDER)
    return CurateResult(
        *(out, counts, len(pairs), pairs.num_kept, num_images, caption_counts), pool.source.ignored, pool.unused
    )


def _write_datasheet(out: Path, account: Mapping[str, Any], pairs: Pairs, config: CurateConfig) -> None:
    """Write the documents about the set, for people and for other programs."""
    entry_counts = None
    if config.balance.entries is not None:
        entry_counts = count_entry_pairs(pairs, read_entries(Path(config.balance.entries)))
        entry_counts.write(out / ENTRIES_FILE)
    write_document(out / DATASHEET_FILE, format_datasheet(account, count_hosts(pairs), entry_counts))
    description = (
        f"{account['pairs']['kept']:,} pairs of {account['images']['kept']:,} images with captions, curated by "
        f"zebra {account['zebra']} from {config.pool}. {DATASHEET_FILE} says how."
    )
    name, has_splits = f"{Path(config.pool).resolve().name}-curated", bool(account["splits"])
    croissant = describe_set(name, description, SHARD_SCHEMA, has_splits=has_splits)
    write_document(out / CROISSANT_FILE, json.dumps(croissant, indent=1, ensure_ascii=False) + "\n")


def look(
    config: CurateConfig,
    num_samples: int = LOOK_SAMPLES,
    callback: Callable[[int, int, str], None] = lambda _done, _total, _stage: None,
) -> list[RuleLook]:
    """Apply the rules to a sample of the pool, each alone and all in order; write nothing.

    Images of links are not downloaded, so only the rules before the download are applied to them.

    Rules that compare pairs, such as those against duplicates, find less in a sample than in the pool.

    Args:
        num_samples: Samples to read, evenly spaced; of links the first ones of each file.
        callback: Called with the number of samples, units or stages done, their total and the stage.

    Raises:
        DataError: The pool cannot be read.
        ConfigError: The entries cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder, _open_pool(config, Path(folder)) as pool:
        lists = read_lists(config)
        image_stages = build_image_stages(config, lists, pool.source, Path(folder), callback)
        stages = build_stages(*(config, lists, pool.columns), image_stages=image_stages, with_images=pool.has_images)
        return look_at_rules(pool.scan(callback, ThreadEngine(1), num_samples), stages, Path(folder), callback)


def _name_largest(counts: Sequence[RuleCount]) -> str:
    largest = sorted((count for count in counts if count.dropped), key=lambda count: -count.dropped)[:MAX_NAMED_RULES]
    return ", ".join(f"{count.dropped:,} × {count.reason} ({count.stage})" for count in largest)


def _require_free(out: Path) -> None:
    if (out / ACCOUNT_FILE).is_file():
        shutil.rmtree(out / SCAN_FOLDER, ignore_errors=True)  # of a run that was killed at the very end
        raise ConfigError(f"{out} already holds a finished set. Use another --out, or delete it.")
    others = [entry.name for entry in out.iterdir() if not entry.name.startswith(".")] if out.is_dir() else []
    outputs = {path.relative_to(out).parts[0] for path in _list_outputs(out)}
    leftovers = set(others) - outputs - OTHER_FILES
    if leftovers or (others and not (out / SCAN_FOLDER).is_dir()):
        raise ConfigError(f"{out} holds other files ({', '.join(sorted(others)[:3])}). Use an empty --out.")


def _list_outputs(out: Path) -> list[Path]:
    """Return the shards in the output folder and what belongs to them."""
    folders = [out, *(out / split for split in SPLIT_NAMES)]
    return [path for folder in folders for path in folder.glob("*") if SHARD_FILE_PATTERN.fullmatch(path.name)]


def _remove_leftovers(out: Path) -> None:
    """Remove what an interrupted run, perhaps with other rules and more shards, left beside the scanned units."""
    partial_files = [path for path in out.rglob(f".*{PARTIAL_SUFFIX}") if path.is_file()]
    for path in {*_list_outputs(out), *partial_files, *(out / name for name in OTHER_FILES)}:
        if not path.is_dir():
            path.unlink(missing_ok=True)
    for split in SPLIT_NAMES:
        with suppress(OSError):  # missing, or not empty
            (out / split).rmdir()
