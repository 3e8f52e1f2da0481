"""Lists of what must not be in a set: digests, addresses and domains.

A list is a text file with a kind and a value per line, such as `sha256 9f86d0…`, `url https://example.org/a.jpg` or
`domain example.org`. A line without a kind is a domain, also after an address as in a hosts file. `#` starts a comment.
Digests are enough to remove an image that nobody may store, or whose link is dead.
"""

import re
from collections.abc import Collection, Iterable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from zebra.atomic_io import atomic_write
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PairRule
from zebra.errors import ConfigError, show_value

REMOVALS_FILE = "removals.txt"
"""Removals in the folder of a set; a later run with this pool applies them."""
DIGEST_BYTES = {"uid": 16, "sha256": 32, "md5": 16, "phash": 8, "url-sha256": 32}
"""Kind of a digest → its size. uids are those of decisions.parquet, phash is that of `zebra.images.perceptual_hash`."""
DigestLists = dict[str, frozenset[bytes]]
"""Kind → digests, or domains in lower case as ASCII."""
ADDRESS_COLUMNS = ("url", "given_url")
"""Addresses of links, and of downloaded images in shards whose tables name them."""
_HOSTS_LINE = re.compile(r"(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+(\S+)")
_DOMAIN = re.compile(r"(?:\*?\.)?((?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63})\.?")
_HOST = r"^(?i:https?)://(?:[^/?#@]*@)?(?P<host>[^/?#:@]+)"


def read_digest_lists(paths: Iterable[Path]) -> DigestLists:
    """Return the lists of some files together.

    Raises:
        ConfigError: A file cannot be read, or a line is not understood.
    """
    values: dict[str, set[bytes]] = {}
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the list {path}: {error}. Give a UTF-8 text file") from error
        for number, line in enumerate(lines, 1):
            if text := re.sub(r"(^|\s)#.*", "", line).strip():
                kind, value = _parse_line(text, f"{path}:{number}")
                values.setdefault(kind, set()).add(value)
    return {kind: frozenset(digests) for kind, digests in sorted(values.items())}


def write_digest_lists(path: Path, lists: DigestLists) -> None:
    """Write lists as one file that `read_digest_lists` reads."""
    lines = [
        f"{kind} {value.decode() if kind == 'domain' else value.hex()}\n"
        for kind, values in sorted(lists.items())
        for value in sorted(values)
    ]
    with atomic_write(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def link_list_rules(lists: DigestLists, stage: str, columns: Collection[str]) -> list[Stage]:
    """Return the rules for what is known of a pair before its image: its uid, and the address that it came from.

    Args:
        columns: Columns of the pool.
    """
    rules: list[Stage] = []
    if uids := lists.get("uid"):
        value_set = pa.array(sorted(uids), pa.binary(DIGEST_BYTES["uid"]))
        rules.append(PairRule(stage, "listed uid", ("uid",), lambda table: pc.is_in(table["uid"], value_set)))
    address = next((name for name in ADDRESS_COLUMNS if name in columns), None)
    if address is None:
        return rules
    if addresses := lists.get("url-sha256"):
        rules.append(
            PairRule(stage, "listed address", (address,), lambda table: _find_addresses(table[address], addresses))
        )
    if domains := lists.get("domain"):
        rules.append(PairRule(stage, "listed domain", (address,), lambda table: _find_domains(table[address], domains)))
    return rules


def digest_address(url: str) -> bytes:
    """Return the digest of an address in lists."""
    return sha256(url.encode("utf-8", "surrogatepass")).digest()


def _parse_line(text: str, place: str) -> tuple[str, bytes]:
    kind, _, value = text.partition(" ")
    kind, value = kind.lower(), value.strip()
    if kind in DIGEST_BYTES:
        try:
            digest = bytes.fromhex(value)
        except ValueError:
            digest = b""
        if len(digest) != DIGEST_BYTES[kind]:
            raise ConfigError(f"{place}: {show_value(value)} is no {kind}; write {2 * DIGEST_BYTES[kind]} hex digits")
        return kind, digest
    if kind == "url" and value:
        return "url-sha256", digest_address(value)
    if kind == "domain":
        return kind, _parse_domain(value, place, has_kind=True)
    hosts_line = _HOSTS_LINE.fullmatch(text)
    return "domain", _parse_domain(hosts_line[1] if hosts_line else text, place, has_kind=hosts_line is not None)


def _parse_domain(name: str, place: str, *, has_kind: bool) -> bytes:
    """Return a domain in lower-case ASCII, without a leading wildcard."""
    try:
        ascii_name = name.lower() if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        ascii_name = ""
    match = _DOMAIN.fullmatch(ascii_name)
    if match is None or (not has_kind and "." not in match[1]):
        kinds = ", ".join([*DIGEST_BYTES, "url", "domain"])
        raise ConfigError(f"{place}: {show_value(name)} is no domain, and no value of a known kind ({kinds})")
    return match[1].encode()


def _find_addresses(url: pa.ChunkedArray, addresses: frozenset[bytes]) -> pa.Array:
    return pa.array([text is not None and digest_address(text) in addresses for text in url.to_pylist()], pa.bool_())


def _find_domains(url: pa.ChunkedArray, domains: frozenset[bytes]) -> pa.ChunkedArray:
    """Return which addresses are of a listed domain or one below it."""
    host = pc.struct_field(pc.extract_regex(pc.utf8_trim_whitespace(url.cast(pa.string())), _HOST), "host")
    encoded = host.combine_chunks().dictionary_encode()
    is_listed = pa.array([_is_below(name, domains) for name in encoded.dictionary.to_pylist()], pa.bool_())
    return is_listed.take(encoded.indices)


def _is_below(host: str, domains: frozenset[bytes]) -> bool:
    labels = _encode_host(host).split(b".")
    return any(b".".join(labels[start:]) in domains for start in range(len(labels)))


def _encode_host(host: str) -> bytes:
    name = host.lower().rstrip(".")
    try:
        return name.encode() if name.isascii() else name.encode("idna")
    except UnicodeError:  # no host has such a name
        return b""
