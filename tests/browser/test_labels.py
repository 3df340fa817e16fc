"""An admin audits labels: starts it, looks at what was found, and decides."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import OUTPUT, Visit
from tests.system import System

COLOURS = {"nevus": (200, 40, 40), "melanoma": (40, 200, 40)}


def picture(seed: int, colour: str) -> bytes:
    noise = np.random.default_rng(seed).integers(-40, 40, (48, 64, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype("uint8")).save(
        file, "PNG"
    )
    return file.getvalue()


def rows() -> list[tuple[dict[str, str], bytes]]:
    """Two kinds of pictures, one of them with the other's label, and one picture twice. The second
    of these has another label, which its neighbours contradict as well."""
    found = []
    for number in range(24):
        colour = ("nevus", "melanoma")[number % 2]
        found.append(({"image_id": f"I{number:02}", "dx": colour}, picture(number, colour)))
    found[4] = ({"image_id": "WRONG", "dx": "melanoma"}, found[4][1])
    found.append(({"image_id": "TWICE", "dx": "nevus"}, found[1][1]))
    return found


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("labels"), encoder) as running:
        files = [("files", (f"{n}.png", data)) for n, (_, data) in enumerate(rows())]
        said = {"metadata": json.dumps([each for each, _ in rows()])}
        job = running.http.post("/v1/images", files=files, data=said).raise_for_status().json()
        assert running.finished(job["id"])["embedded"] == 25
        yield running


@pytest.fixture
def page(visit: Callable[..., Visit], system: System) -> Page:
    return visit().page


def audited(page: Page) -> Page:
    page.goto("/?view=labels")
    expect(page.locator("#audit-label")).to_have_value("dx")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".finding").first).to_be_visible()
    return page


def finding(page: Page, image_id: str) -> Any:
    return page.locator(".finding").filter(
        has=page.locator(f'.finding-images [title="{image_id}"]')
    )


def test_what_is_planted_is_listed_and_decided_on_by_keyboard(page: Page, system: System) -> None:
    audited(page)
    expect(page.locator(".finding")).to_have_count(3)
    copies, wrong = finding(page, "I01"), finding(page, "WRONG")
    expect(copies).to_contain_text("Same picture, different labels")
    expect(copies).to_contain_text("byte for byte")
    expect(wrong).to_contain_text("are labelled nevus")
    expect(wrong.locator(".finding-neighbours li")).to_have_count(10)
    expect(wrong.locator("img").first).to_have_js_property("complete", True)
    page.screenshot(path=OUTPUT / "labels.png", full_page=True)

    wrong.get_by_role("button", name="Confirm").focus()
    page.keyboard.press("Enter")
    expect(wrong).to_contain_text("Confirmed")
    expect(wrong.get_by_role("button", name="Undo")).to_be_focused()
    copies.get_by_role("button", name="Dismiss").click()
    expect(copies).to_contain_text("Dismissed")
    page.keyboard.press("Enter")  # Undo has the focus
    expect(copies.get_by_role("button", name="Confirm")).to_be_focused()

    page.get_by_label("Decision").select_option("confirmed")
    expect(page.locator(".finding")).to_have_count(1)
    assert "decided=confirmed" in page.url
    page.get_by_label("Decision").select_option("")
    page.get_by_label("Kind").select_option("conflicting_copies")
    expect(page.locator(".finding")).to_have_count(1)
    expect(page.locator(".finding")).to_contain_text("Same picture")
    page.go_back()
    expect(page.locator(".finding")).to_have_count(3)


def test_the_next_audit_knows_what_was_decided_and_the_table_has_it(
    page: Page, system: System
) -> None:
    audited(page)
    wrong = finding(page, "WRONG")
    if wrong.get_by_role("button", name="Confirm").count():
        wrong.get_by_role("button", name="Confirm").click()
    expect(wrong).to_contain_text("Confirmed")

    audited(page)
    expect(finding(page, "WRONG")).to_contain_text("Confirmed by key local")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    text = Path(download.value.path()).read_text("utf-8-sig")
    table = {row["image_id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert (table["WRONG"]["state"], table["WRONG"]["suggested_label"]) == ("confirmed", "nevus")
    assert table["WRONG"]["decided_by"] == "local"


@pytest.mark.parametrize("width", [360, 1280])
def test_a_screen_reader_finds_nothing_amiss(
    visit: Callable[..., Visit], system: System, width: int
) -> None:
    for scheme in ("light", "dark"):
        window = visit(viewport={"width": width, "height": 900}, color_scheme=scheme).page
        audited(window)
        found = Axe().run(window)
        assert found.violations_count == 0, found.generate_report()
        wide = window.evaluate(
            "[...document.querySelectorAll('body *')].filter((each) =>"
            " each.getBoundingClientRect().right > window.innerWidth + 1 &&"
            " !each.closest('.unseen, .skip')).map((each) => each.outerHTML.slice(0, 80))"
        )
        assert not wide
        views = window.locator(".top nav a").evaluate_all("all => all.map(e => e.offsetTop)")
        assert len(views) == 5
        assert len(set(views)) == 1, "their names stand in one row"
        window.screenshot(path=OUTPUT / f"labels-{width}-{scheme}.png", full_page=True)


def test_a_job_whose_images_lie_unlike_the_collection_says_so(page: Page, system: System) -> None:
    """What is said comes from here: `tests/story/test_label_audit.py` has a real device."""
    job = system.http.get("/v1/jobs", params={"state": "succeeded"}).json()["jobs"][-1]["id"]
    usual = {"values": {"site": "North"}, "sampled": 90, "beyond": 4, "own": True}
    unlike = {"values": {"manufacturer": "Canon"}, "sampled": 200, "beyond": 143, "own": False}
    said = [
        {"job": job, "state": "pending", "groups": []},
        {
            "job": job,
            "state": "known",
            "groups": [{**unlike, "drifted": True}, {**usual, "drifted": False}],
        },
    ]
    page.route("**/drift", lambda route: route.fulfill(json=said.pop(0)))

    page.goto(f"/?view=jobs&job={job}")

    expect(page.locator("#drift p")).to_have_count(1)
    expect(page.locator("#drift")).to_contain_text(
        "143 of the 200 images sampled of Manufacturer Canon lie farther from the collection"
    )
