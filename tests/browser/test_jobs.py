"""An operator takes pictures in and watches: start, progress, refusals, and a change of mind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from cli.sample import write_encoder
from tests.browser.conftest import Visit, shown
from tests.system import System

# Small batches of a slow encoder, so that there is time to press a button.
SLOW = {"BATCH_SIZE": "1", "SHARD_SIZE": "16", "LANES": "1", "MAX_UPLOAD_MB": "1"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    encoder = tmp_path_factory.mktemp("slow")
    write_encoder(encoder, hidden=192, layers=6, heads=3, intermediate=768)
    with System(tmp_path_factory.mktemp("jobs"), encoder, **SLOW) as running:
        yield running


@pytest.fixture(scope="module")
def photographs(drawn: Path) -> list[bytes]:
    return [row["image"]["bytes"] for row in pq.read_table(drawn).slice(0, 30).to_pylist()]


def file(content: bytes, name: str = "scan.jpg") -> dict[str, object]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": content}


def started(page: Page, dataset: Path, limit: int) -> None:
    page.get_by_label("Hub name, or a folder on the server").fill(str(dataset))
    page.get_by_label("At most (rows)").fill(str(limit))
    page.get_by_role("button", name="Start").click()


def test_an_empty_collection_says_how_to_begin(
    page: Page, system: System, photographs: list[bytes]
) -> None:
    page.goto("/")
    expect(page.locator("#message")).to_contain_text("Nothing is held yet")
    page.locator("#message").get_by_role("link", name="Jobs").click()
    page.get_by_label("Choose files").set_input_files(
        [file(photographs[0]), file(b"no picture", "notes.txt"), file(photographs[1]), file(b"")]
    )

    job = page.locator("#job")
    expect(job).to_contain_text("Done, some refused")
    expect(job).to_contain_text("2 taken in, 0 held already, 2 refused")
    reasons = job.get_by_role("table", name="Refused pictures")
    expect(reasons).to_contain_text("This file is not a picture that can be read.")
    expect(reasons).to_contain_text("This file is empty.")
    expect(reasons).to_contain_text("notes.txt")
    page.get_by_role("link", name="Search", exact=True).click()
    assert len(shown(page)) == 2
    expect(page.locator("#held-count")).to_have_text("2 images held")


def test_many_files_go_in_requests_that_fit(
    visit: Callable[..., Visit], system: System, photographs: list[bytes]
) -> None:
    window = visit()
    window.may_fail = True  # what is too large is sent once, and refused
    page = window.page
    page.goto("/?view=jobs")
    jobs = len(system.http.get("/v1/jobs").json()["jobs"])
    too_large = file(b"\0" * 1_100_000, "scan of the whole ward.tif")
    page.get_by_label("Choose files").set_input_files([*map(file, photographs), too_large])

    progress = page.locator("#upload-progress")
    expect(progress).to_contain_text("1 file is too large for this server:")
    expect(progress).to_contain_text("scan of the whole ward.tif")
    sent = system.http.get("/v1/jobs").json()["jobs"][:-jobs]
    assert len(sent) > 1
    ended = [system.finished(job["id"]) for job in sent]
    assert sum(job["total"] for job in ended) == len(photographs)
    assert sum(job["rejected"] for job in ended) == 0


def test_a_job_is_watched_stopped_and_run_again(page: Page, system: System, drawn: Path) -> None:
    page.goto("/?view=jobs")
    started(page, drawn, 150)

    job = page.locator("#job")
    expect(job.locator(".state")).to_have_text("Running")
    expect(job.locator("#job-pace")).to_contain_text("pictures a second")
    expect(job.locator("#job-pace")).to_contain_text("left")
    job.get_by_role("button", name="Pause").click()
    expect(job.locator(".state")).to_have_text("Paused")
    job.get_by_role("button", name="Resume").click()
    expect(job.locator(".state")).to_have_text("Running")
    job.get_by_role("button", name="Cancel").click()
    expect(job.locator(".state")).to_have_text("Cancelled")
    identifier = page.url.rpartition("job=")[2]
    assert system.job(identifier)["state"] == "cancelled"
    job.get_by_role("button", name="Run again").click()
    expect(job.locator(".state")).to_have_text("Done")
    expect(job.locator("#job-amount")).to_have_text("150 of 150 pictures")
    assert system.job(identifier)["embedded"] + system.job(identifier)["unchanged"] == 150


def test_refused_pictures_come_in_pages(page: Page, system: System) -> None:
    files = [("files", (f"{n}.jpg", f"no picture {n}".encode())) for n in range(60)]
    job = system.finished(system.http.post("/v1/images", files=files).json()["id"])
    page.goto(f"/?view=jobs&job={job['id']}")

    rows = page.get_by_role("table", name="Refused pictures").locator("tbody tr")
    expect(rows.first).to_be_visible()
    first_page = rows.count()
    assert first_page < 60
    while page.get_by_role("button", name="More refused pictures").is_visible():
        before = rows.count()
        page.get_by_role("button", name="More refused pictures").click()
        expect(rows.nth(before)).to_be_visible()
    expect(rows).to_have_count(60)


def test_what_cannot_be_started_is_said(page: Page, tmp_path: Path) -> None:
    page.goto("/?view=jobs")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#dataset-fault")).to_have_text(
        "Name a data set, or a folder on the server."
    )

    started(page, tmp_path, 0)
    expect(page.locator("#dataset-fault")).to_contain_text("1 or more")
    started(page, tmp_path, 5)
    expect(page.locator("#job")).to_contain_text("The data set could not be read.")


def test_a_job_that_is_not_known_is_said(visit: Callable[..., Visit]) -> None:
    window = visit()
    window.may_fail = True
    window.page.goto("/?view=jobs&job=none")
    expect(window.page.locator("#job")).to_contain_text("No such job")
