"""What no person would send: mutated bytes, arbitrary JSON, arbitrary forms. Nothing raises, ever.

The same examples on every run. `KINDRED_TEST_EXAMPLES=20000 pytest -n 0 tests/unit/test_fuzz.py`
draws as many new ones of each kind.
"""

import json
import os
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.testclient import TestClient

from api import app as application
from api.access import AccessControl
from api.services import Collection, Services
from pipeline.base.blobs import Blobs
from pipeline.base.errors import InvalidQuery
from pipeline.base.identity import ID_COLUMNS
from pipeline.base.keys import Keys
from pipeline.base.settings import Settings
from pipeline.images.picture import Picture, Unusable, decode, inspect
from pipeline.images.previews import preview
from pipeline.ledger import JobRecord, RequestRecord
from pipeline.ledger.requests import Limits
from pipeline.messages import RESERVED, Message, SearchQuery
from pipeline.messages.filters import Filter
from pipeline.operations.base import Operation
from pipeline.sources.allowed import AllowedSources
from pipeline.sources.metadata import clean
from tests.made_bytes import drawing, encoded

EXAMPLES = int(os.environ.get("KINDRED_TEST_EXAMPLES", "0"))

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL"),  # of odd metadata
    # Starlette leaves the file of a part that does not end to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
    ),
]

KINDS = ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "JPEG2000", "AVIF", "PPM")
SECRET = "Doe, Jane, 1950"


def bounded(examples: int) -> Any:
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# --- files ---------------------------------------------------------------------------------------


@cache
def whole(kind: str) -> bytes:
    return encoded(drawing(24, 16), kind)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good file in which some bytes are others, some come twice, and some are missing."""
    data = bytearray(whole(draw(st.sampled_from(KINDS))))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8))
        data[place : place + length] = draw(st.binary(max_size=8))
    return bytes(data)


@bounded(400)
@given(data=mutated())
def test_mutated_files_are_pictures_or_reasons(data: bytes) -> None:
    told = inspect(data, 1_000_000)
    result = decode(data, 1_000_000)
    assert isinstance(result, Picture | Unusable)
    assert told is None or told == result
    if isinstance(result, Picture):
        assert result.width * result.height <= 1_000_000
        assert preview(result, 64).startswith(b"\xff\xd8")


# --- JSON ----------------------------------------------------------------------------------------

numbers = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308])
texts = st.just(SECRET) | st.text(max_size=20)
scalars = st.none() | st.booleans() | numbers | texts
_OPERATORS = (
    "key match range value any gte lt is_null nested has_id values_count geo_radius center lon"
)
words = st.sampled_from([*SearchQuery.model_fields, *Filter.model_fields, *_OPERATORS.split()])
structures = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(words, inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=12,
)


def faults(error: ValidationError) -> str:
    """As the api shows them, without the names of unknown fields, which stand in their place."""
    return str([fault["msg"] for fault in error.errors(include_input=False, include_url=False)])


@bounded(200)
@given(value=st.dictionaries(words, structures, max_size=5))
def test_arbitrary_filters_and_queries_are_taken_or_refused(value: dict[str, Any]) -> None:
    text = json.dumps(value)  # with NaN and Infinity, which JSON has not
    for model in (Filter, SearchQuery):
        try:
            parsed = model.model_validate_json(text)
            if isinstance(parsed, SearchQuery):
                parsed.check_target(pictures=0)
            assert model.model_validate_json(parsed.model_dump_json(exclude_none=True)) == parsed
        except ValidationError as error:
            assert SECRET not in faults(error)
        except InvalidQuery as error:
            assert SECRET not in str(error)


@bounded(200)
@given(value=st.dictionaries(texts | st.sampled_from([RESERVED, *ID_COLUMNS]), structures))
def test_arbitrary_metadata_becomes_what_the_store_takes(value: dict[str, Any]) -> None:
    kept = clean(value)
    text = json.dumps(kept, allow_nan=False)
    assert RESERVED not in kept
    assert "null" not in text.replace(SECRET, "") or "null" in str(value)
    assert clean(json.loads(text)).keys() == kept.keys()


# --- HTTP ----------------------------------------------------------------------------------------


class _Jobs:
    """Holds one job, in every state at once."""

    def get(self, job: str) -> JobRecord:
        none: Any = dict.fromkeys(
            ("total", "images_per_second", "started_at", "finished_at", "error")
        )
        return JobRecord(
            id=job,
            operation="ingest",
            queue="ingest",
            request='{"source": {"dataset": "any"}}',
            state="planning",
            counts={},
            created_at=0,
            **none,
        )

    def create(self, job: str, operation: str, queue: str, request: str) -> None: ...

    def dispatch(self) -> list[Any]:
        return []

    def page(self, *_: Any) -> tuple[list[JobRecord], None]:
        return [self.get("any")], None

    def rejected_parts(self, job: str, row: int, limit: int) -> list[Any]:
        return []

    def rejections_in_redis(self, job: str) -> list[Any]:
        return []

    def transition(self, job: str, action: str) -> JobRecord:
        return self.get(job)


class _Waiting:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...

    def told(self, identifier: str) -> str:
        return ""

    async def finished(self, get: Any, identifier: str, seconds: float, begin: Any = None) -> Any:
        if begin is not None:
            begin()
        return get(identifier)


def _queued(identifier: str) -> RequestRecord:
    return RequestRecord(identifier, "search", "queued", None)


class _Collection(Collection):
    """The api's own, with nothing behind it."""

    def submit(
        self, wanted: Operation, body: Message, identifier: str, limits: Limits | None = None
    ) -> None:
        wanted.envelope(self.base, body)

    def refuse_when_full(self) -> None: ...


class _Services(Services):
    def collection(self, name: str | None = None) -> Collection:
        jobs: Any = _Jobs()
        requests: Any = SimpleNamespace(get=_queued)
        tombstones: Any = SimpleNamespace(remove=lambda keys: None)
        workers: Any = SimpleNamespace(away=dict)
        ledger: Any = SimpleNamespace(
            jobs=jobs, requests=requests, tombstones=tombstones, workers=workers, collection="any"
        )
        return _Collection("/v1", ledger, Blobs(str(self.settings.data / "blobs")), self)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("blobs")
    ledgers: Any = SimpleNamespace(close=lambda: None)
    settings, keys = Settings(data=folder), Keys.of(folder / "keys.json", ())
    nothing: Any = None
    access = AccessControl(keys, nothing, nothing, rate_limit=0)
    allowed = AllowedSources.of(("/",))
    parts: Any = (settings, ledgers, None, _Waiting(), access, allowed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Services, "open", lambda *_: _Services(*parts))
        app = application.create_app(settings, keys)
        with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as http:
            yield http


headers = st.sampled_from(
    [b"Content-Disposition", b"content-type", b"Content-Transfer-Encoding", b"X"]
)
pieces = st.sampled_from(
    [
        b'form-data; name="files"; filename="a.png"',
        b'form-data; name="image"; filename=""',
        b'form-data; name="query"',
        b'form-data; name="metadata"',
        b"filename*=UTF-8''%ff",
        b"text/plain; charset=idna",
        b'"\0\xff',
        b"[{}]",
    ]
)
lines = st.lists(pieces | st.binary(max_size=10), max_size=3).map(b"".join)
parts = st.tuples(st.lists(st.tuples(headers, lines), max_size=3), lines | st.binary(max_size=40))
charsets = [
    "utf-8",
    "utf-7",
    "idna",
    "punycode",
    "undefined",
    "utf-16",
    "zip",
    "base64",
    "",
    "\xe9",
]


def form(parts: list[tuple[list[tuple[bytes, bytes]], bytes]], end: bytes) -> bytes:
    body = b""
    for head, content in parts:
        body += b"--edge\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in head)
        body += b"\r\n" + content + b"\r\n"
    return body + end


@bounded(150)
@given(
    path=st.sampled_from(["/v1/images", "/v1/searches"]),
    parts=st.lists(parts, max_size=4),
    charset=st.sampled_from(charsets),
    end=st.sampled_from([b"--edge--\r\n", b"--edge", b"", b"--edge--\r\ntrailer"]),
)
def test_arbitrary_forms_are_no_fault_of_ours(
    client: TestClient, path: str, parts: Any, charset: str, end: bytes
) -> None:
    kind = f"multipart/form-data; boundary=edge; charset={charset}".encode("latin-1")
    answer = client.post(path, content=form(parts, end), headers={b"Content-Type": kind})
    assert answer.status_code < 500, answer.text


@bounded(150)
@given(
    path=st.sampled_from(["/v1/jobs", "/v1/searches", "/v1/searches/batch", "/v1/deletions"]),
    body=structures | st.dictionaries(words, structures, max_size=4),
    raw=st.none() | st.binary(max_size=30),
)
def test_arbitrary_bodies_are_no_fault_of_ours(
    client: TestClient, path: str, body: Any, raw: bytes | None
) -> None:
    content = raw if raw is not None else json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code == 422:
        assert SECRET not in answer.text


@bounded(150)
@given(
    path=st.sampled_from(["images/{}", "images/{}/preview", "jobs/{}", "jobs/{}/rejections"]),
    part=st.binary(max_size=20).map(lambda data: "".join(f"%{byte:02X}" for byte in data)),
    query=st.dictionaries(
        st.sampled_from(["limit", "cursor", "filter", "vectors"]), scalars.map(str), max_size=3
    ),
    prefer=st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n\0")),
)
def test_arbitrary_addresses_are_no_fault_of_ours(
    client: TestClient, path: str, part: str, query: dict[str, str], prefer: bytes
) -> None:
    address = f"/v1/{path.format(part)}"
    answer = client.get(address, params=query, headers={b"Prefer": prefer})
    assert answer.status_code < 500 or answer.status_code == 503, answer.text


def test_a_form_in_an_encoding_that_python_stumbles_over(
    client: TestClient, tmp_path: Path
) -> None:
    body = form([([(b"Content-Disposition", b'form-data; name="\xff"')], b"x")], b"--edge--\r\n")
    for charset in ("idna", "undefined", "utf-7"):
        kind = f"multipart/form-data; boundary=edge; charset={charset}"
        answer = client.post("/v1/searches", content=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["status"]) == (400, 400)
