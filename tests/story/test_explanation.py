"""Why two pictures match: through api, worker and decoders, for stored images and for sent ones."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from tests.planted import written
from tests.system import WAIT, System, until

GRID = 4  # patches of the tests' encoder in a row and in a column
FROM, TO = (0, 2), (2, 0)  # row and column of the first patch of what is copied


@pytest.fixture(scope="module")
def pictures(drawn: Path) -> dict[str, bytes]:
    rows = pq.read_table(drawn).slice(0, 20).to_pylist()
    return {row["image_id"]: row["image"]["bytes"] for row in rows}


@pytest.fixture(scope="module", autouse=True)
def job(system: System, drawn: Path) -> Iterator[None]:
    system.ingest(drawn, limit=20)
    yield


def explained(system: System, *files: bytes, status: int = 200, **query: Any) -> dict[str, Any]:
    if files:
        sent = {"files": [("image", file) for file in files], "data": {"query": json.dumps(query)}}
        answer = system.http.post("/v1/explanations", headers=WAIT, **sent)  # type: ignore[arg-type]
    else:
        answer = system.http.post("/v1/explanations", json=query, headers=WAIT)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def with_a_copy(source: bytes, target: bytes) -> bytes:
    """The target with a quarter of the source in it: two patches by two, from FROM to TO."""
    one, other = (
        Image.open(io.BytesIO(data)).convert("RGB").resize((400, 400)) for data in (source, target)
    )
    step = 400 // GRID
    top, left = FROM[0] * step, FROM[1] * step
    part = one.crop((left, top, left + 2 * step, top + 2 * step))
    other.paste(part, (TO[1] * step, TO[0] * step))
    out = io.BytesIO()
    other.save(out, "PNG")
    return out.getvalue()


def weights(side: Mapping[str, Any]) -> np.ndarray:
    return np.array(side["weights"]).reshape(side["rows"], side["columns"])


def test_the_overlay_points_at_a_pasted_copy_of_a_part(
    system: System, pictures: dict[str, bytes]
) -> None:
    for source, target in (("DRAWN_000000", "DRAWN_000013"), ("DRAWN_000008", "DRAWN_000003")):
        pasted = with_a_copy(pictures[source], pictures[target])

        found = explained(system, pasted, first={}, second={"image_id": source})

        assert found["state"] == "succeeded"
        for side, (row, column) in (("first", TO), ("second", FROM)):
            inside = np.zeros((GRID, GRID), bool)
            inside[row : row + 2, column : column + 2] = True
            shown = weights(found[side])
            assert inside.ravel()[shown.argmax()]
            assert shown[inside].mean() > 1.25 * shown[~inside].mean()
        best = found["matches"][0]
        moved = [best["second"][name] - best["first"][name] for name in ("left", "top")]
        assert best["mutual"] and moved == pytest.approx([0.5, -0.5])


def test_a_picture_corresponds_to_itself_patch_by_patch(system: System) -> None:
    same = {"image_id": "DRAWN_000004"}

    found = explained(system, first=same, second=same, limit=200)

    assert found["first"]["counterparts"] == [*range(GRID * GRID)]
    assert found["first"]["weights"] == pytest.approx([1.0] * 16, abs=1e-3)
    assert all(m["mutual"] and m["first"] == m["second"] for m in found["matches"])
    assert len(found["matches"]) == GRID * GRID


def test_a_crop_is_the_part_that_is_seen(system: System, pictures: dict[str, bytes]) -> None:
    crop = {"left": 0.25, "top": 0.5, "width": 0.5, "height": 0.5}
    images = pictures["DRAWN_000001"], pictures["DRAWN_000002"]

    found = explained(system, *images, first={}, second={"crop": crop})

    assert found["first"]["seen"] == {"left": 0, "top": 0, "width": 1, "height": 1}
    assert found["second"]["seen"] == crop
    assert found["first"]["image_id"] is None


def test_it_is_polled_for_like_a_search(system: System) -> None:
    pair = {"first": {"image_id": "DRAWN_000000"}, "second": {"image_id": "DRAWN_000001"}}

    begun = system.http.post("/v1/explanations", json=pair)

    assert begun.status_code in (200, 202)
    assert begun.headers["Location"] == f"/v1/explanations/{begun.json()['id']}"
    polled = system.http.get(begun.headers["Location"], headers=WAIT).json()
    assert (polled["state"], polled["second"]["image_id"]) == ("succeeded", "DRAWN_000001")


def test_what_cannot_be_compared_is_said(system: System, pictures: dict[str, bytes]) -> None:
    known, unknown = {"image_id": "DRAWN_000000"}, {"image_id": "DRAWN_999999"}
    found = explained(system, first=known, second=unknown)
    assert (found["state"], found["error"]["status"]) == ("failed", 404)
    small = {"left": 0, "top": 0, "width": 0.001, "height": 0.001}
    found = explained(system, first=known, second={**known, "crop": small})
    assert (found["error"]["status"], found["error"]["type"]) == (422, "invalid-query")

    assert "1 pictures" in explained(system, first={}, second=known, status=422)["detail"]
    assert explained(system, b"no picture", first={}, second=known, status=422)["errors"]
    picture = pictures["DRAWN_000000"]
    explained(system, picture, first={"frame": 2}, second=known, status=422)
    explained(system, picture, first=known, second=known, status=422)


def test_a_frame_of_a_file_is_compared_and_nothing_of_it_stays(system: System) -> None:
    scan = pydicom.dcmread(get_testdata_file("emri_small.dcm", download=False))
    sides = {"first": {"frame": 3}, "second": {"image_id": "DRAWN_000000"}}

    found = explained(system, written(scan), **sides)

    assert found["state"] == "succeeded", found
    kept = system.blobs / "requests" / found["id"]
    until(lambda: not [*kept.glob("pictures/*")], "the end of what was sent along")


def test_the_audit_log_names_both_images(system: System) -> None:
    pair = {"first": {"image_id": "DRAWN_000005"}, "second": {"image_id": "DRAWN_000006"}}
    found = explained(system, **pair)
    log = (system.folder / "logs" / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    [line] = [line for line in lines if line.get("search") == found["id"]]
    assert line["images"] == line["shown"] == ["DRAWN_000005", "DRAWN_000006"]


def test_a_deleted_image_is_not_found(system: System) -> None:
    pair = {"first": {"image_id": "DRAWN_000019"}, "second": {"image_id": "DRAWN_000000"}}
    before = explained(system, **pair)
    assert before["state"] == "succeeded"

    system.http.delete("/v1/images/DRAWN_000019").raise_for_status()

    assert explained(system, **pair)["error"]["status"] == 404
    assert system.http.get(f"/v1/explanations/{before['id']}").status_code == 404
