"""Take the pictures of README.md: the demo's report and the web page, in light and dark mode.

    zebra demo && python docs/screenshots.py runs/demo

Needs `pip install playwright` and a Chromium. Writes docs/images/{report,page}-{light,dark}.png, each under 300 kB.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1280, "height": 800}
MAX_BYTES = 300_000
QUERY = "a horse with black and white stripes"


def main() -> None:
    """Open both pages in both color schemes and save what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, nargs="?", default=Path("runs/demo"), help="the folder of zebra demo")
    demo = parser.parse_args().demo.resolve()
    IMAGES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with serve_demo(demo) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()
            page.goto((demo / "report.html").as_uri())
            save(page, IMAGES / f"report-{scheme}.png")
            page.goto(f"{url}/#search?{urllib.parse.urlencode({'q': QUERY})}")
            page.wait_for_selector("#hits .score", state="attached")
            page.wait_for_load_state("networkidle")
            save(page, IMAGES / f"page-{scheme}.png")
        browser.close()


@contextmanager
def serve_demo(demo: Path) -> Iterator[str]:
    """Serve the demo's model and images as `zebra serve` does after `zebra demo`; yield the URL."""
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "zebra", "serve", "--port", "0"]
        server = subprocess.Popen(command, cwd=demo.parents[1], stdout=log, stderr=log)
        try:
            yield wait_until_ready(server, log)
        finally:
            server.terminate()
            server.wait(60)


def wait_until_ready(server: "subprocess.Popen[bytes]", log: io.TextIOBase) -> str:
    """Return the server's URL once /readyz answers; the first start embeds the demo's images."""
    for _ in range(3000):
        time.sleep(0.2)
        log.seek(0)
        text = log.read()
        if server.poll() is not None:
            raise SystemExit(f"zebra serve exited: {text}")
        url = re.search(r"http://[\d.:]+", text)
        if not url:
            continue
        try:
            urllib.request.urlopen(f"{url[0]}/readyz").close()
        except urllib.error.HTTPError:
            continue
        return url[0]
    raise SystemExit("zebra serve was not ready within ten minutes")


def save(page: Page, path: Path) -> None:
    """Save what the window shows as a PNG of 256 colors."""
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{path} has {size:,} bytes, more than {MAX_BYTES:,}")
    print(f"{path} {size:,} bytes")


if __name__ == "__main__":
    main()
