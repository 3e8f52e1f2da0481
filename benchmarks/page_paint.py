"""Time until the web page paints first, and until its images are there.

    zebra serve --store STORE &
    python benchmarks/page_paint.py http://127.0.0.1:8000

Needs `pip install playwright` and a Chromium; run it on an idle machine. Each visit has an empty cache.
"""

import argparse
import shutil
import statistics

from playwright.sync_api import Browser, sync_playwright

NUM_VISITS = 10
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
IMAGES_LOADED = "[...document.querySelectorAll('#hits img')].slice(0, 12).every((image) => image.complete)"


def main() -> None:
    """Visit the page several times and print medians with the largest values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000", help="the page")
    url = parser.parse_args().url
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        measure(browser, url)  # the first visit starts the browser's processes
        visits = [measure(browser, url) for _ in range(NUM_VISITS)]
        browser.close()
    for name, times in zip(("first paint", "images"), zip(*visits, strict=True), strict=True):
        print(f"{name}: median {statistics.median(times):.0f} ms, largest {max(times):.0f} ms")


def measure(browser: Browser, url: str) -> tuple[float, float]:
    """Return the milliseconds from the start of the navigation to the first paint, and to the first images."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, bypass_csp=True)  # for wait_for_function
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#hits img")
    page.wait_for_function(IMAGES_LOADED)
    first_paint, images = page.evaluate(FIRST_PAINT), page.evaluate("performance.now()")
    context.close()
    return first_paint, images


if __name__ == "__main__":
    main()
