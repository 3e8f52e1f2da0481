"""Browser tests of the web page: every tab, errors, an empty store, a phone-sized window."""

import csv
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager, suppress

import pytest

from zebra.data.benchmarks.writer import write_classification
from zebra.embed.stages import EMBED_COLUMNS
from zebra.evaluators.quiz_dataset import QuizDataset
from zebra.pretrained.load import load
from zebra.protocols.human import read_answers
from zebra.store import Store, StoreMetadata

from .. import forkserver
from .conftest import COLORS, draw_shape, encode_image

pytestmark = pytest.mark.browser

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
expect.set_options(timeout=30_000)

WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 320, "height": 740}
API_KEY = "a secret key"
MISSING_INDEX = 3


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return a dataset of forty images in four classes for the quiz."""
    path = tmp_path_factory.mktemp("datasets") / "colors"
    samples = [(encode_image(draw_shape(list(COLORS)[n % 4], "circle", n), "png"), "png", n % 4) for n in range(40)]
    write_classification(path, samples, list(COLORS), ["a photo of {c}."])
    return path


def wait_until_ready(url):
    for _ in range(1200):
        with suppress(urllib.error.HTTPError):
            return urllib.request.urlopen(f"{url}/readyz").close()
        time.sleep(0.1)
    raise AssertionError("the server was not ready within two minutes")


@contextmanager
def served(installed, environment, *args, log):
    """Run `zebra serve` and yield its URL."""
    command = [sys.executable, str(installed / "bin" / "zebra"), "serve", "--port", "0", *map(str, args)]
    with log.open("w") as output:
        server = forkserver.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        for _ in range(600):
            if match := re.search(r"http://\S+", log.read_text()):
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        wait_until_ready(match[0])
        yield match[0]
    finally:
        server.terminate()
        server.wait(60)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def store_url(zebra, installed, environment, model, dataset, pairs, tmp_path_factory):
    """Return the URL of a server with a quiz and a store of 96 images in class folders; one has no file any more."""
    folder = tmp_path_factory.mktemp("store")
    for shape in ("circle", "square"):
        (folder / "photos" / shape).mkdir(parents=True)
    for key, suffix, data, caption in pairs:
        class_folder = folder / "photos" / caption.split()[-1]
        (class_folder / f"{key}.{suffix}").write_bytes(data)
        (class_folder / f"{key}.txt").write_text(caption)
    zebra("embed", model, "photos", "--out", "store", "--thumbnail-size", "0", "--workers", "1", cwd=folder)
    key, suffix, _, caption = pairs[MISSING_INDEX]
    (folder / "photos" / caption.split()[-1] / f"{key}.{suffix}").unlink()
    args = ("--model", model, "--store", folder / "store", "--quiz", dataset)
    with served(installed, environment, *args, log=folder / "log") as url:
        yield url


@pytest.fixture(scope="module")
def empty_url(installed, environment, model, tmp_path_factory):
    """Return the URL of a server with an empty store, no quiz and an API key."""
    folder = tmp_path_factory.mktemp("empty")
    metadata = StoreMetadata(load(model).fingerprint, str(model), 32, "fp32", "float16")
    Store.create(folder / "store", metadata, EMBED_COLUMNS).close()
    args = ("--model", model, "--store", folder / "store", "--api-key", API_KEY, "--allow-add")
    with served(installed, environment, *args, log=folder / "log") as url:
        yield url


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page; at the end, the console must have no errors."""
    contexts, errors = [], []

    def visit(url, *, size=WIDE, scheme="light", touch=False):
        context = browser.new_context(
            viewport=size, color_scheme=scheme, has_touch=touch, is_mobile=touch, accept_downloads=True
        )
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        contexts.append(context)
        return page

    yield visit
    for context in contexts:
        context.close()
    unexpected = [text for text in errors if not re.search(r"status of (400|401|410|429|503)", text)]
    assert unexpected == []


def hits(page):
    return page.locator("#hits .open")


def search(page, text):
    page.fill("#query", text)
    expect(page.locator("#search-status")).to_contain_text("best first")


# Search


def test_typing_finds_images_best_first(open_page, store_url):
    page = open_page(store_url)
    search(page, "a red circle")
    expect(hits(page)).to_have_count(48)
    expect(page.locator("#search-status")).to_have_text("96 images · best first")
    assert re.fullmatch(r"exact search, \d+ ms", page.get_attribute("#search-status", "title"))
    page.click("#more")
    expect(hits(page)).to_have_count(96)
    assert page.locator("#more").is_hidden()
    assert page.evaluate("[...document.querySelectorAll('#hits img')].slice(0, 6).every((i) => i.naturalWidth > 0)")


def test_more_right_after_typing_is_not_added_to_results_of_another_query(open_page, store_url):
    page = open_page(store_url)
    expect(hits(page)).to_have_count(48)
    requests = []
    page.on("request", lambda request: requests.append(request.post_data_json) if request.post_data else None)
    page.evaluate(
        """() => {
          const query = document.querySelector('#query');
          query.value = 'a red circle';
          query.dispatchEvent(new Event('input', { bubbles: true }));
          document.querySelector('#more').click();
        }"""
    )
    expect(page.locator("#search-status")).to_contain_text("best first")
    expect(hits(page)).to_have_count(48)
    assert [body["offset"] for body in requests if "offset" in body] == [0]


def test_without_a_query_the_newest_images_are_shown(open_page, store_url, pairs):
    page = open_page(store_url)
    expect(page.locator("#search-status")).to_have_text("96 images")
    expect(hits(page)).to_have_count(48)
    newest = hits(page).first.get_attribute("aria-label")
    page.select_option("#order", "oldest")
    expect(hits(page).first).to_have_attribute("aria-label", pairs[0][3])
    assert page.url.endswith("order=oldest")
    page.select_option("#order", "newest")
    expect(hits(page).first).to_have_attribute("aria-label", newest)


def tab_to(page, selector):
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no Tab stop matches {selector}")


def test_the_keyboard_alone_searches_filters_selects_and_exports(open_page, store_url, tmp_path):
    page = open_page(store_url)
    page.wait_for_selector(".facet-chip")
    page.keyboard.press("/")
    page.keyboard.type("a red circle")
    expect(page.locator("#search-status")).to_have_text("96 images · best first")
    tab_to(page, "[data-value=square]")
    page.keyboard.press("Space")
    expect(page.locator("#search-status")).to_have_text("48 of 96 match · best first")
    assert page.evaluate("document.activeElement.dataset.value") == "square"
    assert "f.class=square" in page.url
    tab_to(page, "#hits .open")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+X")
    expect(page.locator("#selection-bar strong")).to_have_text("3 selected")
    names = [hits(page).nth(index).get_attribute("aria-label").partition(",")[0] for index in range(3)]
    tab_to(page, "#selection-bar button:nth-of-type(2)")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "images.csv")
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["caption"] for row in rows] == names
    assert {row["class"] for row in rows} == {"square"}
    assert all(row["path"].startswith("square/") for row in rows)


def test_selected_images_are_downloaded_together_and_shown_alone(open_page, store_url, tmp_path):
    page = open_page(f"{store_url}/#search?f.class=circle")
    expect(page.locator("#search-status")).to_have_text("48 of 96 match")
    page.click("#select-all")
    page.click("text=Show only these")
    expect(page.locator("#search-status")).to_have_text("48 of 96 match · selected by you")
    with page.expect_download() as download:
        page.click("#selection-bar >> text=Download")
    download.value.save_as(tmp_path / "images.zip")
    assert len(zipfile.ZipFile(tmp_path / "images.zip").namelist()) == 48
    page.click("#selection-bar >> text=Clear")
    assert page.locator("#selection-bar").is_hidden()


def test_values_of_an_image_become_filters_and_neighbors_are_opened(open_page, store_url):
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")
    hits(page).first.click()
    page.wait_for_selector(".neighbors img")
    width, natural = page.evaluate(
        "(async () => { const image = document.querySelector('.detail-image img'); await image.decode();"
        " return [image.clientWidth, image.naturalWidth] })()"
    )
    assert (width, natural) == (128, 64)
    expect(page.locator(".detail-image img")).to_have_class("is-enlarged")
    page.fill("#heat-map-text", "a red circle")
    page.click(".heat-map-fields button")
    page.wait_for_selector(".heat-map:not([hidden])")
    title = page.inner_text(".detail-path")
    page.locator(".neighbors .open").first.click()
    expect(page.locator(".detail-path")).not_to_have_text(title)
    value = page.locator(".detail-fields dd .link-button").first
    text = value.inner_text()
    value.click()
    expect(page.locator("#search-status")).to_have_text("48 of 96 match")
    expect(page.locator("#query-chips")).to_contain_text(f"class: {text}")


def test_the_request_is_shown_as_code_that_runs(open_page, store_url):
    page = open_page(f"{store_url}/#search?q=a+red+circle&f.class=circle")
    expect(page.locator("#search-status")).to_have_text("48 of 96 match · best first")
    page.click("#search-code")
    curl, program = (item.inner_text() for item in page.locator("#code-dialog pre").all())
    output = subprocess.run(["sh", "-c", curl], check=True, capture_output=True).stdout
    assert json.loads(output)["num_matches"] == 48
    assert compile(program, "program", "exec")


def test_the_theme_can_be_chosen_and_is_kept(open_page, store_url):
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")
    page.keyboard.press("?")
    page.wait_for_selector("#menu:popover-open")
    assert "96 images" in page.inner_text("#menu")
    page.check("#menu [value=dark]", force=True)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    red, *_ = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert red < 128


def test_the_grid_is_navigated_with_the_keyboard(open_page, store_url):
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")
    page.keyboard.press("/")
    page.keyboard.type("a red circle")
    expect(page.locator("#search-status")).to_contain_text("best first")
    page.keyboard.press("ArrowDown")
    focused = "[...document.querySelectorAll('#hits .open')].indexOf(document.activeElement)"
    assert page.evaluate(focused) == 0
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == 1
    page.keyboard.press("ArrowDown")
    below = page.evaluate(focused)
    boxes = [hits(page).nth(index).bounding_box() for index in (1, below)]
    assert boxes[0]["x"] == pytest.approx(boxes[1]["x"], abs=2)
    assert boxes[0]["y"] < boxes[1]["y"]
    caption = page.locator("#hits li").nth(below).locator(".caption")
    expect(caption).to_have_css("opacity", "1")
    name = hits(page).nth(below).get_attribute("aria-label")
    page.keyboard.press("Enter")
    assert page.inner_text("#detail-title") in name
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == below
    page.keyboard.press("m")
    page.wait_for_selector("#query-chips .chip")
    assert page.locator("#query-chips .chip button").get_attribute("aria-label") == "remove more like this image"


def test_a_late_response_to_an_earlier_query_is_ignored(open_page, store_url):
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")

    delayed = []
    page.route("**/v1/search", lambda route: route.continue_() if delayed else delayed.append(route))
    page.fill("#query", "a red circle")
    while not delayed:
        page.wait_for_timeout(50)
    page.fill("#query", "a blue square")
    expect(page.locator("#search-status")).to_contain_text("best first")
    labels = [item.get_attribute("aria-label") for item in hits(page).all()]
    delayed[0].fulfill(
        json={"hits": [], "more": False, "method": "exact", "searched": 0, "num_matches": 0, "seconds": 0}
    )
    page.wait_for_timeout(300)
    assert [item.get_attribute("aria-label") for item in hits(page).all()] == labels
    assert page.url.endswith("#search?q=a+blue+square")


def test_the_url_holds_the_query(open_page, store_url):
    page = open_page(f"{store_url}/#search?q=a+red+circle&not=blue&where=caption+contains+%22square%22")
    page.wait_for_selector("#hits .open")
    assert page.input_value("#query") == "a red circle"
    expect(page.locator("#search-status")).to_have_text("48 of 96 match · best first")
    assert page.locator("#query-chips .chip").inner_text().startswith("−")
    labels = hits(page).evaluate_all("(items) => items.map((item) => item.getAttribute('aria-label'))")
    assert labels
    assert all("square" in label for label in labels)


def test_an_invalid_filter_is_explained_below_its_field(open_page, store_url):
    page = open_page(store_url)
    search(page, "a red circle")
    page.click("#advanced summary")
    page.fill("#where", "widht > 3")
    page.wait_for_selector("#where-error:not(:empty)")
    assert "Did you mean 'width'?" in page.inner_text("#where-error")
    assert page.get_attribute("#where", "aria-invalid") == "true"
    page.fill("#where", "")
    page.click("#where-help button:text-is('width')")
    page.keyboard.type("64")
    page.keyboard.press("End")
    page.wait_for_selector("#where[aria-invalid=false]")
    assert page.input_value("#where") == "width = 64"


def test_an_image_is_a_query(open_page, store_url, tmp_path):
    path = tmp_path / "query.png"
    path.write_bytes(encode_image(draw_shape("green", "circle", 7), "png"))
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")
    page.set_input_files("#search-image-input", path)
    expect(page.locator("#search-status")).to_contain_text("best first")
    page.click("button[aria-label='remove query image']")
    expect(page.locator("#search-status")).to_have_text("96 images")
    (tmp_path / "text.png").write_text("not an image")
    page.set_input_files("#search-image-input", tmp_path / "text.png")
    page.wait_for_selector("#search-status.error")
    assert "not an allowed format" in page.inner_text("#search-status")


def test_a_missing_image_has_a_placeholder_and_a_notice(open_page, store_url, pairs):
    page = open_page(store_url)
    search(page, pairs[MISSING_INDEX][3])
    page.click("#more")
    expect(hits(page)).to_have_count(96)
    missing_headers = page.evaluate(
        """async () => {
          const urls = [...document.querySelectorAll('#hits img')].map((image) => image.src);
          const responses = await Promise.all(urls.map((url) => fetch(url)));
          return responses.map((response) => response.headers.get('X-Image'));
        }"""
    )
    (index,) = (position for position, header in enumerate(missing_headers) if header)
    hits(page).nth(index).click()
    page.wait_for_selector(".missing:not([hidden])")
    assert "file is missing" in page.inner_text(".missing")


def test_an_error_of_the_server_is_shown(open_page, store_url):
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")
    page.route(
        "**/v1/search",
        lambda route: route.fulfill(status=429, json={"error": {"type": "overloaded", "message": "too many requests"}}),
    )
    page.fill("#query", "a red circle")
    page.wait_for_selector("#search-status.error")
    assert page.inner_text("#search-status") == "too many requests"


# Classify


def test_scores_with_the_template_are_shown_beside_those_of_the_label_only(open_page, store_url, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(encode_image(draw_shape("red", "circle", number), "png"))
    page = open_page(f"{store_url}/#classify")
    page.wait_for_selector("#labels")
    for _ in range(page.locator("#classify .chip button").count()):
        page.locator("#classify .chip button").first.click()
    page.fill("#labels", "a red circle, a blue square,")
    page.keyboard.type("a zebra")
    page.keyboard.press("Enter")
    page.set_input_files("#classify input[type=file]", [tmp_path / "0.png", tmp_path / "1.png"])
    expect(page.locator("#classify .bars .baseline")).to_have_count(6)
    sums = page.locator("#classify .bars").evaluate_all(
        "(lists) => lists.map((bars) => [...bars.querySelectorAll('.track')]"
        ".map((track) => Number(track.style.getPropertyValue('--score'))).reduce((a, b) => a + b))"
    )
    assert sums == pytest.approx([1, 1], abs=1e-3)
    page.fill("#template", "nothing")
    page.wait_for_selector("#template-error:not(:empty)")
    page.fill("#template", "{}")
    expect(page.locator("#classify .bars .baseline")).to_have_count(0)
    assert page.locator("#classify .bars li").count() == 6


def test_an_invalid_image_is_reported_and_the_others_are_classified(open_page, store_url, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    (tmp_path / "good.png").write_bytes(encode_image(draw_shape("red", "circle", 1), "png"))
    page = open_page(f"{store_url}/#classify")
    page.wait_for_selector("#labels")
    page.fill("#labels", "a red circle, a zebra")
    page.set_input_files("#classify input[type=file]", [tmp_path / "bad.png", tmp_path / "good.png"])
    page.wait_for_selector("#classify .image-list .error")
    page.wait_for_selector("#classify .bars .fill")
    assert page.locator("#classify .image-list > li").count() == 2


def test_below_the_threshold_the_answer_is_none_of_these_and_the_table_is_exported(open_page, store_url, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(encode_image(draw_shape("red", "circle", number), "png"))
    page = open_page(f"{store_url}/#classify")
    page.wait_for_selector("#labels")
    for _ in range(page.locator("#classify .chip button").count()):
        page.locator("#classify .chip button").first.click()
    page.fill("#labels", "a red circle, a zebra,")
    page.fill("#threshold", "100")
    page.set_input_files("#classify input[type=file]", [tmp_path / "0.png", tmp_path / "1.png"])
    expect(page.locator("#classify .summary strong")).to_have_text("2 × none of these")
    page.fill("#threshold", "0")
    expect(page.locator("#classify .summary strong")).to_have_text(re.compile(r"\d × a (red circle|zebra)"))
    page.click("text=As a table")
    assert page.locator("#classify tbody tr").count() == 2
    with page.expect_download() as download:
        page.click(".classify-tools >> text=CSV")
    download.value.save_as(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "answer", "probability", "a red circle", "a zebra"]
    assert [row[0] for row in rows] == ["0.png", "1.png"]
    assert float(rows[0][2]) == max(map(float, rows[0][3:]))


# Quiz


def answer(page, text):
    before = page.inner_text(".progress span")
    page.fill("#answer", text)
    page.keyboard.press("Enter")
    expect(page.locator(".progress span")).not_to_have_text(before)


def test_a_quiz_survives_a_reload_and_is_exported_in_the_format_of_the_command_line(
    open_page, store_url, dataset, tmp_path
):
    page = open_page(f"{store_url}/#quiz")
    page.fill("#person", "ada, the first")
    page.click("text=Start")
    page.wait_for_selector("#answer")
    for text in ("re", "blu", "?"):
        answer(page, text)
    page.click("text=I don’t know")
    expect(page.locator(".progress span")).to_have_text("5 of 40")
    page.reload()
    page.wait_for_selector("#answer")
    assert page.inner_text(".progress span") == "5 of 40"
    page.click("text=Undo the last answer")
    expect(page.locator(".progress span")).to_have_text("4 of 40")
    with page.expect_download() as download:
        page.click("text=Export answers")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    quiz = QuizDataset(dataset)
    answers = read_answers(path, quiz.classnames, quiz.labels)
    assert [item.label for item in answers] == [0, 1, None]
    assert {item.person for item in answers} == {"ada, the first"}
    order = [quiz.ids[position] for position in quiz.question_order("ada, the first")]
    assert [item.image_id for item in answers] == order[:3]
    with path.open(newline="") as file:
        assert next(csv.reader(file)) == ["person", "image", "answer", "shots"]


def test_after_examples_a_person_is_compared_with_the_model(open_page, store_url):
    page = open_page(f"{store_url}/#quiz")
    page.check(".choices [name=shots] >> nth=2")
    page.fill("#person", "bob")
    page.click("text=Start")
    page.wait_for_selector(".class-examples img")
    assert page.locator(".class-examples img").count() == 8
    page.click("text=Continue")
    page.wait_for_selector("#answer")
    assert page.inner_text(".progress span") == "1 of 32"
    for _ in range(6):
        answer(page, "yel")
    page.click("text=See my score")
    page.wait_for_selector(".score-table")
    assert page.locator(".score-table dd").count() == 5
    assert page.locator(".score-table dt").last.inner_text().startswith("the model")
    assert page.locator(".dot-plot li").count() >= 1
    page.click("text=Continue")
    page.wait_for_selector("#answer")
    assert page.inner_text(".progress span") == "7 of 32"


# Map


def test_the_map_is_drawn_and_its_points_can_be_opened(open_page, store_url):
    page = open_page(f"{store_url}/#map")
    page.wait_for_selector(".map-plot canvas", timeout=60_000)
    page.wait_for_selector(".legend-list button")
    has_pixels = """() => {
      const canvas = document.querySelector('.map-plot canvas');
      return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte > 0);
    }"""
    while not page.evaluate(has_pixels):
        page.wait_for_timeout(50)
    page.focus(".map-plot canvas")
    for key in ("+", "ArrowLeft", "ArrowDown", "0"):
        page.keyboard.press(key)
    xs, ys = page.evaluate("fetch('/v1/map').then((response) => response.json()).then(({x, y}) => [x, y])")
    box = page.locator(".map-plot canvas").bounding_box()
    # The map fits all points into the frame, 24 pixels from its edges, and stretches one axis up to 1.7 times.
    fits = [(box[side] / 2 - 24) / max(map(abs, values)) for side, values in (("width", xs), ("height", ys))]
    scales = [min(fit, 1.7 * min(fits)) for fit in fits]
    page.mouse.move(
        x := box["x"] + box["width"] / 2 + xs[0] * scales[0], y := box["y"] + box["height"] / 2 - ys[0] * scales[1]
    )
    page.wait_for_selector(".tooltip:not([hidden]) img")
    page.mouse.wheel(0, -300)
    page.mouse.click(x, y)
    page.wait_for_selector("#detail[open]")
    page.click("text=More like this")
    page.wait_for_selector("#hits .open")
    assert "like=" in page.url
    page.go_back()
    page.click(".legend-list button")
    assert page.locator(".legend-list button").first.get_attribute("aria-pressed") == "true"


def test_a_lasso_selects_images_and_hits_of_a_text_are_lit(open_page, store_url):
    page = open_page(f"{store_url}/#map")
    page.wait_for_selector(".map-plot canvas", timeout=60_000)
    expect(page.locator("#map-color")).to_have_value(":class")
    page.fill("#map-query", "a red circle")
    page.keyboard.press("Enter")
    expect(page.locator("text=Select 96 images")).to_be_visible()  # a search finds up to 200
    page.select_option("#map-color", "clusters")
    expect(page.locator(".legend-list .count").first).to_be_visible()
    page.click("text=Lasso")
    box = page.locator(".map-plot canvas").bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[-1])
    page.mouse.down()
    for point in points:
        page.mouse.move(*point, steps=3)
    page.mouse.up()
    expect(page.locator("#selection-bar strong")).to_have_text("96 selected")
    page.click("text=More like these")
    expect(page.locator("#search-status")).to_contain_text("best first")
    assert page.locator("#query-chips .chip").count() == 32


# All tabs


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_has_a_barrier_that_axe_finds(open_page, store_url, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing").Axe()
    page = open_page(f"{store_url}/#search?q=a+red+circle&f.class=circle", scheme=scheme)
    page.emulate_media(reduced_motion="reduce")

    def check(selector):
        page.wait_for_selector(selector, timeout=60_000)
        result = axe.run(page)
        assert result.violations_count == 0, result.generate_report()

    check("#hits img")
    hits(page).first.click()
    check(".neighbors img")
    page.keyboard.press("Escape")
    page.click("#menu-button")
    check("#menu:popover-open")
    page.keyboard.press("Escape")
    for name, selector in (
        ("classify", ".samples img"),
        ("map", ".legend-list button"),
        ("duplicates", "#duplicates .status:not(:empty)"),
        ("quiz", "#person"),
    ):
        page.click(f"#tab-{name}")
        check(selector)
    page.goto(f"{store_url}/docs")
    page.locator("summary").first.click()
    check("details[open] pre")


def test_tabs_are_navigated_with_arrows_and_have_urls(open_page, store_url):
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")
    page.focus("#tab-search")
    for name in ("classify", "map", "duplicates", "quiz", "search"):
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(f"#{name}:not([hidden])")
        assert page.evaluate("document.activeElement.id") == f"tab-{name}"
        assert page.get_attribute(f"#tab-{name}", "aria-selected") == "true"
    page.go_back()
    page.wait_for_selector("#quiz:not([hidden])")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_every_tab_without_horizontal_scrolling(open_page, store_url, scheme):
    page = open_page(f"{store_url}/#search?q=a+red+circle&not=blue", size=PHONE, scheme=scheme, touch=True)
    page.wait_for_selector("#hits .open")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) > 128) == (scheme == "light")
    assert page.locator("#hits .caption").first.is_visible()
    for name, ready in (("search", ".open"), ("classify", "#labels"), ("quiz", "#person"), ("map", ".map-plot canvas")):
        page.tap(f"#tab-{name}")
        page.wait_for_selector(ready, timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.tap("#tab-search")
    hits(page).first.tap()
    page.wait_for_selector("#detail[open]")
    assert page.evaluate("document.querySelector('#detail').scrollWidth") <= PHONE["width"]


def test_loading_images_shift_no_layout(open_page, store_url):
    page = open_page(store_url)
    page.wait_for_selector("#hits .open")
    page.evaluate(
        "new PerformanceObserver((list) => list.getEntries().forEach((entry) => {"
        " window.shifted = (window.shifted ?? 0) + (entry.hadRecentInput ? 0 : entry.value) }))"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    search(page, "a red circle")
    page.wait_for_load_state("networkidle")
    first = hits(page).nth(7).bounding_box()
    page.wait_for_timeout(300)
    assert hits(page).nth(7).bounding_box() == first
    assert page.evaluate("window.shifted ?? 0") < 0.1


def test_a_key_is_requested_and_an_empty_store_is_explained(open_page, empty_url):
    page = open_page(empty_url)
    page.wait_for_selector("#api-key-dialog[open]")
    page.fill("#api-key-input", "a guess")
    page.keyboard.press("Enter")
    page.wait_for_selector("#api-key-error:not(:empty)")
    page.fill("#api-key-input", API_KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector("#search .empty")
    assert "zebra embed" in page.inner_text("#search .empty")
    page.click("#tab-map")
    page.wait_for_selector("#map .empty")
    assert page.locator("#tab-quiz").is_hidden()
    page.click("#tab-classify")
    page.fill("#labels", "a cat")
    page.keyboard.press("Enter")
    assert page.locator("#classify .chip").inner_text().startswith("a cat")


def test_images_are_added_and_their_duplicates_are_found(open_page, empty_url, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode_image(draw_shape("green", "circle", 3), "png"))
    (tmp_path / "c.png").write_bytes(b"no image")
    page = open_page(f"{empty_url}/#add")
    page.wait_for_selector("#api-key-dialog[open]")
    page.fill("#api-key-input", API_KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector("#add .drop-zone")
    page.fill("#add-caption", "a green circle")
    page.set_input_files("#add input[type=file]", [tmp_path / name for name in ("a.png", "b.png", "c.png")])
    expect(page.locator("#add .summary")).to_have_text("2 images added.")
    assert "c.png" in page.inner_text("#add .add-problems")
    page.click("text=Show them")
    expect(hits(page)).to_have_count(2)
    assert hits(page).first.get_attribute("aria-label") == "a green circle"
    page.click("#tab-duplicates")
    expect(page.locator(".duplicate-group h2")).to_have_text("2 images")
    page.click("text=Select all but the first of each group shown")
    expect(page.locator("#selection-bar strong")).to_have_text("1 selected")
