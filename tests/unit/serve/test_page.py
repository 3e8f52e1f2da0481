"""Static checks of the page's files against the content security policy; tests/e2e runs them in a browser."""

import re
from pathlib import Path

import pytest

import zebra

PAGE = Path(zebra.__file__).parent / "serve" / "page"
MODULES = sorted(PAGE.glob("*.js"))


def test_the_page_contains_nothing_that_the_policy_forbids():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", html)
    assert not re.findall(r"https?://", html)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_loads_nothing_from_other_hosts(path):
    text = path.read_text(encoding="utf-8")
    imported = re.findall(r'(?:from\s|import\()\s*["\'`]([^"\'`]+)', text)
    paths = [path for path in imported if "${" not in path]
    assert all(path.startswith("./") and (PAGE / path).is_file() for path in paths)
    assert not re.findall(r"https?://|innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_every_tab_has_its_module():
    tabs = re.findall(r'aria-controls="(\w+)"', (PAGE / "index.html").read_text(encoding="utf-8"))
    assert {"search", "classify", "map", "quiz"} <= set(tabs)
    assert all((PAGE / f"{name}.js").is_file() and (PAGE / f"{name}.css").is_file() for name in tabs)


def test_each_element_that_a_module_looks_up_by_id_is_on_the_page():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'\bid="([\w-]+)"', html))
    assert len(ids) == len(re.findall(r'\bid="', html))
    for path in MODULES:
        looked_up = set(re.findall(r'\$\("([\w-]+)"\)', path.read_text(encoding="utf-8")))
        assert looked_up <= ids, f"{path.name}: {looked_up - ids}"
