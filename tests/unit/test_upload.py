"""Local files through the api: what is found, how it is cut, and what cannot be sent."""

import email.message
import io
import json
from dataclasses import dataclass

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.received import store_upload
from api.routes.uploads import received_of
from cli import follow, main, upload
from cli.upload import LocalFile, Selection, chunks
from pipeline.base.blobs import Blobs
from pipeline.dicom.describing import Policy
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.sources.account import names_of_rows
from pipeline.sources.folder.survey import Entry
from pipeline.sources.upload import UploadSource
from tests.trees import picture

DICOM = Policy(Pseudonyms((b"key",)))


@dataclass
class Sent:
    """One request, as the api receives it."""

    files: list[bytes]
    form_names: list[str]
    metadata: list[dict]
    account: dict
    upload: str


class UploadApi:
    """Takes at most `limit` bytes a request; finishes each job at once."""

    def __init__(self, limit=1_000_000) -> None:
        self.limit = limit
        self.requests: list[Sent] = []
        self.rejects: dict[str, list[dict]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        if request.url.path.endswith("/rejections"):
            found = self.rejects.get(request.url.path.split("/")[3], [])
            return httpx.Response(200, json={"rejections": found, "cursor": None})
        if len(body) > self.limit:
            return httpx.Response(413, json={"title": "Too large", "detail": "above the limit"})
        self.requests.append(_sent(request.headers["Content-Type"], body, request.url))
        job_id = f"j{len(self.requests)}"
        rejected = len(self.rejects.get(job_id, []))
        total = len(self.requests[-1].files) + len(self.requests[-1].account["rejected"])
        return httpx.Response(202, json=_job(job_id, total, rejected))


def _sent(media_type: str, body: bytes, url: httpx.URL) -> Sent:
    message = email.message_from_bytes(f"Content-Type: {media_type}\n\n".encode() + body)
    parts = [
        (part.get_param("name", header="content-disposition"), part) for part in message.walk()
    ]
    files = [part for name, part in parts if name == "files"]
    text = {name: part.get_payload(decode=True) for name, part in parts if name}
    return Sent(
        [part.get_payload(decode=True) for part in files],
        [part.get_filename() for part in files],
        json.loads(text["metadata"]),
        json.loads(text["account"]),
        url.params["upload"],
    )


def made() -> bytes:
    """A picture like no other."""
    return picture("PNG")


def _job(job_id, total, rejected):
    return {
        "id": job_id,
        "state": "completed_with_rejections" if rejected else "succeeded",
        "total": total,
        "embedded": total - rejected,
        "updated": 0,
        "unchanged": 0,
        "rejected": rejected,
    }


@pytest.fixture
def api(monkeypatch) -> UploadApi:
    scripted = UploadApi()
    monkeypatch.setattr(follow, "POLL_SECONDS", 0)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, sent: scripted(sent))
    return scripted


def test_a_folder_goes_up_with_what_its_table_says(api, capsys, tmp_path):
    first, second = made(), made()
    (tmp_path / "b.jpg").write_bytes(first)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.PNG").write_bytes(second)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "metadata.csv").write_text(
        "file_name,age,dx\nb.jpg,45.0,melanoma\nsub/a.PNG,,nevus\n"
    )

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 0

    [sent] = api.requests
    assert sent.files == [first, second]
    assert sent.metadata == [{"age": 45.0, "dx": "melanoma"}, {"dx": "nevus"}]
    assert sent.account == {
        "names": ["b.jpg", "sub/a.PNG"],
        "rejected": [],
        "skipped": [
            {"name": "metadata.csv", "kind": "metadata"},
            {"name": "notes.txt", "kind": "text"},
        ],
    }
    assert sent.form_names == ["0", "1"]
    assert "2 = 2 embedded + 0 updated + 0 unchanged + 0 rejected" in capsys.readouterr().out


def test_rejections_come_back_under_the_files_names(api, capsys, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(made())
    api.rejects["j1"] = [{"image_id": "c0ffee", "row": 1, "reason": "damaged", "name": "b.jpg"}]

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 3

    out = capsys.readouterr().out
    assert "2 = 1 embedded + 0 updated + 0 unchanged + 1 rejected" in out
    assert "row 1, b.jpg: damaged" in out


def test_strictly_a_rejection_is_a_failure(api, capsys, tmp_path):
    (tmp_path / "a.jpg").write_bytes(made())
    api.rejects["j1"] = [{"image_id": "c0ffee", "row": 0, "reason": "damaged", "name": "a.jpg"}]

    assert main.run(["ingest", "--upload", "--strict", str(tmp_path)]) == 1

    assert "1 rejected, which --strict does not allow" in capsys.readouterr().err


def test_a_request_that_is_too_large_is_halved_and_a_file_that_is_too_large_rejected(
    api, capsys, tmp_path
):
    api.limit = 3_000
    pictures = [made() for _ in range(4)]
    for number, data in enumerate(pictures):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    (tmp_path / "huge.jpg").write_bytes(made() + b"h" * 5_000)

    assert main.run(["ingest", "--upload", str(tmp_path), "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["total"] == 5
    assert len(document["jobs"]) == len(api.requests) > 1
    assert sorted(f for sent in api.requests for f in sent.files) == sorted(pictures)
    [refused] = [r for sent in api.requests for r in sent.account["rejected"]]
    assert refused["name"] == "huge.jpg"
    assert "too large for the server" in refused["reason"]
    assert len({sent.upload for sent in api.requests}) == 1


def test_what_is_not_sent_is_told(api, tmp_path):
    (tmp_path / "a.jpg").write_bytes(made())
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "gone.jpg"}\n{"file_name": "a.jpg"}\n')

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 0

    [sent] = api.requests
    reason = "metadata.jsonl, line 1, names this file, and it is not there"
    assert sent.account["rejected"] == [{"name": "gone.jpg", "reason": reason}]


def test_an_upload_that_breaks_half_way_says_how_far_it_came(api, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "CHUNK_FILES", 1)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(made())
    whole = api.__call__

    def breaks(request):
        if api.requests:
            raise httpx.ReadError("cut")
        return whole(request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, sent: breaks(sent))

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 1

    err = capsys.readouterr().err
    assert "broke: cut; 1 files were sent" in err
    assert err.count("\n") == 1


def test_chunks_respect_bytes_and_numbers(monkeypatch):
    monkeypatch.setattr(upload, "CHUNK_BYTES", 100)
    monkeypatch.setattr(upload, "CHUNK_FILES", 3)
    sizes = enumerate([60, 40, 1, 500, 1, 1, 1, 1])
    found = [LocalFile(Entry(str(n), size=size), lambda: b"") for n, size in sizes]

    cut = [[file.entry.name for file in chunk.files] for chunk in chunks(found)]

    assert cut == [["0", "1"], ["2"], ["3"], ["4", "5", "6"], ["7"]]


def test_chunks_respect_the_room_for_metadata(monkeypatch):
    monkeypatch.setattr(upload, "CHUNK_TEXT", 100)
    found = [LocalFile(Entry(str(n), metadata={"t": "x" * 60}), lambda: b"") for n in range(3)]

    assert [len(chunk) for chunk in chunks(found)] == [1, 1, 1]


def test_the_limit_is_of_rows(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(made())
    found = Selection([str(tmp_path)], limit=2).found()
    assert [file.entry.name for file in found if isinstance(file, LocalFile)] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "is empty"),
        ({"a.txt": "text"}, "has no pictures. Its files were skipped: 1 text"),
        ({"metadata.csv": "name,age\na.jpg,3\n"}, "no column names the files"),
        ({"metadata.jsonl": "{\n"}, "line 1, column 2, is no JSON"),
        ({"metadata.jsonl": "[1]\n"}, "line 1 is no JSON object"),
    ],
)
def test_what_makes_no_sense_stops_before_anything_is_sent(
    api, capsys, tmp_path, contents, message
):
    for name, text in contents.items():
        (tmp_path / name).write_text(text)

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 1

    assert message in capsys.readouterr().err
    assert not api.requests


def test_patterns_of_files_choose_no_rows_of_a_data_set(api, capsys, tmp_path):
    pq.write_table(pa.table({"image": [made()]}), tmp_path / "t.parquet")

    assert main.run(["ingest", "--upload", str(tmp_path), "--include", "*.jpg"]) == 1

    assert "about the files of a folder of pictures" in capsys.readouterr().err
    assert not api.requests


def test_a_table_and_a_sidecar_among_files_named_one_by_one_describe_them(api, tmp_path):
    for name in ("a.jpg", "b.jpg", "not named.jpg"):
        (tmp_path / name).write_bytes(made())
    (tmp_path / "metadata.csv").write_text("file_name,dx\na.jpg,nv\n")
    (tmp_path / "b.json").write_text('{"dx": "mel"}')
    (tmp_path / "notes.txt").write_text("text")
    named = ("b.jpg", "metadata.csv", "a.jpg", "b.json", "notes.txt")

    assert main.run(["ingest", "--upload", *(str(tmp_path / name) for name in named)]) == 0

    [sent] = api.requests
    assert sent.account["names"] == ["a.jpg", "b.jpg"]
    assert sent.metadata == [{"dx": "nv"}, {"dx": "mel"}]
    assert [one["name"] for one in sent.account["rejected"]] == ["notes.txt"]


def test_a_row_of_a_data_set_is_called_by_its_place_both_ways(api, tmp_path):
    """As its rejections are where the workers read the data set."""
    rows = pa.table({"image": [made(), None, b"no picture"]})
    pq.write_table(rows, tmp_path / "t.parquet")

    assert main.run(["ingest", "--upload", str(tmp_path / "t.parquet")]) == 0

    [sent] = api.requests
    assert sent.account["places"] == [f"{tmp_path}/t.parquet, row {row}" for row in (0, 2)]
    assert [each["name"] for each in sent.account["rejected"]] == [f"{tmp_path}/t.parquet, row 1"]
    blobs = Blobs(str(tmp_path / "blobs"))
    received = received_of(
        [("", io.BytesIO(data)) for data in sent.files],
        json.dumps(sent.metadata),
        json.dumps(sent.account),
    )
    manifest = store_upload(blobs, "uploads/1", received, DICOM, keep_names=True, most=1_000_000)
    named = names_of_rows(blobs, "1", UploadSource(manifest=manifest), [0, 1, 2])
    assert named == {n: f"{tmp_path}/t.parquet, row {row}" for n, row in enumerate((0, 2, 1))}
