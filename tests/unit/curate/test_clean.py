"""Captions lose entities, markup and invisible characters, and nothing that a writer meant."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.curate_text import TextRules
from zebra.curate.clean import clean_caption, cleaning_stages


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry", "Tom & Jerry"),
        ("&quot;a dog&quot; &#8211; &#x1F993;", '"a dog" – 🦓'),
        ("<b>A</b> dog<br/>on a <a href='x'>beach</a>", "A dog on a beach"),
        ("&lt;p class=x&gt;a dog&lt;/p&gt;", "a dog"),
        ("a dog<script>alert('<b>')</script>", "a dog"),
        ("a dog <style>p {color: red}", "a dog"),
        ("a<!-- hidden -->dog", "a dog"),
        ("<IMG SRC=x>", ""),
        ("a\x00 dog\x07", "a dog"),
        ("a\u202e gniht\u202c", "a gniht"),
        ("\ufeffa\u200b dog\u00ad", "a dog"),
        ("a \n\t dog\u3000\u00a0", "a dog"),
    ],
)
def test_what_pages_add_to_a_caption_is_removed(text: str, cleaned: str) -> None:
    assert clean_caption(text)[0] == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "AT&T", "bread &parsley", "R&B; soul", "x < y and z > w", "I <3 zebras", "<EMAIL>", "<3 & <3", "a <- b -> c",
        "👩‍🚀", "می‌خواهم", "שלום", "Q&A: why?", "<person> on a horse", "",
    ],
)  # fmt: skip
def test_what_a_writer_meant_stays(text: str) -> None:
    assert clean_caption(text) == (text, [])


def test_each_kind_of_change_is_named_once() -> None:
    caption, changes = clean_caption("&amp;&lt;b&gt; <i>a</i>\x00\u200e  b")
    assert caption == "& a b"
    assert changes == ["entities", "markup", "control characters", "invisible characters", "white space"]


@given(st.text(st.sampled_from("&<>;#ab/! -\x00\x85\u200e\u3000\u2028amptbrscriptx0193"), max_size=40) | st.text())
def test_a_table_is_cleaned_as_each_caption_alone(text: str) -> None:
    [stage] = cleaning_stages(TextRules())
    [row] = stage.compute(pa.table({"text": pa.chunked_array([[text]])})).to_pylist()
    assert (row["text"], row["cleaned"] or []) == clean_caption(text)


def test_missing_captions_stay_missing() -> None:
    [stage] = cleaning_stages(TextRules())
    for chunks in ([[None, "a &amp; b", None]], [["a &amp; b"], [None]], [[]]):
        table = pa.table({"text": pa.chunked_array(chunks, pa.string())})
        expected = [None if text is None else "a & b" for text in table["text"].to_pylist()]
        assert stage.compute(table).cast(stage.schema)["text"].to_pylist() == expected


@pytest.mark.parametrize(
    ("part", "cleaned"),
    [("<script", None), ("<!--", ""), ("<b ", None), ("&#1", None), ("&amp;", "&"), ("<script>", ""), ("< ", None)],
)
def test_a_long_hostile_caption_ends(part: str, cleaned: str | None) -> None:
    count = 200_000 // len(part)  # in quadratic time, a minute each
    caption, _ = clean_caption(part * count)
    assert caption == ((part * count).strip() if cleaned is None else cleaned * count)
