"""The registry: what follows from each operation that it declares."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from pipeline.base.errors import NotFound
from pipeline.base.keys import KeyFile, Keys
from pipeline.base.settings import Settings
from pipeline.messages import Message
from pipeline.operations.base import QUEUES, Call, JobRun, Operation
from pipeline.operations.registry import OPERATIONS, operation, with_lifetime
from pipeline.sources.registry import KINDS
from workers.app import register_tasks
from workers.queue import make_app

FILTER = {"must": [{"key": "age", "range": {"gte": 60.0}}]}

POINT = "7d0f6f6e-4a8e-5c51-9f4b-0d6a6b1f9a55"

# The most that a request of each can hold, as JSON.
REQUESTS: dict[str, dict[str, Any]] = {
    "search": {
        "query": {"filter": FILTER, "limit": 3},
        "images": [
            "a",
            {
                "blob": "b",
                "frames": [1, 2],
                "sha256": "ab" * 32,
                "points": [POINT],
                "known": [["series_id", ["key"]]],
            },
        ],
    },
    "rendering": {"image": "a", "shown": {"frame": 2, "centre": 40.0, "width": 400.0}},
    "explanation": {
        "query": {"first": {"frame": 2}, "second": {"image_id": "A"}, "limit": 3},
        "images": [{"blob": "b", "frames": [1], "sha256": "ab" * 32}],
    },
    "batch": {"searches": [{"image_id": "A", "limit": 2}, {"text": "a nevus", "filter": FILTER}]},
    "images": {"filter": FILTER, "limit": 7, "cursor": "c", "vectors": True},
    "image": {"image_id": "A"},
    "facets": {"filter": FILTER},
    "collection": {},
    "ingest": {"source": {"kind": "dataset", "dataset": "/scans", "split": "test", "limit": 5}},
    "evaluate": {
        "label": "dx",
        "group": "lesion_id",
        "filter": FILTER,
        "sample": 500,
        "seed": 3,
        "near_duplicates": "keep",
        "baseline": False,
        "calibrate": False,
    },
    "label_audit": {
        "label": "dx",
        "group": "lesion_id",
        "filter": FILTER,
        "sample": 100,
        "most": 5,
    },
    "delete": {"wanted": {"image_ids": ["A"]}, "must_exist": True},
    "compare": {
        "models": [{"model": "collection"}, {"model": "acme/vit", "pooling": "cls"}],
        "label": "dx",
        "group": "lesion_id",
        "filter": FILTER,
    },
}

by_name = pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.name)
queries = pytest.mark.parametrize("one", with_lifetime("query"), ids=lambda one: one.name)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What /openapi.json says of all messages. Redis is away."""
    folder = tmp_path_factory.mktemp("api")
    settings = Settings(data=folder, redis_url=f"unix://{folder}/no.sock")
    app = create_app(settings, Keys(KeyFile(Path(settings.keys_file)), settings.api_keys))
    document = TestClient(app, "http://127.0.0.1").get("/openapi.json").json()
    found: dict[str, Any] = document["components"]["schemas"]
    return found


def with_unknown_fields(value: Any) -> Any:
    """As a newer version might write it: another field in every object but those of a filter."""
    if isinstance(value, list):
        return [with_unknown_fields(each) for each in value]
    if not isinstance(value, dict):
        return value
    known = {n: v if n == "filter" else with_unknown_fields(v) for n, v in value.items()}
    return {**known, "of_a_newer_version": {"any": [1]}}


def test_names_and_tasks_are_unique() -> None:
    assert len({one.name for one in OPERATIONS}) == len(OPERATIONS)
    assert len({one.task for one in OPERATIONS}) == len(OPERATIONS)


def test_this_file_knows_a_request_of_each() -> None:
    assert REQUESTS.keys() == {one.name for one in OPERATIONS}


@by_name
def test_each_is_found_by_its_name(one: Operation) -> None:
    assert operation(one.name) is one


def test_one_that_only_a_newer_version_knows_is_not_found() -> None:
    with pytest.raises(NotFound, match="knows no operation forecast"):
        operation("forecast")


@by_name
def test_each_is_served_and_runs_as_its_lifetime_says(one: Operation) -> None:
    assert one.queue in QUEUES
    assert isinstance(one.run, JobRun) == (one.lifetime == "job")
    assert (one.queue == "search") == (one.lifetime == "query")


def test_a_worker_has_one_task_for_each() -> None:
    app = make_app("memory://", current=False)

    register_tasks(app, MagicMock())

    ours = {name for name in app.tasks if name.startswith("kindred.")}
    assert ours == {one.task for one in OPERATIONS}


@queries
def test_a_query_survives_its_envelope_and_ignores_what_it_does_not_know(one: Operation) -> None:
    body = one.request.model_validate(REQUESTS[one.name])
    seen: list[tuple[Message, Call]] = []
    answer = one.answer.model_construct()

    def run(_: Any, request: Message, call: Call) -> Any:
        seen.append((request, call))
        return answer

    played = replace(one, run=run)
    envelope = played.envelope("/v1/collections/skin", body)
    newer = json.dumps(with_unknown_fields(json.loads(envelope))).encode()

    for each in (envelope, newer):
        assert played.answer_to(MagicMock(), "id", each) == answer.model_dump_json().encode()
    assert seen == [(body, Call("id", "/v1/collections/skin"))] * 2
    assert type(seen[0][0]) is one.request


@pytest.mark.parametrize("one", with_lifetime("job"), ids=lambda one: one.name)
def test_the_request_of_a_job_survives_and_ignores_what_it_does_not_know(one: Operation) -> None:
    body = one.request.model_validate(REQUESTS[one.name])
    written = body.model_dump_json(exclude_none=True)
    newer = json.dumps(with_unknown_fields(json.loads(written)))

    assert one.request.model_validate_json(written, extra="ignore") == body
    assert one.request.model_validate_json(newer, extra="ignore") == body


# That of a rendering goes out as a JPEG, and what else it says as headers.
@pytest.mark.parametrize(
    "one", [one for one in OPERATIONS if one.name != "rendering"], ids=lambda one: one.name
)
def test_the_answer_of_each_is_documented(one: Operation, schemas: dict[str, Any]) -> None:
    found = schemas[one.answer.__name__]

    fields = {field.alias or name for name, field in one.answer.model_fields.items()}
    assert found["properties"].keys() == fields


@pytest.mark.parametrize("kind", [k for k in KINDS if k.public], ids=lambda kind: kind.name)
def test_each_public_kind_of_source_is_documented(kind: Any, schemas: dict[str, Any]) -> None:
    found = schemas[kind.model.__name__]

    assert found["properties"].keys() == kind.model.model_fields.keys()


def test_names_of_kinds_of_sources_are_unique() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
