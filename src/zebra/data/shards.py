"""WebDataset tar shards: read at any position, one sample or a batch at a time, and written."""

import json
import re
import warnings
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, islice, takewhile
from pathlib import Path, PurePosixPath

from zebra.config.data import DamagedShardPolicy
from zebra.data.folders import decode_caption
from zebra.data.remote.blobs import Blob, ByteRange, LocalBlob
from zebra.data.tar_index import DamagedShard, TarIndex, TarSample
from zebra.errors import BadSample, DataError
from zebra.values import Record

IMAGE_FIELDS = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
MAX_OPEN_SHARDS = 64
"""Shards that one process keeps open; each takes two file descriptors."""
NUM_INDEX_THREADS = 8
"""Shards of a bucket that are indexed at the same time."""


class ShardSource:
    """The samples of tar shards, in natural order of the shards' names: 2.tar before 10.tar.

    Args:
        shards: Paths of this machine, or what `zebra.data.remote.remote_blob` opened elsewhere.
        damaged: What to do about shards that are not whole: stop, or keep the samples before the damage.

    Raises:
        DataError: A shard is damaged, or holds another number of samples than img2dataset counted.
    """

    def __init__(
        self, shards: Sequence[Path | Blob], name: str, damaged_shards: DamagedShardPolicy = "stop"
    ) -> None:
        self.name = name
        blobs = [LocalBlob(shard) if isinstance(shard, Path) else shard for shard in shards]
        blobs.sort(key=lambda blob: _natural_sort_key(blob.name))
        self.shards = _index_shards(blobs, damaged_shards)
        self.damage_messages = tuple(shard.damage for shard in self.shards if shard.damage)
        """What is wrong with each shard that is not whole."""
        self._shard_names = _short_shard_names([blob.name for blob in blobs])
        self._cumulative_sizes = list(accumulate(len(shard) for shard in self.shards))
        digests = (f"{title} {s.digest}\n" for title, s in zip(self._shard_names, self.shards, strict=True))
        self.digest = sha256("".join(digests).encode("utf-8", "surrogateescape")).hexdigest()
        """sha256 hex over the index of every shard: names, places and labels."""
        self._open_shards: OrderedDict[int, None] = OrderedDict()
        if self.damage_messages:
            kept = sum(len(shard) for shard in self.shards if shard.damage)
            warnings.warn(
                f"{len(self.damage_messages)} of the {len(blobs)} shards of {name} are damaged; the {kept:,} whole samples "
                f"before the damage are used, what follows it is lost: {'; '.join(self.damage_messages[:3])}"
                f"{'; …' if len(self.damage_messages) > 3 else ''}",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return self._cumulative_sizes[-1] if self._cumulative_sizes else 0

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""
        number, inside = self._find_shard(index)
        return f"{self._shard_names[number]}/{self._get_shard(number).sample(inside).key}"

    def read(self, index: int) -> Record:
        """Read one sample: image, caption (.txt, else the caption in .json) and label (.cls).

        Raises:
            BadSample: missing image, missing caption (and no label either), caption is not UTF-8, empty caption,
                caption is not text, duplicate field, label is not a number, or broken JSON.
            DataError: The shard changed since it was indexed, or cannot be reached.
        """
        number, inside = self._find_shard(index)
        (record,) = self._start_read(number, [inside])()
        if isinstance(record, BadSample):
            raise record
        return record

    def read_many(self, indices: Sequence[int]) -> list[Record | BadSample]:
        """Read samples in the order given: all that lies elsewhere is asked for before the first answer is awaited.

        Raises:
            DataError: A shard changed since it was indexed, or cannot be reached.
        """
        wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for position, index in enumerate(indices):
            number, inside = self._find_shard(index)
            wanted[number].append((position, inside))
        begun = []
        for number, members in wanted.items():
            positions, places = zip(*members, strict=True)
            begun.append((positions, self._start_read(number, places)))
        records: dict[int, Record | BadSample] = {}
        for positions, end in begun:
            records.update(zip(positions, end(), strict=True))
        return [records[position] for position in range(len(indices))]

    def max_labels(self) -> Iterator[tuple[str, int]]:
        """Yield (shard, largest label) of every shard that has labels."""
        for number, shard in enumerate(self.shards):
            highest = self._get_shard(number).max_label()
            if highest is not None:
                yield shard.blob.name, highest

    def _find_shard(self, index: int) -> tuple[int, int]:
        """Return the number of the shard and the position in it."""
        number = bisect_right(self._cumulative_sizes, index)
        return number, index - (self._cumulative_sizes[number - 1] if number else 0)

    def _start_read(
        self, shard_index: int, positions: Sequence[int]
    ) -> Callable[[], list[Record | BadSample]]:
        """Begin to read samples of one shard; what is returned waits for them."""
        shard, title = self._get_shard(shard_index), self._shard_names[shard_index]
        plans = [_plan_read(shard.sample(position), title) for position in positions]
        wait = shard.start_read(
            [place for plan in plans if isinstance(plan, _ReadPlan) for place in plan.byte_ranges]
        )

        def records() -> list[Record | BadSample]:
            data = iter(wait())
            return [_build_record(plan, data) if isinstance(plan, _ReadPlan) else plan for plan in plans]

        return records

    def _get_shard(self, shard_index: int) -> TarIndex:
        """Return a shard, and close the one that rested longest if too many are open."""
        self._open_shards[shard_index] = None
        self._open_shards.move_to_end(shard_index)
        if len(self._open_shards) > MAX_OPEN_SHARDS:
            self.shards[self._open_shards.popitem(last=False)[0]].close()
        return self.shards[shard_index]


def _parse_txt_captions(data: bytes, where: str) -> tuple[str, ...]:
    return (decode_caption(data, where),)


def _parse_json_captions(data: bytes, where: str) -> tuple[str, ...]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSample("broken JSON", where, str(error)) from error
    caption = value.get("caption") if isinstance(value, dict) else None
    if caption is None:
        return ()
    if not isinstance(caption, str):
        raise BadSample("caption is not text", where, f"{str(caption)[:40]!r} in .json")
    return (decode_caption(caption.encode("utf-8", "surrogatepass"), where),)


CAPTION_PARSERS: Mapping[str, Callable[[bytes, str], tuple[str, ...]]] = {
    "txt": _parse_txt_captions,
    "json": _parse_json_captions,
}
"""How captions are taken out of each kind of file; the first one that is there counts."""


@dataclass(slots=True)
class _ReadPlan:
    """What to read for one record."""

    sample_id: str
    label: int | None
    byte_ranges: tuple[ByteRange, ...]
    """The image, and behind it the caption if there is one."""
    parse: Callable[[bytes, str], tuple[str, ...]]


def _plan_read(sample: TarSample, shard_name: str) -> _ReadPlan | BadSample:
    where = f"{shard_name}/{sample.key}"
    found = ", ".join(f".{suffix}" for suffix in sample.fields)
    if sample.duplicate_field is not None:
        return BadSample("duplicate field", where, f".{sample.duplicate_field} comes twice")
    image = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
    if image is None:
        return BadSample("missing image", where, f"there is {found}")
    if "cls" in sample.fields and sample.label is None:
        return BadSample("label is not a number", where, "in .cls")
    caption = next((name for name in CAPTION_PARSERS if name in sample.fields), "")
    if not caption and sample.label is None:
        return BadSample("missing caption", where, f"there is {found}")
    places = (sample.fields[image], sample.fields[caption]) if caption else (sample.fields[image],)
    return _ReadPlan(where, sample.label, places, CAPTION_PARSERS.get(caption, _parse_txt_captions))


def _build_record(plan: _ReadPlan, data: Iterator[bytes]) -> Record | BadSample:
    """Make the record of the next one or two pieces of data."""
    image, *captions = islice(data, len(plan.byte_ranges))
    try:
        texts = tuple(text for caption in captions for text in plan.parse(caption, plan.sample_id))
    except BadSample as bad:
        return bad
    if not texts and plan.label is None:
        return BadSample("missing caption", plan.sample_id, "there is none in .json")
    return Record(plan.sample_id, image, texts, plan.label)


def _index_shards(blobs: Sequence[Blob], damaged_shards: DamagedShardPolicy) -> list[TarIndex]:
    def indexed(blob: Blob) -> TarIndex:
        shard = TarIndex(blob)
        if shard.damage is None:
            _check_sample_count(shard)
        elif damaged_shards != "keep-complete-samples":
            raise DamagedShard(
                f"{shard.damage}, or go on without what is lost: --data-options.damaged-shards keep-complete-samples"
            )
        shard.close()
        return shard

    with ThreadPoolExecutor(
        NUM_INDEX_THREADS
    ) as pool:  # scanning a file is Python's work, which threads do not speed up
        run = map if all(isinstance(blob, LocalBlob) for blob in blobs) else pool.map
        return list(run(indexed, blobs))


def _check_sample_count(shard: TarIndex) -> None:
    """Compare a shard with what img2dataset counted when it wrote it, if it did."""
    stats = f"{PurePosixPath(shard.blob.name).stem}_stats.json"
    text = shard.blob.read_sibling(stats)
    if text is None:
        return
    try:
        expected = json.loads(text)["successes"]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{stats} beside {shard.blob.name} holds no count of successes ({error!r}); mend or delete it"
        ) from error
    if expected != len(shard):
        raise DataError(
            f"{shard.blob.name} holds {len(shard)} samples, but {stats} beside it counts {expected}; "
            "download the shard again, or delete the stats if the shard was edited on purpose"
        )


def _natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key under which 2.tar comes before 10.tar."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _short_shard_names(names: Sequence[str]) -> list[str]:
    """Name shards as briefly as stays unique: below the folder they have in common."""
    parts = [name.split("/") for name in names]
    levels = zip(*(folders for *folders, _ in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    return ["/".join(part[shared:]) for part in parts]
