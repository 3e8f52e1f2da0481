"""Files that are found and not read are counted by reason, with an example and advice."""

from zebra.data.ignored import Ignored, IgnoredCounter, format_ignored


def test_files_are_counted_by_suffix_with_the_first_as_example() -> None:
    counter = IgnoredCounter()
    for path in ("b/x.TIF", "a.tif", "README", "notes.md"):
        counter.add_by_suffix(path)
    assert counter.entries() == (
        Ignored(".tif", 2, "b/x.TIF"),
        Ignored(".md", 1, "notes.md"),
        Ignored("no suffix", 1, "README"),
    )


def test_names_that_are_not_utf8_can_be_printed_and_long_endings_are_no_suffixes() -> None:
    counter = IgnoredCounter()
    for path in ("caf\udce9.\udce9", "e.g. a cat", "x." + "y" * 200):
        counter.add_by_suffix(path)
    assert counter.entries() == (Ignored("no suffix", 3, "caf\\xe9.\\xe9"),)


def test_the_counts_of_a_subfolder_are_added_with_paths_below_the_root() -> None:
    counter = IgnoredCounter([Ignored(".md", 1, "a.md")])
    counter.extend([Ignored(".md", 2, "b.md"), Ignored(".gz", 1, "0.tar.gz")], "sub")
    assert counter.entries() == (Ignored(".md", 3, "a.md"), Ignored(".gz", 1, "sub/0.tar.gz"))


def test_the_text_has_advice_for_images_and_archives() -> None:
    assert format_ignored([Ignored(".psd", 1, "f.psd"), Ignored(".gz", 1, "0.tar.gz")]) == (
        "2 files not read: 1 .psd (f.psd), 1 .gz (0.tar.gz). Convert PSD images to JPEG or PNG. Unpack archives"
    )
    assert format_ignored([Ignored(".md", 1, "a.md")]) == "1 file not read: 1 .md (a.md)"
    assert format_ignored([]) == ""


def test_a_long_list_of_reasons_is_cut_and_still_counts_all() -> None:
    text = format_ignored([Ignored(f".{number}", 2, "x") for number in range(100)])
    assert text.startswith("200 files not read: 2 .0 (x), ")
    assert text.endswith(", 184 others")
    assert len(text) < 200
