import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from zebra.report.page import Gallery, GalleryItem, Headline, ReportTable, Section, write_page
from zebra.report.style import CSS_VARIABLES

TABLE = ReportTable(("dataset", "top-1"), (("seen", "96.1%"), ("unseen", "−1.0")))
HOSTILE = '<script>alert("x")</script> & \'quotes\' "too"'


class Outline(HTMLParser):
    """Collect the tags and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(path: Path, *sections: Section, headlines: tuple[Headline, ...] = ()) -> str:
    write_page(path / "report.html", "A title", "A lead.", sections, headlines)
    return (path / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path, figure: Figure) -> None:
    image_section = Section("Image", "Red.", Image.new("RGB", (4, 4), "red"))
    html = page(tmp_path, Section("Figure", "A summary.", figure), image_section)
    outline = Outline(html)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in outline.tags}
    links = [v for _, a in outline.tags for k, v in a.items() if k in {"src", "href", "xlink:href", "srcset"}]
    assert links
    assert all(link and link.startswith(("data:", "#")) for link in links)
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", html))
    assert "@import" not in html


def test_figures_follow_the_theme_and_the_page_font(tmp_path: Path, figure: Figure) -> None:
    html = page(tmp_path, Section("Figure", "A summary.", figure))
    svg = html[html.index("<svg") : html.index("</svg>") + 6]
    assert not [color for color in CSS_VARIABLES if color in svg]
    assert "var(--foreground)" in svg
    assert [text for text in ET.fromstring(svg).itertext() if text.strip()]


def test_ids_occur_once_and_every_reference_has_one(tmp_path: Path, figure: Figure) -> None:
    html = page(tmp_path, Section("One", "A summary.", figure))
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', html)) <= set(ids)


def test_equal_input_gives_equal_bytes(tmp_path: Path, figure: Figure) -> None:
    section = Section("Figure", "A summary.", figure)
    assert page(tmp_path, section) == page(tmp_path, section)


def test_headings_form_an_outline(tmp_path: Path) -> None:
    outline = Outline(page(tmp_path, Section("One", "First.", TABLE), Section("Two", "Second.", TABLE)))
    assert [tag for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)] == ["h1", "h2", "h2"]
    assert len(outline.named("main")) == 1
    assert outline.named("html") == [{"lang": "en"}]


def test_figures_and_images_have_a_text_for_screen_readers(tmp_path: Path, figure: Figure) -> None:
    image = Image.new("RGB", (4, 4))
    outline = Outline(
        page(tmp_path, Section("A", "A summary.", figure), Section("B", "A summary.", image, "A black square."))
    )
    assert [a["aria-label"] for a in outline.named("div") if a.get("role") == "img"] == ["A summary."]
    assert [a["alt"] for a in outline.named("img")] == ["A black square."]


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1) | st.just(HOSTILE))
def test_text_is_shown_as_it_is_and_never_becomes_markup(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("page") / "report.html"
    image, table = Image.new("L", (1, 1)), ReportTable((text,), ((text,),))
    sections = [Section(text, text, table), Section(text, text, image, text)]
    write_page(path, text, text, sections, [Headline(text, text, text)])
    outline = Outline(path.read_text(encoding="utf-8"))
    assert sum(data.strip() == text.strip() for data in outline.texts) >= 10 or not text.strip()
    assert outline.named("img")[0]["alt"] == text
    assert not outline.named("script")


def test_numbers_in_a_table_are_right_aligned(tmp_path: Path) -> None:
    html = page(tmp_path, Section("Scores", "All of them.", TABLE))
    assert "<th>dataset</th><th class='number'>top-1</th>" in html
    assert "<td>unseen</td><td class='number'>−1.0</td>" in html


def test_the_interval_of_a_number_is_its_second_line(tmp_path: Path) -> None:
    cells = ("50.0% [40.0%, 60.0%]", "cat [0]", "2 of 9 classes have no image here: cat, dog", "–")
    html = page(tmp_path, Section("Scores", "All of them.", ReportTable(("a", "b", "c", "d"), (cells,))))
    assert "<td class='number'>–</td>" in html
    assert "<td class='number'>50.0%<small> [40.0%, 60.0%]</small></td>" in html
    assert "<td>cat [0]</td><td>2 of 9 classes have no image here: cat, dog</td>" in html


def test_key_numbers_have_labels(tmp_path: Path) -> None:
    html = page(tmp_path, headlines=(Headline("98.4%", "of the zebras", "chance 5%"), Headline("4 min", "of training")))
    outline = Outline(html)
    assert len(outline.named("dt")) == 2
    assert {"98.4%", "of the zebras", "chance 5%", "4 min", "of training"} <= set(outline.texts)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_does_not_scroll_sideways_on_a_phone_or_a_desktop(
    tmp_path: Path, every_figure: list[Figure], width: int, scheme: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    playwright = pytest.importorskip("playwright.sync_api")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    sections = [Section("A figure", "A summary.", figure) for figure in every_figure]
    page(tmp_path, *sections, Section("Scores", "All of them.", TABLE))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        problems: list[str] = []
        tab.on("console", lambda message: problems.append(message.text))
        tab.goto((tmp_path / "report.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(re.findall(r"\d+", background)[0]) > 128) == (scheme == "light")
        assert problems == []
        browser.close()


def test_a_gallery_shows_every_image_with_its_escaped_text(tmp_path: Path) -> None:
    items = tuple(
        GalleryItem(Image.new("RGB", (8, 8), color), HOSTILE, f"taken for {color}") for color in ("red", "blue")
    )
    outline = Outline(page(tmp_path, Section("Gallery", "Two images.", Gallery(items))))
    assert len(outline.named("img")) == 2
    assert not outline.named("script")
    assert [text for text in outline.texts if text.startswith("taken for")] == ["taken for red", "taken for blue"]
    assert outline.texts.count(HOSTILE) == 2


@pytest.mark.parametrize(
    ("cell", "is_number"),
    [("34.2% [30%, 40%]", True), ("1 of 12", True), ("4 (unfinished)", True), ("1st place medal", False), ("−3", True)],
)
def test_only_numbers_are_aligned_to_the_right(tmp_path: Path, cell: str, is_number: bool) -> None:
    html = page(tmp_path, Section("Table", "A summary.", ReportTable(("name",), ((cell,),))))
    assert ("<td class='number'>" in html) == is_number
