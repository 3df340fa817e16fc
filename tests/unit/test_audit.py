"""The audit log: one line a call, before its answer, and never lost in silence."""

import io
import json
import os
import stat

import pytest

from api.access import COOKIE, Caller
from api.audit import AuditLog, Entry, images_in
from api.gate import RESOURCES
from pipeline.base.blobs import Blobs, preview_name
from pipeline.base.errors import AuditUnavailable
from pipeline.base.identity import point_id
from pipeline.ledger import SessionLedger
from pipeline.ledger.jobs import JobLedger
from tests.unit.test_access import Api

CALLER = Caller("0a1b2c3d", "ward 3", "search")


@pytest.fixture
def api(tmp_path) -> Api:
    return Api(tmp_path)


def test_a_line_says_who_when_what_and_which(tmp_path):
    log = AuditLog(str(tmp_path / "logs" / "audit.jsonl"))
    entry = Entry(CALLER, images=["A"], shown=["A", "B"], search="S")

    log.write(entry.line("POST /v1/searches", {}, 200))
    log.write(Entry(CALLER).line("DELETE /v1/images/{image_id}", {"image_id": "C"}, 200))

    first, second = map(json.loads, (tmp_path / "logs" / "audit.jsonl").read_text().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "key": "0a1b2c3d", "name": "ward 3", "call": "POST /v1/searches", "status": 200,
        "search": "S", "images": ["A"], "shown": ["A", "B"],
    }  # fmt: skip
    assert second["images"] == ["C"]
    assert stat.S_IMODE((tmp_path / "logs" / "audit.jsonl").stat().st_mode) == 0o600


def test_a_log_that_is_moved_away_is_begun_anew(tmp_path):
    file = tmp_path / "audit.jsonl"
    log = AuditLog(str(file))
    log.write({"n": 1})
    file.rename(tmp_path / "audit.1")
    log.write({"n": 2})

    assert (tmp_path / "audit.1").read_text() == '{"n": 1}\n'
    assert file.read_text() == '{"n": 2}\n'


def test_a_dash_is_standard_output(monkeypatch):
    monkeypatch.setattr("sys.stdout", out := io.StringIO())
    AuditLog("-").write({"n": 1})
    assert out.getvalue() == '{"n": 1}\n'


def test_an_id_cannot_forge_a_line(api):
    api.http.get("/v1/images/A%22%2C%22key%22%3A%22other/preview")
    [line] = api.audit()
    assert (line["key"], line["images"]) == ("local", ['A","key":"other'])


def test_without_a_log_there_is_no_start_and_no_answer(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditUnavailable, match="File exists"):
        AuditLog(str(tmp_path / "file" / "audit.jsonl"))

    api = Api(tmp_path / "data")
    Blobs(api.settings.blobs_of("kindred")).write(preview_name(point_id("I")), b"a picture")
    assert api.http.get("/v1/images/I/preview").content == b"a picture"
    log = tmp_path / "data" / "logs" / "audit.jsonl"
    log.unlink()
    log.mkdir()
    answer = api.http.get("/v1/images/I/preview")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("audit-unavailable")
    assert b"a picture" not in answer.content


def test_half_a_line_is_no_line(tmp_path, monkeypatch):
    """A nearly full disk takes a part of what is written, and tells by its length alone."""
    log = AuditLog(str(tmp_path / "audit.jsonl"))
    log.write({"n": 0})
    write = os.write
    with monkeypatch.context() as nearly_full, pytest.raises(AuditUnavailable, match="No space"):
        nearly_full.setattr(os, "write", lambda file, data: write(file, data[:5]))
        log.write({"n": 1})

    log.write({"n": 2})
    assert (tmp_path / "audit.jsonl").read_text() == '{"n": 0}\n{"n": 2}\n'


def test_refusals_of_a_known_key_are_logged_and_floods_of_unknown_ones_are_not(api):
    headers = api.key("search")
    api.http.get("/v1/jobs", headers=headers)
    api.http.get("/v1/jobs")
    api.http.get("/v1/nowhere", headers=headers)
    api.http.get("/healthz")

    assert told(api) == [("GET /v1/jobs", 403, "a search"), ("GET /v1/…", 404, "a search")]


def told(api: Api) -> list[tuple]:
    return [(line["call"], line["status"], line["name"]) for line in api.audit()]


def test_an_answer_that_nobody_expected_is_logged_and_has_the_headers_of_all(api, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("Doe, Jane")

    monkeypatch.setattr(Blobs, "read", broken)
    answer = api.http.get("/v1/images/I/preview")

    assert (answer.status_code, answer.json()["type"]) == (
        500,
        "urn:kindred:problem:internal-error",
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Jane" not in answer.text
    assert told(api) == [("GET /v1/images/{image_id}/preview", 500, "local")]


def test_progress_that_goes_wrong_is_logged(api, monkeypatch):
    monkeypatch.setattr(JobLedger, "get", lambda *_: 1 / 0)
    assert api.http.get("/v1/jobs/J").status_code == 500
    assert told(api) == [("GET /v1/jobs/{job}", 500, "local")]


def test_what_the_gate_refuses_of_a_known_key_is_logged(api):
    headers = api.key("ingest")
    compressed = {**headers, "Content-Encoding": "gzip"}
    api.http.post("/v1/searches", content=b"x", headers=compressed)
    api.http.post("/v1/jobs/Doe-Jane/cancel", content=b"x", headers=compressed)
    api.http.post("/v1/Doe-Jane", content=b"x", headers=compressed)
    api.http.post("/v1/collections/Doe-Jane/jobs", content=b"x", headers=compressed)
    api.http.put("/v1/jobs", headers=headers)
    api.http.post("/v1/jobs", headers={**headers, "Transfer-Encoding": "x", "Content-Length": "0"})
    api.http.post("/v1/jobs", content=b"x" * 33_000_000, headers=headers)
    api.http.post("/v1/searches", content=b"x", headers={"Content-Encoding": "gzip"})

    assert told(api) == [
        ("POST /v1/searches", 415, "a ingest"),
        ("POST /v1/jobs/…", 415, "a ingest"),
        ("POST /v1/…", 415, "a ingest"),
        ("POST /v1/collections/…", 415, "a ingest"),
        ("PUT /v1/jobs", 405, "a ingest"),
        ("POST /v1/jobs", 400, "a ingest"),
        ("POST /v1/jobs", 413, "a ingest"),
    ]


def test_of_a_refused_call_the_log_knows_whose_session_it_came_with(api, monkeypatch):
    key, _ = api.file.create("ward 3", "search")
    monkeypatch.setattr(SessionLedger, "key_of", lambda *_: key.id)
    cookie = {"Cookie": f"{COOKIE}=token", "Sec-Fetch-Site": "cross-site"}

    assert api.http.post("/v1/searches", headers=cookie).status_code == 403
    assert told(api) == [("POST /v1/searches", 403, "ward 3")]


def test_who_has_no_key_cannot_fill_the_disk_at_the_sign_in(api):
    """Only an attempt with a key is logged, and of these an address has ten a minute."""
    api.key("search")
    for body in (b"", b"{}", b"x" * 5_000):
        json_of = {"content": body, "headers": {"Content-Type": "application/json"}}
        assert api.http.post("/v1/session", **json_of).status_code in (413, 422)
    assert api.http.delete("/v1/session").status_code == 204
    assert api.http.put("/v1/session").status_code == 401
    assert api.audit() == []

    api.http.post("/v1/session", json={"key": "wrong"})
    assert told(api) == [("POST /v1/session", 401, None)]


def test_every_resource_is_known_to_the_log(api):
    paths = api.http.get("/openapi.json").json()["paths"]
    below = {path.split("/")[2] for path in paths if path.startswith("/v1/")}
    assert below - {"session"} == RESOURCES


def test_progress_of_jobs_is_not_logged(api):
    for path in ("/v1/jobs", "/v1/jobs/J", "/v1/session"):
        api.http.get(path)
    assert api.audit() == []
    api.http.get("/v1/jobs/J/rejections")
    assert [line["job"] for line in api.audit()] == ["J"]


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"results": []}, []),
        ({"results": [{"image_id": "A", "score": 1}, {"image_id": "B"}]}, ["A", "B"]),
        ({"results": [{"image_id": "A", "others": [{"image_id": "C"}]}]}, ["A", "C"]),
        (
            {"results": [[{"image_id": "A"}], [], [{"image_id": "B"}, {"image_id": "A"}]]},
            ["A", "B"],
        ),
        ({"results": [None, [{"image_id": "A"}]]}, ["A"]),
        ({"images": [{"image_id": "A", "payload": {"image_id": "x"}}], "cursor": None}, ["A"]),
        ({"image_id": "A", "payload": {}}, ["A"]),
        ({"count": 3, "facets": {}}, []),
    ],
)
def test_the_images_of_every_kind_of_answer_are_found(answer, ids):
    assert images_in(json.dumps(answer).encode()) == ids
