"""Measures in a browser how long after the answer the page shows its first image."""

import os
import shutil
from collections.abc import Sequence

from benchmarks.report import Spread

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Measures the milliseconds from the end of the search's answer to the end of the first result's
# image, by the browser's own clock, once that image can be drawn.
_MEASURE = """async () => {
  const picture = document.querySelector("#grid img");
  await picture.decode();
  const calls = performance.getEntriesByType("resource");
  const answer = calls.filter((call) => /[/]v1[/]searches/.test(call.name)).at(-1);
  const drawn = calls.find((call) => call.name === picture.currentSrc);
  return Math.max(0, drawn.responseEnd - answer.responseEnd);
}"""


def first_picture(url: str, ids: Sequence[str]) -> Spread | None:
    """Opens a new window for each id, with an empty cache. None without browser or Playwright."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if found is None:
        return None
    times = []
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium has none for root
        browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        for image_id in ids:
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{url}/?image={image_id}")
            page.wait_for_selector("#grid img")
            times.append(float(page.evaluate(_MEASURE)))
            context.close()
        browser.close()
    return Spread.of(times)
