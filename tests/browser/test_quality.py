"""How good the search is, as the page shows it: started there, followed, read, and compared."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from cli.sample import write_encoder
from tests.browser.conftest import OUTPUT, Visit
from tests.system import System


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "other"
    write_encoder(
        folder, hidden=48, layers=2, heads=2, intermediate=64, image_size=32, patch=8, seed=3
    )
    return folder


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path, other: Path
) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("quality"), encoder, MODELS=str(other.parent)) as running:
        running.ingest(drawn)
        yield running


@pytest.fixture(scope="module")
def report(system: System) -> str:
    body = {"label": "dx", "group": "lesion_id"}
    job = system.http.post("/v1/evaluations", json=body).raise_for_status().json()["id"]
    system.finished(job)
    return f"evaluation:{job}"


def shown(page: Page, key: str) -> Page:
    page.goto(f"/?view=quality&report={key}")
    expect(page.get_by_role("heading", name="How this was measured")).to_be_visible()
    return page


def test_an_evaluation_is_started_and_read(page: Page, system: System) -> None:
    page.goto("/?view=quality")
    expect(page.get_by_label("Should share").first).to_have_value("dx")
    expect(page.get_by_label("Leave out the same").first).to_have_value("lesion_id")
    page.get_by_role("button", name="Evaluate").click()

    expect(page.get_by_role("heading", name="Over all images")).to_be_visible()
    found = page.locator("#report")
    expect(found).to_contain_text("share the diagnosis of the searched one")
    expect(found).to_contain_text("Kindred gives no diagnosis")
    expect(found).to_contain_text("was never trained")
    expect(page.locator("#evaluations li").first).to_contain_text("Done")
    newest = system.http.get("/v1/evaluations").json()["evaluations"][0]["id"]
    got = system.http.get(f"/v1/evaluations/{newest}").json()["report"]
    share = round(got["rankings"][0]["overall"]["precision_at_10"]["value"] * 100)
    expect(found.locator(".lead")).to_contain_text(f"{share} %")


def test_every_plot_has_its_numbers(page: Page, report: str, system: System) -> None:
    shown(page, report)
    classes = page.locator("figure", has=page.get_by_role("heading", name="Agreement by diagnosis"))
    expect(classes.get_by_role("img")).to_be_visible()
    classes.get_by_text("The numbers").click()
    rows = classes.get_by_role("row")
    got = system.http.get(f"/v1/evaluations/{report.partition(':')[2]}").json()["report"]
    expect(rows).to_have_count(1 + len(got["rankings"][0]["classes"]))
    heat = page.get_by_role("region", name="What the neighbours show instead")
    expect(heat.get_by_role("row")).to_have_count(1 + len(got["confusion"]["labels"]))


def test_a_sample_that_is_no_number_is_said_before_it_is_sent(page: Page) -> None:
    page.goto("/?view=quality")
    page.get_by_label("Sample (images)").first.fill("7")
    page.get_by_role("button", name="Evaluate").click()
    expect(page.locator("#evaluate-fault")).to_contain_text("100 or more")


def test_two_encoders_are_compared(page: Page, other: Path) -> None:
    page.goto("/?view=quality")
    page.get_by_text("Compare encoders").click()
    page.get_by_label("Encoders, one a line").fill("collection")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#compare-fault")).to_contain_text("at least two")

    page.get_by_label("Encoders, one a line").fill(f"collection\n{other}, pooling=cls")
    page.get_by_role("button", name="Compare").click()

    expect(page.get_by_role("heading", name="The encoders")).to_be_visible()
    found = page.locator("#report")
    expect(found).to_contain_text("Nothing of the collection was changed")
    expect(found).to_contain_text("other,pooling=cls (untrained)")
    expect(found).to_contain_text("previews")


def test_an_encoder_that_the_server_does_not_allow_is_refused_in_words(
    visit: Callable[..., Visit],
) -> None:
    window = visit()
    window.may_fail = True
    page = window.page
    page.goto("/?view=quality")
    page.get_by_text("Compare encoders").click()
    page.get_by_label("Encoders, one a line").fill("collection\n/etc")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#compare-fault")).to_contain_text("KINDRED_MODELS")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_and_every_reader(
    visit: Callable[..., Visit], report: str, scheme: str
) -> None:
    OUTPUT.mkdir(exist_ok=True)
    page = visit(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce").page
    shown(page, report)
    found = Axe().run(page).response["violations"]
    assert {one["id"]: one["help"] for one in found if one["impact"] != "minor"} == {}
    for width in (360, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=OUTPUT / f"quality-{width}-{scheme}.png", full_page=True)


def test_what_it_is_for_stands_at_its_foot(page: Page) -> None:
    page.goto("/")
    page.get_by_text("About: what Kindred is for").click()
    expect(page.locator("#purpose")).to_contain_text("It gives no diagnosis")
    expect(page.locator("#purpose")).to_contain_text("MDCG 2019-11")
