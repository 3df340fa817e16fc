"""What can be in the way, each said so that a doctor knows what to do."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, shown
from tests.system import System, end, kill, until

START = "DRAWN_000004"

pytestmark = pytest.mark.usefixtures("job")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("states"), encoder, MAX_UPLOAD_MB="1") as running:
        yield running


@pytest.fixture(scope="module")
def job(system: System, drawn: Path) -> dict[str, Any]:
    return system.ingest(drawn, limit=40)


@pytest.fixture
def page(visit: Callable[..., Visit]) -> Page:
    window = visit()
    window.may_fail = True
    return window.page


def truncated() -> bytes:
    data = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(data, "JPEG")
    return data.getvalue()[:4000]


def similar(system: System, image_id: str = START) -> list[str]:
    found = system.search(image_id=image_id, limit=12, exclude_same_lesion=True)
    return [hit["image_id"] for hit in found["results"]]


IMPOSSIBLE = {
    "limit=0": ("limit", "Choose between 1 and 40 results."),
    "limit=10000": ("limit", "Choose between 1 and 40 results."),
    "threshold=7": ("threshold", "Similarity lies between −1 and 1"),
    "crop=0.5,0.5,0.8,0.8": ("crop", "The marked part reaches outside the image."),
    "crop=nonsense": ("crop", "The marked part reaches outside the image."),
    "only=shoe_size:40": ("filters", "The stored images have no field “Shoe size” to filter by."),
    "group=shoe_size": ("options", "The results cannot be grouped this way"),
    "range=age:60..20": ("filters", "Age: the range is empty, since 60 is above 20."),
    "only=sex:male&not=sex:male": ("filters", "Sex: the same value is both required and excluded."),
}


@pytest.mark.parametrize("address", IMPOSSIBLE)
def test_what_an_address_cannot_mean_is_said_next_to_its_place(
    page: Page, system: System, address: str
) -> None:
    place, sentence = IMPOSSIBLE[address]
    page.goto(f"/?image={START}&{address}")

    expect(page.locator(f"#{place}-fault")).to_contain_text(sentence)
    message = page.locator("#message")
    expect(message).to_contain_text("This cannot be searched")
    expect(page.locator("#grid > li")).to_have_count(0)
    expect(page.locator("body")).not_to_contain_text("urn:kindred")
    message.get_by_role("button").first.click()
    assert shown(page) == similar(system)


def test_words_are_refused_where_pictures_alone_are_compared(page: Page) -> None:
    page.goto("/?text=dark+border")

    expect(page.locator("#message")).to_contain_text("it cannot search by words")
    expect(page.locator("#text-form")).to_be_hidden()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (b"<html>no image</html>", "Kindred cannot read this file as an image."),
        (b"\0" * 128 + b"DICM", "This DICOM file holds no image"),
        (b"\0" * 1_100_000, "This image is too large for this server."),
        (truncated(), "This image is damaged or incomplete."),
    ],
    ids=["not an image", "DICOM", "too large", "truncated"],
)
def test_a_refused_picture_is_told_why(page: Page, file: bytes, sentence: str) -> None:
    page.goto("/")
    shown(page)
    page.get_by_label("Choose an image").set_input_files(
        {"name": "scan.jpg", "mimeType": "image/jpeg", "buffer": file}
    )

    expect(page.locator("#message")).to_contain_text(sentence)
    page.get_by_role("button", name="Choose another image").click()
    shown(page)


def test_an_id_that_is_not_stored_is_said_so(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Or the id of a stored image").fill("ISIC_0")
    page.get_by_label("Or the id of a stored image").press("Enter")

    expect(page.locator("#message")).to_contain_text("No stored image has this id.")
    page.get_by_role("button", name="Choose a stored image").click()
    shown(page)


def test_filters_that_leave_nothing_can_be_cleared(page: Page, system: System) -> None:
    page.goto(f"/?image={START}&only=sex:nobody")

    expect(page.locator("#message")).to_contain_text("No images found")
    page.get_by_role("button", name="Clear the filters").click()
    assert shown(page) == similar(system)


def test_the_address_of_an_own_picture_asks_for_it_again(page: Page) -> None:
    page.goto("/?picture=own&only=sex:male")

    expect(page.locator("#message")).to_contain_text("An address cannot hold an image")
    pressed = page.get_by_role("button", name="Sex: only male", exact=True)
    expect(pressed).to_have_attribute("aria-pressed", "true")


def test_a_search_waits_for_a_worker_and_goes_on_by_itself(page: Page, system: System) -> None:
    page.goto("/")
    first = shown(page)[0]
    kill(system.worker)
    until(lambda: system.http.get("/readyz").status_code == 503, "the end of its heartbeats")
    page.get_by_role("button", name=f"Search from {first}").click()

    expect(page.get_by_role("alert")).to_contain_text("Kindred cannot search just now")
    expect(page.locator("#message")).to_contain_text("Your search is waiting")
    system.restart_worker()
    expect(page.locator("#grid > li")).to_have_count(12)
    expect(page.locator("#banner")).to_be_hidden()
    assert shown(page) == similar(system, first)


def test_an_unreachable_api_is_said_and_found_again(page: Page, system: System) -> None:
    page.goto("/")
    first = shown(page)[0]
    end(system.api)
    page.get_by_role("button", name=f"Search from {first}").click()

    expect(page.get_by_role("alert")).to_contain_text("Kindred cannot be reached")
    system.api.start()
    expect(page.locator("#grid > li")).to_have_count(12)
    expect(page.locator("#banner")).to_be_hidden()
