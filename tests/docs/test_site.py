"""The documentation site: strict in what it refuses, complete in its reference, and quiet on the network."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zebra import errors

ROOT = Path(__file__).parents[2]
COPIED = ("docs", "src", "benchmarks", "examples")

for package in ("zensical", "mkdocstrings"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)


def copy_repository(folder):
    """Copy what a site is built from; the repository stays as it is."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*ROOT.glob("*.md"), ROOT / "mkdocs.yml", ROOT / "LICENSE"]:
        shutil.copy(file, folder)
    return folder


def make_small_repository(folder):
    """Write a site of few pages with the settings and the script of the real one."""
    for name in ("docs/api", "src/zebra/workflows", "src/zebra/config"):
        (folder / name).mkdir(parents=True)
    pages = {"README.md": "index.md", "CHANGELOG.md": "", "CONTRIBUTING.md": "", "LOG.md": "", "SECURITY.md": ""}
    pages |= {"docs/data.md": "", "docs/search.md": "", "docs/api/index.md": ""}
    for name in pages:
        (folder / name).write_text(f"# {name}\n", encoding="utf-8")
    for name in ("docs/build.py", "docs/site.css"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "src/zebra/__init__.py").write_text('"""A package."""\n', encoding="utf-8")
    listed = [page or name for name, page in pages.items()] + ["docs/api/workflows.md", "docs/api/config.md"]
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = "nav:\n" + "".join(f"  - {name}\n" for name in listed)
    small = re.sub(r"^nav:\n(?: .*\n|\n)+", lambda _: navigation + "\n", settings, flags=re.MULTILINE)
    assert small.count("  - ") < settings.count("  - ")
    (folder / "mkdocs.yml").write_text(small, encoding="utf-8")
    return folder


def build(folder):
    command = [sys.executable, folder / "docs" / "build.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = copy_repository(tmp_path_factory.mktemp("repository"))
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


def anchors(site, page):
    return set(re.findall(r'\bid="([\w.-]+)"', (site / "docs" / "api" / page).read_text(encoding="utf-8")))


def test_every_page_of_the_repository_is_on_the_site(site):
    pages = {path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert all((site / page).is_file() for page in pages)
    assert (site / "index.html").is_file()


@pytest.mark.parametrize("name", ["zebra.load", "zebra.Bundle", "zebra.Bundle.classify"])
def test_the_reference_has_the_names_of_a_loaded_model(site, name):
    assert name in anchors(site, "load.html")


def test_the_reference_has_every_exception(site):
    found = anchors(site, "errors.html")
    names = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(names) > 5
    assert all(f"zebra.errors.{name}" in found for name in names)


def test_the_reference_has_every_workflow_and_config(site):
    package = ROOT / "src" / "zebra"
    runs = [
        path.stem for path in (package / "workflows").glob("*.py") if "\ndef run(" in path.read_text(encoding="utf-8")
    ]
    assert {"train", "embed", "search"} <= set(runs)
    assert {f"zebra.workflows.{verb}.run" for verb in runs} <= anchors(site, "workflows.html")
    assert {"zebra.config.train.TrainConfig", "zebra.config.train.TrainConfig.seed"} <= anchors(site, "config.html")


def test_the_small_repository_has_no_mistake(tmp_path):
    assert build(make_small_repository(tmp_path)).returncode == 0


@pytest.mark.parametrize(
    "mistakes",
    [  # those of one line are found at one stage of a build
        [("docs/data.md", "[x](missing.md)", "page does not exist"),
         ("docs/data.md", "[x](search.md#nowhere)", "anchor does not exist")],
        [("docs/data.md", "![x](nowhere.png)", "docs/data.md: no image nowhere.png"),
         ("README.md", '<img src="docs/nowhere.png">', "README.md: no image docs/nowhere.png")],
        [("docs/data.md", "::: zebra.nowhere", "zebra.nowhere could not be found")],
        [("docs/data.md", '<img src="https://example.org/a.png">', "docs/data.html: <img src="),
         ("docs/site.css", "@import url(//example.org/font.css);", "docs/site.css: @import")],
        [("docs/new.md", "# A page", "docs/new.md is not in the navigation")],
        [("mkdocs.yml", "nav:\n  - Gone: docs/gone.md\n", "no page docs/gone.md")],
    ],
)  # fmt: skip
def test_a_mistake_ends_the_build(tmp_path, mistakes):
    folder = make_small_repository(tmp_path)
    for file, text, _ in mistakes:
        with (folder / file).open("a", encoding="utf-8") as page:
            page.write(f"\n{text}\n")
    done = build(folder)
    assert done.returncode == 1
    output = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    assert [reason for _, _, reason in mistakes if reason not in output] == []


@pytest.mark.browser
def test_a_browser_asks_no_other_host(site):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    asked, mistakes = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        for name in ("index.html", "docs/search.html", "docs/api/load.html", "docs/api/config.html"):
            page.goto((site / name).as_uri(), wait_until="networkidle")
            assert page.locator("h1").first.is_visible()
        browser.close()
    assert len(asked) > 4
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert mistakes == []
