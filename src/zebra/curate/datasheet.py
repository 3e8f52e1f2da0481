"""Datasheet of a curated set: sources, drops by reason, retention per entry.

It answers what the EU's summary of training content asks of data: kinds and sizes, sources, hosts, opt-outs, languages,
filters and removals. It has no date of the run, so that the same pool and settings give the same bytes.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zebra.atomic_io import atomic_write
from zebra.curate.pairs import KEPT, Pairs

DATASHEET_FILE = "datasheet.md"
ENTRIES_FILE = "entries.parquet"
ENTRIES_SCHEMA = pa.schema({"entry": pa.string(), "matched": pa.int64(), "kept": pa.int64()})
MAX_HOSTS = 100
MAX_ENTRIES = 20
"""Most frequent hosts and entries that the page lists."""
HOST_PATTERN = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/:?#]+)"
DOWNLOAD_STAGE = "download"
OPT_OUT_PREFIXES = ("excluded by ", "rights reserved by ")
"""First words of the reasons of the downloader that are opt-outs."""
VERSIONED_PACKAGES = ("numpy", "pyarrow", "pillow")


@dataclass(frozen=True, slots=True)
class EntryCounts:
    """Pairs of each of E entries."""

    entries: Sequence[str]
    matched_E: NDArray[np.int64]
    """Pairs that remained when entries were matched."""
    kept_E: NDArray[np.int64]
    """Pairs of the set."""

    def write(self, path: Path) -> None:
        """Write a row per entry."""
        with atomic_write(path) as partial:
            pq.write_table(pa.table([self.entries, self.matched_E, self.kept_E], schema=ENTRIES_SCHEMA), partial)


def count_entry_pairs(pairs: Pairs, entries: Sequence[str]) -> EntryCounts:
    """Return how many pairs each entry had before and has after all later rules, above all balancing."""
    matched_E, kept_E = np.zeros(len(entries), np.int64), np.zeros(len(entries), np.int64)
    for table, decision_N in pairs.read_decisions(("entries",)):
        # Pairs that were dropped before have no list of entries.
        matched_E += _count_entries(table, len(entries))
        kept_E += _count_entries(table.filter(pa.array(decision_N == KEPT)), len(entries))
    return EntryCounts(entries, matched_E, kept_E)


def _count_entries(table: pa.Table, num_entries: int) -> NDArray[np.int64]:
    return np.bincount(pc.list_flatten(table["entries"]).to_numpy(), minlength=num_entries)


def count_hosts(pairs: Pairs) -> dict[str, int]:
    """Return host → number of remaining pairs, the most frequent first; {} if the pool has no column `url`."""
    if "url" not in pairs.columns:
        return {}
    counts: Counter[str] = Counter()
    for table in pairs.read_kept(("url",)):
        hosts = pc.utf8_lower(pc.struct_field(pc.extract_regex(table["url"], HOST_PATTERN), "host"))
        counts.update({item["values"].as_py(): item["counts"].as_py() for item in hosts.drop_null().value_counts()})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def format_datasheet(account: Mapping[str, Any], hosts: Mapping[str, int], entry_counts: EntryCounts | None) -> str:
    """Return the page in Markdown.

    Args:
        account: The account of the curation.
        hosts: Host → pairs of the set, the most frequent first.
        entry_counts: None if no entries were matched.
    """
    sections = [
        ("Contents", _contents(account)),
        ("Stages", _stages(account["rules"])),
        ("Downloads", _downloads(account["rules"])),
        ("Hosts", _hosts(hosts)),
        *((f"Captions: {column}", _values(counts)) for column, counts in account["captions"].items()),
        ("Entries", _entries(entry_counts) if entry_counts else []),
        ("Models and computed columns", _rows(("column of", "computed by"), account.get("measurements", {}).items())),
        ("Settings", _rows(("setting", "value"), _flatten(_without_output(account["config"])))),
        ("Versions", _rows(("package", "version"), [("zebra", account["zebra"]), *_versions()])),
    ]
    lines = ["# Datasheet", ""]
    for title, content in sections:
        if content:
            lines += [f"## {title[:1].upper()}{title[1:]}", "", *content, ""]
    return "\n".join(lines)


def _contents(account: Mapping[str, Any]) -> list[str]:
    pairs, images = account["pairs"], account["images"]
    rows = [
        ("pairs of an image and a caption", f"{pairs['kept']:,} of {pairs['found']:,}"),
        ("images", f"{images['kept']:,} of {images['found']:,}"),
        ("pool", account["config"]["pool"]),
        ("SHA-256 of the pool", account["pool_sha256"]),
    ]
    rows += [(f"files not read: {item['reason']}", f"{item['count']:,}") for item in account["ignored_files"]]
    rows += [(f"not used: {item['reason']}", f"{item['count']:,}") for item in account["unused"]]
    return _rows(("", ""), rows)


def _stages(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [(rule["stage"], f"{rule['found']:,}", f"{rule['dropped']:,}", rule["reason"]) for rule in rules]
    return _rows(("stage", "found", "dropped", "reason"), rows)


def _downloads(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the share of addresses that failed by reason, and opt-outs by signal."""
    failures = [rule for rule in rules if rule["stage"] == DOWNLOAD_STAGE]
    if not failures:
        return []
    tried = max(1, failures[0]["found"])
    opt_outs = [rule for rule in failures if rule["reason"].startswith(OPT_OUT_PREFIXES)]
    others = [rule for rule in failures if rule not in opt_outs]
    rows = [
        (kind, rule["reason"], f"{rule['dropped']:,}", f"{rule['dropped'] / tried:.2%}")
        for kind, group in (("opt-out", opt_outs), ("failed", others))
        for rule in group
    ]
    num_failed, num_opt_outs = (sum(rule["dropped"] for rule in group) for group in (others, opt_outs))
    summary = f"{num_failed / tried:.2%} of {tried:,} addresses failed; {num_opt_outs:,} are opt-outs."
    return [summary, "", *_rows(("kind", "reason", "pairs", "share"), rows)]


def _hosts(hosts: Mapping[str, int]) -> list[str]:
    if not hosts:
        return []
    rows = [(host, f"{count:,}") for host, count in list(hosts.items())[:MAX_HOSTS]]
    shown = f" The {MAX_HOSTS} largest:" if len(hosts) > MAX_HOSTS else ""
    return [f"The set has images of {len(hosts):,} hosts.{shown}", "", *_rows(("host", "pairs"), rows)]


def _values(counts: Mapping[str, int]) -> list[str]:
    return _rows(("value", "captions"), [(value, f"{count:,}") for value, count in counts.items()])


def _entries(counts: EntryCounts) -> list[str]:
    """Return the retention of the rarest to the most frequent quarter of entries, and the most frequent entries."""
    matched_E, kept_E = counts.matched_E, counts.kept_E
    order_K = np.argsort(-matched_E, kind="stable")[: int((matched_E > 0).sum())]
    lines = [
        f"{len(order_K):,} of {len(counts.entries):,} entries matched, {int(matched_E.sum()):,} times in all; "
        f"{int((kept_E > 0).sum()):,} have pairs in the set, {int(kept_E.sum()):,} in all. {ENTRIES_FILE} lists all.",
        "",
    ]
    names = ("most frequent quarter", "second quarter", "third quarter", "rarest quarter")
    quarters = [
        (
            name,
            f"{matched_E[part].sum():,}",
            f"{kept_E[part].sum():,}",
            _share(kept_E[part].sum(), matched_E[part].sum()),
        )
        for name, part in zip(names, np.array_split(order_K, 4), strict=True)
    ]
    top = [
        (counts.entries[entry], f"{matched_E[entry]:,}", f"{kept_E[entry]:,}", _share(kept_E[entry], matched_E[entry]))
        for entry in order_K[:MAX_ENTRIES].tolist()
    ]
    return [
        *lines,
        *_rows(("entries", "pairs matched", "pairs kept", "share"), quarters),
        "",
        *_rows(("most frequent entries", "pairs matched", "pairs kept", "share"), top),
    ]


def _share(num_kept: int, num_matched: int) -> str:
    return f"{num_kept / num_matched:.1%}" if num_matched else "-"


def _versions() -> list[tuple[str, str]]:
    return [(package, version(package)) for package in VERSIONED_PACKAGES]


def _without_output(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the set depends on; it is the same in any folder."""
    return {name: value for name, value in config.items() if name != "out"}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and values of all settings."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)


def _rows(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a table in Markdown; [] without rows."""
    cells = [[_escape(str(value)) for value in row] for row in rows]
    if not cells:
        return []
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *cells)]


def _escape(text: str) -> str:
    r"""Return a text that is one cell: hosts, captions and names are from the web.

    >>> _escape("a|b\n<c>")
    'a\\|b &lt;c>'
    """
    text = " ".join(text.split()).replace("\\", "\\\\").replace("<", "&lt;")
    for mark in "|`*_[":
        text = text.replace(mark, f"\\{mark}")
    return text
