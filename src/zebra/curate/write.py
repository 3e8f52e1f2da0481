"""The result of a curation: tar shards, tables, decisions and the account.

00000.tar  00000.parquet  00000_stats.json  …   as img2dataset writes them
decisions.parquet                               the fate of every pair
account.json                                    found = kept + dropped, by stage and reason
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zebra.atomic_io import atomic_write
from zebra.curate.pairs import KEPT, Pairs
from zebra.curate.pipeline import RuleCount
from zebra.data.shard_writer import ShardWriter
from zebra.data.sources import Source
from zebra.errors import BadSample, DataError
from zebra.images.exif_location import remove_location
from zebra.images.formats import media_type
from zebra.values import Record

ACCOUNT_FILE = "account.json"
DECISIONS_FILE = "decisions.parquet"
DECISION_SCHEMA = pa.schema(
    {
        "uid": pa.binary(16),
        "id": pa.string(),
        "text": pa.string(),
        "stage": pa.string(),  # null if the pair is kept
        "reason": pa.string(),
    }
)
SHARD_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "uid": pa.string(),  # hex, of the first caption
        "id": pa.string(),  # name of the sample in the pool
        "url": pa.string(),  # where the image was downloaded; null if it was not
        "caption": pa.string(),
        "captions": pa.list_(pa.string()),
        "width": pa.int32(),
        "height": pa.int32(),
        "sha256": pa.string(),
        "status": pa.string(),
    }
)


def write_shards(
    out: Path,
    source: Source,
    pairs: Pairs,
    samples_per_shard: int,
    callback: Callable[[int, int, str], None],
    *,
    remove_locations: bool,
    split: str | None = None,
) -> int:
    """Write the remaining pairs as tar shards with a table and counts beside each; return the number of images.

    Images are copied byte by byte. The first caption of an image is in its .txt, all of several in .captions.json.

    Args:
        remove_locations: Overwrite the coordinates in the metadata of images.
        split: Write the pairs with this value in the column `split` only.

    Raises:
        DataError: An image has changed since it was scanned.
    """
    num_images = 0
    total = sum(len(table["index"].unique()) for table in _read_split(pairs, ("index",), split))
    rows: list[dict[str, Any]] = []

    def write_table(shard: Path) -> None:
        with atomic_write(shard.with_suffix(".parquet")) as partial:
            pq.write_table(pa.Table.from_pylist(rows, SHARD_SCHEMA), partial)
        counts = {"count": len(rows), "successes": len(rows), "failed_to_download": 0, "failed_to_resize": 0}
        _write_json(shard.with_name(f"{shard.stem}_stats.json"), counts)
        rows.clear()

    with ShardWriter(out, samples_per_shard=samples_per_shard) as writer:
        for sample in _iter_kept_samples(pairs, split):
            record = _read_unchanged(source, sample[0])
            key = f"{num_images // samples_per_shard:05d}{num_images % samples_per_shard:05d}"
            image = remove_location(record.image) if remove_locations else record.image
            row = _shard_row(key, sample, image)
            document = json.dumps(row, ensure_ascii=False).encode()
            suffix = media_type(image).removeprefix("image/").replace("jpeg", "jpg")
            fields = {suffix: image, "txt": sample[0]["text"].encode(), "json": document}
            if len(sample) > 1:
                fields["captions.json"] = json.dumps(row["captions"], ensure_ascii=False).encode()
            writer.write(key, fields)
            if len(rows) == samples_per_shard:
                write_table(writer.shards[-2])
            rows.append(row)
            num_images += 1
            callback(num_images, total, "writing")
    if rows:
        write_table(writer.shards[-1])
    return num_images


def count_located_images(pairs: Pairs) -> int:
    """Return the number of remaining images whose files say where they were taken."""
    tables = pairs.read_kept(("index", "has_location"))
    return sum(len(table.filter(table["has_location"])["index"].unique()) for table in tables)


def write_decisions(out: Path, pairs: Pairs, counts: Sequence[RuleCount]) -> None:
    """Write what happened to every pair: the stage and reason that dropped it, or null."""
    with atomic_write(out / DECISIONS_FILE) as partial, pq.ParquetWriter(partial, DECISION_SCHEMA) as writer:
        stages, reasons = (
            pa.array([getattr(count, name) for count in counts], pa.string()) for name in ("stage", "reason")
        )
        for table, decision_N in pairs.read_decisions(("uid", "id", "text")):
            numbers = pa.array(decision_N, pa.int32(), mask=decision_N == KEPT)
            decisions = [names.take(numbers) for names in (stages, reasons)]
            writer.write_table(pa.table([*table.columns, *decisions], DECISION_SCHEMA))


def write_account(out: Path, account: Mapping[str, Any]) -> None:
    """Write the account; it is written last, so a folder that has one is complete."""
    _write_json(out / ACCOUNT_FILE, account)


def format_account(counts: Sequence[RuleCount], num_kept: int, num_images: int) -> str:
    """Return the account as a table of text."""
    lines = [f"{'stage':<12} {'found':>12} {'dropped':>12}  reason"]
    lines += [
        f"{count.stage:<12} {count.found:>12,} {count.dropped:>12,}  {count.reason}"
        for count in counts
        if count.dropped
    ]
    return "\n".join([*lines, f"{'kept':<12} {num_kept:>12,} {'':>12}  pairs of {num_images:,} images"])


def _iter_kept_samples(pairs: Pairs, split: str | None) -> Iterator[list[dict[str, Any]]]:
    """Yield the remaining pairs of each sample."""
    columns = ["uid", "index", "id", "text", "sha256", "width", "height", *({"url"} & set(pairs.columns))]
    rows = (row for table in _read_split(pairs, columns, split) for row in table.to_pylist())
    for _, sample in groupby(rows, lambda row: row["index"]):
        yield list(sample)


def _read_split(pairs: Pairs, columns: Sequence[str], split: str | None) -> Iterator[pa.Table]:
    if split is None:
        return pairs.read_kept(columns)
    tables = pairs.read_kept((*columns, "split"))
    return (table.filter(pc.equal(table["split"], split)).select(list(columns)) for table in tables)


def _shard_row(key: str, sample: Sequence[Mapping[str, Any]], image: bytes) -> dict[str, Any]:
    first = sample[0]
    return {
        "key": key,
        "uid": first["uid"].hex(),
        "id": first["id"],
        "url": first.get("url"),
        "caption": first["text"],
        "captions": [row["text"] for row in sample],
        "width": first["width"],
        "height": first["height"],
        "sha256": sha256(image).hexdigest(),
        "status": "success",
    }


def _read_unchanged(source: Source, row: Mapping[str, Any]) -> Record:
    try:
        record = source.read(row["index"])
    except BadSample as bad:
        raise DataError(f"{row['id']} has changed since it was scanned ({bad}). Run the same command again.") from bad
    if sha256(record.image).digest() != row["sha256"]:
        raise DataError(f"{row['id']} has changed since it was scanned. Run the same command again.")
    return record


def write_document(path: Path, text: str) -> None:
    """Write a file of text."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_document(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
