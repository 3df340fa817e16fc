"""A doctor reads how close the results are, and is told when none is."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OUTPUT, Visit, settled, shown
from tests.planted_closeness import flat, plant
from tests.system import System

START = "DRAWN_000004"

pytestmark = pytest.mark.usefixtures("job")


@pytest.fixture(scope="module")
def job(system: System, drawn: Path) -> dict[str, Any]:
    found = system.ingest(drawn)
    plant(system, flat(None, 0.72, 0.631, 0.8), flat("melanoma", 0.04, 0.02, 0.075))
    return found


def card(page: Page, image_id: str) -> Any:
    return page.locator(f'#grid > li[data-id="{image_id}"]')


def test_each_result_says_how_close_it_is(page: Page, system: System) -> None:
    page.goto(f"/?image={START}&limit=40")
    shown(page)
    hits = system.search(image_id=START, limit=40, exclude_same_lesion=True)["results"]
    kinds = {hit["payload"]["dx"] == "melanoma": hit["image_id"] for hit in hits}
    expect(card(page, kinds[False])).to_contain_text("7 of 10 shared the diagnosis (6 to 8)")
    expect(card(page, kinds[True])).to_contain_text("4 of 100 shared the diagnosis (2 to 8)")
    expect(page.locator("#closeness-note")).to_contain_text("no probability for a patient")
    expect(page.locator("#no-close-match")).to_be_hidden()
    expect(page.locator(".card.far")).to_have_count(0)

    card(page, kinds[True]).locator(".picture").click()
    expect(page.get_by_role("dialog")).to_contain_text(
        "At this similarity, 4 of 100 neighbours with diagnosis melanoma in this collection shared "
        "the diagnosis, interval 2 to 8 (310 neighbours counted)"
    )


def test_below_a_chosen_level_results_are_dimmed(page: Page, system: System) -> None:
    page.goto(f"/?image={START}&limit=40")
    shown(page)
    page.get_by_label("Close are images of which").select_option("7 of 10 shared the diagnosis")

    expect(page).to_have_url(re.compile(r"closeness=0\.7"))
    settled(page)
    hits = system.search(image_id=START, limit=40, exclude_same_lesion=True)["results"]
    assert shown(page) == [hit["image_id"] for hit in hits], "none is left out"
    far = {hit["image_id"] for hit in hits if hit["payload"]["dx"] == "melanoma"}
    expect(page.locator(".card.far")).to_have_count(len(far))
    expect(page.locator(".card.far").first).to_contain_text("Not close: 4 of 100")
    expect(page.locator("#no-close-match")).to_be_hidden()


def test_no_close_match_is_said_and_what_there_is_still_shown(
    visit: Callable[..., Visit], system: System
) -> None:
    page = visit().page
    page.goto(f"/?image={START}&closeness=0.9")
    found = shown(page)
    assert len(found) == 12
    box = page.locator("#no-close-match")
    expect(box).to_contain_text("No close match")
    expect(box).to_contain_text("fewer than 9 of 10 neighbours in this collection shared")
    expect(page.locator("#status")).to_contain_text("No close match")
    expect(page.locator(".card.far")).to_have_count(12)
    expect(page.get_by_label("Close are images of which")).to_have_value("0.9")
    OUTPUT.mkdir(exist_ok=True)
    page.screenshot(path=OUTPUT / "no-close-match.png")

    page.get_by_role("button", name="Show without this level").click()
    expect(box).to_be_hidden()
    expect(page.locator(".card.far")).to_have_count(0)
    assert shown(page) == found


def test_a_search_by_several_images_is_not_measured(page: Page) -> None:
    page.goto(f"/?image={START}&like=DRAWN_000007&closeness=0.9")
    shown(page)
    expect(page.locator(".closeness")).to_have_count(0)
    expect(page.locator("#no-close-match")).to_be_hidden()


def test_what_is_less_similar_than_all_neighbours_says_so(page: Page, system: System) -> None:
    plant(system, flat(None, 0.72, 0.63, 0.8), least_score=0.99999)
    page.goto(f"/?image={START}&closeness=0.3")
    shown(page)
    expect(page.locator("#no-close-match")).to_be_visible()
    expect(page.locator(".card.far").last).to_contain_text(
        "Not close: less similar than nearly all neighbours in this collection"
    )


def test_a_collection_that_has_changed_must_be_evaluated_again(
    visit: Callable[..., Visit], system: System
) -> None:
    plant(system, flat(None, 0.72, 0.63, 0.8), images=1000)
    opened = visit()
    opened.may_fail = True
    page = opened.page
    page.goto(f"/?image={START}")
    shown(page)
    expect(page.locator("#closeness-void")).to_contain_text("evaluated again")
    expect(page.get_by_label("Close are images of which")).to_be_hidden()
    expect(page.locator(".closeness")).to_have_count(0)

    page.goto(f"/?image={START}&closeness=0.5")
    expect(page.locator("#message")).to_contain_text("Ask your administrator to evaluate it")
    page.get_by_role("button", name="Without a level of closeness").click()
    assert len(shown(page)) == 12
