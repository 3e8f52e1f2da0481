"""What the page's files must keep to, so that the content policy lets all of them work; a browser tries it in e2e."""

import re
from pathlib import Path

import pytest

import zebra

PAGE = Path(zebra.__file__).parent / "serve" / "page"
MODULES = sorted(PAGE.glob("*.js"))


def test_nothing_is_written_into_the_page_that_the_policy_forbids():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", html)
    assert not re.findall(r"https?://", html)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_asks_for_nothing_from_elsewhere(path):
    text = path.read_text(encoding="utf-8")
    imported = re.findall(r'(?:from|import\()\s*["\'`]([^"\'`]+)', text)
    named = [address for address in imported if "${" not in address]
    assert all((PAGE / address.removeprefix("/page/")).is_file() for address in named)
    assert not re.findall(
        r"https?://|innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )


def test_every_tab_has_its_module():
    tabs = re.findall(r'aria-controls="(\w+)"', (PAGE / "index.html").read_text(encoding="utf-8"))
    assert [(PAGE / f"{name}.js").is_file() for name in tabs] == [True] * 4
