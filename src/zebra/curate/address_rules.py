"""Rules for the addresses of images in a pool of links, before any download."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.config.curate_address import AddressRules
from zebra.curate.fetch.outcome import FetchFailure
from zebra.curate.fetch.urls import parse_url
from zebra.curate.measurements import Measurement
from zebra.curate.pairs import UID_BYTES
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PoolRule, ReasonRule

STAGE = "address"
ADDRESS_VERSION = 1
"""Changes when an address may be judged otherwise."""
ReadTables = Callable[[], Iterable[pa.Table]]


def address_rules(config: AddressRules) -> list[Stage]:
    """Return the stages that drop links by their address; they add the column `host`."""
    rules: list[Stage] = [
        PoolRule(STAGE, "uid of an earlier pair with another caption", ("uid", "text"), _find_ambiguous_uids),
        Measurement(
            STAGE,
            f"address {ADDRESS_VERSION}",
            ("url",),
            pa.schema({"host": pa.string(), "address_reason": pa.string()}),
            _parse_addresses,
        ),
        ReasonRule(STAGE, "address_reason"),
    ]
    if config.drop_duplicates:
        rules.append(PoolRule(STAGE, "repeated address and caption", ("url", "text"), _find_repeats))
    if config.max_captions is not None:
        find = partial(_find_frequent_addresses, limit=config.max_captions)
        rules.append(PoolRule(STAGE, f"address with over {config.max_captions:,} captions", ("url",), find))
    if config.first_caption_only:
        rules.append(PoolRule(STAGE, "later caption of an address", ("url",), _find_repeats))
    return rules


def _parse_addresses(table: pa.Table) -> pa.Table:
    hosts: list[str | None] = []
    reasons: list[str | None] = []
    for url in table["url"].to_pylist():
        host = reason = None
        try:
            host = parse_url(url).host
        except FetchFailure as failure:
            reason = failure.reason
        hosts.append(host)
        reasons.append(reason)
    return pa.table({"host": pa.array(hosts, pa.string()), "address_reason": pa.array(reasons, pa.string())})


def _find_repeats(read: ReadTables) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the values of an earlier one in all columns."""
    sizes, key_N = _digest_rows(read)
    _, first_U, inverse_N = np.unique(key_N, return_index=True, return_inverse=True)
    return _split(first_U[inverse_N] != np.arange(len(key_N)), sizes)


def _find_frequent_addresses(read: ReadTables, limit: int) -> Iterator[NDArray[np.bool_]]:
    sizes, key_N = _digest_rows(read)
    _, inverse_N, count_U = np.unique(key_N, return_inverse=True, return_counts=True)
    return _split(count_U[inverse_N] > limit, sizes)


def _find_ambiguous_uids(read: ReadTables) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the uid, and not the caption, of an earlier pair."""
    sizes, key_N = _digest_rows(lambda: (table.select(["uid"]) for table in read()))
    _, text_N = _digest_rows(lambda: (table.select(["text"]) for table in read()))
    _, first_U, inverse_N = np.unique(key_N, return_index=True, return_inverse=True)
    return _split(text_N != text_N[first_U[inverse_N]], sizes)


def _digest_rows(read: ReadTables) -> tuple[list[int], NDArray[np.bytes_]]:
    """Return the number of rows of each table, and a digest of the columns of each row, [N] of 16 bytes.

    A pass over 10⁷ rows takes 160 MB, and sorting the digests as much again.
    """
    sizes, digests = [], []
    for table in read():
        rows = zip(*(column.to_pylist() for column in table.itercolumns()), strict=True)
        digests.append(b"".join(_digest_row(row) for row in rows))
        sizes.append(len(table))
    return sizes, np.frombuffer(b"".join(digests), f"S{UID_BYTES}")


def _digest_row(row: tuple[str | bytes, ...]) -> bytes:
    values = (value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value for value in row)
    return blake2b(b"\0".join(values), digest_size=UID_BYTES).digest()


def _split(is_dropped_N: NDArray[np.bool_], sizes: list[int]) -> Iterator[NDArray[np.bool_]]:
    yield from np.split(is_dropped_N, np.cumsum(sizes)[:-1])
