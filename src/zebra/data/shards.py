"""WebDataset tar shards, read at any position, one sample or a batch at a time."""

import copy
import json
import os
import re
import warnings
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from itertools import accumulate, groupby, islice, takewhile
from operator import itemgetter
from pathlib import Path, PurePosixPath

import pyarrow as pa

from zebra.config.data import DamagedShardPolicy, DataConfig
from zebra.data.columns import choose_columns, convert_cell, infer_column_type
from zebra.data.folder_walk import raise_listing_error
from zebra.data.ignored import Ignored, IgnoredCounter
from zebra.data.locations import ImageRef, Location, columns_stamp
from zebra.data.remote.blobs import Blob, ByteRange, LocalBlob
from zebra.data.shard_captions import TextMembers, parse_json_object
from zebra.data.tar_index import DamagedShard, TarIndex, TarSample
from zebra.errors import BadSample, DataError, escape_unencodable, list_names, suggest_name
from zebra.images.formats import IMAGE_SUFFIXES, UNSUPPORTED_FORMATS
from zebra.values import Record

IMAGE_FIELDS = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
MAX_OPEN_SHARDS = 64
"""Maximum number of open shards per process; each uses two file descriptors."""
DEFAULT_CONFIG = DataConfig()
INFER_SCHEMA_SAMPLES = 100
"""Number of samples whose `.json` keys are taken as the available columns."""
NUM_INDEX_THREADS = 8
"""Number of remote shards that are indexed concurrently."""


class ShardSource:
    """The samples of tar shards, in natural order of the shards' names: 2.tar before 10.tar.

    Args:
        shards: Local paths, or blobs from `zebra.data.remote.remote_blob.open_remote_shards`.
        name: Name of the dataset.
        ignored: Other files of the shards' folder.
        config: What to do with damaged shards, and the caption and group columns.

    Raises:
        DataError: A shard is damaged, its number of samples differs from img2dataset's count, or there is no such
            column.
    """

    columns = pa.schema([])
    """Extra columns of `scan`, from the `.json` members."""

    def __init__(
        self,
        shards: Sequence[Path | Blob],
        name: str,
        config: DataConfig = DEFAULT_CONFIG,
        ignored: tuple[Ignored, ...] = (),
    ) -> None:
        self.name = name
        blobs = [LocalBlob(shard) if isinstance(shard, Path) else shard for shard in shards]
        blobs.sort(key=lambda blob: _natural_sort_key(blob.name))
        self.shards = _index_shards(blobs, config.damaged_shards)
        self.damage_messages = tuple(shard.damage for shard in self.shards if shard.damage)
        """One error message per damaged shard."""
        self._shard_names = _short_shard_names([blob.name for blob in blobs])
        counter = IgnoredCounter(ignored)
        for shard_name, shard in zip(self._shard_names, self.shards, strict=True):
            counter.extend(shard.ignored, shard_name)
        self.ignored = counter.entries()
        """Other files of the folder, and members of the shards that belong to no sample."""
        self._cumulative_sizes = list(accumulate(len(shard) for shard in self.shards))
        digests = (
            f"{shard_name} {shard.digest}\n" for shard_name, shard in zip(self._shard_names, self.shards, strict=True)
        )
        self.digest = sha256("".join(digests).encode("utf-8", "surrogateescape")).hexdigest()
        """SHA-256 in hex over the index of every shard: keys, byte ranges and labels."""
        self._open_shards: OrderedDict[int, None] = OrderedDict()
        self._texts = TextMembers(config)
        for column in self._texts.json_columns:
            if len(self) and column not in self._json_cells:
                raise DataError(
                    f"{name} has no column {column!r} in the .json members of its first {INFER_SCHEMA_SAMPLES} samples."
                    f"{suggest_name(column, self._json_cells)} They have {list_names(list(self._json_cells))}"
                )
        if self.damage_messages:
            num_intact = sum(len(shard) for shard in self.shards if shard.damage)
            warnings.warn(
                f"{len(self.damage_messages)} of the {len(blobs)} shards of {name} are damaged. Their "
                f"{num_intact:,} complete samples before the damage are used, the rest is lost: "
                f"{'; '.join(self.damage_messages[:3])}{'; …' if len(self.damage_messages) > 3 else ''}",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return self._cumulative_sizes[-1] if self._cumulative_sizes else 0

    @property
    def local_shards(self) -> dict[str, Path]:
        """Return the shards that are files, by the names that begin the ids of their samples."""
        shards = zip(self._shard_names, self.shards, strict=True)
        return {name: shard.blob.path for name, shard in shards if isinstance(shard.blob, LocalBlob)}

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        shard_index, position = self._find_shard(index)
        return f"{self._shard_names[shard_index]}/{self._get_shard(shard_index).sample(position).key}"

    def read(self, index: int) -> Record:
        """Read one sample: image, captions, label (.cls) and group; see `zebra.data.shard_captions`.

        Raises:
            BadSample: missing image, missing caption (and no label either), caption is not UTF-8, empty caption,
                caption is not text, duplicate field, label is not a number, or broken JSON.
            DataError: The shard has changed since it was indexed, or cannot be read.
        """
        shard_index, position = self._find_shard(index)
        (record,) = self._start_read(shard_index, [position])()
        if isinstance(record, BadSample):
            raise record
        return record

    def read_many(self, indices: Sequence[int]) -> list[Record | BadSample]:
        """Read samples in the given order; all requests to remote shards are sent before the first response is awaited.

        Raises:
            DataError: A shard has changed since it was indexed, or cannot be read.
        """
        by_shard: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for order, index in enumerate(indices):
            shard_index, position = self._find_shard(index)
            by_shard[shard_index].append((order, position))
        pending = []
        for shard_index, members in by_shard.items():
            orders, positions = zip(*members, strict=True)
            pending.append((orders, self._start_read(shard_index, positions)))
        records: dict[int, Record | BadSample] = {}
        for orders, wait in pending:
            records.update(zip(orders, wait(), strict=True))
        return [records[order] for order in range(len(indices))]

    def num_images(self) -> int:
        """Return the number of samples, which each may have one image."""
        return len(self)

    @cached_property
    def available_columns(self) -> pa.Schema:
        """Keys of the `.json` members of the first samples, except those that hold lists or objects."""
        return pa.schema(
            [
                (name, infer_column_type(values))
                for name, values in self._json_cells.items()
                if not any(isinstance(value, list | dict) for value in values)
            ]
        )

    @cached_property
    def _json_cells(self) -> Mapping[str, list[object]]:
        """The values of each key in the `.json` members of the first samples."""
        members = []
        for index in range(min(len(self), INFER_SCHEMA_SAMPLES)):
            shard_index, position = self._find_shard(index)
            shard = self._get_shard(shard_index)
            byte_range = shard.sample(position).fields.get("json")
            if byte_range is not None:
                members.append((shard, byte_range))
        rows = []
        for shard, group in groupby(members, key=itemgetter(0)):
            for data in shard.start_read([byte_range for _, byte_range in group])():
                with suppress(BadSample):  # counted when the sample is read
                    rows.append(parse_json_object(data, ""))
        cells: dict[str, list[object]] = defaultdict(list)
        for row in rows:
            for name, value in row.items():
                cells[name].append(value)
        return cells

    def select_columns(self, columns: Sequence[str] | pa.Schema) -> None:
        """Choose the extra columns of `scan`; ConfigError if one is missing."""
        self.columns = choose_columns(columns, self.available_columns, self.name) if len(columns) else pa.schema([])

    def scan(self) -> Iterator[ImageRef]:
        """Yield all samples; the stamp has the identity of the shard and the offset of the image."""
        end = columns_stamp(self.columns) + "".join(f" {name}" for name in self._texts.config.caption_columns)
        for shard in self.shards:
            shard_stamp = sha256(repr(shard.blob.identity[1:]).encode()).hexdigest()[:16]
            for position in range(len(shard)):
                yield _make_image_ref(shard.blob, shard.sample(position), shard_stamp, end, self.columns, self._texts)
            shard.close()

    def max_labels(self) -> Iterator[tuple[str, int]]:
        """Yield (shard name, largest label) of every shard with labels."""
        for shard_index, shard in enumerate(self.shards):
            label = self._get_shard(shard_index).max_label()
            if label is not None:
                yield shard.blob.name, label

    def _find_shard(self, index: int) -> tuple[int, int]:
        """Return the index of the shard and the position in it."""
        shard_index = bisect_right(self._cumulative_sizes, index)
        return shard_index, index - (self._cumulative_sizes[shard_index - 1] if shard_index else 0)

    def _start_read(self, shard_index: int, positions: Sequence[int]) -> Callable[[], list[Record | BadSample]]:
        """Start to read samples of one shard; the returned function waits for them."""
        shard, shard_name = self._get_shard(shard_index), self._shard_names[shard_index]
        plans = [_plan_read(shard.sample(position), shard_name, self._texts) for position in positions]
        wait = shard.start_read(
            [byte_range for plan in plans if isinstance(plan, _ReadPlan) for byte_range in plan.byte_ranges]
        )

        def build_records() -> list[Record | BadSample]:
            data = iter(wait())
            return [_build_record(plan, data) if isinstance(plan, _ReadPlan) else plan for plan in plans]

        return build_records

    def _get_shard(self, shard_index: int) -> TarIndex:
        """Return a shard; close the least recently used one if too many are open."""
        self._open_shards[shard_index] = None
        self._open_shards.move_to_end(shard_index)
        if len(self._open_shards) > MAX_OPEN_SHARDS:
            self.shards[self._open_shards.popitem(last=False)[0]].close()
        return self.shards[shard_index]


def list_shards(folder: Path) -> list[str]:
    """Return the names of the shards in a folder, not in its subfolders, sorted."""
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.is_dir()]
    except OSError as error:
        raise_listing_error(error)
    return sorted(name for name in names if name.lower().endswith(".tar") and not name.startswith("."))


def _make_image_ref(
    blob: Blob, sample: TarSample, shard_stamp: str, stamp_end: str, columns: pa.Schema, texts: TextMembers
) -> ImageRef:
    path = escape_unencodable(str(blob.path.resolve())) if isinstance(blob, LocalBlob) else blob.name
    image = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
    offset, size = sample.fields[image] if image else (None, None)
    location = Location(f"{path}/{sample.key}", f"{shard_stamp} {offset}{stamp_end}", path, offset, size)
    return ImageRef(location, partial(_load_image, blob, sample, path, columns, texts))


def _load_image(blob: Blob, sample: TarSample, path: str, columns: pa.Schema, texts: TextMembers) -> Record:
    """Read one sample with extra columns; caption and label are optional."""
    plan = _plan_read(sample, path, texts, require_caption=False)
    if isinstance(plan, BadSample):
        raise plan
    if isinstance(blob, LocalBlob):
        blob = copy.copy(blob)  # with its own descriptor, because another thread may close that of the shard
    json_ranges = (sample.fields["json"],) if len(columns) and "json" in sample.fields else ()
    try:
        data = blob.start_read((*plan.byte_ranges, *json_ranges))()
    finally:
        if isinstance(blob, LocalBlob):
            blob.close()
    record = _build_record(plan, iter(data), require_caption=False)
    if isinstance(record, BadSample):
        raise record
    row = parse_json_object(data[-1], plan.sample_id) if json_ranges else {}
    try:
        return replace(record, columns={field.name: convert_cell(row.get(field.name), field) for field in columns})
    except BadSample as bad:
        raise BadSample(bad.reason, plan.sample_id, bad.detail) from None


@dataclass(slots=True)
class _ReadPlan:
    """The byte ranges of one record."""

    sample_id: str
    label: int | None
    byte_ranges: tuple[ByteRange, ...]
    """The image, then the members with texts."""
    text_members: tuple[str, ...]
    texts: TextMembers


def _plan_read(
    sample: TarSample, shard_name: str, texts: TextMembers, *, require_caption: bool = True
) -> _ReadPlan | BadSample:
    sample_id = f"{shard_name}/{sample.key}"
    fields = ", ".join(f".{name}" for name in sample.fields)
    if sample.duplicate_field is not None:
        return BadSample("duplicate field", sample_id, f".{sample.duplicate_field} occurs twice")
    image = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
    if image is None:
        formats = [UNSUPPORTED_FORMATS[f".{name}"] for name in sample.fields if f".{name}" in UNSUPPORTED_FORMATS]
        advice = f"; zebra does not read {formats[0]} images. Convert them to JPEG or PNG" if formats else ""
        return BadSample("missing image", sample_id, f"only {fields}{advice}")
    if "cls" in sample.fields and sample.label is None and require_caption:
        return BadSample("label is not a number", sample_id, "in .cls")
    members = texts.list_members(sample.fields)
    if not members and sample.label is None and require_caption:
        return BadSample("missing caption", sample_id, f"only {fields}")
    byte_ranges = tuple(sample.fields[name] for name in (image, *members))
    return _ReadPlan(sample_id, sample.label, byte_ranges, members, texts)


def _build_record(plan: _ReadPlan, data: Iterator[bytes], *, require_caption: bool = True) -> Record | BadSample:
    """Build a record from the next byte strings, one for each byte range of the plan."""
    image, *members = islice(data, len(plan.byte_ranges))
    data_by_member = dict(zip(plan.text_members, members, strict=True))
    if not require_caption:
        data_by_member = {name: member for name, member in data_by_member.items() if member.strip()}
    try:
        texts = plan.texts.parse(data_by_member, plan.sample_id)
    except BadSample as bad:
        return bad
    if not texts.captions and plan.label is None and require_caption:
        columns = plan.texts.config.caption_columns
        return BadSample(
            "missing caption", plan.sample_id, f"nothing in {', '.join(columns)}" if columns else "no caption in .json"
        )
    return Record(
        plan.sample_id, image, texts.captions, plan.label, group=texts.group, caption_probabilities=texts.probabilities
    )


def _index_shards(blobs: Sequence[Blob], damaged_shards: DamagedShardPolicy) -> list[TarIndex]:
    def index(blob: Blob) -> TarIndex:
        shard = TarIndex(blob)
        if shard.damage is None:
            _check_sample_count(shard)
        elif damaged_shards != "keep-complete-samples":
            raise DamagedShard(
                f"{shard.damage}, or use the samples before the damage: --data-options.damaged-shards "
                "keep-complete-samples"
            )
        shard.close()
        return shard

    with ThreadPoolExecutor(NUM_INDEX_THREADS) as pool:
        # Scanning a local file holds the GIL, so threads would not help.
        run = map if all(isinstance(blob, LocalBlob) for blob in blobs) else pool.map
        return list(run(index, blobs))


def _check_sample_count(shard: TarIndex) -> None:
    """Raise DataError if img2dataset's statistics beside the shard have another number of samples."""
    stats_name = f"{PurePosixPath(shard.blob.name).stem}_stats.json"
    text = shard.blob.read_sibling(stats_name)
    if text is None:
        return
    try:
        expected = json.loads(text)["successes"]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"no count of successes in {stats_name} beside {shard.blob.name} ({error!r}). Repair or delete the file"
        ) from error
    if expected != len(shard):
        raise DataError(
            f"{shard.blob.name} has {len(shard)} samples, but {stats_name} beside it counts {expected}. "
            "Download the shard again, or delete the stats if the shard was edited on purpose"
        )


def _natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders 2.tar before 10.tar."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _short_shard_names(names: Sequence[str]) -> list[str]:
    """Return the names relative to the common parent folder, which keeps them unique."""
    parts = [name.split("/") for name in names]
    levels = zip(*(folders for *folders, _ in parts), strict=False)
    num_common = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    return ["/".join(part[num_common:]) for part in parts]
