"""Links that cannot be downloaded or repeat others are dropped before any request, each for its reason."""

import pyarrow as pa
import pytest

from zebra.config.curate_address import AddressRules
from zebra.curate.address_rules import address_rules
from zebra.curate.pairs import make_uid
from zebra.curate.rules import PoolRule, find_alone
from zebra.errors import ConfigError

Links = list[tuple[str, str]]


def find(reason: str, links: Links, uids: list[bytes] | None = None, **settings: object) -> list[bool]:
    """Return which links the rule with a reason drops, if it is the only one; the links are in two units."""
    [rule] = [
        rule for rule in address_rules(AddressRules(**settings)) if isinstance(rule, PoolRule) and rule.reason == reason
    ]
    table = pa.table(
        {
            "uid": pa.array(uids or [make_uid(*link) for link in links], pa.binary(16)),
            "url": [url for url, _ in links],
            "text": [text for _, text in links],
        }
    )
    tables = [part.select(rule.columns) for part in (table[:2], table[2:], table[:0])]
    return find_alone(rule, tables).tolist()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://example.org/a.jpg", None),
        (" https://example.org/a b.jpg ", None),
        ("//example.org/a.jpg", None),
        ("https://münchen.de/ü.jpg", None),
        ("HTTP://EXAMPLE.ORG", None),
        ("file:///etc/passwd", "address is not http or https"),
        ("data:image/png;base64,AAAA", "address is not http or https"),
        ("ftp://example.org/a.jpg", "address is not http or https"),
        ("javascript:alert(1)", "address is not http or https"),
        ("a.jpg", "address is not absolute"),
        ("/images/a.jpg", "address is not absolute"),
        ("", "address is not absolute"),
        ("https://", "malformed address"),
        ("https://exa mple.org/a.jpg", "malformed address"),
        ("https://example.org:99999/", "malformed address"),
        ("https://[::1/", "malformed address"),
        ("https://example.org/\x00", "malformed address"),
        ("https://" + "a" * 300 + ".org/", "malformed address"),
        ("https://user:secret@example.org/", "address with a user name or password"),
        ("https://example.org/" + "a" * 100_000, "address is too long"),
    ],
)
def test_an_address_that_cannot_be_downloaded_is_dropped_for_its_reason(url: str, reason: str | None) -> None:
    measurement = address_rules(AddressRules())[1]
    [row] = measurement.compute(pa.table({"url": [url]})).cast(measurement.schema).to_pylist()
    assert row["address_reason"] == reason
    assert (row["host"] is None) == (reason is not None)


LINKS = [
    ("https://a.org/1", "a dog"),
    ("https://a.org/2", "a dog"),
    ("https://a.org/1", "a dog"),
    ("https://a.org/1", "Rex"),
]


def test_links_are_repeated_if_address_and_caption_are() -> None:
    assert find("repeated address and caption", LINKS) == [False, False, True, False]
    assert find("repeated address and caption", LINKS, [bytes([number] * 16) for number in (3, 2, 1, 0)]) == [
        True, False, False, False
    ]  # fmt: skip
    assert find("repeated address and caption", [("https://a", "b"), ("https://ab", "")]) == [False, False]
    assert "repeated address and caption" not in {
        getattr(rule, "reason", None) for rule in address_rules(AddressRules(drop_duplicates=False))
    }


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_captions_of_one_address_that_differ_between_crawls_can_be_limited(order: list[int]) -> None:
    links = [LINKS[number] for number in order]
    dropped = find("another caption of an address", links, one_caption=True)
    stay = [link for link, is_dropped in zip(links, dropped, strict=True) if not is_dropped]
    first = min(LINKS[0], LINKS[3], key=lambda link: make_uid(*link))
    assert sorted(stay) == sorted([LINKS[1], first])
    assert find("address with over 2 captions", links, max_captions=2) == [number != 1 for number in order]
    assert find("address with over 3 captions", links, max_captions=3) == [False] * 4


def test_a_uid_names_one_caption() -> None:
    assert find("uid of another pair", LINKS) == [False] * 4
    stay = []
    for links in (LINKS, LINKS[::-1]):
        dropped = find("uid of another pair", links, [bytes(16)] * 4)
        stay.append({text for (_, text), is_dropped in zip(links, dropped, strict=True) if not is_dropped})
    assert stay[0] == stay[1]
    assert len(stay[0]) == 1


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_captions"):
        AddressRules(max_captions=0)
