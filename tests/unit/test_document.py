"""/openapi.json: from it, people learn the api and programs are generated."""

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.memory_api import MemoryApi

BELOW = "/v1/collections/{collection}/"
BINARY = {"image/jpeg", "image/png", "application/x-tar"}

OPEN, ROLE = set(), {401, 403, 422, 429, 503}  # what every call with a role can answer
SENT = {400, 413, 415}
STORED = {409}  # with an account of the instances

# The problems that each call can answer. A new call belongs here, with what it can really answer.
PROBLEMS: dict[str, set[int]] = {
    "is_alive": OPEN,
    "is_ready": {503},
    "get_metrics": {401, 403, 429, 503},
    "get_session": ROLE,
    "sign_in": ROLE | SENT,
    "sign_out": {403, 422, 503},
    "list_collections": ROLE,
    "create_job": ROLE | SENT,
    "list_jobs": ROLE,
    "get_job": ROLE | {404},
    "list_rejections": ROLE | {404},
    "list_skipped": ROLE | {404},
    "get_drift": ROLE | {404},
    "create_label_audit": ROLE | SENT,
    "list_label_audits": ROLE,
    "get_label_audit": ROLE | {404},
    "list_findings": ROLE | {404},
    "export_findings": ROLE | {404},
    "confirm_finding": ROLE | {404, 415},
    "dismiss_finding": ROLE | {404, 415},
    "undo_decision": ROLE | {404, 415},
    "get_deidentification": ROLE | {404},
    "rotate_pseudonyms": ROLE | {409, 415},
    "name_files": ROLE | SENT,
    "follow_job": ROLE | {404},
    "cancel_job": ROLE | {404, 409, 415},
    "pause_job": ROLE | {404, 409, 415},
    "resume_job": ROLE | {404, 409, 415},
    "retry_job": ROLE | {404, 409, 415},
    "search": ROLE | SENT,
    "search_batch": ROLE | SENT,
    "render": ROLE | SENT,
    "explain": ROLE | SENT,
    "get_explanation": ROLE | {404},
    "open_study": {503},
    "opened": ROLE | SENT,
    "get_search": ROLE | {404},
    "create_deletion": ROLE | SENT,
    "get_deletion": ROLE | {404},
    "lift_deletion": ROLE | {404, 415},
    "create_comparison": ROLE | SENT,
    "list_comparisons": ROLE,
    "get_comparison": ROLE | {404},
    "create_evaluation": ROLE | SENT,
    "list_evaluations": ROLE,
    "get_evaluation": ROLE | {404},
    "upload_images": ROLE | SENT,
    "store_instances": ROLE | SENT | {406, 409},
    "store_instances_of_study": ROLE | SENT | {404, 406, 409},
    "list_images": ROLE,
    "get_image": ROLE | {404},
    "get_preview": ROLE | {404},
    "delete_image": ROLE | {404},
    "get_collection": ROLE,
    "get_facets": ROLE,
    "list_quarantine": ROLE,
    "get_quarantined_image": ROLE | {404},
    "get_quarantined_picture": ROLE | {404},
    "get_quarantined_preview": ROLE | {404},
    "release_image": ROLE | SENT | {404, 409},
    "release_images": ROLE | SENT | {404, 409},
    "refuse_image": ROLE | {404, 409, 415},
    "refuse_images": ROLE | SENT | {404, 409},
    "allow_images": ROLE | SENT,
    "backup_ledger": ROLE,
    "backup_keys": ROLE,
    "backup_blobs": ROLE,
}

Operations = dict[str, tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    http = MemoryApi(tmp_path_factory.mktemp("api")).http
    http.get("/openapi.json")
    found: dict[str, Any] = http.get("/openapi.json").json()  # twice: it must not be changed twice
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> Operations:
    """(path, operation) by operationId."""
    return {
        operation["operationId"]: (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }


def test_every_call_has_a_name_of_its_own(document: dict[str, Any], operations: Operations) -> None:
    assert len(operations) == sum(map(len, document["paths"].values()))
    for name, (path, operation) in operations.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_in_collection") == path.startswith(BELOW)
        assert operation["summary"]
    assert {n for n in operations if not n.endswith("_in_collection")} == PROBLEMS.keys()


def test_only_problems_that_can_come_are_named(operations: Operations) -> None:
    for name, (path, operation) in operations.items():
        expected = PROBLEMS[name.removesuffix("_in_collection")]
        expected = expected | {404} if path.startswith(BELOW) else expected
        found = {int(status) for status in operation["responses"] if status >= "400"}
        assert found == expected, name
        for status in found - (STORED if name.startswith("store_") else set()):
            assert [*operation["responses"][str(status)]["content"]] == ["application/problem+json"]


def test_every_call_has_an_example_that_is_right(
    document: dict[str, Any], operations: Operations
) -> None:
    def check(schema: dict[str, Any], value: Any) -> None:
        Draft202012Validator({**schema, "components": document["components"]}).validate(value)

    for name, (_, operation) in operations.items():
        for kind, body in operation.get("requestBody", {}).get("content", {}).items():
            assert "example" in body, f"{name} has no example of {kind}: write one in api/examples"
            check(body["schema"], body["example"])
        for status, response in operation["responses"].items():
            for kind, body in response.get("content", {}).items():
                if status >= "300" or kind in BINARY:
                    continue
                assert "example" in body, f"{name} has none of {status}: write it in api/examples"
                if kind == "application/json":
                    check(body["schema"], body["example"])
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                assert parameter["example"], parameter


def test_the_examples_of_requests_are_taken(operations: Operations, tmp_path: Path) -> None:
    api = MemoryApi(tmp_path)
    for name in ("create_job", "search", "search_batch", "explain", "create_deletion"):
        path, operation = operations[name]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = api.http.post(path, json=example)
        assert answer.status_code == 202, answer.text
