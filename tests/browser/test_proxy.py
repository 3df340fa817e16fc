"""The page behind a proxy that serves it below a path: a search, a job, and the way back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Visit, shown
from tests.nginx import nginx
from tests.system import PATIENCE, System

ROOT = "/imaging/kindred"


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path
) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), encoder, ROOT_PATH=ROOT) as running:
        assert running.ingest(drawn, limit=20)["state"] == "succeeded"
        yield running


@pytest.fixture
def proxied(system: System, browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """A window. It fails if anything was asked for that is not below the path."""
    with nginx(tmp_path / "nginx", system.port, ROOT) as addresses:
        base = addresses["passing"]
        context = browser.new_context()
        context.set_default_timeout(PATIENCE * 1000 / 3)
        visit = Visit(context, base)
        yield visit
        context.close()
        assert visit.wrong == []


def test_the_page_works_below_a_path(proxied: Visit, drawn: Path) -> None:
    page, base = proxied.page, proxied.base
    page.goto(f"{base}/")
    first = shown(page)[0]
    page.locator("#grid > li").first.get_by_role("button").first.click()
    expect(page).to_have_url(f"{base}/?image={first}")
    assert shown(page)
    broken = (
        "[...document.querySelectorAll('#grid img')].filter(i => i.complete && !i.naturalWidth)"
    )
    assert page.evaluate(f"{broken}.length") == 0

    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_label("Hub name, or a folder on the server").fill(str(drawn))
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#job")).to_contain_text("Done")
    assert page.url.startswith(f"{base}/?view=jobs&job=")

    page.reload()
    expect(page.locator("#job")).to_contain_text("Done")
    page.locator("a.brand").click()
    assert first in shown(page)
