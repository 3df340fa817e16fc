"""A doctor asks why an image was found, and searches by an image and words together."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import OUTPUT, settled, shown
from tests.system import System
from tests.towers import SENTENCES, write_clip

START = "DRAWN_000004"
GRID = 16  # patches of an image


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Iterator[System]:
    clip = write_clip(tmp_path_factory.mktemp("clip"))
    with System(tmp_path_factory.mktemp("why"), clip) as running:
        running.ingest(drawn, limit=40)
        yield running


def side_by_side(page: Page) -> Locator:
    page.goto(f"/?image={START}")
    shown(page)
    page.locator("#grid .picture").first.click()
    return page.get_by_role("dialog")


def test_a_switch_shows_over_both_images_why_they_match(page: Page, system: System) -> None:
    dialog = side_by_side(page)
    found = shown(page)
    switch = dialog.get_by_role("button", name="Show why it matched")
    expect(switch).to_have_attribute("aria-pressed", "false")

    place = switch.bounding_box()
    switch.press("Enter")

    expect(switch).to_have_attribute("aria-pressed", "true")
    expect(dialog).to_contain_text("It does not show what matters medically.")
    assert switch.bounding_box() == place, "it stays under the mouse"
    overlays = dialog.locator("svg.why")
    expect(overlays).to_have_count(2)
    pair = {"first": {"image_id": START}, "second": {"image_id": found[0]}}
    answer = system.http.post("/v1/explanations", json=pair, headers={"Prefer": "wait=60"}).json()
    most = max(answer["first"]["weights"] + answer["second"]["weights"])
    for number, name in enumerate(("first", "second")):
        patches = overlays.nth(number).locator("[data-patch]")
        expect(patches).to_have_count(GRID)
        veils = patches.evaluate_all("all => all.map(e => Number(e.getAttribute('fill-opacity')))")
        assert veils == pytest.approx([0.8 * (1 - w / most) for w in answer[name]["weights"]])
        image = dialog.locator(".layer img").nth(number).bounding_box()
        assert overlays.nth(number).bounding_box() == image

    overlays.first.locator("[data-patch='5']").hover()
    expect(dialog.locator(".why-mark:visible")).to_have_count(2)
    _assert_marked(overlays.nth(1), answer["first"]["counterparts"][5])
    OUTPUT.mkdir(exist_ok=True)
    page.screenshot(path=OUTPUT / "why.png")

    dialog.get_by_role("button", name="Next matching part").press("Enter")
    expect(dialog.locator(".why-note")).to_contain_text("Matching part 1 of ")
    dialog.get_by_role("button", name="Next", exact=True).click()
    expect(dialog).to_contain_text("2 of 12")
    expect(overlays).to_have_count(2)
    switch.click()
    expect(overlays).to_have_count(0)
    expect(dialog).not_to_contain_text("medically")


def _assert_marked(overlay: Locator, patch: int) -> None:
    at = overlay.locator(f"[data-patch='{patch}']").bounding_box()
    marked = overlay.locator(".why-mark rect").first
    for name in ("x", "y"):
        own = overlay.locator(f"[data-patch='{patch}']").get_attribute(name)
        expect(marked).to_have_attribute(name, str(own))
    assert at is not None


def test_an_own_image_is_explained_too(page: Page, system: System, drawn: Path) -> None:
    import pyarrow.parquet as pq

    photograph = pq.read_table(drawn).slice(4, 1).to_pylist()[0]["image"]["bytes"]
    page.goto("/")
    page.get_by_label("Choose an image").set_input_files(
        {"name": "scan.jpg", "mimeType": "image/jpeg", "buffer": photograph}
    )
    expect(page.locator("#found-title")).to_have_text("Similar images")
    shown(page)
    page.locator("#grid .picture").first.click()
    with page.expect_request("**/v1/explanations") as asked:
        page.get_by_role("button", name="Show why it matched").click()
    expect(page.locator("svg.why")).to_have_count(2)
    assert b"scan.jpg" not in (asked.value.post_data_buffer or b"")


def test_an_encoder_that_cannot_show_it_says_so(page: Page) -> None:
    def refused(route: Route) -> None:
        error = {"type": "conflict", "title": "Impossible", "status": 409, "detail": "No tokens."}
        route.fulfill(json={"id": "i", "state": "failed", "error": error})

    page.route("**/v1/explanations", refused)
    dialog = side_by_side(page)
    dialog.get_by_role("button", name="Show why it matched").click()
    expect(dialog).to_contain_text("cannot show which parts match")
    expect(dialog.locator("svg.why")).to_have_count(0)


def test_words_are_mixed_with_an_image_by_a_slider(page: Page, system: System) -> None:
    page.goto(f"/?image={START}")
    shown(page)
    page.get_by_label("And words").fill(SENTENCES[1])
    page.keyboard.press("Enter")

    def found(weight: float) -> list[str]:
        mix: dict[str, Any] = {"text": SENTENCES[1], "text_weight": weight}
        answer = system.search(image_id=START, exclude_same_lesion=True, limit=12, **mix)
        return [hit["image_id"] for hit in answer["results"]]

    expect(page).to_have_url(re.compile(r"words="))
    assert shown(page) == found(0.5)
    slider = page.get_by_role("slider", name="How much the words count")
    slider.press("End")
    expect(page).to_have_url(re.compile(r"weight=1"))
    expect(page.locator("#concept-told")).to_have_text("0 % image, 100 % words")
    assert shown(page) == found(1)
    page.screenshot(path=OUTPUT / "concept.png")

    address = page.url
    page.goto("/")
    page.goto(address)
    expect(page.get_by_label("And words")).to_have_value(SENTENCES[1])
    assert shown(page) == found(1)
    page.get_by_label("And words").fill("")
    page.keyboard.press("Enter")
    expect(page).not_to_have_url(re.compile(r"words="))
    settled(page)


def test_words_are_not_offered_where_the_encoder_reads_none(page: Page) -> None:
    def without(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps({**answer.json(), "searches_text": False}))

    page.route("**/v1/collection", without)
    page.goto(f"/?image={START}")
    shown(page)
    expect(page.get_by_label("And words")).to_be_hidden()
