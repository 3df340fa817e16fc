"""Who is let in, to what, and from where: every route, without Redis and without a worker."""

import asyncio
import json
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import Request
from starlette.testclient import TestClient

from api.access import COOKIE, LOCAL, AccessControl
from api.app import create_app
from api.headers import DEFAULTS
from api.routes import jobs
from api.services import Collection
from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import Forbidden, LedgerUnavailable, RateLimited, Unauthorized
from pipeline.base.identity import point_id
from pipeline.base.keys import ROLES, KeyFile, Keys
from pipeline.base.settings import Settings

# Every call under /v1, and the least role that it needs.
NEEDED = {
    "GET /v1/session": "search",
    "POST /v1/searches": "search",
    "POST /v1/searches/batch": "search",
    "POST /v1/renderings": "search",
    "POST /v1/explanations": "search",
    "GET /v1/explanations/{identifier}": "search",
    "GET /v1/searches/{identifier}": "search",
    "GET /v1/images": "search",
    "GET /v1/images/{image_id}": "search",
    "GET /v1/images/{image_id}/preview": "search",
    "GET /v1/collection": "search",
    "GET /v1/facets": "search",
    "POST /v1/jobs": "ingest",
    "GET /v1/jobs": "ingest",
    "GET /v1/jobs/{job}": "ingest",
    "GET /v1/jobs/{job}/rejections": "ingest",
    "GET /v1/jobs/{job}/skipped": "ingest",
    "GET /v1/jobs/{job}/deidentification": "ingest",
    "GET /v1/jobs/{job}/drift": "ingest",
    "GET /v1/jobs/{job}/events": "ingest",
    "POST /v1/jobs/{job}/cancel": "ingest",
    "POST /v1/jobs/{job}/pause": "ingest",
    "POST /v1/jobs/{job}/resume": "ingest",
    "POST /v1/jobs/{job}/retry": "ingest",
    "POST /v1/images": "ingest",
    "DELETE /v1/images/{image_id}": "admin",
    "POST /v1/deletions": "admin",
    "GET /v1/deletions/{deletion}": "admin",
    "POST /v1/deletions/{deletion}/lift": "admin",
    "POST /v1/comparisons": "admin",
    "GET /v1/comparisons": "admin",
    "GET /v1/comparisons/{comparison}": "admin",
    "POST /v1/evaluations": "ingest",
    "GET /v1/evaluations": "search",
    "GET /v1/evaluations/{evaluation}": "search",
    "POST /v1/label-audits": "admin",
    "GET /v1/label-audits": "admin",
    "GET /v1/label-audits/{audit}": "admin",
    "GET /v1/label-audits/{audit}/findings": "admin",
    "GET /v1/label-audits/{audit}/findings.csv": "admin",
    "POST /v1/label-audits/{audit}/findings/{finding}/confirm": "admin",
    "POST /v1/label-audits/{audit}/findings/{finding}/dismiss": "admin",
    "POST /v1/label-audits/{audit}/findings/{finding}/undo": "admin",
    "POST /v1/pseudonyms/rotate": "admin",
    "POST /v1/pseudonyms/names": "admin",
    "GET /v1/quarantine": "admin",
    "GET /v1/quarantine/{image_id}": "admin",
    "GET /v1/quarantine/{image_id}/picture": "admin",
    "GET /v1/quarantine/{image_id}/preview": "admin",
    "POST /v1/quarantine/{image_id}/release": "admin",
    "POST /v1/quarantine/{image_id}/refuse": "admin",
    "POST /v1/quarantine/release": "admin",
    "POST /v1/quarantine/refuse": "admin",
    "POST /v1/quarantine/allow": "admin",
    "GET /v1/backup/ledger": "admin",
    "GET /v1/backup/keys": "admin",
    "GET /v1/backup/blobs": "admin",
}
NEEDED |= {
    call.replace("/v1/", "/v1/collections/{collection}/"): role
    for call, role in NEEDED.items()
    if not call.endswith("/session")
}
NEEDED["GET /v1/collections"] = "search"
for path in ("studies", "studies/{study}"):
    NEEDED[f"POST /dicom-web/{path}"] = "ingest"
    NEEDED[f"POST /v1/collections/{{collection}}/dicom-web/{path}"] = "ingest"
EVENTS = "GET /v1/jobs/{job}/events"
NEEDED["POST /v1/opened"] = "search"
OPEN = {"GET /healthz", "GET /readyz", "GET /open", "POST /v1/session", "DELETE /v1/session"}
ANY_KEY = {"GET /metrics"}


class Api:
    """The app in this process, with its keys. Redis is away."""

    def __init__(self, folder: Path, **settings) -> None:
        self.settings = Settings(data=folder, redis_url=f"unix://{folder}/no.sock", **settings)
        self.file = KeyFile(self.settings.keys_file)
        app = create_app(self.settings, Keys(self.file, self.settings.api_keys))
        self.http = TestClient(app, "http://127.0.0.1", raise_server_exceptions=False)

    def key(self, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.file.create(f'a {role}', role)[1]}"}

    def audit(self) -> list[dict]:
        lines = Path(self.settings.audit_file).read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def api(tmp_path) -> Api:
    return Api(tmp_path)


def finished(work: Coroutine) -> Any:
    """Its result, from a thread of its own: in this one a browser's loop may be running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def documented(api: Api) -> set[str]:
    paths = api.http.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def call(api: Api, name: str, **given):
    method, path = name.split()
    return api.http.request(
        method,
        path.format(
            image_id="I",
            job="J",
            identifier="S",
            deletion="D",
            evaluation="E",
            comparison="C",
            audit="A",
            finding="F",
            collection="kindred",
            study="1.2",
        ),
        follow_redirects=False,
        **given,
    )


# --- roles ---------------------------------------------------------------------------------------


def test_this_file_knows_every_call(api):
    assert documented(api) == NEEDED.keys() | OPEN | ANY_KEY


def test_every_call_needs_a_key_once_there_is_one(api):
    api.key("search")
    for name in NEEDED.keys() | ANY_KEY:
        for headers in ({}, {"Authorization": "Bearer kindred_0_0"}, {"Authorization": "Basic a"}):
            answer = call(api, name, headers=headers)
            assert answer.status_code == 401, name
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
    for name in OPEN:
        assert call(api, name).status_code not in (401, 403), name


def test_every_call_needs_its_role_and_says_which(api):
    for role in ROLES:
        headers = api.key(role)
        for name, needed in NEEDED.items():
            answer = call(api, name, headers=headers)
            allowed = ROLES.index(role) >= ROLES.index(needed)
            assert (answer.status_code == 403) is not allowed, (role, name, answer.text)
            assert answer.status_code != 401
            if not allowed:
                assert f"the role {needed}" in answer.json()["detail"]
        for name in ANY_KEY:
            assert call(api, name, headers=headers).status_code not in (401, 403)


def test_without_keys_whoever_is_at_the_machine_may_do_anything(api):
    for name in NEEDED.keys() | ANY_KEY:
        assert call(api, name).status_code not in (401, 403), name
    assert api.http.get("/v1/session").json() == {"role": "admin", "name": "local", "keys": False}


def test_a_key_is_taken_and_refused_without_a_restart(api):
    assert api.http.get("/v1/session").status_code == 200
    key, text = api.file.create("ward 3", "search")
    headers = {"Authorization": f"Bearer {text}"}
    assert api.http.get("/v1/session").status_code == 401
    assert api.http.get("/v1/session", headers=headers).json()["name"] == "ward 3"

    api.file.revoke(key.id)
    assert api.http.get("/v1/session", headers=headers).status_code == 401


@pytest.mark.parametrize("given", ["key", "session", "nothing"])
def test_a_stream_ends_with_what_it_was_opened_by(signed_in, monkeypatch, given):
    """A job's progress can go on for hours."""
    access, cookie, file = signed_in
    key, text = file.create("ward 4", "ingest")
    with_key = {"Authorization": f"Bearer {text}"}
    opened = request("GET", **(cookie if given == "session" else with_key))
    if given == "nothing":  # as long as there is no key
        opened = request("GET")
        access = replace(access, keys=Keys(KeyFile(file.path.with_name("none.json")), ()))
    views = iter(range(100))
    record = SimpleNamespace(final=False)
    collection = SimpleNamespace(
        services=SimpleNamespace(access=access),
        ledger=SimpleNamespace(jobs=SimpleNamespace(get=lambda job: record)),
    )
    monkeypatch.setattr(jobs, "EVENT_INTERVAL", 0)
    monkeypatch.setattr(jobs.JobView, "of", lambda record: {"turn": next(views)})

    async def read() -> int:
        count = 0
        async for _ in jobs.events("J", opened, collection):
            count += 1
            if count == 3:
                access.keys.file.create("first", "search")
                file.revoke(key.id if given == "key" else file.read()[0].id)
        return count

    assert finished(read()) == 3


def test_a_file_of_keys_that_is_broken_lets_nobody_in(api):
    api.file.path.write_text("nonsense")
    answer = api.http.get("/v1/session")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("keys-unavailable")


def test_a_body_is_not_read_before_the_key(api):
    api.key("search")
    read, sent = [], []

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/v1/images", "headers": headers,
             "query_string": b""}  # fmt: skip
    finished(api.http.app(scope, receive, send))

    assert sent[0]["status"] == 401
    assert not read


# --- where a call comes from ---------------------------------------------------------------------

OURS = {"Sec-Fetch-Site": "same-origin"}
TYPED = {"Sec-Fetch-Site": "none"}
ORIGIN = {"Origin": "http://127.0.0.1"}
SILENT: dict[str, str] = {}
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
    {"Origin": "http://elsewhere.example"},
    {"Origin": "http://127.0.0.1:8001"},
    {"Origin": "http://127.0.0.1.elsewhere.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
]


class Sessions:
    def __init__(self, **held: str) -> None:
        self.held = held

    def key_of(self, token: str) -> str | None:
        return self.held.get(token)


class Calls:
    """Counts in memory."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def count(self, who: str) -> tuple[int, int]:
        self.counts[who] = self.counts.get(who, 0) + 1
        return self.counts[who], 7


def request(method="POST", path="/v1/searches", host="127.0.0.1", **headers) -> Request:
    named = {"Host": host, **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = [(k.lower().encode(), v.encode()) for k, v in named.items()]
    return Request({"type": "http", "method": method, "path": unquote(path),
                    "raw_path": path.encode(), "headers": lines,
                    "query_string": b"", "client": ("10.0.0.7", 1)})  # fmt: skip


@pytest.fixture
def signed_in(tmp_path) -> tuple[AccessControl, dict[str, str], KeyFile]:
    """A access, the headers of a session that it knows, and the file of the session's key."""
    file = KeyFile(tmp_path / "keys.json")
    key, _ = file.create("ward 3", "search")
    access = AccessControl(Keys(file, ()), Sessions(token=key.id), Calls(), 5)
    return access, {"Cookie": f"{COOKIE}=token"}, file


@pytest.mark.parametrize("where", [OURS, TYPED, ORIGIN])
def test_a_cookie_lets_our_own_page_in(signed_in, where):
    access, cookie, _ = signed_in
    assert access.admit(request(**cookie, **where)).name == "ward 3"


@pytest.mark.parametrize("where", [*FOREIGN, SILENT])
def test_a_cookie_changes_nothing_for_another_sites_page(signed_in, where):
    access, cookie, _ = signed_in
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        with pytest.raises(Forbidden):
            access.admit(request(method, **cookie, **where))
    assert access.admit(request("GET", **cookie, **where))


def test_a_session_ends_with_its_key(signed_in):
    access, cookie, file = signed_in
    assert access.admit(request(**cookie, **OURS))
    file.revoke(file.read()[0].id)
    with pytest.raises(Unauthorized):
        access.admit(request(**cookie, **OURS))


def test_a_wrong_key_is_not_mended_by_a_cookie(signed_in):
    access, cookie, _ = signed_in
    with pytest.raises(Unauthorized):
        access.admit(request(**cookie, **OURS, Authorization="Bearer wrong"))


def test_a_key_needs_no_browsers_word(api):
    for where in (*FOREIGN, SILENT):
        answer = api.http.post("/v1/searches", headers={**api.key("search"), **where})
        assert answer.status_code not in (401, 403)


@pytest.mark.parametrize("where", FOREIGN)
def test_without_keys_another_sites_page_changes_nothing(api, where):
    for name in NEEDED.keys() | {"POST /v1/session", "DELETE /v1/session"}:
        refused = call(api, name, headers=where).status_code == 403
        assert refused is not name.startswith("GET"), name


@pytest.mark.parametrize("where", [OURS, TYPED, ORIGIN, SILENT])
def test_without_keys_our_page_and_programs_may(api, where):
    assert call(api, "POST /v1/jobs", headers=where).status_code not in (401, 403)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:8000", True),
        ("[::1]:8000", True),
        ("elsewhere.example:8000", False),
        ("127.0.0.1.elsewhere.example", False),
        ("localhost.elsewhere.example", False),
        ("127.0.0.1@elsewhere.example", False),
        ("10.0.0.7", False),
        ("", False),
        ("[", False),
        ("[::1", False),
        ("]", False),
    ],
)
def test_without_keys_only_names_of_this_machine_answer(api, host, allowed):
    for name in NEEDED.keys() | ANY_KEY:
        answer = call(api, name, headers={"Host": host})
        assert (answer.status_code != 403) is allowed, name


def test_with_keys_any_name_answers(api):
    answer = api.http.get("/v1/session", headers={**api.key("search"), "Host": "kindred.hospital"})
    assert answer.status_code == 200


# --- limits --------------------------------------------------------------------------------------


def test_a_key_has_so_many_calls_a_minute_and_previews_do_not_count(signed_in):
    access, cookie, _ = signed_in
    for _ in range(20):
        access.admit(request("GET", "/v1/images/a/preview", **cookie))
    for _ in range(5):
        access.admit(request("GET", **cookie))
    with pytest.raises(RateLimited) as refused:
        access.admit(request("GET", **cookie))
    assert refused.value.retry_after == 7


def test_only_previews_do_not_count(signed_in):
    """The last part of an image's id, with %2F, is none; such a call asks a worker."""
    access, cookie, _ = signed_in
    for _ in range(5):
        access.admit(request("GET", "/v1/images/a%2Fpreview", **cookie))
    with pytest.raises(RateLimited):
        access.admit(request("GET", "/v1/images/a%2Fpreview", **cookie))


def test_without_keys_there_is_no_limit(tmp_path):
    access = AccessControl(Keys(KeyFile(tmp_path / "keys.json"), ()), Sessions(), Calls(), 5)
    assert [access.admit(request("GET")) for _ in range(20)] == [LOCAL] * 20


def test_signing_in_is_limited_by_address(signed_in):
    access, _, _ = signed_in
    for _ in range(10):
        with pytest.raises(Unauthorized):
            access.sign_in(request(), "wrong")
    with pytest.raises(RateLimited):
        access.sign_in(request(), "wrong")


def test_with_redis_away_a_key_is_let_in(signed_in):
    class Away(Calls):
        def count(self, who):
            raise LedgerUnavailable("away")

    access, _, file = signed_in
    _, text = file.create("ward 4", "search")
    there = AccessControl(access.keys, access.sessions, Away(), 1)
    for _ in range(3):
        assert there.admit(request(Authorization=f"Bearer {text}")).name == "ward 4"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"dataset": "a/b", "id_column": "\ud800"}),
        ("/v1/deletions", {"field": "lesion_id", "value": "\ud800"}),
        ("/v1/searches/batch", {"searches": [{"image_id": "a", "ids": ["\ud800"]}]}),
    ],
)
def test_text_that_is_no_text_is_refused(api, path, body, monkeypatch):
    """Python's parser of JSON takes it, and nothing else does."""
    monkeypatch.setattr(Collection, "refuse_when_full", lambda self: None)
    json_of = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
    answer = api.http.post(path, **json_of)
    assert answer.status_code == 422, answer.text
    assert "Unicode" in answer.json()["detail"]


# --- headers -------------------------------------------------------------------------------------


def test_every_answer_has_the_headers_and_keeps_its_own(api):
    too_large = {"content": b"x" * 33_000_000, "headers": {"Content-Type": "application/json"}}
    answers = [
        *(call(api, name) for name in (NEEDED.keys() | OPEN | ANY_KEY) - {EVENTS}),
        api.http.get("/nowhere"),
        api.http.put("/v1/jobs"),
        api.http.get("/v1/jobs", headers={"Host": "elsewhere.example"}),
        api.http.post("/v1/jobs", **too_large),
    ]
    assert answers[-1].status_code == 413
    for answer in answers:
        for name, value in DEFAULTS.items():
            assert answer.headers[name] == value, (answer.url, name)

    Blobs(api.settings.blobs_of("kindred")).write(preview_name(point_id("I")), b"a picture")
    preview = call(api, "GET /v1/images/{image_id}/preview")
    assert preview.headers["Cache-Control"].startswith("private")
    assert preview.headers.get_list("X-Content-Type-Options") == ["nosniff"]


def test_nothing_is_served_that_loads_from_another_host(api):
    for path in ("/docs", "/redoc"):
        assert api.http.get(path).status_code == 404
