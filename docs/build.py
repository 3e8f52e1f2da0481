"""Build the documentation site into build/site.

    python docs/build.py

Pages are copied to build/site-source first. That folder looks like the repository, so a relative link works on a forge
and on the site alike. README.md becomes the start page. Reference pages for workflows and configs are generated, and a
link to a file that is no page becomes plain text.

Zensical's strict mode names broken links, anchors and references. This script adds what it does not check: missing
images, the navigation, and files that a browser would load from another host.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build" / "site-source"
SITE = ROOT / "build" / "site"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LOG.md", "SECURITY.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
HTML_IMAGE = re.compile(r'<(?:img|source)\b[^>]*\s(?:src|srcset)="(?!\w+:|//)([^"]+)"')
IMAGES = {".png", ".svg", ".jpg"}
REMOTE = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\ssrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|dns-prefetch|icon|manifest))[^>]*"""
    r"""\shref=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')\s]+"""
    r"""|url\(\s*["']?(?:https?:)?//[^"')\s]+"""
)
"""What a browser loads by itself from another host."""


def main() -> int:
    """Build the site and return the exit code."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    mistakes = copy_pages()
    generate_reference()
    mistakes += check_navigation()
    if mistakes:
        return fail("The documentation has mistakes:", mistakes)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "mkdocs.yml"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        return 1
    remote = find_remote(SITE)
    if remote:
        return fail("The site would load files from other hosts:", remote)
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE}")
    print(f"Show them: python -m http.server --bind 127.0.0.1 --directory {SITE}")
    return 0


def fail(what: str, places: list[str]) -> int:
    """Print mistakes and return the exit code."""
    print(what, *places, sep="\n  ", file=sys.stderr)
    return 1


def copy_pages() -> list[str]:
    """Copy every page, with the images that it shows, into the source folder of the site; return missing images."""
    pages = [ROOT / name for name in PAGES] + sorted((ROOT / "docs").rglob("*.md"))
    missing = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        images = [link[3] for link in LINK.finditer(text) if link[1]] + HTML_IMAGE.findall(text)
        absent = [image for image in images if not copy_image((page.parent / image).resolve())]
        missing += [f"{page.relative_to(ROOT)}: no image {image}" for image in absent]
        text = LINK.sub(lambda link, page=page: convert(link, page, pages), text)
        name = "index.md" if page.name == "README.md" else str(page.relative_to(ROOT))
        target = SOURCE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "docs" / "site.css", SOURCE / "docs")
    return missing


def convert(link: re.Match[str], page: Path, pages: list[Path]) -> str:
    """Return what replaces a relative link of a page: the link, a link to the start page, or plain text."""
    image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    path = (page.parent / target).resolve()
    if path in pages:
        return f"{image}[{text}]({target.replace('README.md', 'index.md')}{anchor})"
    if path.suffix in IMAGES and copy_image(path):
        return link[0]
    if path.exists():
        return text if text.startswith("`") else f"`{text}`"
    return link[0]  # broken: the strict build names it


def copy_image(path: Path) -> bool:
    """Copy an image to its place in the source folder of the site; return False if it does not exist."""
    if not path.is_file():
        return False
    copy = SOURCE / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, copy)
    return True


def generate_reference() -> None:
    """Write the reference pages whose modules are found, not listed: one workflow for each verb, and the configs."""
    functions = ["# Workflows\n\n`zebra.workflows.<verb>.run` is what `zebra <verb>` calls."]
    classes = ["# Configuration\n\nEvery option of every command. Recipes are YAML files of the same fields."]
    functions += [
        f"::: {name}\n    options:\n      toc_label: {name.split('.')[-2]}"
        for name in find_definitions("workflows", r"def (run)\(")
    ]
    classes += [f"::: {name}" for name in find_definitions("config", r"class (\w+Config)\b")]
    for page, parts in (("workflows.md", functions), ("config.md", classes)):
        (SOURCE / "docs" / "api" / page).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def find_definitions(package: str, pattern: str) -> list[str]:
    """Return the full names of what the modules of a package define."""
    return [
        f"zebra.{package}.{path.stem}.{name}"
        for path in sorted((ROOT / "src" / "zebra" / package).glob("[a-z]*.py"))
        for name in re.findall(rf"^{pattern}", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def check_navigation() -> list[str]:
    """Return pages that the navigation does not contain, and entries without a page."""
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- (?:[^:\n]+: )?([\w/-]+\.md)$", config, re.MULTILINE)
    pages = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.md")}
    return (
        [f"mkdocs.yml: no page {name}" for name in listed if name not in pages]
        + [f"mkdocs.yml: {name} is not in the navigation" for name in sorted(pages - set(listed))]
        + [f"mkdocs.yml: {name} is twice in the navigation" for name in set(listed) if listed.count(name) > 1]
    )


def find_remote(site: Path) -> list[str]:
    """Return the places of a site from which a browser would load a file of another host."""
    return [
        f"{path.relative_to(site)}: {found[0][:120]}"
        for suffix in ("html", "css")
        for path in sorted(site.rglob(f"*.{suffix}"))
        for found in REMOTE.finditer(path.read_text(encoding="utf-8"))
    ]


if __name__ == "__main__":
    sys.exit(main())
