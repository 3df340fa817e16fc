"""A doctor searches with scans: a file, a frame, a folder, a stored series, an archive's link."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.browser.conftest import OUTPUT, Visit, shown
from tests.system import System

pytestmark = pytest.mark.usefixtures("job")

FILES = ("CT_small.dcm", "MR_small.dcm", "emri_small.dcm", "MR2_J2KR.dcm")
VIEWER = "https://viewer.example/study/"

# A drop of several files, as a browser has it.
DROP = """(texts) => {
  const data = new DataTransfer();
  for (const text of texts) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    data.items.add(new File([bytes], "IM" + data.items.length));
  }
  const options = {bubbles: true, cancelable: true, dataTransfer: data};
  document.body.dispatchEvent(new DragEvent("drop", options));
}"""


def scan(name: str) -> Dataset:
    found = dcmread(str(get_testdata_file(name, download=False)))
    found.StudyInstanceUID, found.SeriesInstanceUID = generate_uid(), generate_uid()
    return found


def written(found: Dataset) -> bytes:
    out = io.BytesIO()
    found.save_as(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def scans() -> dict[str, Dataset]:
    return {name: scan(name) for name in FILES}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("system")
    with System(folder, encoder, VIEWER_URL=VIEWER + "{study}") as running:
        yield running


@pytest.fixture(scope="module")
def job(
    system: System, scans: dict[str, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scans")
    for name, found in scans.items():
        (folder / name).write_bytes(written(found))
    return system.ingest(folder)


def choose(page: Page, data: bytes) -> None:
    page.get_by_label("Choose an image").set_input_files(
        {"name": "IM0001", "mimeType": "application/octet-stream", "buffer": data}
    )


def drawn(page: Page) -> None:
    """Until the picture in the panel is there."""
    image = page.locator("#query-picture img")
    expect(image).to_be_visible()
    expect(image).not_to_have_js_property("naturalWidth", 0)


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["image_id"] for hit in answer["results"]]


def photograph(page: Page, name: str) -> None:
    OUTPUT.mkdir(exist_ok=True)
    page.screenshot(path=str(OUTPUT / f"dicom-{name}.png"), full_page=True)


def test_a_file_is_shown_by_the_server_and_searched_by_its_middle_frame(
    page: Page, system: System, scans: dict[str, Dataset]
) -> None:
    data = written(scans["emri_small.dcm"])
    page.goto("/")
    choose(page, data)

    expected = ids(system.search([data], exclude_same_lesion=True, limit=12))
    assert shown(page) == expected
    drawn(page)
    slider = page.get_by_role("slider", name="Frame")
    expect(slider).to_have_attribute("aria-valuetext", "Frame 5 of 10")
    card = page.locator("#grid > li").first
    expect(card.locator(".card-first")).to_contain_text(re.compile("MR|CT|US"))
    expect(card.get_by_role("link", name="Open in the viewer")).to_have_attribute(
        "href", re.compile(re.escape(VIEWER) + r"[0-9.]+")
    )
    photograph(page, "file")


def test_the_slider_chooses_the_frame_that_is_compared(
    page: Page, system: System, scans: dict[str, Dataset]
) -> None:
    data = written(scans["emri_small.dcm"])
    page.goto("/")
    choose(page, data)
    shown(page)
    slider = page.get_by_role("slider", name="Frame")
    expect(slider).to_have_value("5")
    slider.press("ArrowRight")
    slider.press("ArrowRight")

    expect(page).to_have_url(re.compile("frame=7"))
    expect(page.get_by_role("slider", name="Frame")).to_have_attribute(
        "aria-valuetext", "Frame 7 of 10"
    )
    expected = ids(system.search([data], frame=7, exclude_same_lesion=True, limit=12))
    assert shown(page) == expected
    page.go_back()
    page.go_back()
    shown(page)
    expect(page.get_by_role("slider", name="Frame")).to_have_value("5")


def test_dragging_changes_the_window_and_a_double_click_resets_it(
    page: Page, scans: dict[str, Dataset]
) -> None:
    page.goto("/")
    choose(page, written(scans["CT_small.dcm"]))
    shown(page)
    drawn(page)
    width, level = page.get_by_label("Window: width"), page.get_by_label("Window: level")
    usual = (width.input_value(), level.input_value())
    image = page.locator("#query-picture img")
    before = image.get_attribute("src")
    box = page.locator("#query-picture .crop-frame").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 70, steps=4)
    page.mouse.up()

    expect(width).not_to_have_value(usual[0])
    expect(level).not_to_have_value(usual[1])
    expect(image).not_to_have_attribute("src", str(before))
    drawn(page)
    assert image.evaluate("(image) => image.style.filter") == ""  # the server's own rendering
    photograph(page, "windowed")
    page.locator("#query-picture .crop-frame").dblclick()
    expect(width).to_have_value(usual[0])
    expect(level).to_have_value(usual[1])

    width.fill("900")
    width.press("Enter")
    expect(page.get_by_role("button", name="Reset")).to_be_visible()


def test_a_part_of_a_frame_is_marked_as_of_any_image(
    page: Page, system: System, scans: dict[str, Dataset]
) -> None:
    data = written(scans["CT_small.dcm"])
    page.goto("/")
    choose(page, data)
    shown(page)
    drawn(page)
    page.get_by_role("button", name="Mark a part").click()
    page.get_by_role("group", name="Marked part", exact=True).press("Shift+ArrowRight")
    expect(page).to_have_url(re.compile("crop="))
    assert len(shown(page)) > 0


def test_a_whole_file_is_compared_frame_by_frame(
    page: Page, system: System, scans: dict[str, Dataset]
) -> None:
    data = written(scans["emri_small.dcm"])
    page.goto("/")
    choose(page, data)
    shown(page)
    page.get_by_role("button", name="Compare the whole series").click()

    whole = {"strategy": "best_match", "exclude_same_lesion": True, "limit": 12}
    assert shown(page) == ids(system.search([data], **whole))
    expect(page.locator("#found-note")).to_contain_text("series")
    expect(page.locator("#grid > li").first).to_contain_text("this image")
    photograph(page, "whole")
    page.get_by_role("button", name="Compare this frame only").click()
    expect(page).to_have_url(re.compile(r"picture=own(?!.*whole)"))


def test_several_files_are_a_series(page: Page, system: System, scans: dict[str, Dataset]) -> None:
    files = [written(scans[name]) for name in ("CT_small.dcm", "MR_small.dcm")]
    page.goto("/")
    shown(page)
    texts = [base64.b64encode(data).decode() for data in (b"notes of the ward", *files)]
    page.evaluate(DROP, texts)

    expect(page).to_have_url(re.compile("whole=yes"))
    whole = {"strategy": "best_match", "exclude_same_lesion": True, "limit": 12}
    assert shown(page) == ids(system.search(files, **whole))
    expect(page.get_by_role("slider", name="Image")).to_have_attribute("max", "2")


def test_a_folder_is_chosen(page: Page, scans: dict[str, Dataset], tmp_path: Path) -> None:
    for name in FILES[:3]:
        (tmp_path / name).write_bytes(written(scans[name]))
    (tmp_path / "DICOMDIR").write_bytes(b"none")
    page.goto("/")
    page.get_by_label("Choose a folder of DICOM files").set_input_files(str(tmp_path))
    expect(page).to_have_url(re.compile("whole=yes"))
    expect(page.get_by_role("slider", name="Image")).to_have_attribute("max", "3")
    shown(page)


def test_a_stored_series_has_a_slider_and_is_searched_as_a_whole(
    page: Page, system: System, scans: dict[str, Dataset]
) -> None:
    uid = str(scans["emri_small.dcm"].SeriesInstanceUID)
    [own] = system.search(series=[uid], limit=1)["results"]
    page.goto(f"/?image={own['image_id'].replace('#', '%23')}")
    shown(page)
    slider = page.get_by_role("slider", name="Image")
    expect(slider).to_have_attribute("max", "10")
    slider.press("Home")
    expect(page.locator("#frame-tools")).to_contain_text("MR, frame 1 of 10")
    image = page.locator("#query-picture img")
    page.get_by_label("Contrast").fill("150")
    page.get_by_label("Contrast").press("Enter")
    expect(image).to_have_attribute("style", re.compile("contrast"))
    photograph(page, "stored")

    page.get_by_role("button", name="Compare the whole series").click()
    key = own["payload"]["series_id"]
    expect(page).to_have_url(re.compile(f"series={key}"))
    expected = ids(system.search(series=[key], exclude_same_lesion=True, limit=12))
    assert shown(page) == expected
    page.get_by_label("Count images of one study as one").check()
    shown(page)
    expect(page.locator("#found-note")).to_contain_text(re.compile("stud(y|ies)"))


def test_a_link_of_the_archive_opens_a_study(
    page: Page, system: System, scans: dict[str, Dataset]
) -> None:
    uid = str(scans["emri_small.dcm"].StudyInstanceUID)
    page.goto(f"/open?study={uid}")

    expect(page).to_have_url(re.compile(r"/\?study=[0-9a-f]{32}$"))
    assert len(shown(page)) > 0
    expect(page.get_by_role("slider", name="Image")).to_have_attribute("max", "10")
    photograph(page, "opened")
    page.get_by_role("button", name="Search from this image").click()
    expect(page).to_have_url(re.compile(r"image=[0-9a-f]{32}%235"))
    shown(page)


def test_what_a_link_cannot_open_is_said_clearly(visit: Callable[..., Visit]) -> None:
    window = visit()
    window.may_fail = True
    page = window.page
    page.goto(f"/open?study={generate_uid()}")
    expect(page.locator("#message")).to_contain_text("No image of this study is stored here.")
    page.goto("/open?study=Mueller")
    expect(page.locator("#message")).to_contain_text("This link names no study")
    assert "Mueller" not in page.url


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_trips_up_a_screen_reader_and_no_width_is_exceeded(
    visit: Callable[..., Visit], scans: dict[str, Dataset], width: int
) -> None:
    # The checker is a script of its own, which the page's policy would rightly refuse.
    page = visit(bypass_csp=True, viewport={"width": width, "height": 900}).page
    page.goto("/")
    choose(page, written(scans["emri_small.dcm"]))
    shown(page)
    drawn(page)
    page.locator("#settings").evaluate("(details) => { details.open = true; }")
    expect(page.get_by_label("Window: width")).to_be_visible()
    found = Axe().run(page).response["violations"]
    grave = {one["id"]: one["nodes"] for one in found if one["impact"] in ("serious", "critical")}
    assert grave == {}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    photograph(page, f"wide-{width}")


def test_a_report_is_refused_in_plain_words(
    visit: Callable[..., Visit], scans: dict[str, Dataset]
) -> None:
    window = visit()
    window.may_fail = True
    found = dcmread(io.BytesIO(written(scans["CT_small.dcm"])))
    del found.PixelData, found.Rows
    window.page.goto("/")
    choose(window.page, written(found))
    expect(window.page.locator("#message")).to_contain_text("This DICOM file holds no image")
