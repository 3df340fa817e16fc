"""Behind a hospital's proxy, below a path: every address that Kindred names leads back to it."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from cli.processes import module_command
from tests.nginx import nginx
from tests.system import PATIENCE, WAIT, System

ROOT = "/imaging/kindred"


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path
) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), encoder, ROOT_PATH=ROOT) as running:
        assert running.ingest(drawn, limit=20)["state"] == "succeeded"
        yield running


@pytest.fixture(scope="module")
def addresses(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with nginx(tmp_path_factory.mktemp("nginx"), system.port, ROOT) as served:
        yield served


@pytest.fixture(params=["passing", "removing"])
def base(addresses: dict[str, str], request: pytest.FixtureRequest) -> str:
    """The address below which clients reach Kindred, such as http://hospital/imaging/kindred."""
    return addresses[str(request.param)]


@pytest.fixture
def http(base: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base, timeout=PATIENCE) as client:
        yield client


def followed(base: str, path: str) -> str:
    """Where a browser goes from `base` for a path that an answer names."""
    return urljoin(f"{base}/", path)


def test_the_page_and_all_its_parts_come_from_below_the_path(http: httpx.Client, base: str) -> None:
    page = http.get("/")
    todo = {followed(base, part) for part in re.findall(r'(?:src|href)="([^"#]+)"', page.text)}
    done: set[str] = set()
    while todo:
        url = todo.pop()
        answer = http.get(url)
        assert answer.status_code == 200, url
        assert url.startswith(f"{base}/"), url
        done.add(url)
        if url.endswith(".js"):
            imported = re.findall(r'from "(\./[^"]+)"', answer.text)
            todo |= {urljoin(url, part) for part in imported} - done

    assert page.status_code == 200
    assert sum(url.endswith(".js") for url in done) > 10


def test_the_path_without_its_slash_leads_to_the_page(system: System, base: str) -> None:
    assert str(httpx.get(base, follow_redirects=True).url) == f"{base}/"
    assert system.http.get(ROOT).headers["Location"].endswith(f":{system.port}{ROOT}/")


def test_a_search_and_its_pictures_are_found_below_the_path(http: httpx.Client, base: str) -> None:
    image = http.get("/v1/images", params={"limit": "1"}).json()["images"][0]["image_id"]
    sent = http.post("/v1/searches", json={"image_id": image}, headers=WAIT)
    location = sent.headers["Location"]
    again = http.get(followed(base, location))
    hit = again.json()["results"][0]
    preview = http.get(followed(base, hit["preview_url"]))

    assert location.startswith(f"{ROOT}/v1/searches/")
    assert again.json() == sent.json()
    assert hit["preview_url"].startswith(f"{ROOT}/v1/images/")
    assert (preview.status_code, preview.headers["content-type"]) == (200, "image/jpeg")


def test_a_collection_by_its_name_is_below_the_path_too(
    system: System, http: httpx.Client, base: str
) -> None:
    images = f"/v1/collections/{system.collection}/images"
    image = http.get(f"{images}?limit=1").json()["images"][0]
    assert image["preview_url"].startswith(f"{ROOT}{images}/")
    assert http.get(followed(base, image["preview_url"])).status_code == 200


def test_events_arrive_one_by_one(http: httpx.Client, base: str, drawn: Path) -> None:
    """nginx gathers an answer that does not forbid it, and would send nothing of this job's."""
    job = followed(base, http.post("/v1/jobs", json={"dataset": str(drawn)}).headers["Location"])
    assert http.post(f"{job}/pause").is_success

    states = []
    with http.stream("GET", f"{job}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if not line.startswith("data:"):
                continue
            states.append(json.loads(line.removeprefix("data:"))["state"])
            if states == ["paused"]:
                assert http.post(f"{job}/resume").is_success

    assert (states[0], states[-1]) == ("paused", "succeeded")


def test_an_upload_goes_through(http: httpx.Client, base: str) -> None:
    """The page's own form, and an id that has to be written with %2F."""
    picture = http.get(followed(base, http.get("/v1/images").json()["images"][0]["preview_url"]))
    job = http.post(
        "/v1/images",
        files=[("files", ("a.jpg", picture.content))],
        data={"metadata": json.dumps([{"image_id": f"a/b {urlsplit(base).port}"}])},
    )
    with http.stream("GET", f"{followed(base, job.headers['Location'])}/events") as stream:
        stream.read()
    stored = http.get(f"/v1/images/a%2Fb%20{urlsplit(base).port}")

    assert stored.status_code == 200
    assert http.get(followed(base, stored.json()["preview_url"])).status_code == 200


def test_the_document_names_its_server(http: httpx.Client) -> None:
    assert http.get("/openapi.json").json()["servers"] == [{"url": ROOT}]


def test_the_machine_itself_needs_no_path(system: System) -> None:
    """Health checks and the command line on the host go past the proxy."""
    for path in ("/healthz", "/readyz", "/v1/collection", "/"):
        assert system.http.get(path).status_code == 200
        assert system.http.get(f"{ROOT}{path}").status_code == 200


def test_the_command_line_takes_the_address_with_its_path(system: System, base: str) -> None:
    environment = {**system.environment, "KINDRED_URL": base}
    command = [*module_command("cli"), "jobs", "list", "--json"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["jobs"]
