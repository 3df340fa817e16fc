"""A department with keys: who gets in, who does not, and what is known of it afterwards."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.processes import module_command
from pipeline.base.keys import KeyFile
from tests.system import PATIENCE, WAIT, System, contents, end

LIMIT = 600  # calls a minute of a key
BACKLOG = 3
OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}


class Department:
    """A system with keys of every role. Its `http` has the admin's."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.keys = KeyFile(system.folder / "keys.json")
        self.clients: list[httpx.Client] = []
        system.http.headers["Authorization"] = f"Bearer {self.keys.create('chief', 'admin')[1]}"

    def client(self, key: str | None = None) -> httpx.Client:
        """Somebody else's, with cookies of its own."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=self.system.http.base_url, headers=headers, timeout=PATIENCE)
        self.clients.append(client)
        return client

    def with_role(self, role: Any) -> httpx.Client:
        return self.client(self.keys.create(f"a {role}", role)[1])

    def audit(self) -> list[dict[str, Any]]:
        lines = (self.system.folder / "logs" / "audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def department(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path
) -> Iterator[Department]:
    settings = {
        "SOURCES": str(drawn),
        "RATE_LIMIT": str(LIMIT),
        "SEARCH_BACKLOG": str(BACKLOG),
    }
    folder = tmp_path_factory.mktemp("access")
    with System(folder, encoder, **settings) as system:
        department = Department(system)
        job = system.ingest(drawn, limit=20)
        assert job["state"] == "succeeded", job
        yield department
        for client in department.clients:
            client.close()


def test_each_role_does_its_work_and_no_more(department: Department, drawn: Path) -> None:
    nobody, search, ingest, admin = (
        department.client(), *(department.with_role(r) for r in ("search", "ingest", "admin")),
    )  # fmt: skip
    query = {"image_id": "DRAWN_000000", "limit": 2}
    source = {"dataset": str(drawn), "limit": 1}

    def statuses(client: httpx.Client) -> list[int]:
        return [
            client.post("/v1/searches", json=query, headers=WAIT).status_code,
            client.get("/v1/images").status_code,
            client.get("/v1/images/DRAWN_000000/preview").status_code,
            client.post("/v1/jobs", json=source).status_code,
            client.get("/v1/jobs").status_code,
            client.delete("/v1/images/DRAWN_000019").status_code,
            client.get("/metrics").status_code,
            client.get("/readyz").status_code,
        ]

    assert statuses(nobody) == [401, 401, 401, 401, 401, 401, 401, 200]
    assert statuses(search) == [200, 200, 200, 403, 403, 403, 200, 200]
    assert statuses(ingest) == [200, 200, 200, 202, 200, 403, 200, 200]
    assert statuses(admin) == [200, 200, 200, 202, 200, 200, 200, 200]


def test_a_key_is_revoked_without_a_restart(department: Department) -> None:
    key, text = department.keys.create("a locum", "search")
    client = department.client(text)
    assert client.get("/v1/collection").status_code == 200

    told = kindred(department, "keys", "revoke", key.id)

    assert told.returncode == 0, told.stderr
    assert client.get("/v1/collection").status_code == 401


def test_the_command_line_makes_a_key_that_works_at_once(department: Department) -> None:
    told = kindred(department, "keys", "create", "ward 3", "--role", "search")
    client = department.client(told.stdout.strip())
    assert client.get("/v1/session").json() == {"role": "search", "name": "ward 3", "keys": True}


def test_the_page_signs_in_with_a_cookie_that_scripts_cannot_read(department: Department) -> None:
    key, text = department.keys.create("ward 4", "search")
    page = department.client()
    page.headers.update(OUR_PAGE)
    assert page.get("/v1/session").status_code == 401
    assert page.post("/v1/session", json={"key": f"{text}x"}).status_code == 401

    answer = page.post("/v1/session", json={"key": text})

    assert answer.status_code == 204
    cookie = answer.headers["Set-Cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
    assert "secure" not in cookie  # this was plain HTTP, over which such a cookie is not sent
    assert page.get("/v1/session").json()["name"] == "ward 4"
    query = {"image_id": "DRAWN_000001"}
    assert page.post("/v1/searches", json=query).status_code in (200, 202)  # done, or accepted
    assert page.post("/v1/jobs", json={"dataset": "mnist"}).status_code == 403

    # What Redis holds is of no use to who reads it.
    token = page.cookies["kindred_session"]
    redis = department.system.client()
    names = [*redis.scan_iter("kindred:session:*")]
    assert token not in "".join(names)
    assert [redis.get(name) for name in names] == [key.id]
    assert 0 < redis.ttl(names[0]) <= 12 * 3600

    # Another site's page can have the cookie sent along, and must not change anything by it.
    for where in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://elsewhere.example"}, {}):
        with httpx.Client(base_url=page.base_url, cookies=page.cookies) as other:
            refused = other.post("/v1/searches", json=query, headers=where)
            assert refused.status_code == 403

    assert page.delete("/v1/session").status_code == 204
    assert page.get("/v1/session").status_code == 401
    assert not [*redis.scan_iter("kindred:session:*")]


def test_a_session_ends_with_its_key(department: Department) -> None:
    key, text = department.keys.create("ward 5", "search")
    page = department.client()
    page.headers.update(OUR_PAGE)
    page.post("/v1/session", json={"key": text}).raise_for_status()
    assert page.get("/v1/collection").status_code == 200
    department.keys.revoke(key.id)
    assert page.get("/v1/collection").status_code == 401


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_alone(department: Department) -> None:
    _, text = department.keys.create("ward 6", "search")
    answer = department.client().post(
        "/v1/session",
        json={"key": text},
        headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.0.0.8"},
    )
    assert "secure" in answer.headers["Set-Cookie"].lower()


def test_a_key_that_calls_too_often_is_asked_to_wait(department: Department) -> None:
    eager, other = department.with_role("search"), department.with_role("search")
    # Counting begins anew with each minute, so twice the limit is enough.
    statuses = (eager.get("/v1/session") for _ in range(2 * LIMIT + 1))
    refused = next(answer for answer in statuses if answer.status_code != 200)

    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.json()["type"].endswith("rate-limited")
    assert other.get("/v1/session").status_code == 200


def test_signing_in_cannot_be_tried_for_ever(department: Department) -> None:
    # The address is the proxy's word, which counts from 127.0.0.1 alone: nobody else is held up.
    client = department.client()
    client.headers["X-Forwarded-For"] = "10.0.0.9"
    statuses = [client.post("/v1/session", json={"key": "x"}).status_code for _ in range(21)]
    assert set(statuses) == {401, 429}


def test_sources_beyond_those_allowed_are_refused(department: Department, drawn: Path) -> None:
    ingest = department.with_role("ingest")
    for dataset in ("/etc", str(drawn.parent), f"{drawn}/../..", "mnist", "http://127.0.0.1/x"):
        refused = ingest.post("/v1/jobs", json={"dataset": dataset})
        assert refused.status_code == 422, dataset
        assert refused.json()["type"].endswith("source-not-allowed")
        assert dataset not in refused.text


def test_a_link_that_changes_after_acceptance_is_seen_by_the_worker(
    department: Department, drawn: Path, tmp_path: Path
) -> None:
    system = department.system
    end(system.worker)
    link = drawn / "link"
    link.symlink_to(drawn)
    try:
        job = system.submit(link)["id"]
        link.unlink()
        link.symlink_to(tmp_path)
        system.restart_worker()
        view = system.finished(job)
    finally:
        link.unlink()
    assert view["state"] == "failed"
    assert "KINDRED_SOURCES" in view["error"]["detail"]


def test_when_too_many_searches_wait_the_next_is_refused_at_once(department: Department) -> None:
    system = department.system
    client = department.with_role("search")
    end(system.worker)
    query = {"image_id": "DRAWN_000002"}
    waiting = [client.post("/v1/searches", json=query) for _ in range(BACKLOG)]
    assert [answer.status_code for answer in waiting] == [202] * BACKLOG

    calls = [
        client.post("/v1/searches", json=query, headers=WAIT),
        client.post("/v1/searches", files={"image": b"never looked at"}),
        client.post("/v1/searches/batch", json={"searches": [query]}),
        client.get("/v1/images"),
        client.get("/v1/collection"),
    ]
    for refused in calls:
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
    assert client.get("/v1/images/DRAWN_000002/preview").status_code == 200
    assert client.get("/v1/session").status_code == 200

    system.restart_worker()
    for answer in waiting:
        found = client.get(answer.headers["Location"], headers=WAIT).json()
        assert found["state"] == "succeeded"
    assert client.post("/v1/searches", json=query).status_code in (200, 202)


def test_the_audit_log_says_who_saw_what(department: Department, drawn: Path) -> None:
    system = department.system
    key, text = department.keys.create("the auditor's example", "admin")
    client = department.client(text)
    before = len(department.audit())
    words = "a-word-of-the-query"

    condition = {"must_not": [{"key": "dx", "match": {"value": words}}]}
    query = {"positive": ["DRAWN_000003"], "negative": ["DRAWN_000004"], "limit": 2}
    found = client.post("/v1/searches", json={**query, "filter": condition}, headers=WAIT).json()
    polled = client.get(f"/v1/searches/{found['id']}").json()
    page = client.get("/v1/images", params={"limit": 3, "filter": json.dumps(condition)}).json()
    client.get("/v1/images/DRAWN_000005")
    client.get("/v1/images/DRAWN_000005/preview")
    job = client.post("/v1/jobs", json={"dataset": str(drawn), "limit": 1}).json()["id"]
    system.finished(job)
    files = [("files", (f"{words}.jpg", b"no image"))]
    upload = client.post("/v1/images", files=files).json()["id"]
    client.delete("/v1/images/DRAWN_000006")
    client.get("/v1/facets", params={"filter": json.dumps(condition)})

    lines = [line for line in department.audit()[before:] if line["key"] == key.id]
    assert all(line["name"] == "the auditor's example" and line["time"] for line in lines)
    shown = [hit["image_id"] for hit in found["results"]]
    told = [{k: v for k, v in line.items() if k not in ("time", "key", "name")} for line in lines]
    assert told == [
        {"call": "POST /v1/searches", "status": 200, "search": found["id"],
         "images": ["DRAWN_000003", "DRAWN_000004"], "shown": shown},
        {"call": "GET /v1/searches/{identifier}", "status": 200, "search": polled["id"],
         "shown": shown},
        {"call": "GET /v1/images", "status": 200,
         "shown": [image["image_id"] for image in page["images"]]},
        {"call": "GET /v1/images/{image_id}", "status": 200, "images": ["DRAWN_000005"],
         "shown": ["DRAWN_000005"]},
        {"call": "GET /v1/images/{image_id}/preview", "status": 200, "images": ["DRAWN_000005"]},
        {"call": "POST /v1/jobs", "status": 202, "job": job},
        {"call": "POST /v1/images", "status": 202, "job": upload},
        {"call": "DELETE /v1/images/{image_id}", "status": 200, "images": ["DRAWN_000006"]},
        {"call": "GET /v1/facets", "status": 200},
    ]  # fmt: skip
    assert words not in (system.folder / "logs" / "audit.jsonl").read_text()


def test_no_key_is_in_redis_in_the_logs_or_in_the_data_folder(department: Department) -> None:
    system = department.system
    secret = system.http.headers["Authorization"].rpartition("_")[2]
    redis = system.client()
    assert not [name for name in redis.scan_iter() if secret in name]
    for file, content in contents(system.folder):
        assert secret.encode() not in content, file


def test_without_keys_it_listens_on_no_other_address(
    department: Department, tmp_path: Path
) -> None:
    """With keys it tries to: the port is taken on purpose, so that this ends."""

    def start(host: str, data: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            module_command("api", "--host", host, "--port", str(department.system.port)),
            env={**department.system.environment, "KINDRED_DATA": str(data)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    for host in ("0.0.0.0", "::"):  # noqa: S104
        refused = start(host, tmp_path)
        assert refused.returncode == 78
        assert "kindred keys create" in refused.stderr
    KeyFile(tmp_path / "keys.json").create("ward 3", "search")
    assert start("0.0.0.0", tmp_path).returncode not in (0, 78)  # noqa: S104


def kindred(department: Department, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        module_command("cli", *words),
        env=department.system.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
