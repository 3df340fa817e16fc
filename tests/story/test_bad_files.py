"""All kinds of bad files in one upload and one data set, with hostile names, ids and metadata."""

import gzip
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.base.identity import row_image_id, sha256
from pipeline.images import decoding
from pipeline.images.kinds import HEAD, kind_of
from pipeline.images.picture import Picture, Unusable, decode
from pipeline.sources.base import BAD_ID
from tests.bad_files import SECRET, Kind, catalogue
from tests.system import WAIT, JobView, System

NAMES = (
    "../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/dev/null",
    "C:\\con.png",
    "Müller 東京 \U0001f9b7.png",
    "nul\0byte.png",
    "new\nline.png",
    "new%0Aline.png",
    "-rf *.png; $(reboot)",
    f"{SECRET}.jpg",
    "picture.exe",
    "a" * 1000,
    "",
)
IDS = (
    "plain",
    "with/slashes//and/preview",
    "ends with/preview",
    "%2F?query=1&other#fragment",
    "quotes ' \" ` <b>",
    "new\nline\r\ttab",
    "Müller 東京 \U0001f9b7",
    "nul\0byte",
    "../../up",
    "x" * 980,
)
BAD_IDS = ("x" * 1001, "..", ".")


@dataclass(frozen=True)
class Sent:
    """A file that was sent, the id its image gets, and what becomes of it.

    `row`: whether it is one. An archive without pictures is none.
    """

    kind: Kind
    image_id: str
    reason: str | None
    row: bool = True


def rejections(system: System, job: JobView) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: int | None = 0
    while cursor is not None:
        page = system.http.get(f"/v1/jobs/{job['id']}/rejections", params={"cursor": cursor}).json()
        found += [
            {k: v for k, v in one.items() if k not in ("name", "file")}
            for one in page["rejections"]
        ]
        cursor = page["cursor"]
    return sorted(found, key=lambda rejection: rejection["row"])


def check_account(system: System, job: JobView, sent: Sequence[Sent]) -> None:
    """Its totals reconcile; a rejected row has its image id, its number and its reason alone."""
    rows = [file for file in sent if file.row]
    refused = [
        {"image_id": file.image_id, "row": row, "reason": file.reason}
        for row, file in enumerate(rows)
        if file.reason is not None
    ]
    assert job["state"] == "completed_with_rejections", job
    assert rejections(system, job) == refused
    assert (job["total"], job["rejected"]) == (len(rows), len(refused))
    assert job["embedded"] + job["unchanged"] + job["rejected"] == job["total"]


def fate(kind: Kind) -> str | None:
    return kind.becomes.reason if isinstance(kind.becomes, Unusable) else None


def multipart(fields: Sequence[tuple[str, str | None, bytes]]) -> tuple[bytes, dict[str, str]]:
    """By hand: clients' libraries would make hostile names harmless."""
    parts = []
    for field, name, content in fields:
        named = b"" if name is None else b'; filename="' + name.encode() + b'"'
        head = b'Content-Disposition: form-data; name="' + field.encode() + b'"' + named
        parts.append(b"--edge\r\n" + head + b"\r\n\r\n" + content + b"\r\n")
    return b"".join(parts) + b"--edge--\r\n", {
        "Content-Type": "multipart/form-data; boundary=edge",
        **WAIT,
    }


# --- an upload -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only one that may be ingested."""
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, folder: Path
) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), encoder, SOURCES=str(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def uploaded(system: System) -> tuple[JobView, list[Sent]]:
    """Every kind, under a hostile name, with metadata that names it and plants a secret."""
    kinds = catalogue()
    described: list[dict[str, Any]] = [{"kind": k.name, "note": SECRET} for k in kinds]
    sent = [_uploaded(kind) for kind in kinds]
    taken = [row for row, kind in enumerate(kinds) if kind.taken]
    for row, metadata in zip(taken, HOSTILE, strict=False):
        described[row] |= metadata[0]
    for row, image_id in zip(reversed(taken), BAD_IDS, strict=False):
        described[row]["image_id"] = image_id
        sent[row] = Sent(kinds[row], sha256(kinds[row].data), BAD_ID.reason)
    files = [("files", NAMES[n % len(NAMES)], kind.data) for n, kind in enumerate(kinds)]
    text = json.dumps(described).encode()  # with NaN and Infinity, as Python and pandas write them
    body, headers = multipart([*files, ("metadata", None, text)])
    answer = system.http.post("/v1/images", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return system.finished(answer.json()["id"]), sent


def _uploaded(kind: Kind) -> Sent:
    """Of an archive, the one file in it is the row."""
    if kind.name == "zip":
        return Sent(kind, "", kind_of(kind.data).reason, row=False)
    if kind.name == "zip bomb":
        with zipfile.ZipFile(io.BytesIO(kind.data)) as archive:
            [member] = archive.namelist()
            data = archive.read(member)
        return Sent(kind, sha256(data), kind_of(data[:HEAD]).reason)
    if kind.name == "SVG, packed":  # a file that is packed alone is what it holds
        return Sent(kind, sha256(kind.data), kind_of(gzip.decompress(kind.data)).reason)
    reason = fate(kind)
    return Sent(kind, sha256(kind.data), reason and (kind_of(kind.data).reason or reason))


def _deep(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = {"x": value}
    return value


ODD_NAMES = {"": 1, "a.b": 2, 'a"b': 3, "a[0]": 4, "a\0b": 5, " ": 6, "Ümläut 東京": 7}

# (what is sent with a file, what is kept of it)
HOSTILE: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"a": float("nan"), "b": float("inf"), "c": -float("inf")}, {}),
    ({"a": "1e400", "b": -0.0, "c": 1e308}, {"a": "1e400", "b": -0.0, "c": 1e308}),
    ({"a": 2**63 - 1, "b": -(2**63)}, {"a": 2**63 - 1, "b": -(2**63)}),
    ({"a": 2**63, "b": 10**400}, {"a": str(2**63), "b": str(10**400)}),
    ({"a": [], "b": {}, "c": "", "d": None}, {"a": [], "b": {}}),
    ({"a": _deep(100, SECRET)}, {"a": _deep(8, {})}),
    ({"a": [1, "x", None, True, [2.5], {"y": None}]}, {"a": [1, "x", True, [2.5], {}]}),
    ({"a": "x" * 100_000}, {"a": "x" * 65_536}),
    (ODD_NAMES, ODD_NAMES),
    ({"source": {"sha256": "0"}, "source_": 1}, {"source_": 1, "source__": {"sha256": "0"}}),
    ({"k" * 10_000: 1}, {"k" * 10_000: 1}),
    (
        {"age": "old", "dx": 7, "image_id": ["no"], "sex": {"x": 1}},
        {"age": "old", "dx": 7, "sex": {"x": 1}, "image_id_": ["no"]},
    ),
    ({"image_id": True}, {"image_id_": True}),
    ({"image_id": ""}, {}),
)


def test_the_account_of_the_upload_closes(
    system: System, uploaded: tuple[JobView, list[Sent]]
) -> None:
    check_account(system, *uploaded)
    assert uploaded[0]["skipped"] == {"archive": 2, "text": 1}


def test_what_was_uploaded_is_held_with_what_can_be_kept_of_its_metadata(
    system: System, uploaded: tuple[JobView, list[Sent]]
) -> None:
    _, sent = uploaded
    indexed = {image["image_id"]: image["payload"] for image in system.indexed()}
    taken = [file for file in sent if file.kind.taken]
    for file, (_, kept) in zip(taken, HOSTILE, strict=False):
        payload = indexed[file.image_id]
        source = payload.pop("source")
        assert payload == {
            "kind": file.kind.name, "note": SECRET, **kept, "image_id": file.image_id
        }  # fmt: skip
        assert source["sha256"] == sha256(file.kind.data)
        assert (source["width"], source["height"]) == file.kind.becomes.size  # type: ignore[union-attr]


def test_every_file_as_a_query_is_answered_or_refused_with_its_reason(
    system: System, uploaded: tuple[JobView, list[Sent]]
) -> None:
    for file in uploaded[1]:
        body, headers = multipart([("image", "../x\0.png", file.kind.data)])
        answer = system.http.post("/v1/searches", content=body, headers=headers)
        said = answer.json()
        if file.kind.taken:
            assert said["state"] == "succeeded", (file.kind.name, said)
            assert said["results"][0]["score"] > 0.999, file.kind.name
            continue
        problem = said if answer.status_code == 422 else said["error"]
        assert problem["status"] == 422, (file.kind.name, said)
        assert problem["detail"] == f"image: {fate(file.kind)}"


def test_every_image_that_was_taken_is_found(
    system: System, uploaded: tuple[JobView, list[Sent]]
) -> None:
    for file in uploaded[1]:
        if file.reason is None:
            found = system.search([file.kind.data], limit=200, score_threshold=0.999)["results"]
            assert file.image_id in {hit["image_id"] for hit in found}, file.kind.name


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (
            [
                ("files", "a.png", b"x"),
                ("metadata", None, b'[{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}]"),
            ],
            422,
        ),
        ([("files", "a.png", b"x"), ("metadata", None, b"[" * 100_000)], 422),
        ([("files", "a.png", b"x"), ("metadata", None, b'[{"a": "\\ud800"}]')], 422),
        ([("files", "a.png", b"x"), ("metadata", None, b'[{"\\ud800": 1}]')], 422),
        ([("files", "a.png", b"x"), ("metadata", None, b"[{}, {}]")], 422),
        ([("files", "a.png", b"x"), ("metadata", None, b"[1]")], 422),
        ([("files", "a.png", b"x"), ("metadata", None, b'[{"a": ' + b"9" * 5000 + b"}]")], 422),
        ([("files", "a.png", b"x"), ("metadata", None, b"\xff\xfe")], 422),
        ([("files", "a.png", b"x"), ("metadata", None, b"[" + b" " * 5_000_000 + b"{}]")], 400),
        ([("files", "a" * 100_000, b"x")], 400),
        ([("files", None, b"not a file")], 422),
        ([("other", "a.png", b"x")], 422),
        ([], 422),
    ],
)
def test_an_upload_that_makes_no_sense_is_refused_as_a_whole(
    system: System, fields: list[tuple[str, str | None, bytes]], status: int
) -> None:
    body, headers = multipart(fields)
    answer = system.http.post("/v1/images", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text


# --- a data set ----------------------------------------------------------------------------------

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(scope="module")
def ingested(
    system: System, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JobView, list[Sent]]:
    """Every kind, with odd ids and one column for each way in which metadata can be hostile."""
    outside = tmp_path_factory.mktemp("outside") / "other.png"
    good = next(kind for kind in catalogue() if kind.taken)
    outside.write_bytes(good.data)
    (folder / "beside.png").write_bytes(good.data)
    # Taken ones first: the worst metadata is in the first row.
    in_order = sorted(catalogue(), key=lambda kind: not kind.taken)
    cells: list[Any] = [{"bytes": k.data, "path": NAMES[3]} for k in in_order]
    cells += [{"bytes": None, "path": path} for path in (str(outside), "/dev/zero", "../x", None)]
    cells += [None, {"bytes": None, "path": "beside.png"}]
    nothing = Kind("no file", b"", decoding.EMPTY)
    kinds = [*in_order, *[nothing] * 5, good]
    ids = [_id(n) for n in range(len(kinds))]
    sent = [Sent(k, _image_id(folder, n, ids[n]), fate(k)) for n, k in enumerate(kinds)]
    for row, image_id in enumerate(BAD_IDS, start=len(catalogue()) - 3):
        ids[row] = image_id
        sent[row] = Sent(kinds[row], _image_id(folder, row, None), BAD_ID.reason)
    columns = {"image": pa.array(cells, IMAGE), "image_id": ids, **_hostile_columns(len(kinds))}
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    table = pa.table(columns)
    for field in table.schema:
        features["info"]["features"].setdefault(field.name, _feature(field))
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(features)}),
        folder / "train.parquet",
    )
    return system.ingest(folder / "train.parquet"), sent


def _feature(field: Any) -> Any:
    import datasets

    schema = pa.schema([field])
    return datasets.Features.from_arrow_schema(schema).to_dict()[field.name]


def _id(row: int) -> str | None:
    """Odd ones in turn; in every eleventh row none, in every twelfth an empty one."""
    template = [*IDS, None, ""][row % (len(IDS) + 2)]
    return f"{row} {template}" if template else template


def _image_id(folder: Path, row: int, image_id: str | None) -> str:
    return image_id or row_image_id(str(folder / "train.parquet"), "train", row)


def _hostile_columns(rows: int) -> Mapping[str, Any]:
    """Each with its worst in the first row, and nothing special in the others."""

    def first(worst: Any, other: Any = None) -> list[Any]:
        return [worst, *[other] * (rows - 1)]

    kind = pa.int64()
    for _ in range(50):
        kind = pa.struct([("x", kind)])
    broken = b"ok" + b"\xff\xfe" * 3 + b"ok" * (rows - 2)
    offsets = np.array([0, 2, 8, *range(10, 10 + 2 * (rows - 2), 2)], np.int32)
    return {
        "source": first("theirs", SECRET),
        "note": [SECRET] * rows,
        "not a number": first(float("nan"), 1.5),
        "endless": first(float("inf"), -1e308),
        "huge": pa.array(first(2**64 - 1, 1), pa.uint64()),
        "long": first("x" * 5_000_000),
        "nested text": first("[" * 1000 + "]" * 1000),
        "nested": pa.array(first(_deep(50, 1)), kind),
        "bytes": first(b"\xff\0"),
        "day": first(date(1950, 4, 1)),
        "far day": pa.array(first(2**30), pa.date32()),
        "far time": pa.array(first(2**62), pa.timestamp("us")),
        "list": first(["a", None, ""]),
        "no UTF-8": pa.Array.from_buffers(
            pa.string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(broken)]
        ),
        "a.b": first(1, 2),
        'a"b': first(1, 2),
        "Ümläut 東京": first("é", "e"),
    }


def test_the_account_of_the_data_set_closes(
    system: System, ingested: tuple[JobView, list[Sent]]
) -> None:
    check_account(system, *ingested)


def test_what_cannot_be_kept_of_a_row_is_absent(
    system: System, ingested: tuple[JobView, list[Sent]]
) -> None:
    first, second = (_payload(system, file) for file in ingested[1][:2])
    assert first == {
        "image_id": ingested[1][0].image_id,
        "source_": "theirs",
        "note": SECRET,
        "huge": str(2**64 - 1),
        "long": "x" * 65_536,
        "nested text": "[" * 1000 + "]" * 1000,
        "nested": _deep(8, {}),
        "day": "1950-04-01",
        "list": ["a", ""],
        "no UTF-8": "ok",
        "a.b": 1,
        'a"b': 1,
        "Ümläut 東京": "é",
    }
    assert second == {
        "image_id": ingested[1][1].image_id,
        "source_": SECRET,
        "note": SECRET,
        "not a number": 1.5,
        "endless": -1e308,
        "huge": 1,
        "a.b": 2,
        'a"b': 2,
        "Ümläut 東京": "e",
    }


def _payload(system: System, file: Sent) -> dict[str, Any]:
    image = system.http.get(f"/v1/images/{quote(file.image_id, safe='')}").json()
    return {name: value for name, value in image["payload"].items() if name != "source"}


def test_every_odd_id_is_an_address(system: System, ingested: tuple[JobView, list[Sent]]) -> None:
    for file in ingested[1]:
        if file.reason is not None:
            continue
        address = f"/v1/images/{quote(file.image_id, safe='')}"
        image = system.http.get(address)
        assert image.status_code == 200, (file.image_id, image.text)
        assert image.json()["image_id"] == file.image_id
        assert image.json()["preview_url"] == f"{address}/preview"
        shown = decode(system.http.get(f"{address}/preview").content, 1_000_000)
        assert isinstance(shown, Picture), file.image_id
        found = system.search(image_id=file.image_id, limit=1)
        assert found["results"][0]["score"] > 0.999
    for file in ingested[1][-40:]:
        if file.reason is None:
            address = f"/v1/images/{quote(file.image_id, safe='')}"
            assert system.http.delete(address).status_code == 200
            assert system.http.get(address).status_code == 404
            assert system.http.get(f"{address}/preview").status_code == 404


@pytest.mark.parametrize(
    "odd",
    [
        {"include": ["a.b", "Ümläut 東京", ""]},
        {"include": ['a"b']},
        {"include": ["a[x]", "a\0b"]},
        {"exclude": ['a"b', "", "a.b", "[", "x" * 5000]},
        {"filter": {"must": [{"key": '"Ümläut 東京"', "match": {"value": "é"}}]}},
        {"filter": {"must": [{"key": "a.b", "match": {"value": 2}}]}},
        {"filter": {"must": [{"key": "a[]", "values_count": {"gt": 0}}]}},
        {"filter": {"must": [{"key": "a[999999999999999999]", "is_null": True}]}},
        {"ids": ["", "x" * 5000, "nul\0"]},
        {"not_ids": ["new\nline"], "offset": 100_000, "limit": 1000},
        {"score_threshold": -1, "max_hash_distance": 64},
    ],
    ids=str,
)
@pytest.mark.usefixtures("uploaded")
def test_a_search_among_odd_fields_is_answered_or_refused(
    system: System, ingested: tuple[JobView, list[Sent]], odd: dict[str, Any]
) -> None:
    said = system.search(image_id=ingested[1][0].image_id, **odd)
    assert said["state"] == "succeeded" or said["error"]["status"] == 422, said


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("jobs/{job}:rejections", 404),
        ("jobs/{job}:returned", 404),
        ("jobs/nobody/events", 404),
        ("jobs/{job}/rejections?cursor=18446744073709551616", 422),
        ("jobs/{job}/rejections?cursor=18446744073709551615", 200),
        ("deletions/%2E%2E", 404),
        ("deletions/%00", 404),
        ("deletions/" + "x" * 1000, 404),
        ("images/", 422),
        ("images/" + "x" * 1001, 422),
        ("images/" + "x" * 995 + "%2Fpreview", 404),
        ("images/" + "x" * 1001 + "/preview", 422),
        ("images?cursor=nonsense", 422),
        ("searches/%0A", 404),
    ],
)
def test_an_odd_address_is_answered_with_a_problem(
    system: System, uploaded: tuple[JobView, list[Sent]], address: str, status: int
) -> None:
    answer = system.http.get(f"/v1/{address.format(job=uploaded[0]['id'])}")
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.usefixtures("uploaded", "ingested")
def test_nothing_planted_is_in_the_logs_or_in_redis(system: System) -> None:
    logs = system.logs()
    assert SECRET not in logs
    assert " ERROR " not in logs
    redis = system.client()
    for key in redis.scan_iter():
        dumped = redis.execute_command("DUMP", key, NEVER_DECODE=True)
        assert SECRET.encode() not in dumped, key
