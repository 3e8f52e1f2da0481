"""Rules for the addresses of images in a pool of links, before any download."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.curate_address import AddressRules
from zebra.curate.fetch.outcome import FetchFailure
from zebra.curate.fetch.urls import parse_url
from zebra.curate.measurements import Measurement
from zebra.curate.partitions import (
    as_integers,
    compute_digests,
    find_all_but_first,
    find_among_equal,
    find_more_frequent,
)
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PoolReader, PoolRule, ReasonRule

STAGE = "address"
ADDRESS_VERSION = 1
"""Changes when an address may be judged otherwise."""


def address_rules(config: AddressRules) -> list[Stage]:
    """Return the stages that drop links by their address; they add the column `host`."""
    rules: list[Stage] = [
        PoolRule(STAGE, "uid of another pair", ("uid", "text"), _find_ambiguous_uids),
        Measurement(
            STAGE,
            f"address {ADDRESS_VERSION}",
            ("url",),
            pa.schema({"host": pa.string(), "address_reason": pa.string()}),
            _parse_addresses,
            is_parallel=True,
        ),
        ReasonRule(STAGE, "address_reason", is_failure=False),
    ]
    if config.drop_duplicates:
        find_pairs = partial(_find_repeats, columns=("url", "text"))
        rules.append(PoolRule(STAGE, "repeated address and caption", ("uid", "url", "text"), find_pairs))
    if config.max_captions is not None:
        find = partial(_find_frequent_addresses, limit=config.max_captions)
        rules.append(PoolRule(STAGE, f"address with over {config.max_captions:,} captions", ("uid", "url"), find))
    if config.one_caption:
        find_addresses = partial(_find_repeats, columns=("url",))
        rules.append(PoolRule(STAGE, "another caption of an address", ("uid", "url"), find_addresses))
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


def _find_repeats(reader: PoolReader, columns: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the values of another one in all columns; the one with the smallest uid stays."""
    return find_among_equal(reader, partial(_make_keys, columns=columns), partial(find_all_but_first, columns=("uid",)))


def _find_frequent_addresses(reader: PoolReader, limit: int) -> Iterator[NDArray[np.bool_]]:
    return find_among_equal(reader, partial(_make_keys, columns=("url",)), partial(find_more_frequent, limit=limit))


def _find_ambiguous_uids(reader: PoolReader) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the uid of another one, and another caption; that with the smallest digest stays."""
    return find_among_equal(reader, _uid_keys, _find_other_captions)


def _make_keys(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    content = pc.binary_join_element_wise(*(table[name].cast(pa.binary()) for name in columns), b"\0")
    return pa.table({"digest": compute_digests(content), "uid": table["uid"]})


def _uid_keys(table: pa.Table) -> pa.Table:
    return pa.table({"digest": table["uid"], "text": compute_digests(table["text"])})


def _find_other_captions(table: pa.Table) -> NDArray[np.bool_]:
    group_N, text_N2 = table["group"].to_numpy(), as_integers(table["text"])
    order_N = np.lexsort((text_N2[:, 1], text_N2[:, 0], group_N))
    _, first_G = np.unique(group_N[order_N], return_index=True)
    is_other_N: NDArray[np.bool_] = (text_N2 != text_N2[order_N[first_G]][group_N]).any(axis=1)
    return is_other_N
