"""The api as clients call it that write HTTP in other ways than ours do."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from api.services import share_of
from pipeline.base.blobs import (
    deletion_folder,
    manifest_of,
    preview_name,
    request_folder,
    upload_folder,
)
from pipeline.base.errors import LedgerUnavailable, QueryGone
from pipeline.base.identity import point_id
from pipeline.base.keys import KeyFile
from pipeline.ledger import Lease
from pipeline.ledger.jobs import JobLedger
from pipeline.messages import Problem, UploadManifest, problem
from tests.made_bytes import drawing, encoded
from tests.memory_api import MemoryApi

ANSWER = b'{"id": "any", "state": "succeeded", "error": null, "results": []}'
JSON = "application/json"
SECRET = "Doe, Jane"


@pytest.fixture
def api(tmp_path: Path) -> MemoryApi:
    return MemoryApi(tmp_path)


def form(*parts: tuple[str, bytes], kind: str = "multipart/form-data; boundary=edge") -> Any:
    """By hand: clients' libraries would write it as ours do."""
    body = b"".join(
        b"--edge\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    return {"content": body + b"--edge--\r\n", "headers": {"Content-Type": kind}}


# --- media types, forms, preferences --------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data; boundary=edge",
        "Multipart/Form-Data; Boundary=edge",
        'MULTIPART/FORM-DATA;boundary="edge"',
    ],
)
def test_a_form_is_one_however_its_type_is_written(api: MemoryApi, kind: str) -> None:
    picture = ('name="image"; filename="a.png"', encoded(drawing(8, 8), "PNG"))
    file = ('name="files"; filename="a.png"', b"a picture")

    assert api.http.post("/v1/searches", **form(picture, kind=kind)).status_code == 202
    assert api.http.post("/v1/images", **form(file, kind=kind)).status_code == 202


@pytest.mark.parametrize("kind", ["APPLICATION/JSON", 'application/json; charset="utf-8"'])
def test_json_is_json_however_its_type_is_written(api: MemoryApi, kind: str) -> None:
    for path, body in (
        ("/v1/searches", b'{"image_id": "A"}'),
        ("/v1/searches/batch", b'{"searches": [{"image_id": "A"}]}'),
        ("/v1/jobs", b'{"dataset": "/scans"}'),
    ):
        answer = api.http.post(path, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    "name",
    [
        "filename*=UTF-8''a.png",
        "filename*=utf-8'de'Mutterm%C3%A4ler.png",
        "FILENAME*=ISO-8859-1''M%E4ler.png",
        "filename=a.png; filename*=UTF-8''b.png",
        "filename*=UTF-8''%ff",
        "filename*=no-such-encoding''a",
    ],
)
def test_a_file_with_an_extended_name_is_a_file(api: MemoryApi, name: str) -> None:
    picture = encoded(drawing(8, 8), "PNG")

    found = api.http.post("/v1/searches", **form((f'name="image"; {name}', picture)))
    sent = api.http.post("/v1/images", **form((f'name="files"; {name}', picture)))

    assert (found.status_code, sent.status_code) == (202, 202), found.text + sent.text
    [file] = manifest(api, sent.json()["id"]).files
    assert api.blobs.read(file.blob) == picture


def manifest(api: MemoryApi, job: str) -> UploadManifest:
    return UploadManifest.model_validate_json(api.blobs.read(manifest_of(upload_folder(job))))


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ([('name="metadata"', b"[]")], "files"),
        ([('name="files"', b"text")], "files"),
        ([('name="files"; filename="a"', b"x"), ('name="metadata"; filename="m"', b"[{}]")],
         "metadata"),
    ],
)  # fmt: skip
def test_an_upload_says_which_field_is_wrong(api: MemoryApi, parts: Any, path: str) -> None:
    answer = api.http.post("/v1/images", **form(*parts))

    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["errors"]] == [path]


def test_what_is_no_form_is_no_upload(api: MemoryApi) -> None:
    answer = api.http.post("/v1/images", json=[{}])

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "multipart/form-data" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (["wait=7"], 7),
        (["WAIT=7"], 7),
        (['wait="7"'], 7),
        (["Wait = 7"], 7),
        (["respond-async, wait=7; x=1"], 7),
        (["respond-async", "wait=7"], 7),
        (["wait=7, wait=9"], 7),
        (["wait=99999999999999999999"], 60),
        (['note="a, wait=3", wait=7'], 7),
        (["dont-wait=7"], 0),
        (["wait=soon"], 0),
        (["wait=²"], 0),
        ([], 0),
    ],
)
def test_a_preference_is_read_as_its_rfc_says(
    api: MemoryApi, prefer: list[str], seconds: float
) -> None:
    headers: Any = [(b"Prefer", each.encode("latin-1")) for each in prefer]

    api.http.post("/v1/searches", json={"image_id": "A"}, headers=headers)

    assert api.waited == [seconds]


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gzip", "GZIP", "deflate", "br", "identity, gzip"])
def test_a_compressed_body_is_called_that(api: MemoryApi, kind: str) -> None:
    body = gzip.compress(b'{"image_id": "A"}')
    for path in ("/v1/searches", "/v1/searches/batch", "/v1/jobs", "/v1/images", "/v1/session"):
        headers = {"Content-Type": JSON, "Content-Encoding": kind}
        answer = api.http.post(path, content=body, headers=headers)

        assert answer.status_code == 415, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["Accept-Encoding"] == "identity"
        assert "compressed" in answer.json()["detail"]


def test_a_body_that_is_said_to_be_as_it_is_is_taken(api: MemoryApi) -> None:
    for kind in ("identity", "Identity", ""):
        headers = {"Content-Encoding": kind}
        answer = api.http.post("/v1/searches", json={"image_id": "A"}, headers=headers)
        assert answer.status_code == 202


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-be"),
    ],
    ids=["utf-8 with a mark", "utf-16 with a mark", "utf-16-be"],
)
def test_json_is_read_in_every_encoding_wherever_it_comes(api: MemoryApi, encode: Any) -> None:
    for path, body in (
        ("/v1/searches", {"image_id": "Ä"}),
        ("/v1/searches/batch", {"searches": [{"image_id": "Ä"}]}),
        ("/v1/jobs", {"dataset": "/scans"}),
        ("/v1/deletions", {"image_ids": ["Ä"]}),
    ):
        content = encode(json.dumps(body, ensure_ascii=False))
        answer = api.http.post(path, content=content, headers={"Content-Type": JSON})
        assert answer.status_code == 202, (path, answer.text)


def test_a_byte_order_mark_is_no_fault_in_a_field_or_an_address_either(api: MemoryApi) -> None:
    mark = codecs.BOM_UTF8
    picture = ('name="image"; filename="a.png"', encoded(drawing(8, 8), "PNG"))
    file = ('name="files"; filename="a.png"', b"a picture")
    api.answer_at_once(b"{}")

    query = form(picture, ('name="query"', mark + b'{"limit": 3}'))
    metadata = form(file, ('name="metadata"', mark + b'[{"image_id": "A"}]'))
    assert api.http.post("/v1/searches", **query).is_success
    assert api.http.post("/v1/images", **metadata).is_success
    assert api.http.get("/v1/facets", params={"filter": "\ufeff{}"}).is_success


def test_bytes_that_no_encoding_fits_are_refused(api: MemoryApi) -> None:
    for content in (
        b'{"image_id": "\xff"}',
        codecs.BOM_UTF8 + b'{"image_id": "\xff"}',
        b"\xff\xfe{",
    ):
        answer = api.http.post("/v1/searches", content=content, headers={"Content-Type": JSON})
        assert answer.status_code == 422, answer.text


# --- HEAD -----------------------------------------------------------------------------------------


def test_head_answers_as_get_does_without_a_body(api: MemoryApi) -> None:
    api.blobs.write(preview_name(point_id("A/B")), b"a jpeg")

    for path in ("/", "/healthz", "/readyz", "/v1/images/A%2FB/preview", "/v1/images/C/preview"):
        got, head = api.http.get(path), api.http.head(path)
        assert head.status_code == got.status_code, path
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers.get("etag") == got.headers.get("etag")
    assert api.http.head("/").status_code == 200
    assert api.http.head("/v1/images/A%2FB/preview").headers["content-length"] == "6"


# --- query parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("/v1/jobs?limt=3", "Did you mean limit?"),
        ("/v1/jobs?STATE=failed", "Did you mean state?"),
        ("/v1/jobs?x=1", "takes cursor, limit, state"),
        ("/v1/images?limit=3&vector=true", "Did you mean vectors?"),
        ("/v1/facets?filters={}", "Did you mean filter?"),
        ("/v1/jobs/J?verbose=1", "takes none"),
        ("/v1/collections?limit=1", "takes none"),
        ("/v1/collections/kindred/jobs?limt=3", "Did you mean limit?"),
    ],
)
def test_a_parameter_that_there_is_not_is_refused(api: MemoryApi, address: str, says: str) -> None:
    answer = api.http.get(address)

    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_what_is_sent_as_a_parameter_is_not_repeated(api: MemoryApi) -> None:
    for query in ({"limt": SECRET}, {SECRET: "1"}):
        answer = api.http.get("/v1/jobs", params=query)
        assert answer.status_code == 422
        assert SECRET not in answer.text and "Jane" not in answer.text


# --- searches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer", [None, "wait=5"])
def test_a_finished_search_is_not_to_be_asked_for_again(api: MemoryApi, prefer: str | None) -> None:
    api.answer_at_once(ANSWER)

    answer = api.http.post(
        "/v1/searches", json={"image_id": "A"}, headers={"Prefer": prefer} if prefer else {}
    )

    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert "Retry-After" not in answer.headers
    assert answer.headers.get("Preference-Applied") == prefer


def test_a_search_says_when_to_look_again_until_it_is_finished(api: MemoryApi) -> None:
    sent = api.http.post("/v1/searches", json={"image_id": "A"})
    looked = api.http.get(sent.headers["Location"])
    api.ledger.requests.claim(sent.json()["id"], "worker")
    api.ledger.requests.fail(
        sent.json()["id"], Problem(type="t", title="T", status=422, detail="d")
    )
    ended = api.http.get(sent.headers["Location"])

    assert (sent.status_code, looked.status_code, ended.status_code) == (202, 200, 200)
    assert sent.headers["Retry-After"] == looked.headers["Retry-After"] == "1"
    assert ended.json()["state"] == "failed" and "Retry-After" not in ended.headers


# --- jobs -----------------------------------------------------------------------------------------


def pages(api: MemoryApi, **params: Any) -> list[list[str]]:
    found: list[list[str]] = []
    cursor = None
    while True:
        more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        page = api.http.get("/v1/jobs", params={**params, **more}).json()
        found.append([job["dataset"] for job in page["jobs"]])
        cursor = page["cursor"]
        if cursor is None:
            return found


def test_jobs_are_listed_page_by_page_in_the_states_that_are_wanted(api: MemoryApi) -> None:
    ids = {}
    for name in "abcdefg":
        ids[name] = api.http.post("/v1/jobs", json={"dataset": f"/{name}"}).json()["id"]
    for name in "bdf":
        api.http.post(f"/v1/jobs/{ids[name]}/cancel")
    api.http.post(f"/v1/jobs/{ids['c']}/pause")

    assert pages(api) == [["/g", "/f", "/e", "/d", "/c", "/b", "/a"]]
    assert pages(api, limit=3) == [["/g", "/f", "/e"], ["/d", "/c", "/b"], ["/a"]]
    assert pages(api, limit=7) == [["/g", "/f", "/e", "/d", "/c", "/b", "/a"]]
    assert pages(api, state="cancelled", limit=2) == [["/f", "/d"], ["/b"]]
    assert pages(api, state=["cancelled", "paused"], limit=2) == [["/f", "/d"], ["/c", "/b"]]
    assert pages(api, state="failed", limit=1) == [[]]


def test_jobs_that_come_between_two_pages_change_no_page(api: MemoryApi) -> None:
    for name in "abc":
        api.http.post("/v1/jobs", json={"dataset": f"/{name}"})
    first = api.http.get("/v1/jobs?limit=1").json()
    api.http.post("/v1/jobs", json={"dataset": "/later"})
    second = api.http.get("/v1/jobs", params={"limit": 2, "cursor": first["cursor"]}).json()

    assert [job["dataset"] for job in second["jobs"]] == ["/b", "/a"]


def test_a_cursor_or_a_state_that_there_is_not_is_refused(api: MemoryApi) -> None:
    for query in ({"cursor": "nope"}, {"state": "done"}, {"state": ""}):
        assert api.http.get("/v1/jobs", params=query).status_code == 422


# --- what the blobs do not have -------------------------------------------------------------------


def test_a_search_that_a_restored_ledger_names_without_its_blobs_is_404(api: MemoryApi) -> None:
    """A backup has the ledger; it has neither queries nor their answers."""
    for path, query in (
        ("/v1/searches", {"image_id": "A"}),
        ("/v1/searches/batch", {"searches": [{"image_id": "A"}]}),
    ):
        queued, answered, failed = (api.http.post(path, json=query).json()["id"] for _ in range(3))
        for search in (answered, failed):
            api.ledger.requests.claim(search, "worker")
        api.ledger.requests.succeed(answered)
        api.ledger.requests.fail(failed, problem(QueryGone("gone")))
        for search in (queued, answered, failed):
            api.blobs.delete(request_folder(search))
            answer = api.http.get(f"/v1/searches/{search}", headers={"Prefer": "wait=1"})
            assert answer.status_code == 404, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert "search again" in answer.json()["detail"]


def test_lists_of_a_job_whose_blobs_are_gone_have_no_names(api: MemoryApi) -> None:
    job = api.http.post("/v1/images", files={"files": ("a.png", b"a picture")}).json()["id"]
    api.blobs.delete(upload_folder(job))

    assert api.http.get(f"/v1/jobs/{job}/skipped").json() == {"skipped": [], "cursor": None}
    assert api.http.get(f"/v1/jobs/{job}").status_code == 200
    assert api.http.get("/v1/images/A/preview").status_code == 404


def test_a_receipt_that_is_gone_is_404(api: MemoryApi) -> None:
    deletion = api.http.post("/v1/deletions", json={"image_ids": ["A"]}).json()["id"]
    api.blobs.delete(deletion_folder(deletion))

    assert api.http.post(f"/v1/deletions/{deletion}/lift").status_code == 404


# --- a ledger that goes away in the middle --------------------------------------------------------


def test_what_is_recorded_is_accepted_though_redis_goes_away_before_it_is_dispatched(
    api: MemoryApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the caller would send it again, and be told that a cancelled job takes no cancel."""

    def away(_: JobLedger) -> list[Lease]:
        raise LedgerUnavailable("Redis does not answer.")

    monkeypatch.setattr(JobLedger, "dispatch", away)
    created = api.http.post("/v1/jobs", json={"dataset": "/any"})
    assert created.status_code == 202
    job = created.json()["id"]
    for action in ("pause", "resume", "cancel", "retry"):
        assert api.http.post(f"/v1/jobs/{job}/{action}").status_code == 200


# --- fair shares ----------------------------------------------------------------------------------


def test_a_caller_has_a_part_of_the_backlog_and_calls_that_others_make_do_not_count(
    tmp_path: Path,
) -> None:
    api = MemoryApi(tmp_path, search_backlog=20)
    query = {"json": {"image_id": "A"}}
    sent = [api.http.post("/v1/searches", **query) for _ in range(6)]
    assert [answer.status_code for answer in sent] == [202] * 5 + [429]
    kept = {name.split("/")[1] for name in api.blobs.walk("requests")}
    assert kept == {answer.json()["id"] for answer in sent[:5]}, "nothing of the one refused"

    keys = KeyFile(api.settings.keys_file)
    for name in ("one", "two"):
        headers = {"Authorization": f"Bearer {keys.create(name, 'search')[1]}"}
        statuses = [
            api.http.post("/v1/searches", **query, headers=headers).status_code for _ in range(6)
        ]
        assert statuses == [202] * 5 + [429]


@pytest.mark.parametrize(("backlog", "share"), [(200, 50), (20, 5), (8, 4), (4, 4), (3, 3), (1, 1)])
def test_a_share_is_a_quarter_and_at_least_a_few(backlog: int, share: int) -> None:
    assert share_of(backlog) == share
