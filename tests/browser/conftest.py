"""A browser on the real system. What a page must never do is watched in every test."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.system import PATIENCE, System

OUTPUT = Path(__file__).parents[2] / "test-output"

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

expect.set_options(timeout=PATIENCE * 1000 / 3)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = f"no browser is installed: none of {', '.join(BROWSERS)}"
        # What continuous integration does not run, nobody runs.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium has none for root
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=sandbox)
        yield running
        running.close()


class Visit:
    """A doctor's window, and what must not happen in it."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.page = context.new_page()
        self.base = base
        self.may_fail = False  # whether calls are expected to be refused, which browsers log
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", self._heard)
        self.page.on("request", lambda request: self._asked(request.url))

    def _heard(self, message: object) -> None:
        kind, text = message.type, message.text  # type: ignore[attr-defined]
        refused = "Failed to load resource" in text or "EventSource" in text
        if kind in ("error", "warning") and not (self.may_fail and refused):
            self.wrong.append(f"console: {text}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("blob", "data") and not url.startswith(f"{self.base}/"):
            self.wrong.append(f"asked another host: {parts.netloc}")


@pytest.fixture
def visit(browser: Browser, system: System) -> Iterator[Callable[..., Visit]]:
    """Opens windows; at the end none of them may have seen an error or asked another host."""
    contexts: list[BrowserContext] = []
    visits: list[Visit] = []
    base = f"http://127.0.0.1:{system.port}"

    def open_window(**options: object) -> Visit:
        chosen = {"viewport": {"width": 1280, "height": 900}, **options}
        context = browser.new_context(base_url=base, **chosen)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE * 1000 / 3)
        contexts.append(context)
        visits.append(Visit(context, base))
        return visits[-1]

    yield open_window
    for context in contexts:
        context.close()
    assert [fault for one in visits for fault in one.wrong] == []


@pytest.fixture
def page(visit: Callable[..., Visit]) -> Page:
    return visit().page


def settled(page: Page) -> None:
    """Until what was asked for is shown."""
    expect(page.locator("#grid")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#found-note")).not_to_have_text("Searching…")


def shown(page: Page) -> list[str]:
    """The ids of the pictures in the grid, in their order, once they are there."""
    settled(page)
    expect(page.locator("#grid > li").first).to_be_visible()
    cards = page.locator("#grid > li").all()
    return [str(card.get_attribute("data-id")) for card in cards]
