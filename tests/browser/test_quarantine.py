"""An admin looks at images that may show names: what there is to see, to draw and to decide."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from pydicom import Dataset

from pipeline.base.keys import KeyFile, Role
from tests import burned_in
from tests.browser.conftest import OUTPUT, Visit
from tests.system import System, until

NAME = "MUSTERMANN ERIKA"
PROPOSED = (0, 0, burned_in.WIDTH, burned_in.BAND)


def region() -> Dataset:
    """All below the band is image, so a rectangle is proposed for the band."""
    each = Dataset()
    each.RegionLocationMinX0, each.RegionLocationMinY0 = 0, burned_in.BAND
    each.RegionLocationMaxX1, each.RegionLocationMaxY1 = burned_in.WIDTH, burned_in.HEIGHT
    return each


def ultrasound(seed: int) -> bytes:
    picture = burned_in.scan(seed, NAME)
    said = {"SequenceOfUltrasoundRegions": [region()]}
    return burned_in.dicom(picture, burned_in.ULTRASOUND, "US", **said)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("quarantine")
    with System(folder, encoder, DICOM_OCR="off") as running:
        running.http.headers["Authorization"] = f"Bearer {key(running, 'admin')}"
        running.finished(send(running, burned_in.dicom(burned_in.scan(99)))["id"])
        yield running


def key(system: System, role: Role) -> str:
    return KeyFile(system.folder / "keys.json").create(f"ward of {role}", role)[1]


def send(system: System, *files: bytes) -> Any:
    parts = [("files", (f"{n}.dcm", data)) for n, data in enumerate(files)]
    return system.http.post("/v1/images", files=parts).raise_for_status().json()


def waiting(system: System) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = system.http.get("/v1/quarantine").json()["images"]
    return found


@pytest.fixture
def held(system: System) -> Iterator[list[dict[str, Any]]]:
    """Three ultrasound images that wait, and nothing else."""
    system.finished(send(system, *(ultrasound(seed) for seed in range(3)))["id"])
    yield waiting(system)
    until(lambda: not any(image["releasing"] for image in waiting(system)), "the end of releases")
    if left := [image["image_id"] for image in waiting(system)]:
        system.http.post("/v1/quarantine/refuse", json={"image_ids": left}).raise_for_status()


def enter(page: Page, system: System, role: Role = "admin") -> Page:
    page.goto("/?view=quarantine")
    field = page.get_by_role("dialog", name="Sign in").get_by_label("Key")
    field.fill(key(system, role))
    field.press("Enter")
    expect(page.get_by_role("dialog", name="Sign in")).to_be_hidden()
    return page


@pytest.fixture
def page(visit: Callable[..., Visit], system: System, held: list[dict[str, Any]]) -> Page:
    window = visit()
    window.may_fail = True  # it is asked for its key
    return enter(window.page, system)


def choose(page: Page, number: int) -> Locator:
    page.locator("#waiting a").nth(number).click()
    expect(page.locator("#withheld img")).to_be_visible()
    return page.locator("#withheld")


def numbers(page: Page, index: int) -> tuple[int, ...]:
    """Left, top, width and height of a rectangle, in pixels."""
    fields = page.locator(".mask-list li").nth(index).locator("input")
    return tuple(int(fields.nth(side).input_value()) for side in range(4))


def shown(system: System, image_id: str) -> np.ndarray:
    data = system.http.get(f"/v1/images/{image_id}/preview").raise_for_status().content
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def test_the_proposed_rectangle_covers_the_name(
    page: Page, system: System, held: list[dict[str, Any]]
) -> None:
    expect(page.locator("#waiting-count")).to_have_text("3")
    expect(page.locator("#waiting li")).to_have_count(3)
    expect(page.locator("#waiting li").first).to_contain_text("Ultrasound")
    part = choose(page, 0)
    expect(part.get_by_role("heading")).to_contain_text("it is ultrasound")
    assert numbers(page, 0) == PROPOSED

    part.get_by_role("button", name="Mask and release").click()

    expect(page.locator("#waiting li")).to_have_count(2)
    expect(page.locator("#waiting-count")).to_have_text("2")
    expect(page.locator("#waiting [aria-current]")).to_have_attribute(
        "data-key", held[1]["image_id"]
    )
    first = held[0]["image_id"]
    assert shown(system, first)[: burned_in.BAND - 2].max() < 16
    assert shown(system, first)[burned_in.BAND + 8 :].max() > 60


def test_rectangles_are_drawn_moved_and_removed(
    page: Page, system: System, held: list[dict[str, Any]]
) -> None:
    part = choose(page, 1)
    box = page.locator(".mask-box").first
    box.focus()
    page.keyboard.press("Delete")
    expect(page.locator(".mask-box")).to_have_count(0)
    expect(part.get_by_role("button", name="Mask and release")).to_be_disabled()

    frame = page.locator(".mask-frame").bounding_box()
    assert frame is not None
    scale = frame["width"] / burned_in.WIDTH
    page.mouse.move(frame["x"] + 50 * scale, frame["y"] + 100 * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + 150 * scale, frame["y"] + 160 * scale, steps=4)
    page.mouse.up()
    expect(page.locator(".mask-box")).to_have_count(1)
    drawn = numbers(page, 0)
    assert all(abs(a - b) <= 2 for a, b in zip(drawn, (50, 100, 100, 60), strict=True)), drawn

    # By the mouse, by keys, in numbers, and with the button.
    page.mouse.move(frame["x"] + 100 * scale, frame["y"] + 130 * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + 120 * scale, frame["y"] + 120 * scale, steps=3)
    page.mouse.up()
    moved = numbers(page, 0)
    assert moved[2:] == drawn[2:] and moved[0] > drawn[0] and moved[1] < drawn[1]
    expect(page.locator(".mask-box").first).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    keyed = numbers(page, 0)
    assert keyed[0] < moved[0] and keyed[3] > moved[3]
    field = page.locator(".mask-list li").first.get_by_label("width")
    field.fill("9999")
    field.press("Enter")
    assert numbers(page, 0)[2] == burned_in.WIDTH - keyed[0], "no further than the picture"
    part.get_by_role("button", name="Add a rectangle").click()
    expect(page.locator(".mask-box")).to_have_count(2)
    left, top, width, height = numbers(page, 0)
    part.get_by_role("button", name="Mask and release").click()

    expect(page.locator("#waiting li")).to_have_count(2)
    masked = shown(system, held[1]["image_id"])
    inner = masked[top + 4 : top + height - 4, left + 4 : left + width - 4]
    assert inner.max() < 24, "it is black"
    assert masked[:20].max() < 24, "and so is the added one"
    source = system.http.get(f"/v1/images/{held[1]['image_id']}").json()["payload"]["source"]
    assert source["masked"] == 2


def test_release_as_it_is_and_refusal(
    page: Page, system: System, held: list[dict[str, Any]]
) -> None:
    part = choose(page, 0)
    part.get_by_role("button", name="Release as it is").click()
    expect(page.locator("#waiting li")).to_have_count(2)
    assert shown(system, held[0]["image_id"])[: burned_in.BAND].max() > 200

    part.get_by_role("button", name="Refuse…").click()
    part.get_by_role("button", name="Keep it").click()
    expect(page.locator("#waiting li")).to_have_count(2)
    expect(part.get_by_role("button", name="Refuse…")).to_be_focused()
    for left in (1, 0):
        part.get_by_role("button", name="Refuse…").click()
        part.get_by_role("button", name="Delete this image").click()
        expect(page.locator("#waiting li")).to_have_count(left)
    expect(page.locator("#waiting-message")).to_have_text("No image waits.")
    expect(page.locator("#waiting-count")).to_be_hidden()
    assert waiting(system) == []


def test_what_somebody_else_has_decided_is_said(
    page: Page, system: System, held: list[dict[str, Any]]
) -> None:
    part = choose(page, 0)
    body = {"image_ids": [held[0]["image_id"]]}
    system.http.post("/v1/quarantine/refuse", json=body).raise_for_status()

    part.get_by_role("button", name="Mask and release").click()

    expect(part.get_by_role("alert")).to_contain_text("in quarantine")
    expect(part.get_by_role("button", name="Mask and release")).to_be_enabled()


@pytest.mark.usefixtures("held")
def test_other_keys_see_nothing_of_it(visit: Callable[..., Visit], system: System) -> None:
    for role in ("search", "ingest"):
        window = visit()
        window.may_fail = True
        page = enter(window.page, system, role)  # type: ignore[arg-type]
        expect(page.locator("#waiting-message")).to_contain_text("Your key does not allow this.")
        expect(page.locator("#waiting li")).to_have_count(0)
        expect(page.get_by_role("link", name="Quarantine")).to_be_hidden()


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_used_without_looking_and_on_every_screen(
    visit: Callable[..., Visit], system: System, scheme: str
) -> None:
    # The checker is a script of its own, which the page's policy would rightly refuse.
    window = visit(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    window.may_fail = True
    page = enter(window.page, system)
    choose(page, 0)
    OUTPUT.mkdir(exist_ok=True)
    for width in (360, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=OUTPUT / f"quarantine-{width}-{scheme}.png")

    found = Axe().run(page).response["violations"]
    grave = {
        f"{one['id']}: {one['help']}": [node["html"] for node in one["nodes"]]
        for one in found
        if one["impact"] in ("serious", "critical")
    }
    assert grave == {}
