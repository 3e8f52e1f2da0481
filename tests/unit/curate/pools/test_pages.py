"""WAT, WARC and HTML files: every image with a text is a link, and damage costs one record."""

import gzip
import tracemalloc
import zlib
from pathlib import Path
from urllib.parse import urljoin

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.crawl import image_link, wat_document, wat_record, write_warc, write_wat

from zebra.curate.pools.html_images import decode_page, find_images
from zebra.curate.pools.pages import read_html, read_warc, read_wat
from zebra.curate.pools.records import BadRecord, ImageLink, PoolRecord, Unused, resolve_address

PAGE = "https://example.com/zoo/index.html"


def links(records: list[PoolRecord]) -> list[tuple[str, tuple[str, ...]]]:
    return [(record.url, record.texts) for record in records if isinstance(record, ImageLink)]


def reasons(records: list[PoolRecord]) -> list[str]:
    return [record.reason for record in records if not isinstance(record, ImageLink)]


def documents(count: int) -> list[dict[str, object]]:
    return [wat_document(PAGE, [image_link(f"/{n}.jpg", alt=f"animal {n}")]) for n in range(count)]


def animals(*numbers: int) -> list[tuple[str, tuple[str, ...]]]:
    return [(f"https://example.com/{n}.jpg", (f"animal {n}",)) for n in numbers]


@pytest.mark.parametrize("name", ["a.wat", "a.warc.wat.gz"])
def test_a_wat_file_gives_each_image_with_its_texts(tmp_path: Path, name: str) -> None:
    page_links = [
        image_link("a.jpg", alt=" a red\n horse ", title="Horse"),
        image_link("//cdn.example.org/b.jpg#top", alt="a dog", title="a dog"),
        image_link("c.jpg"),
        {"path": "A@/href", "url": "/d.jpg", "text": "a link"},
        image_link("data:image/png;base64,AAAA", alt="inline"),
        image_link("", alt="nothing"),
        image_link("http://[::1/x.jpg", alt="broken"),
    ]
    path = write_wat(tmp_path / name, [wat_document(PAGE, page_links), wat_document(PAGE, [], "https://b.org/x/")])
    records = list(read_wat(path, name))
    assert links(records) == [
        ("https://example.com/zoo/a.jpg", ("a red horse", "Horse")),
        ("https://cdn.example.org/b.jpg", ("a dog",)),
    ]
    assert reasons(records) == [
        "image without a text",
        "image in the page itself (data:)",
        "missing address",
        "broken address",
    ]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://cdn.example.org/x/", "https://cdn.example.org/x/a.jpg"),
        ("/files/", "https://example.com/files/a.jpg"),
        ("http://[", "https://example.com/zoo/a.jpg"),
        ("javascript:void(0)", "https://example.com/zoo/a.jpg"),
        ("", "https://example.com/zoo/a.jpg"),
    ],
)
def test_a_broken_base_is_not_used(tmp_path: Path, base: str, expected: str) -> None:
    wat = write_wat(tmp_path / "a.wat", [wat_document(PAGE, [image_link("a.jpg", alt="a")], base)])
    html = f'<base href="{base}"><img src="a.jpg" alt="a">'
    assert links(list(read_wat(wat, "a"))) == links(list(find_images(html, PAGE, "a"))) == [(expected, ("a",))]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"Envelope": {"IMG@/src', "broken JSON"),
        (b'{"a": 1} IMG@', "broken JSON"),
        (b"\xff IMG@", "broken JSON"),
        (b"[" * 100_000 + b"IMG@", "broken JSON"),
        (wat_document(PAGE, "IMG@/src"), "broken links"),
    ],
)
def test_a_broken_document_costs_its_record_only(tmp_path: Path, bad: object, reason: str) -> None:
    first, last = documents(2)
    path = write_wat(tmp_path / "a.wat.gz", [first, bad, last])
    records = list(read_wat(path, "a.wat.gz"))
    assert links(records) == animals(0, 1)
    [record] = [record for record in records if isinstance(record, BadRecord)]
    assert (record.place, record.reason) == ("a.wat.gz:3", reason)


@pytest.mark.parametrize(
    "document",
    [
        wat_document(PAGE, None),
        wat_document(PAGE, [None, 3, {"path": "IMG@/src"}, {"path": ["IMG@/src"]}, {"path": "IMG@/src", "alt": 3}]),
        {"Envelope": None, "x": "IMG@/src"},
        ["IMG@/src"],
        {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": "IMG@"}}},
    ],
)
def test_missing_parts_of_a_document_are_no_links(tmp_path: Path, document: object) -> None:
    path = write_wat(tmp_path / "a.wat", [document, *documents(1)])
    records = list(read_wat(path, "a"))
    assert links(records) == animals(0)
    assert set(reasons(records)) <= {"image without a text"}


@given(cut=st.integers(1, 2_000))
def test_a_file_cut_anywhere_keeps_the_records_before_and_counts_one_reason(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    for name, compress in (("a.wat", bytes), ("a.wat.gz", gzip.compress)):
        path = write_wat(tmp_path_factory.mktemp("cut") / name, documents(20))
        sizes = [len(compress(wat_record(document))) for document in documents(20)]
        start = path.stat().st_size - sum(sizes)
        size = max(start, path.stat().st_size - cut)
        path.write_bytes(path.read_bytes()[:size])
        num_whole = sum(start + sum(sizes[: number + 1]) <= size for number in range(20))
        records = list(read_wat(path, "a"))
        num_found = len(links(records))
        assert links(records) == animals(*range(num_found))
        assert num_found in (num_whole, num_whole + 1)  # blank lines or a checksum may be all that is missing
        assert len(reasons(records)) <= 1
        if start + sum(sizes[:num_whole]) < size:
            assert num_found + len(reasons(records)) > num_whole


@given(flip=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_changed_byte_of_a_compressed_file_costs_one_record(
    tmp_path_factory: pytest.TempPathFactory, flip: int, value: int
) -> None:
    path = write_wat(tmp_path_factory.mktemp("flip") / "a.wat.gz", documents(12))
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= value
    path.write_bytes(data)
    records = list(read_wat(path, "a"))
    found = links(records)
    assert set(found) <= set(animals(*range(12)))
    assert len(found) >= 11
    assert len(reasons(records)) <= 1
    assert len(found) + len(reasons(records)) >= 12


def test_records_of_a_wrong_length_are_counted_and_the_others_read(tmp_path: Path) -> None:
    records = [wat_record(document) for document in documents(6)]

    def resize(record: bytes, change: int) -> bytes:
        length = int(record.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        return record.replace(b"Content-Length: %d" % length, b"Content-Length: %d" % (length + change))

    records[1] = resize(records[1], 50)
    records[2] = resize(records[2], -20)
    records[4] = resize(records[4], 10**12)
    for compress, name in ((bytes, "a.wat"), (gzip.compress, "a.wat.gz")):
        path = tmp_path / name
        path.write_bytes(b"".join(map(compress, records)))
        found = list(read_wat(path, "a"))
        assert links(found) == animals(0, 3, 5)
        wrong = "record of another length than it says"
        assert reasons(found) == [wrong, wrong, "record is too large"]


def test_garbage_between_records_is_one_bad_record(tmp_path: Path) -> None:
    records = [wat_record(document) for document in documents(2)]
    path = tmp_path / "a.wat"
    path.write_bytes(records[0] + b"garbage\x00" * 30_000 + b"\r\n\r\n" + records[1])
    found = list(read_wat(path, "a"))
    assert links(found) == animals(1)  # nothing says whether the garbage is part of the first record
    assert len(reasons(found)) == 1


@pytest.mark.parametrize("end", [b"", b"\0" * 1_000, b"\r\n\r\n"])
def test_padding_behind_the_last_record_is_no_damage(tmp_path: Path, end: bytes) -> None:
    path = write_wat(tmp_path / ("a.wat" if end.strip(b"\0") else "a.wat.gz"), documents(2))
    path.write_bytes(path.read_bytes() + end)
    records = list(read_wat(path, "a"))
    assert (links(records), reasons(records)) == (animals(0, 1), [])


def test_one_gzip_member_or_zstd_frame_for_all_records_is_read_too(tmp_path: Path) -> None:
    data = b"".join(wat_record(document) for document in documents(3))
    zstd = pa.compress(data, "zstd", asbytes=True)
    for name, compressed in (("a.wat.gz", gzip.compress(data)), ("a.wat.zst", zstd)):
        path = tmp_path / name
        path.write_bytes(compressed)
        assert links(list(read_wat(path, "a"))) == animals(0, 1, 2)
        path.write_bytes(compressed[:-10])
        assert "damaged file" in reasons(list(read_wat(path, "a")))


def test_a_bomb_of_a_record_is_counted_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zebra.curate.pools.warc_records.MAX_RECORD_BYTES", 1 << 20)
    size = 32 << 20
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    path = tmp_path / "a.wat.gz"
    with path.open("wb") as file:
        file.write(compressor.compress(b"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: %d\r\n\r\n" % size))
        for _ in range(size >> 20):
            file.write(compressor.compress(bytes(1 << 20)))
        file.write(compressor.compress(b"\r\n\r\n") + compressor.flush())
        file.write(gzip.compress(wat_record(documents(1)[0])))
    tracemalloc.start()
    try:
        records = list(read_wat(path, "a"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (links(records), reasons(records)) == (animals(0), ["record is too large"])
    assert peak < 6 << 20


HTML = """<!doctype html><meta charset="utf-8"><body>
<img src="a.jpg" alt="a red horse" title="Horse" data-image-title="Pferd">
<img src="data:image/gif;base64,AA" data-src="/lazy.jpg" alt="lazy">
<noscript><img src="/lazy.jpg" alt="lazy"></noscript>
<figure><picture><source srcset="z.webp"><img srcset="s.jpg 100w, l,1.jpg 800w" alt=""></picture>
<figcaption>A <b>big</b> cat</figcaption></figure>
<figure><img src="x.jpg"><img src="y.jpg"><figcaption>two images</figcaption></figure>
<img alt="no address"><p>unclosed <img src=grün.jpg alt='Grün &amp; gelb'>"""


def test_the_images_of_a_page_are_found_as_browsers_load_them() -> None:
    records = list(find_images(HTML, PAGE, "a"))
    assert links(records) == [
        ("https://example.com/zoo/a.jpg", ("a red horse", "Horse", "Pferd")),
        ("https://example.com/lazy.jpg", ("lazy",)),
        ("https://example.com/zoo/l,1.jpg", ("A big cat",)),
        ("https://example.com/zoo/grün.jpg", ("Grün & gelb",)),
    ]
    assert reasons(records) == ["image without a text"] * 2 + ["missing address"]


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        ("é".encode(), None, "é"),
        ("é in a café".encode("latin-1"), None, "é in a café"),
        ("<meta charset=koi8-r>д".encode("koi8-r"), None, "<meta charset=koi8-r>д"),
        ("“".encode("cp1252"), "iso-8859-1", "“"),
        ("<meta charset=utf-8>д".encode("koi8-r"), "koi8-r", "<meta charset=utf-8>д"),
        ("é".encode("utf-16"), "utf-8", "é"),
        ("é".encode(), "no-such-charset", "é"),
        ("aé".encode()[:-1], None, "a\ufffd"),
    ],
)
def test_pages_are_decoded_by_what_is_known_of_them(data: bytes, charset: str | None, expected: str) -> None:
    assert decode_page(data, charset) == expected


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_the_pages_of_a_web_archive_are_read(tmp_path: Path, name: str) -> None:
    path = write_warc(tmp_path / name, {PAGE: HTML.encode(), "https://b.org/": b"<img src=b.jpg alt=b>"})
    found = links(list(read_warc(path, name)))
    assert found == [*links(list(find_images(HTML, PAGE, "a"))), ("https://b.org/b.jpg", ("b",))]


def test_compressed_and_chunked_responses_are_decoded(tmp_path: Path) -> None:
    body = gzip.compress(b"<img src=b.jpg alt=b>")
    chunked = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    path = write_warc(
        tmp_path / "a.warc", {PAGE: chunked}, [("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]
    )
    assert links(list(read_warc(path, "a"))) == [("https://example.com/zoo/b.jpg", ("b",))]


def test_a_response_that_is_no_page_is_counted(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "a.warc", {PAGE: b"<img src=b.jpg alt=b>"})
    path.write_bytes(path.read_bytes().replace(b"text/html; charset=utf-8", b"image/png; charset=utf-8"))
    assert list(read_warc(path, "a")) == [Unused("response that is no HTML page", "a:3")]


@pytest.mark.parametrize(
    "head",
    [
        f'<base href="{PAGE}">',
        f'<link rel="canonical" href="{PAGE}">',
        f'<meta property="og:url" content="{PAGE}">',
        f"<!-- saved from url=(0034){PAGE} -->",
    ],
)
def test_a_saved_page_says_where_it_was(tmp_path: Path, head: str) -> None:
    path = tmp_path / "a.html"
    path.write_text(f"{head}<img src=a.jpg alt=a>")
    assert links(list(read_html(path, "a.html"))) == [("https://example.com/zoo/a.jpg", ("a",))]


def test_a_relative_address_of_a_page_from_nowhere_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<img src=a.jpg alt=a><img src=https://b.org/b.jpg alt=b>")
    records = list(read_html(path, "a.html"))
    assert links(records) == [("https://b.org/b.jpg", ("b",))]
    assert reasons(records) == ["broken address"]


@given(html=st.text() | st.text(alphabet='<>img src="=alt/!-ab', max_size=300))
def test_no_page_is_too_broken_to_be_read(html: str) -> None:
    for record in find_images(html, PAGE, "a"):
        assert not isinstance(record, ImageLink) or (record.url and all(record.texts))


@given(address=st.text(), base=st.text() | st.just(PAGE))
def test_an_address_is_absolute_or_refused(address: str, base: str) -> None:
    url = resolve_address(address, base)
    assert url is None or ":" in url


@pytest.mark.parametrize("base", [PAGE, "http://a.org", "https://user@a.org:8080/x/y?q#f"])
@pytest.mark.parametrize(
    "address",
    [
        *(
            "/a.jpg",
            "/a/../b.jpg",
            "/a/./b.jpg",
            "/..",
            "//c.org/a.jpg",
            "///a.jpg",
            "a.jpg",
            "../a.jpg",
            "?q=1",
            "/a?b=//c",
        ),
        *("https://c.org/a.jpg", "HTTP://C.org/x", "https://[::1]/a.jpg", "ftp://c.org/a.jpg"),
    ],
)
def test_addresses_are_resolved_as_urllib_does(base: str, address: str) -> None:
    assert resolve_address(f"{address}#part", base) == urljoin(base, address)
