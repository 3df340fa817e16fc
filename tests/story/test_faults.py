"""What goes wrong around the system, and what must hold all the same."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, Value
from PIL import Image as Pillow

from cli.processes import Program
from tests import real_qdrant
from tests.forked import ForkedWorker
from tests.system import WAIT, System, kill, until

SLOW = {"BATCH_SIZE": "2", "SHARD_SIZE": "16"}  # many checkpoints, so that a kill falls among them
MARK = "Zebedee-Quux-1931"  # stands for a patient's name


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("faults"), encoder, **SLOW) as running:
        yield running


def jpeg(shade: int, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", size, (shade, 255 - shade, 128)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_killed_worker_loses_nothing_and_repeats_nothing(system: System, drawn: Path) -> None:
    job = system.submit(drawn)["id"]
    for _ in range(2):
        before = system.job(job)["embedded"]
        view = until(
            lambda seen=before: (v := system.job(job))["embedded"] > seen and v, "more progress"
        )
        assert view["state"] == "running", "the job ended before it could be disturbed"
        kill(system.worker)
        system.worker.start()  # to wait until it is ready would give the job time to end

    ended = system.finished(job)
    assert (ended["state"], ended["total"]) == ("succeeded", 200)
    assert (ended["embedded"], ended["unchanged"], ended["rejected"]) == (200, 0, 0)
    ids = [image["point_id"] for image in system.indexed()]
    assert len(ids) == len(set(ids)) == system.count() == 200


def test_broken_rows_are_rejected_one_by_one(system: System, tmp_path: Path) -> None:
    good = jpeg(10)
    cells: list[bytes | None] = [jpeg(0), b"", b"<html>no image</html>", good[:-200], None, good]
    folder = _parquet(tmp_path, [{"image": c, "image_id": f"B{n}"} for n, c in enumerate(cells)])

    job = system.ingest(folder)

    assert job["state"] == "completed_with_rejections"
    assert (job["total"], job["embedded"], job["rejected"]) == (6, 2, 4)
    page = system.http.get(f"/v1/jobs/{job['id']}/rejections").json()["rejections"]
    assert [(r["image_id"], r["row"]) for r in page] == [("B1", 1), ("B2", 2), ("B3", 3), ("B4", 4)]
    assert all(r["reason"] for r in page)


def test_a_mended_row_is_all_that_a_retry_embeds(system: System, tmp_path: Path) -> None:
    rows = [{"image": jpeg(n), "image_id": f"M{n}"} for n in range(4)]
    folder = _parquet(tmp_path, [*rows[:3], {"image": b"broken", "image_id": "M3"}])
    first = system.ingest(folder)
    assert first["rejected"] == 1

    _parquet(tmp_path, rows)
    retried = system.http.post(f"/v1/jobs/{first['id']}/retry")
    assert retried.status_code == 200
    job = system.finished(first["id"])
    assert (job["state"], job["embedded"], job["rejected"]) == ("succeeded", 4, 0)


def test_metadata_follows_its_source_without_embedding(system: System, tmp_path: Path) -> None:
    rows = [{"image": jpeg(77), "image_id": "META1", "dx": "melanoma"}]
    system.ingest(_parquet(tmp_path, rows))
    rows[0]["dx"] = "dermatofibroma"

    job = system.ingest(_parquet(tmp_path, rows))

    assert (job["embedded"], job["updated"]) == (0, 1)
    payload = system.http.get("/v1/images/META1").json()["payload"]
    assert payload["dx"] == "dermatofibroma"


def test_pause_resume_and_cancel_take_hold(system: System, drawn: Path, encoder: Path) -> None:
    job = system.submit(drawn, id_column="lesion_id")["id"]
    paused = system.http.post(f"/v1/jobs/{job}/pause").json()
    assert paused["state"] == "paused"
    assert system.http.post(f"/v1/jobs/{job}/pause").status_code == 409
    assert system.http.post(f"/v1/jobs/{job}/resume").status_code == 200
    assert system.finished(job)["state"] == "completed_with_rejections"  # lesions of two images

    second = system.submit(drawn, limit=100, id_column="lesion_id")["id"]
    assert system.http.post(f"/v1/jobs/{second}/cancel").json()["state"] == "cancelled"
    assert system.http.post(f"/v1/jobs/{second}/resume").status_code == 409
    assert system.job(second)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"dataset": "/no/such/folder"}, "/no/such/folder"),
        ({"dataset": "{drawn}", "split": "tset"}, "tset"),
        ({"dataset": "{drawn}", "image_column": "picture"}, "picture"),
        ({"dataset": "{drawn}", "id_column": "number"}, "number"),
    ],
)
def test_a_source_that_cannot_be_read_fails_its_job_and_says_why(
    system: System, drawn: Path, request_: dict[str, str], says: str
) -> None:
    body = {name: value.format(drawn=drawn) for name, value in request_.items()}

    job = system.finished(system.http.post("/v1/jobs", json=body).json()["id"])

    assert job["state"] == "failed"
    assert says in job["error"]["detail"]


def test_uploads_become_a_job_and_can_be_deleted(system: System) -> None:
    answer = system.http.post(
        "/v1/images",
        files=[("files", ("a.jpg", jpeg(1))), ("files", ("b.jpg", b"nothing"))],
        data={"metadata": '[{"image_id": "UP1", "sex": "female"}, {"image_id": "UP2"}]'},
    )
    job = system.finished(answer.json()["id"])
    assert (job["embedded"], job["rejected"]) == (1, 1)
    assert system.http.get("/v1/images/UP1").json()["payload"]["sex"] == "female"
    assert system.http.get("/v1/images/UP1/preview").status_code == 200

    assert system.http.delete("/v1/images/UP1").json()["image_ids"] == ["UP1"]
    assert system.http.get("/v1/images/UP1").status_code == 404
    assert system.http.get("/v1/images/UP1/preview").status_code == 404


def test_uploads_without_an_id_are_known_by_their_bytes(system: System) -> None:
    def upload() -> dict[str, Any]:
        files = [("files", ("x.jpg", jpeg(200)))]
        return system.finished(system.http.post("/v1/images", files=files).json()["id"])

    assert upload()["embedded"] == 1
    assert upload()["unchanged"] == 1


@pytest.mark.parametrize(
    ("image", "status"),
    [(b"", 422), (b"GIF or not", 422), (b"\xff" * 40_000_000, 413)],
    ids=["empty", "no image", "too large"],
)
def test_an_upload_that_cannot_be_searched_is_refused(
    system: System, image: bytes, status: int
) -> None:
    answer = system.http.post("/v1/searches", files={"image": image})

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_truncated_upload_fails_its_search_and_says_why(system: System) -> None:
    search = system.search([jpeg(9, (400, 300))[:-500]])

    assert search["state"] == "failed"
    assert search["error"]["status"] == 422


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ({"filter": {"must": [{"key": "age", "range": {"gtx": 3}}]}}, "filter.must.0.range.gtx"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_000}, "limit"),
        ({"score_threshold": 3}, "score_threshold"),
        ({"limt": 3}, "limt"),
        ({"text": "melanoma"}, "image_id"),
    ],
)
def test_a_query_that_makes_no_sense_names_the_place(
    system: System, query: dict[str, Any], place: str
) -> None:
    answer = system.http.post("/v1/searches", json={"image_id": "B0", **query})

    assert answer.status_code == 422
    assert place in [error["path"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("path", ["jobs/nope", "searches/nope", "images/nope", "nope"])
def test_what_is_not_there_is_404(system: System, path: str) -> None:
    answer = system.http.get(f"/v1/{path}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_the_queue_refuses_is_kept_and_sent_later(system: System) -> None:
    """Redis can refuse the message after it took the request, as if its disk filled in between."""
    redis = system.client()
    redis.acl_setuser("default", enabled=True, commands=["-lpush"])
    try:
        answer = system.http.post("/v1/searches", json={"vector": [1.0] * 32})
    finally:
        redis.acl_setuser("default", enabled=True, commands=["+@all"])

    assert answer.status_code == 202, answer.text
    found = system.http.get(answer.headers["Location"], headers={"Prefer": "wait=60"}).json()
    assert found["state"] == "succeeded", found


@pytest.mark.skipif(bool(real_qdrant.URL), reason="on a Qdrant server any number of workers run")
def test_a_second_worker_on_the_folder_says_why_it_stops(system: System, tmp_path: Path) -> None:
    said = refused(system.environment, tmp_path / "second.log")

    assert str(system.folder) in said
    assert system.http.get("/readyz").status_code == 200


def test_a_worker_with_another_encoder_is_refused(
    system: System, tmp_path: Path, encoder: Path
) -> None:
    from cli.sample import write_encoder

    other = tmp_path / "other"
    write_encoder(other, hidden=16, layers=1, heads=1, intermediate=16, image_size=32, patch=8)
    kill(system.worker)
    said = refused({**system.environment, "KINDRED_MODEL": str(other)}, tmp_path / "other.log")
    system.restart_worker()

    assert str(other) in said
    assert str(encoder) in said


def refused(environment: dict[str, str], log: Path) -> str:
    """What a worker says that gives up at its start."""
    worker = ForkedWorker(Program("worker", (), environment, log), real_qdrant.prepare())
    worker.start()
    until(lambda: not worker.running, "the end of the worker")
    assert worker.exit_code == 78
    return log.read_text()


def test_patients_data_stay_where_they_belong(system: System, tmp_path: Path) -> None:
    """Marks in metadata, in the names of files and in queries; all that is kept beside is read."""
    said = _plant(system, tmp_path)

    redis = system.client()
    dumps = b"".join(_dump(redis, key) for key in redis.scan_iter())
    assert b"rejected" in dumps  # outcomes are there, so the look was a real one
    assert MARK.encode() not in dumps
    assert "P1" not in system.logs()
    assert "DEBUG" in system.logs()
    assert MARK not in system.logs()
    audit = (system.folder / "logs" / "audit.jsonl").read_text()
    assert "P1" in audit
    assert MARK not in audit
    metrics = system.http.get("/metrics").text
    assert "kindred_images" in metrics
    assert MARK not in metrics
    assert any(b"failed" in answer.content for answer in said)
    for answer in said:
        assert answer.is_error or {"error", "rejections"} & answer.json().keys()
        assert MARK not in json.dumps(without_names(answer.json()))


def without_names(said: dict[str, Any]) -> dict[str, Any]:
    """A rejection names its file, to whoever may ingest: that is what it is for."""
    rejections = [{**one, "name": None} for one in said.get("rejections", ())]
    return {**said, "rejections": rejections}


def _plant(system: System, folder: Path) -> list[httpx.Response]:
    """Ingests, searches and fails in many ways. Returns all answers that say what went wrong."""
    here, http = {"must": [{"key": "dx", "match": {"value": MARK}}]}, system.http
    for kind in ("rows", "scans", "torn"):
        (folder / kind).mkdir()
    rows = [
        {"image": jpeg(31), "image_id": "P1", "dx": MARK},
        {"image": b"broken", "image_id": "P2", "dx": MARK},
    ]
    system.ingest(_parquet(folder / "rows", rows))
    (folder / "scans" / f"{MARK}.jpg").write_bytes(jpeg(32))
    (folder / "scans" / f"broken {MARK}.jpg").write_bytes(b"broken")
    jobs = [system.ingest(folder / "scans")]
    (folder / "torn" / f"{MARK}.jpg").write_bytes(jpeg(33))
    (folder / "torn" / "metadata.csv").write_text(f"file_name,dx,dx\nother {MARK}.jpg,{MARK},1\n")
    jobs.append(system.ingest(folder / "torn"))
    (folder / "torn" / "metadata.jsonl").write_text(f'{{"file_name": "{MARK}.jpg", "dx": {MARK}}}')
    jobs.append(system.ingest(folder / "torn"))
    files = [("files", (f"{MARK}.jpg", jpeg(34))), ("files", (f"{MARK} 2.jpg", b"broken"))]
    described = f'[{{"image_id": "P3", "dx": "{MARK}"}}, {{"image_id": "P4", "dx": "{MARK}"}}]'
    upload = http.post("/v1/images", files=files, data={"metadata": described})
    jobs.append(system.finished(upload.json()["id"]))

    found = system.search([jpeg(31)], filter=here)
    assert {hit["payload"]["dx"] for hit in found["results"]} == {MARK}
    http.get("/v1/images", params={"filter": json.dumps(here)}).raise_for_status()
    http.get("/v1/facets", params={"filter": json.dumps(here)}).raise_for_status()
    return [
        *(http.get(f"/v1/jobs/{job['id']}/rejections") for job in jobs if job["rejected"]),
        *(http.get(f"/v1/jobs/{job['id']}") for job in jobs if job["state"] == "failed"),
        http.get("/v1/images", params={"filter": f'{{"must": [{{"key": "{MARK}"}}]}}'}),
        http.get("/v1/images", params={"filter": MARK}),
        http.post("/v1/images", files=files, data={"metadata": f'["{MARK}"]'}),
        http.post("/v1/images", files=files, data={"metadata": MARK}),
        http.post("/v1/searches", json={"image_id": "P1", "limit": MARK}),
        http.post("/v1/searches", content=f'{{"text": "{MARK}"'.encode()),
        http.post("/v1/searches", files={"image": (f"{MARK}.jpg", b"broken")}),
        http.post("/v1/searches", json={"text": MARK}, headers=WAIT),
        http.post("/v1/jobs", json={"dataset": "/x", "limit": MARK}),
    ]


def _dump(redis: Any, key: str) -> bytes:
    kind = redis.type(key)
    read = {
        "string": redis.get,
        "hash": redis.hgetall,
        "list": lambda k: redis.lrange(k, 0, -1),
        "set": redis.smembers,
        "zset": lambda k: redis.zrange(k, 0, -1),
    }[kind]
    return repr((key, read(key))).encode()


def _parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    text = Value("string")
    names = {name for row in rows for name in row} - {"image"}
    features = Features({"image": Image(), **dict.fromkeys(sorted(names), text)})
    cells = [
        {**row, "image": None if row["image"] is None else {"bytes": row["image"], "path": None}}
        for row in rows
    ]
    table = pa.Table.from_pylist(cells, features.arrow_schema)
    pq.write_table(table, folder / "train.parquet")
    return folder
