"""The page of a department with keys: the way in and out, and what a key does not allow."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from pipeline.base.keys import KeyFile, Role
from pipeline.base.settings import Settings
from pipeline.operations.base import queue_name
from tests.browser.conftest import Visit, shown
from tests.system import PATIENCE, System
from workers.queue import make_app

START = "DRAWN_000004"


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("keys")
    with System(folder, encoder, SOURCES=str(drawn), SEARCH_BACKLOG="1") as running:
        running.http.headers["Authorization"] = f"Bearer {_key(running, 'admin')}"
        running.ingest(drawn, limit=20)
        yield running


@pytest.fixture
def page(visit: Callable[..., Visit]) -> Page:
    window = visit()
    window.may_fail = True
    return window.page


def _key(system: System, role: Role) -> str:
    return KeyFile(system.folder / "keys.json").create(f"ward of {role}", role)[1]


def _sign_in(page: Page, key: str) -> None:
    field = page.get_by_role("dialog", name="Sign in").get_by_label("Key")
    field.fill(key)
    field.press("Enter")
    expect(page.get_by_role("dialog", name="Sign in")).to_be_hidden()


def test_a_key_is_asked_for_until_one_fits(page: Page, system: System) -> None:
    page.goto("/?view=jobs")
    form = page.get_by_role("dialog", name="Sign in")
    expect(form.get_by_label("Key")).to_be_focused()
    form.get_by_role("button", name="Sign in").click()
    expect(form).to_contain_text("Enter the key")
    form.get_by_label("Key").fill("a-wrong-one")
    form.get_by_label("Key").press("Enter")
    expect(form).to_contain_text("This key is not known here.")

    _sign_in(page, _key(system, "ingest"))
    expect(page.locator("#jobs > li")).to_have_count(1)
    expect(page.locator("#who")).to_have_text("ward of ingest")


def test_signing_out_ends_the_session_and_shows_nothing_more(page: Page, system: System) -> None:
    page.goto("/")
    _sign_in(page, _key(system, "search"))
    shown(page)
    [cookie] = page.context.cookies()
    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
    expect(page.locator("#grid > li")).to_have_count(0)
    page.context.add_cookies([cookie])
    assert page.request.get("/v1/collection").status == 401


def test_who_signs_in_after_another_is_the_one_who_is_shown(page: Page, system: System) -> None:
    page.goto("/")
    _sign_in(page, _key(system, "search"))
    expect(page.locator("#who")).to_have_text("ward of search")
    chosen = shown(page)[0]
    page.context.clear_cookies()  # as when the session ends

    page.get_by_role("button", name=f"Search from {chosen}").click()
    _sign_in(page, _key(system, "ingest"))

    expect(page.locator("#who")).to_have_text("ward of ingest")
    expect(page.get_by_role("link", name="Jobs")).to_be_visible()


def test_a_key_that_may_only_search_is_offered_no_jobs(page: Page, system: System) -> None:
    page.goto("/")
    _sign_in(page, _key(system, "search"))
    shown(page)
    expect(page.get_by_role("link", name="Jobs")).to_be_hidden()

    page.goto("/?view=jobs")
    expect(page.locator("#jobs-message")).to_contain_text("Your key does not allow this.")
    expect(page.locator("#jobs-message")).to_contain_text("This needs a key of the role ingest")
    for name in ("Upload images", "Add a data set"):
        expect(page.get_by_role("region", name=name)).to_be_hidden()
    page.goto(f"/?view=jobs&job={system.http.get('/v1/jobs').json()['jobs'][0]['id']}")
    expect(page.locator("#job")).to_contain_text("Your key does not allow this.")
    expect(page.locator("#job").get_by_role("button")).to_have_count(0)


def test_a_key_that_may_only_search_reads_how_good_the_search_is(
    page: Page, system: System
) -> None:
    body = {"label": "dx", "group": "lesion_id"}
    job = system.http.post("/v1/evaluations", json=body).raise_for_status().json()["id"]
    system.finished(job)
    page.goto("/")
    _sign_in(page, _key(system, "search"))
    page.get_by_role("link", name="Quality").click()

    expect(page.get_by_role("heading", name="Over all images")).to_be_visible()
    expect(page.get_by_role("button", name="Evaluate")).to_be_hidden()
    expect(page.get_by_text("Compare encoders")).to_be_hidden()


def test_a_key_that_may_ingest_is_offered_what_it_may_do(page: Page, system: System) -> None:
    page.goto("/?view=jobs")
    _sign_in(page, _key(system, "ingest"))
    expect(page.get_by_role("region", name="Upload images")).to_be_visible()
    expect(page.get_by_role("link", name="Jobs")).to_be_visible()


def test_nothing_is_offered_before_it_is_known_who_asks(page: Page) -> None:
    page.goto("/?view=jobs")
    expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
    expect(page.locator("[data-needs=ingest]:visible")).to_have_count(0)


def test_a_data_set_that_is_not_allowed_is_told_from_one_that_is_not_there(
    page: Page, system: System
) -> None:
    page.goto("/?view=jobs")
    _sign_in(page, _key(system, "ingest"))
    page.get_by_label("Hub name, or a folder on the server").fill("/etc")
    page.get_by_role("button", name="Start").click()

    expect(page.locator("#dataset-fault")).to_contain_text("KINDRED_SOURCES")


@pytest.fixture
def full_queue(system: System) -> Iterator[Callable[[], None]]:
    """A worker that takes no searches, one search waiting for it, and the way to end that."""
    settings = Settings(redis_url=system.environment["KINDRED_REDIS_URL"])
    app = make_app(settings.redis_url, current=False)
    queue = queue_name(settings.collection, "search")
    assert app.control.cancel_consumer(queue, reply=True, timeout=PATIENCE, limit=1)
    answer = system.http.post("/v1/searches", json={"image_id": START})
    assert answer.status_code == 202, answer.text
    yield lambda: app.control.add_consumer(queue)
    app.control.add_consumer(queue)
    app.close()


def test_a_page_that_is_put_off_says_so_and_goes_on_by_itself(
    page: Page, system: System, full_queue: Callable[[], None]
) -> None:
    page.goto(f"/?image={START}")
    _sign_in(page, _key(system, "search"))
    expect(
        page.get_by_role("alert").filter(has_text="Kindred has more requests than it can answer")
    ).to_be_visible()
    full_queue()

    expect(page.locator("#found-title")).to_have_text("Similar images")
    found = system.search(image_id=START, limit=12, exclude_same_lesion=True)
    assert shown(page) == [hit["image_id"] for hit in found["results"]]
    expect(page.locator("#banner")).to_be_hidden()
