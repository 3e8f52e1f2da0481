"""Lists of digests, addresses and domains name what must not be in a set, and nothing else."""

from hashlib import md5, sha256
from pathlib import Path

import pyarrow as pa
import pytest

from zebra.curate.digest_lists import link_list_rules, read_digest_lists, write_digest_lists
from zebra.curate.image_lists import image_list_rules
from zebra.curate.rules import find_alone
from zebra.errors import ConfigError


def read_list(folder: Path, *lines: str):
    path = folder / "list.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_digest_lists([path])


def find_links(lists, urls: list[str | None]) -> list[bool]:
    table = pa.table({"url": pa.array(urls, pa.string())})
    [rule] = link_list_rules(lists, "blocklist", ["url"])
    return find_alone(rule, [table, table[:0]]).tolist()


@pytest.mark.parametrize(
    ("line", "url", "is_listed"),
    [
        ("example.org", "https://example.org/a.jpg", True),
        ("example.org", "HTTP://Images.EXAMPLE.org:8080/a.jpg", True),
        ("example.org", "https://example.org.", True),
        ("example.org", "https://notexample.org/a.jpg", False),
        ("example.org", "https://example.org.evil.com/a.jpg", False),
        ("example.org", "https://a.com/example.org", False),
        ("example.org", "https://a.com/?u=https://example.org", False),
        ("example.org", "https://a.com@example.org/x", True),
        ("images.example.org", "https://example.org/a.jpg", False),
        ("domain org", "https://example.org/a.jpg", True),
        ("*.example.org", "https://example.org/a.jpg", True),
        ("0.0.0.0 ads.example.com  # a hosts file", "https://ads.example.com/x", True),
        ("münchen.de", "https://xn--mnchen-3ya.de/a.jpg", True),
        ("xn--mnchen-3ya.de", "https://www.MÜNCHEN.de/a.jpg", True),
        ("url https://a.com/x#1", "https://a.com/x#1", True),
        ("url https://a.com/x", "https://a.com/x2", False),
        (f"url-sha256 {sha256(b'https://a.com/x').hexdigest()}", "https://a.com/x", True),
        ("example.org", None, False),
        ("example.org", "https:///x", False),
        ("example.org", "//example.org/x", False),
        ("example.org", f"https://{'ü' * 300}.org", False),
    ],
)
def test_an_address_is_listed_by_itself_or_a_domain_above_it(
    tmp_path: Path, line: str, url: str | None, is_listed: bool
) -> None:
    assert find_links(read_list(tmp_path, "# comment", "", line), [url, None]) == [is_listed, False]


def test_downloaded_images_in_shards_are_listed_by_the_address_in_their_table(tmp_path: Path) -> None:
    table = pa.table({"given_url": ["https://a.example.org/1.jpg", "https://example.com/2.jpg", None]})
    for line in ("example.org", "url https://a.example.org/1.jpg"):
        [rule] = link_list_rules(read_list(tmp_path, line), "blocklist", ["given_url", "text"])
        assert find_alone(rule, [table]).tolist() == [True, False, False]


def test_images_and_pairs_are_listed_by_digest(tmp_path: Path) -> None:
    image, uid = b"an image", bytes(range(16))
    lists = read_list(
        tmp_path, f"sha256 {sha256(image).hexdigest().upper()}", f"MD5  {md5(image).hexdigest()}", f"uid {uid.hex()}"
    )
    table = pa.table(
        {
            "uid": pa.array([uid, bytes(16)], pa.binary(16)),
            "sha256": pa.array([sha256(image).digest(), None], pa.binary(32)),
            "md5": pa.array([md5(image).digest(), None], pa.binary(16)),
        }
    )
    rules = [*link_list_rules(lists, "removals", []), *image_list_rules({"removals": lists}, [])]
    assert [rule.reason for rule in rules] == ["listed uid", "listed sha256", "listed md5"]
    assert [find_alone(rule, [table]).tolist() for rule in rules] == [[True, False]] * 3


def test_a_resized_download_is_listed_by_the_digest_of_what_the_server_sent(tmp_path: Path) -> None:
    digests = [sha256(data).digest() for data in (b"sent", b"resized", b"other")]
    table = pa.table(
        {
            "sha256": pa.array([digests[1], digests[2]], pa.binary(32)),
            "source_sha256": pa.array([digests[0], None], pa.binary(32)),
        }
    )
    for digest in digests[:2]:
        lists = read_list(tmp_path, f"sha256 {digest.hex()}")
        [rule] = image_list_rules({"removals": lists}, ["url"])
        assert find_alone(rule, [table]).tolist() == [True, False]


def test_lists_are_written_as_digests_and_read_again(tmp_path: Path) -> None:
    lists = read_list(tmp_path, "url https://a.com/x", "example.org", f"uid {'0a' * 16}", "example.org")
    write_digest_lists(tmp_path / "written.txt", lists)
    assert "a.com" not in (tmp_path / "written.txt").read_text()
    assert read_digest_lists([tmp_path / "written.txt", tmp_path / "list.txt"]) == lists
    assert {kind: len(values) for kind, values in lists.items()} == {"domain": 1, "uid": 1, "url-sha256": 1}
    assert read_digest_lists([]) == {}


@pytest.mark.parametrize(
    "line",
    [
        "sha256 123", "md5 " + "g" * 32, "uid", "9f86d081884c7d659a2feaa0c55ad015", "https://example.org/", "a b",
        "url", "domain", "domain a b", "com", "ex_ample..org", "ü" * 300 + ".org",
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"list\.txt:2"):
        read_list(tmp_path, "example.org", line)


def test_a_missing_or_binary_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00")
    for name in ("list.bin", "none.txt"):
        with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
            read_digest_lists([tmp_path / name])
