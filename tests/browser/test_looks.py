"""How the page looks, and whether it can be used without looking: every view, light and dark."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import OUTPUT, Visit, shown
from tests.planted_closeness import flat, plant
from tests.system import System
from tests.towers import SENTENCES, write_clip

START = "DRAWN_000004"
SCHEMES = ("light", "dark")
WIDTHS = ((360, 768), (1280, 1920))  # those of one layout share a visit


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """With an encoder that reads words too, so that all of the page is there."""
    encoder = write_clip(tmp_path_factory.mktemp("clip"))
    with System(tmp_path_factory.mktemp("looks"), encoder) as running:
        yield running


@pytest.fixture(scope="module")
def job(system: System, drawn: Path) -> dict[str, Any]:
    files = [("files", ("a.jpg", b"no picture"))]
    system.ingest(drawn, limit=80)
    plant(system, flat(None, 0.72, 0.63, 0.8), flat("melanoma", 0.31, 0.22, 0.4))
    return system.finished(system.http.post("/v1/images", files=files).json()["id"])


def open_search(page: Page, job: dict[str, Any]) -> None:
    page.goto(f"/?image={START}&group=lesion_id&not=dx:melanoma")
    shown(page)
    page.get_by_role("button", name="More like this").nth(1).click()


def open_no_close_match(page: Page, job: dict[str, Any]) -> None:
    page.goto(f"/?image={START}&closeness=0.9")
    shown(page)
    expect(page.locator("#no-close-match")).to_be_visible()


def open_crop(page: Page, job: dict[str, Any]) -> None:
    page.goto(f"/?image={START}&crop=0.2,0.2,0.5,0.6&like=DRAWN_000007")
    shown(page)  # what it shows replaces the button, and a click in that moment is lost
    page.get_by_role("button", name="Remove").click()
    shown(page)
    page.get_by_role("button", name="Mark a part").click()


def open_stored(page: Page, job: dict[str, Any]) -> None:
    page.goto("/")
    shown(page)
    page.locator("#settings").evaluate("(details) => { details.open = true; }")


def open_compare(page: Page, job: dict[str, Any]) -> None:
    page.goto(f"/?image={START}")
    shown(page)
    page.locator("#grid .picture").nth(2).click()
    expect(page.get_by_role("dialog")).to_be_visible()


def open_fault(page: Page, job: dict[str, Any]) -> None:
    page.goto(f"/?image={START}&limit=0&range=age:9..3")
    expect(page.locator("#message")).to_be_visible()


def open_jobs(page: Page, job: dict[str, Any]) -> None:
    page.goto(f"/?view=jobs&job={job['id']}")
    expect(page.get_by_role("table")).to_be_visible()
    expect(page.locator("#jobs li").first).to_be_visible()


def open_help(page: Page, job: dict[str, Any]) -> None:
    page.goto("/")
    shown(page)
    page.get_by_role("button", name="Help").click()
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()


VIEWS: dict[str, Callable[[Page, dict[str, Any]], None]] = {
    "search": open_search,
    "no-close-match": open_no_close_match,
    "crop": open_crop,
    "stored": open_stored,
    "compare": open_compare,
    "fault": open_fault,
    "jobs": open_jobs,
    "help": open_help,
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_trips_up_a_screen_reader(
    visit: Callable[..., Visit], job: dict[str, Any], view: str, scheme: str
) -> None:
    # The checker is a script of its own, which the page's policy would rightly refuse.
    page = visit(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce").page
    VIEWS[view](page, job)

    found = Axe().run(page).response["violations"]

    grave = {
        f"{one['id']}: {one['help']}": [node["html"] for node in one["nodes"]]
        for one in found
        if one["impact"] in ("serious", "critical")
    }
    assert grave == {}


@pytest.mark.parametrize("view", VIEWS)
def test_every_width_is_filled_and_none_is_exceeded(
    visit: Callable[..., Visit], job: dict[str, Any], view: str
) -> None:
    OUTPUT.mkdir(exist_ok=True)
    for scheme, widths in product(SCHEMES, WIDTHS):
        page = visit(
            color_scheme=scheme,
            reduced_motion="reduce",
            viewport={"width": widths[0], "height": 1000},
        ).page
        VIEWS[view](page, job)
        for width in widths:
            page.set_viewport_size({"width": width, "height": 1000})

            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=OUTPUT / f"{view}-{width}-{scheme}.png")


@pytest.mark.usefixtures("job")
def test_words_find_pictures_where_the_encoder_reads_them(page: Page, system: System) -> None:
    page.goto("/")
    page.get_by_label("Or words").fill(SENTENCES[0])
    page.get_by_label("Or words").press("Enter")

    expect(page.locator("#found-title")).to_have_text("Similar images")
    found = system.search(text=SENTENCES[0], limit=12)["results"]
    assert shown(page) == [hit["image_id"] for hit in found]
    page.locator("#grid .picture").first.click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_have_count(1)
