"""A doctor looks for similar cases: from a picture, through filters, side by side, by address."""

import base64
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit, settled, shown
from tests.system import System

START = "DRAWN_000004"  # rows 4 and 5 show one lesion
SAME_LESION = "DRAWN_000005"

# An event with a file in it, as a drop and a paste have one.
CARRY = """([kind, text]) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "a.jpg", {type: "image/jpeg"}));
  const options = {bubbles: true, cancelable: true};
  const event = kind === "drop"
    ? new DragEvent(kind, {...options, dataTransfer: data})
    : new ClipboardEvent(kind, {...options, clipboardData: data});
  document.body.dispatchEvent(event);
}"""

pytestmark = pytest.mark.usefixtures("job")


@pytest.fixture(scope="module")
def job(system: System, drawn: Path) -> dict[str, Any]:
    return system.ingest(drawn)


@pytest.fixture(scope="module")
def photograph(drawn: Path) -> bytes:
    """The file of START."""
    return pq.read_table(drawn).slice(4, 1).to_pylist()[0]["image"]["bytes"]


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["image_id"] for hit in answer["results"]]


def others(system: System, images: Sequence[bytes] = (), **query: Any) -> Any:
    """What the api finds beside the searched image and its lesion."""
    return system.search(images, exclude_same_lesion=True, **query)


def asked(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_a_chosen_picture_finds_what_the_api_finds(
    page: Page, system: System, photograph: bytes
) -> None:
    page.goto("/")
    page.get_by_label("Choose an image").set_input_files(
        {"name": "scan.jpg", "mimeType": "image/jpeg", "buffer": photograph}
    )

    expect(page.locator("#found-title")).to_have_text("Similar images")
    found = others(system, [photograph], limit=12)
    assert shown(page) == ids(found)
    expect(page.locator("#query-picture img")).to_be_visible()
    first = page.locator("#grid > li").first
    expect(first).to_contain_text(f"Similarity {found['results'][0]['score']:.3f}")
    assert asked(page) == {"picture": ["own"]}


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(
    page: Page, system: System, photograph: bytes, way: str
) -> None:
    page.goto("/")
    shown(page)
    page.evaluate(CARRY, [way, base64.b64encode(photograph).decode()])

    expect(page.locator("#found-title")).to_have_text("Similar images")
    assert shown(page) == ids(others(system, [photograph], limit=12))


def test_any_stored_image_is_a_place_to_start(page: Page, system: System) -> None:
    page.goto("/")
    first_page = shown(page)
    page.get_by_role("button", name="More stored images").click()
    expect(page.locator("#grid > li")).to_have_count(2 * len(first_page))
    chosen = shown(page)[-1]

    page.get_by_role("button", name=f"Search from {chosen}").click()

    expect(page).to_have_title(f"Similar to {chosen} – Kindred")
    assert shown(page) == ids(others(system, image_id=chosen, limit=12))


def test_filters_say_only_and_not(page: Page, system: System) -> None:
    page.goto(f"/?image={START}")
    shown(page)
    page.get_by_role("button", name="Sex: only female").click()
    page.get_by_role("button", name="Diagnosis: not melanoma", exact=True).click()

    expected = {
        "must": [{"key": "sex", "match": {"value": "female"}}],
        "must_not": [{"key": "dx", "match": {"value": "melanoma"}}],
    }
    assert shown(page) == ids(others(system, image_id=START, limit=12, filter=expected))
    assert asked(page) == {"image": [START], "only": ["sex:female"], "not": ["dx:melanoma"]}
    # Counts are those under the filters of the other fields.
    without_sex = system.facets({"must_not": expected["must_not"]})
    males = next(one["count"] for one in without_sex["facets"]["sex"] if one["value"] == "male")
    row = page.locator(".value", has=page.get_by_role("button", name="Sex: only male"))
    expect(row.locator(".count")).to_have_text(str(males))

    page.get_by_role("button", name="Sex: not female").click()
    settled(page)
    expect(page.get_by_role("button", name="Sex: only female")).to_have_attribute(
        "aria-pressed", "false"
    )
    page.get_by_role("button", name="Clear all").click()
    assert shown(page) == ids(others(system, image_id=START, limit=12))


def test_age_number_and_similarity_bound_the_results(page: Page, system: System) -> None:
    page.goto(f"/?image={START}")
    all_scores = [hit["score"] for hit in others(system, image_id=START, limit=40)["results"]]
    least = round(all_scores[15], 3)
    page.get_by_label("Age from").fill("30")
    page.get_by_label("Age to").fill("60")
    page.get_by_label("Results", exact=True).fill("9")
    page.get_by_label("Least similarity").fill(str(least))
    page.keyboard.press("Enter")

    between = {"must": [{"key": "age", "range": {"gte": 30, "lte": 60}}]}
    expect(page).to_have_url(re.compile(rf"limit=9.*threshold={least}"))
    found = others(system, image_id=START, limit=9, filter=between, score_threshold=least)
    assert shown(page) == ids(found)
    assert all(30 <= hit["payload"]["age"] <= 60 for hit in found["results"])


def test_images_of_one_lesion_count_as_one(page: Page, system: System) -> None:
    page.goto(f"/?image={START}&same=yes")
    shown(page)
    page.get_by_label("Count images of one lesion as one").check()
    settled(page)

    expect(page.locator("#found-note")).to_contain_text("12 lesions")
    first = page.locator("#grid > li").first
    first.get_by_text("1 more of this lesion").click()
    expect(first.get_by_role("button", name=f"Compare {SAME_LESION}")).to_be_visible()
    assert shown(page) == ids(
        system.search(image_id=START, limit=12, group_by="lesion_id", group_size=21)
    )


def test_the_searched_image_and_its_lesion_are_no_hits_until_a_switch_brings_them_back(
    page: Page, system: System
) -> None:
    page.goto(f"/?image={START}")
    found = shown(page)
    assert found == ids(system.search(image_id=START, limit=12, not_same="lesion_id"))
    assert not {START, SAME_LESION} & set(found)
    expect(page.locator("#found-note")).to_have_text(
        "12 images, the most similar first, without this lesion"
    )
    expect(page.locator("#neighbours h3")).to_have_text("Diagnoses recorded for these 12 images")
    page.locator("#grid .picture").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("1 of 12")
    expect(page.get_by_role("dialog")).not_to_contain_text(SAME_LESION)
    page.keyboard.press("Escape")

    page.get_by_label("Show the same lesion").check()
    expect(page).to_have_url(re.compile(r"same=yes"))
    found = shown(page)
    assert found == ids(system.search(image_id=START, limit=12))
    assert found[0] == START
    expect(page.locator("#found-note")).to_have_text("12 images, the most similar first")


def test_a_chosen_file_that_is_stored_is_no_hit_of_itself(
    page: Page, system: System, photograph: bytes
) -> None:
    page.goto("/")
    page.get_by_label("Choose an image").set_input_files(
        {"name": "scan.jpg", "mimeType": "image/jpeg", "buffer": photograph}
    )
    expect(page.locator("#found-title")).to_have_text("Similar images")
    assert not {START, SAME_LESION} & set(shown(page))

    page.get_by_label("Show the same lesion").check()
    expect(page).to_have_url(re.compile(r"same=yes"))
    assert shown(page) == ids(system.search([photograph], limit=12))
    assert shown(page)[0] == START
    expect(page.locator("#grid > li").first).to_contain_text("Similarity 1.000")


def test_where_nothing_else_fits_the_same_lesion_is_offered(page: Page) -> None:
    page.goto(f"/?image={START}&threshold=0.99999")
    expect(page.locator("#message")).to_contain_text("No images found")
    page.locator("#message").get_by_role("button", name="Show the same lesion").click()
    assert shown(page) == [START]


def test_the_page_says_what_compares_the_images(page: Page, system: System) -> None:
    encoder = system.http.get("/v1/collection").json()["encoder"]
    page.goto(f"/?image={START}")
    shown(page)
    about = page.locator("#about")
    expect(about).to_contain_text(Path(encoder["model"]).name)
    expect(about).to_contain_text("no fixed revision")
    expect(about).to_contain_text(encoder["weights_sha256"][:12])
    expect(about).to_contain_text("It was never trained")
    expect(page.locator("#untrained")).to_be_visible()


def test_weights_of_unknown_training_are_called_that(page: Page) -> None:
    def trained(route: Route) -> None:
        answer = route.fetch()
        encoder = {"model": "acme/vit", "revision": "v1.2", "weights_sha256": "ab" * 32}
        route.fulfill(
            response=answer, json={**answer.json(), "encoder": encoder, "untrained": False}
        )

    page.route("**/v1/collection", trained)
    page.goto(f"/?image={START}")
    shown(page)
    expect(page.locator("#about")).to_have_text(
        "Images are compared by the encoder acme/vit, revision v1.2, weights abababababab. "
        "Kindred cannot tell on which images it was trained."
    )
    expect(page.locator("#untrained")).to_be_hidden()


def test_one_idea_has_one_word_everywhere(page: Page, system: System) -> None:
    def recorded(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        found["results"][0]["payload"] = {
            "clinical": {"anatom_site_general": "upper_limb", "age_approx": 45, "sex": "female"},
            "dx": "nv",
            "dx_type": "histo",
            "constructor": "none",
            "source": {"name": "ward 3/a.jpg"},
        }
        route.fulfill(response=answer, json=found)

    page.route("**/v1/searches", recorded)
    page.goto(f"/?image={START}")
    shown(page)
    card = page.locator("#grid > li").first
    expect(card).to_contain_text("melanocytic nevi")
    expect(card).to_contain_text("confirmed by histopathology")
    expect(card).to_contain_text("45 years, female, upper limb")
    card.locator(".picture").click()
    facts = page.get_by_role("dialog").locator(".pane").nth(1)
    expect(facts).to_contain_text(
        "Diagnosismelanocytic neviConfirmed byhistopathologyAge45SexfemaleSiteupper limb"
        "ConstructornoneFileward 3/a.jpg"
    )
    page.keyboard.press("Escape")
    filters = page.locator("#filters")
    expect(filters.get_by_role("group", name="Site")).to_be_visible()
    confirmed = filters.get_by_role("group", name="Confirmed by")
    confirmed.get_by_role("button", name="Confirmed by: only histopathology").click()
    expect(page).to_have_url(re.compile(r"only=dx_type%3Ahisto"))
    shown(page)


def test_a_short_help_opens_by_button_and_by_key(page: Page) -> None:
    page.goto("/")
    shown(page)
    dialog = page.get_by_role("dialog", name="Help")
    page.get_by_role("button", name="Help").click()
    for said in ("gives no diagnosis", "not a probability", "Show the same lesion", "Esc"):
        expect(dialog).to_contain_text(said)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Help")).to_be_focused()

    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    page.get_by_label("Or the id of a stored image").press("?")
    expect(dialog).to_be_hidden()


def test_near_duplicates_of_a_copy_are_found(page: Page, system: System, photograph: bytes) -> None:
    copy = io.BytesIO()
    Image.open(io.BytesIO(photograph)).save(copy, "JPEG", quality=40)
    page.goto("/")
    page.get_by_label("Choose an image").set_input_files(
        {"name": "copy.jpg", "mimeType": "image/jpeg", "buffer": copy.getvalue()}
    )
    page.get_by_label("Near-duplicates of this image only").check()

    expect(page.locator("#found-title")).to_have_text("Near-duplicates")
    assert shown(page)[0] == START
    expect(page.locator("#grid > li").first).to_contain_text("of 256 bits differ")


def test_marks_turn_into_a_search_by_examples(page: Page, system: System) -> None:
    page.goto(f"/?image={START}")
    _, like, unlike = shown(page)[:3]
    page.get_by_role("button", name=f"More like this {like}").click()
    page.get_by_role("button", name=f"Unlike {unlike}").click()
    page.get_by_role("button", name="Search with 2 marks").click()

    found = shown(page)
    assert found == ids(others(system, positive=[START, like], negative=[unlike], limit=12))
    assert not {START, like, unlike} & set(found)
    assert asked(page) == {"image": [START], "like": [like], "unlike": [unlike]}
    page.get_by_role("button", name=f"Remove: Unlike this {unlike}").click()
    assert shown(page) == ids(others(system, positive=[START, like], limit=12))


def cropped(page: Page, system: System) -> list[str]:
    """What the api finds with the crop that the address holds."""
    values = map(float, asked(page)["crop"][0].split(","))
    crop = dict(zip(("left", "top", "width", "height"), values, strict=True))
    return ids(others(system, image_id=START, limit=12, crop=crop))


def test_a_part_is_marked_with_the_mouse(page: Page, system: System) -> None:
    page.goto(f"/?image={START}")
    shown(page)
    page.get_by_role("button", name="Mark a part").click()
    frame = page.locator(".crop-frame").bounding_box()
    assert frame is not None
    corner = page.locator(".handle.nw").bounding_box()
    assert corner is not None
    page.mouse.move(corner["x"] + 8, corner["y"] + 8)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.4, frame["y"] + frame["height"] * 0.5)
    page.mouse.up()

    expect(page).to_have_url(re.compile(r"crop="))
    left, top, width, height = map(float, asked(page)["crop"][0].split(","))
    assert (left, top) == pytest.approx((0.4, 0.5), abs=0.03)
    assert (left + width, top + height) == pytest.approx((0.8, 0.8), abs=0.01)
    assert shown(page) == cropped(page, system)

    page.get_by_role("button", name="Whole image").click()
    expect(page).not_to_have_url(re.compile(r"crop="))
    assert shown(page) == ids(others(system, image_id=START, limit=12))


def test_a_part_is_marked_with_keys_and_in_numbers(page: Page, system: System) -> None:
    page.goto(f"/?image={START}")
    shown(page)
    page.get_by_role("button", name="Mark a part").press("Enter")
    part = page.get_by_role("group", name="Marked part", exact=True)
    expect(part).to_be_focused()
    part.press("ArrowRight")
    part.press("Shift+ArrowDown")

    expect(page).to_have_url(re.compile(r"crop=0.22%2C0.2%2C0.6%2C0.62"))
    assert shown(page) == cropped(page, system)
    expect(part).to_be_focused()
    page.get_by_label("width").fill("30")
    page.get_by_label("width").press("Enter")
    expect(page).to_have_url(re.compile(r"crop=0.22%2C0.2%2C0.3%2C0.62"))
    assert shown(page) == cropped(page, system)


def test_a_part_is_marked_with_a_finger(visit: Callable[..., Visit], system: System) -> None:
    page = visit(viewport={"width": 360, "height": 800}, has_touch=True, is_mobile=True).page
    page.goto(f"/?image={START}")
    shown(page)
    page.get_by_role("button", name="Mark a part").tap()
    frame = page.locator(".crop-frame").bounding_box()
    assert frame is not None
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, *where: float) -> None:
        x, y = (frame["x"] + where[0] * frame["width"], frame["y"] + where[1] * frame["height"])
        points = [] if kind == "touchEnd" else [{"x": x, "y": y}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.1, 0.1)  # beside the part that is marked at first: a new one
    touch("touchMove", 0.4, 0.4)
    touch("touchMove", 0.5, 0.7)
    touch("touchEnd", 0.5, 0.7)

    expect(page).to_have_url(re.compile("crop="))
    left, top, width, height = map(float, asked(page)["crop"][0].split(","))
    assert (left, top, width, height) == pytest.approx((0.1, 0.1, 0.4, 0.6), abs=0.02)
    assert shown(page) == cropped(page, system)


def test_two_pictures_zoom_together_and_lead_on(page: Page, system: System) -> None:
    page.goto(f"/?image={START}")
    second = shown(page)[1]
    page.get_by_role("button", name=f"Compare {second}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("img")).to_have_count(2)

    def views() -> set[str]:
        return set(dialog.locator(".layer").evaluate_all("e => e.map((x) => x.style.transform)"))

    assert views() == {"translate(0%, 0%) scale(1)"}
    dialog.locator(".pane-view").first.hover()
    page.mouse.wheel(0, -300)
    expect(dialog.locator(".pane-view.zoomed")).to_have_count(2)
    zoomed = views()
    assert len(zoomed) == 1
    page.mouse.down()
    page.mouse.move(500, 420)
    page.mouse.up()
    assert len(views()) == 1
    assert views() != zoomed
    dialog.get_by_role("button", name="Fit").click()
    assert views() == {"translate(0%, 0%) scale(1)"}

    dialog.get_by_role("button", name="Search from here").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#found")).to_be_focused()
    assert asked(page) == {"image": [second]}
    assert shown(page) == ids(others(system, image_id=second, limit=12))


def test_an_address_can_be_sent_to_a_colleague(page: Page, visit: Callable[..., Visit]) -> None:
    page.goto(f"/?image={START}")
    shown(page)
    page.get_by_role("button", name="Sex: only male", exact=True).click()
    page.get_by_label("Count images of one lesion as one").check()
    page.get_by_label("Age from").fill("20")
    page.get_by_label("Age from").press("Enter")
    expect(page).to_have_url(re.compile(r"range=age"))
    mine = shown(page)

    colleague = visit().page
    colleague.goto(page.url)

    assert shown(colleague) == mine
    expect(colleague.get_by_label("Count images of one lesion as one")).to_be_checked()
    expect(colleague.get_by_label("Age from")).to_have_value("20")
    pressed = colleague.get_by_role("button", name="Sex: only male", exact=True)
    expect(pressed).to_have_attribute("aria-pressed", "true")


def test_back_and_forward_go_through_the_searches(page: Page, photograph: bytes) -> None:
    page.goto("/")
    stored = shown(page)
    page.get_by_label("Choose an image").set_input_files(
        {"name": "scan.jpg", "mimeType": "image/jpeg", "buffer": photograph}
    )
    expect(page.locator("#found-title")).to_have_text("Similar images")
    own = shown(page)
    page.get_by_role("button", name="Diagnosis: only melanoma", exact=True).click()
    expect(page).to_have_url(re.compile(r"only="))
    filtered = shown(page)

    page.go_back()
    expect(page).not_to_have_url(re.compile(r"only="))
    assert shown(page) == own
    page.go_back()
    expect(page.locator("#found-title")).to_have_text("Stored images")
    assert shown(page) == stored
    page.go_forward()
    page.go_forward()
    expect(page).to_have_url(re.compile(r"only="))
    assert shown(page) == filtered


def test_by_keyboard_alone(page: Page) -> None:
    page.goto("/")
    shown(page)

    def tab_to(name: str) -> None:
        for _ in range(200):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(e => e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent)"
                "(document.activeElement)"
            )
            if focused.strip().startswith(name):
                return
        raise AssertionError(f"the Tab key never came to {name}")

    tab_to("Or the id of a stored image")
    page.keyboard.type(START)
    page.keyboard.press("Enter")
    expect(page.locator("#found-title")).to_have_text("Similar images")
    second = shown(page)[1]
    tab_to("Diagnosis: not dermatofibroma")
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile(r"not="))
    assert shown(page)[1] == second
    expect(page.get_by_label("Diagnosis: not dermatofibroma")).to_be_focused()
    tab_to(f"Compare {second}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("+")
    expect(page.locator(".pane-view.zoomed")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name=f"Compare {second}")).to_be_focused()


def test_the_neighbours_are_counted_and_no_diagnosis_is_given(page: Page, system: System) -> None:
    page.goto(f"/?image={START}&limit=20")
    shown(page)
    found = others(system, image_id=START, limit=20)["results"]

    box = page.get_by_role("region", name="Diagnoses recorded for these 20 images")
    expect(box).to_contain_text("A count among similar images, not a diagnosis")
    counts = [int(text) for text in box.locator(".count").all_inner_texts()]
    assert sum(counts) == 20
    names = [hit["payload"]["dx"] for hit in found]
    assert counts[0] == max(names.count(name) for name in names)


def test_pictures_keep_their_place_and_the_first_come_first(page: Page) -> None:
    page.goto(f"/?image={START}&limit=40")
    shown(page)

    pictures = page.locator("#grid img").evaluate_all(
        "e => e.map((i) => [i.loading, i.decoding, i.width > 0 && i.hasAttribute('height')])"
    )
    assert pictures[0] == ["eager", "async", True]
    assert pictures[-1] == ["lazy", "async", True]
    assert json.dumps(pictures).count("eager") == 8
