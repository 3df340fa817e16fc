"""Local files through the api: what is found, how it is cut, and what cannot be sent."""

import json
import re

import httpx
import pytest

from cli import follow, main, upload
from cli.failure import CommandError
from cli.metadata import read_metadata
from cli.upload import LocalImage, chunks, local_images


class UploadApi:
    """Takes at most `limit` bytes a request; finishes each job at once."""

    def __init__(self, limit=1_000_000) -> None:
        self.limit = limit
        self.requests: list[tuple[list[bytes], list[dict]]] = []
        self.rejects: dict[str, list[dict]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        if request.url.path.endswith("/rejections"):
            found = self.rejects.get(request.url.path.split("/")[3], [])
            return httpx.Response(200, json={"rejections": found, "cursor": None})
        if len(body) > self.limit:
            return httpx.Response(413, json={"title": "Too large", "detail": "above the limit"})
        files = re.findall(rb'filename="([^"]*)"\r\n.*?\r\n\r\n(.*?)\r\n--', body, re.S)
        metadata = re.search(rb'name="metadata"\r\n\r\n(.*?)\r\n--', body, re.S)
        self.requests.append(([data for _, data in files], json.loads(metadata[1])))
        self.names = [name for name, _ in files]
        job_id = f"j{len(self.requests)}"
        rejected = len(self.rejects.get(job_id, []))
        return httpx.Response(202, json=_job(job_id, len(files), rejected))


def _job(job_id, total, rejected):
    return {
        "id": job_id,
        "state": "completed_with_rejections" if rejected else "succeeded",
        "total": total,
        "embedded": total - rejected,
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
    (tmp_path / "b.jpg").write_bytes(b"second")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.PNG").write_bytes(b"third")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "metadata.csv").write_text(
        "file_name,age,dx\nb.jpg,45.0,melanoma\nsub/a.PNG,,nevus\n"
    )

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 0

    ((files, metadata),) = api.requests
    assert files == [b"second", b"third"]
    assert metadata == [{"age": 45.0, "dx": "melanoma"}, {"dx": "nevus"}]
    assert api.names == [b"0.jpg", b"1.png"]
    assert "2 = 2 embedded + 0 unchanged + 0 rejected" in capsys.readouterr().out


def test_rejections_come_back_under_the_files_names(api, capsys, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    api.rejects["j1"] = [{"image_id": "c0ffee", "row": 1, "reason": "not an image"}]

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 3

    out = capsys.readouterr().out
    assert "2 = 1 embedded + 0 unchanged + 1 rejected" in out
    assert f"{tmp_path}/b.jpg: not an image" in out


def test_a_request_that_is_too_large_is_halved_and_a_file_that_is_too_large_rejected(
    api, capsys, tmp_path
):
    api.limit = 2_000
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(bytes([65 + number]) * 600)
    (tmp_path / "huge.jpg").write_bytes(b"h" * 5_000)

    assert main.run(["ingest", "--upload", str(tmp_path), "--json"]) == 3

    document = json.loads(capsys.readouterr().out)
    assert document["total"] == 5
    assert (document["embedded"], document["rejected"]) == (4, 1)
    assert len(document["jobs"]) == len(api.requests) > 1
    sent = [file for files, _ in api.requests for file in files]
    assert sorted(sent) == [bytes([65 + number]) * 600 for number in range(4)]


def test_a_file_that_a_table_names_but_is_not_there_is_rejected(api, capsys, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "gone.jpg"}\n{"file_name": "a.jpg"}\n')

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 3

    out = capsys.readouterr().out
    assert "2 = 1 embedded + 0 unchanged + 1 rejected" in out
    assert "gone.jpg: cannot be read: No such file or directory" in out


def test_an_upload_that_breaks_half_way_says_how_far_it_came(api, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "CHUNK_FILES", 1)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    whole = api.__call__

    def breaks(request):
        if api.requests:
            raise httpx.ReadError("cut")
        return whole(request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, sent: breaks(sent))

    assert main.run(["ingest", "--upload", str(tmp_path)]) == 1

    err = capsys.readouterr().err
    assert "broke: cut; 1 of 2 files were sent" in err
    assert err.count("\n") == 1


def test_chunks_respect_bytes_and_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "CHUNK_BYTES", 100)
    monkeypatch.setattr(upload, "CHUNK_FILES", 3)
    images = []
    for number, size in enumerate([60, 40, 1, 500, 1, 1, 1, 1]):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"x" * size)
        images.append(LocalImage(path))

    cut = [[image.path.stem for image in chunk] for chunk in chunks(images)]

    assert cut == [["0", "1"], ["2"], ["3"], ["4", "5", "6"], ["7"]]


def test_the_limit_is_of_files_and_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="no images in"):
        local_images([str(tmp_path / "empty")])
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert [i.path.name for i in local_images([str(tmp_path)], 2)] == ["a.jpg", "b.jpg"]


def test_a_column_of_numbers_is_read_as_numbers_and_ids_are_left_alone(tmp_path):
    (tmp_path / "metadata.csv").write_text(
        "\ufefffile_name,age,count,code,mixed\na.jpg,57.5,3,007,1\nb.jpg,NA,-2,010,x\n", "utf-8"
    )
    assert read_metadata(tmp_path) == {
        tmp_path / "a.jpg": {"age": 57.5, "count": 3, "code": "007", "mixed": "1"},
        tmp_path / "b.jpg": {"count": -2, "code": "010", "mixed": "x"},
    }


def test_missing_values_of_json_lines_are_absent(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg", "age": NaN, "sex": null}\n')
    assert read_metadata(tmp_path) == {tmp_path / "a.jpg": {}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "name,age\na.jpg,3\n", "a row without `file_name`"),
        ("metadata.csv", "file_name,age\na.jpg,3,4\n", "more cells than there are columns"),
        ("metadata.jsonl", "{\n", "cannot be read"),
        ("metadata.jsonl", "[1]\n", "line 1 is no JSON object"),
    ],
)
def test_a_table_that_makes_no_sense_stops_before_anything_is_sent(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(CommandError, match=re.escape(message)):
        local_images([str(tmp_path)])
