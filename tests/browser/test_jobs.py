"""An operator takes pictures in and watches: start, progress, refusals, and a change of mind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, Route, expect

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
    expect(page.locator("#message")).to_contain_text("No images are stored yet")
    page.locator("#message").get_by_role("link", name="Jobs").click()
    page.get_by_label("Choose files").set_input_files(
        [file(photographs[0]), file(b"no picture", "notes.txt"), file(photographs[1]), file(b"")]
    )

    job = page.locator("#job")
    expect(job).to_contain_text("Done, some rejected")
    expect(job).to_contain_text("2 added, 0 already stored, 2 rejected")
    reasons = job.get_by_role("table", name="Rejected images")
    expect(reasons).to_contain_text("Kindred cannot read this file as an image.")
    expect(reasons).to_contain_text("This file is empty.")
    expect(reasons).to_contain_text("notes.txt")
    entry = page.locator("#jobs > li").filter(has_text="Uploaded images")
    expect(entry).to_contain_text("4 of 4 images, 2 rejected")
    expect(reasons.locator("tbody tr")).to_have_count(2)
    expect(page.locator("#upload-progress")).to_have_text("Sent 4 files.")
    page.get_by_role("link", name="Search", exact=True).click()
    assert len(shown(page)) == 2
    expect(page.locator("#held-count")).to_have_text("2 images stored")


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
    assert sum(job["total"] for job in ended) == len(photographs) + 1
    assert sum(job["embedded"] + job["unchanged"] for job in ended) == len(photographs)
    rejected = page.get_by_role("table", name="Rejected images").locator("tbody tr")
    expect(rejected).to_have_count(1)
    expect(rejected).to_contain_text("scan of the whole ward.tif")
    expect(rejected).to_contain_text("Too large for the server")
    expect(progress).to_contain_text(f"Sent 30 of 31 files, in {len(sent)} jobs.")


def test_a_job_is_watched_stopped_and_run_again(page: Page, system: System, drawn: Path) -> None:
    page.goto("/?view=jobs")
    started(page, drawn, 150)

    job = page.locator("#job")
    expect(job.locator(".state")).to_have_text("Running")
    expect(job.locator("#job-pace")).to_contain_text("images a second")
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
    expect(job.locator("#job-amount")).to_have_text("150 of 150 images")
    expect(job.get_by_role("button", name="Run again")).to_have_count(0)
    assert system.http.post(f"/v1/jobs/{identifier}/retry").status_code == 409
    assert system.job(identifier)["embedded"] + system.job(identifier)["unchanged"] == 150


def test_rejected_images_come_in_pages(page: Page, system: System) -> None:
    files = [("files", (f"{n}.jpg", f"no picture {n}".encode())) for n in range(60)]
    job = system.finished(system.http.post("/v1/images", files=files).json()["id"])
    page.goto(f"/?view=jobs&job={job['id']}")

    rows = page.get_by_role("table", name="Rejected images").locator("tbody tr")
    expect(rows.first).to_be_visible()
    first_page = rows.count()
    assert first_page < 60
    while page.get_by_role("button", name="More rejected images").is_visible():
        before = rows.count()
        page.get_by_role("button", name="More rejected images").click()
        expect(rows.nth(before)).to_be_visible()
    expect(rows).to_have_count(60)


def test_what_cannot_be_started_is_said(page: Page, system: System, tmp_path: Path) -> None:
    page.goto("/?view=jobs")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#dataset-fault")).to_have_text(
        "Name a data set, or a folder on the server."
    )

    started(page, tmp_path, 0)
    expect(page.locator("#dataset-fault")).to_contain_text("1 or more")
    started(page, tmp_path, 5)
    job = page.locator("#job")
    expect(job).to_contain_text("The data set could not be read.")
    identifier = page.url.rpartition("job=")[2]
    said = system.finished(identifier)["error"]["detail"]
    expect(job.locator(".fault")).to_contain_text(said)


def test_a_job_that_is_not_known_is_said(visit: Callable[..., Visit]) -> None:
    window = visit()
    window.may_fail = True
    window.page.goto("/?view=jobs&job=none")
    expect(window.page.locator("#job")).to_contain_text("No such job")


@pytest.mark.parametrize("kind", ["source-not-allowed", "invalid-query"])
def test_a_refused_data_set_is_told_in_the_api_s_own_words(
    visit: Callable[..., Visit], kind: str
) -> None:
    window = visit()
    window.may_fail = True
    problem = {"type": f"urn:kindred:problem:{kind}", "detail": "no split named dev: train, test"}
    window.page.route(
        "**/v1/jobs", lambda route: route.fulfill(status=422, json={"status": 422, **problem})
    )
    window.page.goto("/?view=jobs")
    started(window.page, Path("/scans"), 5)

    expect(window.page.locator("#dataset-fault")).to_contain_text(
        "No split named dev: train, test."
    )


ACCOUNT = {
    "state": "completed_with_rejections",
    "total": 9,
    "counts": {"embedded": 3, "updated": 2, "unchanged": 1, "rejected": 3},
    "embedded": 3,
    "updated": 2,
    "unchanged": 1,
    "rejected": 3,
    "skipped": {"hidden_file": 2, "table": 1},
}
REJECTED = [
    {
        "image_id": "ab" * 32,
        "row": 4,
        "reason": "the image is truncated or damaged",
        "name": "a b.jpg",
    },
    {"image_id": "cd" * 32, "row": 5, "reason": "this encoding is not read", "name": None},
    {
        "image_id": "ef" * 32,
        "row": 6,
        "reason": "there is no file, or it is empty or cannot be read",
    },
]


def answering(body: Any) -> Callable[[Route], None]:
    return lambda route: route.fulfill(json=body)


def test_the_whole_account_is_shown_as_the_api_gives_it(page: Page, system: System) -> None:
    """Also what an older api leaves out: the other tests have none of it."""
    job = system.finished(system.http.post("/v1/images", files=[("files", b"")]).json()["id"])
    told = {**job, **ACCOUNT, "source": "folder", "dataset": "/scans/2026"}
    lists = {
        "rejections": {"rejections": REJECTED, "cursor": None},
        "skipped": {
            "skipped": [
                {"name": ".DS_Store", "kind": "hidden_file"},
                {"name": "m.csv", "kind": "table"},
            ],
            "cursor": None,
        },
    }
    path = f"**/v1/jobs/{job['id']}"
    page.route(path, answering(told))
    page.route("**/v1/jobs?limit=50", answering({"jobs": [told]}))
    for name, body in lists.items():
        page.route(f"{path}/{name}?*", answering(body))
    page.goto(f"/?view=jobs&job={job['id']}")

    shown_job = page.locator("#job")
    expect(shown_job.locator("#job-totals")).to_have_text(
        "3 added, 2 with new metadata, 1 already stored, 3 rejected"
    )
    expect(page.locator("#jobs > li")).to_contain_text("9 of 9 images, 3 rejected")
    rows = shown_job.get_by_role("table", name="Rejected images").locator("tbody tr")
    expect(rows).to_have_text(
        [
            "5a b.jpgThis image is damaged or incomplete. Try to export it again.",
            f"6{'cd' * 6}…This encoding is not read",
            f"7{'ef' * 6}…There is no file, or it is empty or cannot be read",
        ]
    )
    shown_job.get_by_text("3 files skipped: 2 hidden file, 1 table").click()
    skipped = shown_job.get_by_role("table", name="Skipped files").locator("tbody tr")
    expect(skipped).to_have_text([".DS_Storehidden file", "m.csvtable"])


def test_a_trial_run_is_called_that(page: Page, system: System) -> None:
    job = system.finished(system.http.post("/v1/images", files=[("files", b"")]).json()["id"])
    told = {**job, "dry_run": True, "embedded": 5}
    page.route(f"**/v1/jobs/{job['id']}", answering(told))
    page.goto(f"/?view=jobs&job={job['id']}")

    expect(page.locator("#job")).to_contain_text("Uploaded images, trial run")
    expect(page.locator("#job-totals")).to_contain_text("5 would be added")
