"""schemathesis calls everything in the OpenAPI document of a running api, rightly and wrongly.

`KINDRED_TEST_EXAMPLES=500 pytest -n 0 tests/story/test_schema.py` tries for longer.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from tests.system import PATIENCE, System

schemathesis = pytest.importorskip("schemathesis", reason="comes with the extra `dev`")


@schemathesis.serializer("application/dicom", "multipart/related")
def as_it_is(_: Any, value: Any) -> bytes:
    """Nothing else here knows what DICOM files look like: some of these are any bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


EXAMPLES = int(os.environ.get("KINDRED_TEST_EXAMPLES", "15"))

# Long enough that a worker's verdict on what the api took is seen too.
HEADERS = {"Prefer": "wait=20"}


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, encoder: Path, drawn: Path
) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("schema")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")  # data sets of any name are asked for
        with System(folder, encoder, forked=False) as running:
            assert running.ingest(drawn, limit=20)["state"] == "succeeded"
            yield running


@pytest.fixture(scope="module")
def operations(system: System) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{system.http.base_url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    # Below /v1/collections/{collection} stand the same routes once more.
    return [operation for operation in found if "{collection}" not in operation.path]


def test_nothing_that_can_be_sent_is_a_fault_of_ours(system: System, operations: list[Any]) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    assert len(operations) >= 20
    wrong = []
    for operation in operations:
        for mode in modes:

            @settings(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def call(case: Any) -> None:
                _keep_to_no_folder(case)
                response = case.call(headers=HEADERS, timeout=PATIENCE)
                case.validate_response(response, checks=checks)
                _check_verdict(response)

            try:
                call()
            except Unsatisfiable:  # it takes nothing that could be wrong
                pass
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all that is wrong
                wrong.append(f"{operation.label}: {error!r}")
    assert not wrong, "\n\n".join(wrong)
    errors = [line for line in system.logs().splitlines() if " ERROR " in line]
    assert [line for line in errors if "kindred.worker job failed" not in line] == []


def _keep_to_no_folder(case: Any) -> None:
    """A data set can be any folder of this machine, and it would be read."""
    posted = case.body if case.operation.label == "POST /v1/jobs" else None
    if isinstance(posted, dict) and isinstance(posted.get("dataset"), str):
        posted["dataset"] = f"nowhere/{posted['dataset']}"


def _check_verdict(response: Any) -> None:
    """What a worker said of a search or a deletion, inside an answer of 200."""
    if response.headers.get("content-type", [""])[0] == "application/json":
        said = response.json()
        error = said.get("error") if isinstance(said, dict) else None
        assert error is None or error["status"] < 500, error
