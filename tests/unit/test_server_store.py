"""The store's code for a Qdrant server alone: how it starts, what goes wrong, how it searches.

No server is needed: qdrant-client's in-memory stand-in answers, errors are raised as the client
raises them, and races are interleaved on purpose.
"""

import socket
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Barrier, Event, Thread
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from grpc import Call, RpcError, StatusCode  # type: ignore[import-untyped]
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from pipeline.base.errors import (
    ConfigurationError,
    EncoderMismatch,
    InvalidQuery,
    StoreUnavailable,
)
from pipeline.base.settings import Settings
from pipeline.ledger import Ledger
from pipeline.messages.filters import Filter
from pipeline.store import Points, Query, fingerprint, open_store, server
from pipeline.store.common import BATCH, in_use
from pipeline.store.server import ServerStore
from pipeline.store.server_connection import _client, _key, _over_grpc, _trust, connect
from tests import real_qdrant
from tests.encoders import DIMENSIONS, ENCODER
from tests.memory_ledger import memory_ledgers
from tests.memory_qdrant import MemoryQdrant

OTHER = ENCODER.model_copy(update={"model": "acme/other", "weights_sha256": "cd" * 32})
INDEXES = {"dx": "keyword", "age": "float"}
VECTOR = np.ones(DIMENSIONS, np.float32)
ONE = Points([uuid4()], VECTOR[None], [{"dx": "nv"}])

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


class Failure(RpcError):  # type: ignore[misc]
    """As grpc raises it: an error that is also the call."""

    def __init__(self, code: StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


Call.register(Failure)


def over_rest(status: int, text: str = "") -> UnexpectedResponse:
    content = text.replace('"', '\\"').encode()
    return UnexpectedResponse(
        status, "", b'{"status":{"error":"' + content + b'"}}', httpx.Headers()
    )


def raising(error: Exception) -> Callable[..., None]:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    return fail


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = MemoryQdrant()
    yield client
    client.close()


@pytest.fixture
def store(client: QdrantClient) -> ServerStore:
    return ServerStore(client, "kindred", ENCODER, INDEXES)


def aliased(client: QdrantClient) -> list[tuple[str, str]]:
    return [(a.alias_name, a.collection_name) for a in client.get_aliases().aliases]


# --- many open an empty collection at once -----------------------------------------------------


def claiming(ledger: Ledger, worker: str, encoder: Any) -> Callable[[], None]:
    def claim() -> None:
        if (other := ledger.claim_encoder(worker, encoder)) is not None:
            raise in_use("kindred", other, encoder)

    return claim


@pytest.fixture
def ledger() -> Ledger:
    return memory_ledgers().of("kindred")


def test_an_alias_that_another_worker_makes_between_two_questions_is_ours(
    client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One encoder: "a collection that Kindred did not make" must not be said of our own."""
    ask = client.get_aliases
    others: list[ServerStore] = []

    def ask_first() -> models.CollectionsAliasesResponse:
        found = ask()
        if not others:  # the other worker starts between this answer and our next question
            monkeypatch.setattr(client, "get_aliases", ask)
            others.append(ServerStore(client, "kindred", ENCODER, INDEXES))
        return found

    monkeypatch.setattr(client, "get_aliases", ask_first)
    store = ServerStore(client, "kindred", ENCODER, INDEXES)

    store.upsert(ONE)
    assert others[0].count() == 1
    assert aliased(client) == [("kindred", f"kindred-{fingerprint(ENCODER)}")]


def test_of_two_encoders_that_open_an_empty_collection_at_once_one_wins(
    client: QdrantClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has seen that the collection is empty when the first opens it."""
    first: list[ServerStore] = []
    ask = client.get_aliases

    def ask_first() -> models.CollectionsAliasesResponse:
        found = ask()
        if not first:
            monkeypatch.setattr(client, "get_aliases", ask)
            claim = claiming(ledger, "first", ENCODER)
            first.append(ServerStore(client, "kindred", ENCODER, INDEXES, claim))
        return found

    monkeypatch.setattr(client, "get_aliases", ask_first)
    with pytest.raises(EncoderMismatch) as caught:
        ServerStore(client, "kindred", OTHER, INDEXES, claiming(ledger, "second", OTHER))

    for encoder in (ENCODER, OTHER):
        assert encoder.model in str(caught.value)
        assert f"weights {encoder.weights_sha256[:12]}" in str(caught.value)
    first[0].upsert(ONE)
    assert aliased(client) == [("kindred", f"kindred-{fingerprint(ENCODER)}")]
    assert [c.name for c in client.get_collections().collections] == [aliased(client)[0][1]]


def test_a_collection_that_is_filled_before_the_claim_is_refused_by_what_fills_it(
    client: QdrantClient,
) -> None:
    def filled_meanwhile() -> None:
        ServerStore(client, "kindred", ENCODER, INDEXES).upsert(ONE)

    with pytest.raises(EncoderMismatch):
        ServerStore(client, "kindred", OTHER, INDEXES, filled_meanwhile)
    assert aliased(client) == [("kindred", f"kindred-{fingerprint(ENCODER)}")]


def test_the_wrong_encoder_of_a_filled_collection_claims_nothing(
    client: QdrantClient, ledger: Ledger
) -> None:
    """Otherwise the right one, which starts with it, would be refused as well."""
    ServerStore(client, "kindred", ENCODER, INDEXES).upsert(ONE)
    with pytest.raises(EncoderMismatch):
        ServerStore(client, "kindred", OTHER, INDEXES, claiming(ledger, "wrong", OTHER))
    assert ServerStore(client, "kindred", ENCODER, INDEXES, claiming(ledger, "ours", ENCODER))


def test_the_embedded_store_claims_too_and_lets_its_folder_go_if_refused(
    tmp_path: Path, ledger: Ledger
) -> None:
    options = Settings(data=tmp_path).store
    assert ledger.claim_encoder("elsewhere", OTHER) is None
    with pytest.raises(EncoderMismatch):
        open_store(options, ENCODER, claiming(ledger, "here", ENCODER))
    ledger.workers.leave("elsewhere")
    open_store(options, ENCODER, claiming(ledger, "here", ENCODER)).close()


@pytest.mark.skipif(not real_qdrant.URL, reason="KINDRED_TEST_QDRANT_URL names no Qdrant server")
def test_of_64_openings_in_groups_of_eight_all_open() -> None:
    for _ in range(8):
        with real_qdrant.collection() as open_, ThreadPoolExecutor(8) as pool:
            opened = [pool.submit(open_, ENCODER, INDEXES) for _ in range(8)]
            stores = [each.result() for each in opened]
            stores[0].upsert(ONE)
            assert [store.count() for store in stores] == [1] * 8


# --- the connection ----------------------------------------------------------------------------


@contextmanager
def rest_server(version: str) -> Iterator[int]:
    """Answers `GET /` as Qdrant does, on a port of its own. Nothing speaks gRPC there."""

    class Root(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"title": "qdrant", "version": "' + version.encode() + b'"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Root) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def silent_port() -> Iterator[int]:
    """A port of ours that nobody listens on, for as long as the block runs."""
    with socket.socket() as owned:
        owned.bind(("127.0.0.1", 0))
        yield owned.getsockname()[1]


@pytest.mark.parametrize("version", ["1.18.3", "1.19.0", "0.11.7"])
def test_an_older_server_is_refused_and_both_versions_are_named(version: str) -> None:
    with rest_server(version) as port, pytest.raises(ConfigurationError) as caught:
        connect(f"http://127.0.0.1:{port}", None)
    assert version in str(caught.value)
    assert "1.20" in str(caught.value)
    assert str(caught.value).startswith("KINDRED_QDRANT_URL:")


@pytest.mark.parametrize("version", ["1.20.0", "1.21.3-dev", "2.0.0", "dev"])
def test_a_server_that_is_new_enough_is_taken(version: str) -> None:
    with rest_server(version) as port:
        connect(f"http://127.0.0.1:{port}", None).close()


def test_where_grpc_cannot_be_reached_rest_is_used(caplog: pytest.LogCaptureFixture) -> None:
    with rest_server("1.20.1") as port, silent_port() as nobody:
        client = connect(f"http://127.0.0.1:{port}", None, nobody)
        assert client.info().version == "1.20.1"
        client.close()
    [record] = caplog.records
    assert "KINDRED_QDRANT_GRPC_PORT" in record.message


def test_where_neither_answers_the_reason_of_grpc_is_named() -> None:
    with silent_port() as port, silent_port() as grpc:
        settings = Settings(qdrant_url=f"http://127.0.0.1:{port}", qdrant_grpc_port=grpc)
        with pytest.raises(StoreUnavailable, match=r"cannot be reached \(UNAVAILABLE\)"):
            open_store(settings.store, ENCODER)


@pytest.mark.parametrize(
    ("url", "set_to", "used"),
    [
        ("http://qdrant:6333", None, 6334),
        ("https://xyz.cloud.qdrant.io", None, 6334),
        ("qdrant:6333", None, 6334),
        ("http://127.0.0.1:9", None, None),
        ("http://127.0.0.1:9", 16334, 16334),
        ("http://qdrant:6333", 0, None),
    ],
)
def test_grpc_goes_to_6334_only_if_the_url_has_qdrants_own_port(
    url: str, set_to: int | None, used: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("pipeline.store.server_connection._checked", lambda client: client)
    monkeypatch.setattr(
        "pipeline.store.server_connection.QdrantClient", lambda **options: opened.append(options)
    )
    connect(url, None, set_to)
    [options] = opened
    assert options.get("grpc_port") == used
    assert options.get("prefer_grpc", False) is (used is not None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_key_on_loopback_is_no_reason_to_warn(host: str) -> None:
    url = f"http://{host}:6333"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = _client(url, _key(url, "of sixteen letters"))
    remote: Any = client._client
    assert remote._rest_headers["api-key"] == "of sixteen letters"
    assert ("api-key", "of sixteen letters") in remote._grpc_headers
    client.close()
    with pytest.warns(UserWarning, match="insecure"):
        _client("http://qdrant", _key("http://qdrant", "of sixteen letters")).close()


def test_a_private_certificate_is_trusted_over_rest_and_grpc(tmp_path: Path) -> None:
    import certifi

    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(certifi.where()).read_bytes())
    options = _over_grpc(_trust(ca), 6334, ca)
    assert options["verify"].get_ca_certs()
    client = _client("https://127.0.0.1", options)
    remote: Any = client._client
    assert remote._grpc_options["root_certificates"] == ca.read_bytes()
    client.close()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_of_no_certificate_is_a_wrong_setting(tmp_path: Path, content: bytes | None) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_bytes(content)
    with pytest.raises(ConfigurationError, match="KINDRED_QDRANT_CA"):
        connect("https://127.0.0.1:6333", None, None, ca)


def test_a_certificate_that_is_not_trusted_is_a_wrong_setting(
    client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    monkeypatch.setattr(client, "get_aliases", raising(ResponseHandlingException(source)))
    with pytest.raises(ConfigurationError, match="KINDRED_QDRANT_CA"):
        ServerStore(client, "kindred", ENCODER, {})


REFUSED_KEYS = [
    Failure(StatusCode.UNAUTHENTICATED, "Invalid API key or JWT: Lovelace"),
    Failure(StatusCode.PERMISSION_DENIED, "Forbidden: Lovelace"),
    over_rest(401, "Must provide an API key: Lovelace"),
    over_rest(403, "Forbidden: Lovelace"),
]


@pytest.mark.parametrize("error", REFUSED_KEYS, ids=str)
def test_a_wrong_key_is_a_wrong_setting_at_the_start(
    client: QdrantClient, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that starts ends with 78, for which no supervisor starts it again."""
    monkeypatch.setattr(client, "get_aliases", raising(error))
    with pytest.raises(ConfigurationError) as caught:
        ServerStore(client, "kindred", ENCODER, {})
    assert str(caught.value).startswith("KINDRED_QDRANT_API_KEY:")
    assert "Lovelace" not in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "error", [Failure(StatusCode.PERMISSION_DENIED, "Forbidden"), over_rest(403, "Forbidden")]
)
def test_a_key_that_may_only_read_is_a_wrong_setting_at_the_start(
    client: QdrantClient, store: ServerStore, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is made already, so nothing else would be written before the first image."""
    monkeypatch.setattr(client, "delete", raising(error))
    with pytest.raises(ConfigurationError, match="KINDRED_QDRANT_API_KEY"):
        ServerStore(client, "kindred", ENCODER, INDEXES)


def test_a_worker_starts_while_the_disk_of_the_server_is_full(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches work."""
    full = Failure(StatusCode.INTERNAL, "No space left on device")
    monkeypatch.setattr(client, "delete", raising(full))
    assert ServerStore(client, "kindred", ENCODER, INDEXES).count() == 0


@pytest.mark.parametrize("error", REFUSED_KEYS, ids=str)
def test_a_key_that_is_withdrawn_later_keeps_work_waiting_and_is_named(
    client: QdrantClient, store: ServerStore, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is not failed for it."""
    monkeypatch.setattr(client, "upsert", raising(error))
    with pytest.raises(StoreUnavailable, match="KINDRED_QDRANT_API_KEY"):
        store.upsert(ONE)


# --- what a server refuses or cannot do ----------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Failure(StatusCode.INTERNAL, "Service internal error: No space left on device"), "full"),
        (over_rest(500, "Service internal error: IO Error: No space left on device"), "full"),
        (Failure(StatusCode.INTERNAL, "a panic over Lovelace"), r"did not do as asked \(INTERNAL"),
        (Failure(StatusCode.UNAVAILABLE, "Connection refused"), "cannot be reached"),
        (Failure(StatusCode.DEADLINE_EXCEEDED), "does not answer in time"),
        (ResponseHandlingException(httpx.ConnectError("refused")), r"reached \(ConnectError\)"),
        (ResponseHandlingException(httpx.ReadTimeout("slow")), r"in time \(ReadTimeout\)"),
    ],
    ids=str,
)
def test_why_a_server_is_unavailable_is_told_apart(
    client: QdrantClient,
    store: ServerStore,
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "upsert", raising(error))
    with pytest.raises(StoreUnavailable, match=said) as caught:
        store.upsert(ONE)
    assert "Lovelace" not in str(caught.value)


def where(*conditions: dict[str, Any]) -> Filter:
    return Filter.model_validate({"must": [*conditions]})


FIELD = {"key": "site", "match": {"value": "Lovelace"}}
DEEP = {"nested": {"key": "lesions", "filter": {"must_not": [{**FIELD, "key": "kind"}]}}}
UNINDEXED = (
    'Bad request: Index required but not found for "{}" of one of the following types: [keyword]. '
    "Help: Create an index for this key or use a different filter."
)


@pytest.mark.parametrize(
    ("condition", "said", "named"),
    [
        (FIELD, "site", "site"),
        ({"is_empty": {"key": "source.job"}}, "source.job", "source.job"),
        ({**FIELD, "key": '"body part"'}, '"body part"', '"body part"'),
        ({"should": [{"must_not": [FIELD]}]}, "site", "site"),
        (DEEP, "lesions.kind", "lesions.kind"),
        (DEEP, "lesions[].kind", "lesions.kind"),
        (FIELD, "Lovelace", "A field of the filter"),  # what is no field of ours is not repeated
    ],
)
@pytest.mark.parametrize("rest", [False, True])
def test_strict_mode_names_the_field_that_has_no_index(
    client: QdrantClient,
    store: ServerStore,
    condition: dict[str, Any],
    said: str,
    named: str,
    rest: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = UNINDEXED.format(said)
    error = over_rest(400, text) if rest else Failure(StatusCode.INVALID_ARGUMENT, text)
    wanted = where({"key": "dx", "match": {"value": "nv"}}, condition)
    for call, run in {
        "query_batch_points": lambda: store.query([Query(VECTOR, limit=1, filter=wanted)]),
        "scroll": lambda: store.scroll(1, filter=wanted),
        "count": lambda: store.count(wanted),
        "facet": lambda: store.facet("dx", filter=wanted),
    }.items():
        monkeypatch.setattr(client, call, raising(error))
        with pytest.raises(InvalidQuery) as caught:
            run()
        assert str(caught.value).startswith(f"{named} has no index")
        assert "KINDRED_INDEXED_FIELDS" in str(caught.value)
        assert "Lovelace" not in str(caught.value)


def test_strict_mode_names_the_limit(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        'Limit exceeded 1000 > 100 for "limit". Help: Reduce the "limit" parameter to or below 100.'
    )
    for error in (Failure(StatusCode.INVALID_ARGUMENT, text), over_rest(400, text)):
        monkeypatch.setattr(client, "query_batch_points", raising(error))
        with pytest.raises(InvalidQuery, match="100 results at most") as caught:
            store.query([Query(VECTOR, limit=1000)])
        assert caught.value.path == ("limit",)


# --- how it searches -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "strict", "expected"),
    [
        (0, None, None),
        (199_999, None, None),
        (200_000, None, 320),
        (1_000_000, None, 320),
        (3_000_000, None, 512),
        (1_000_000, models.StrictModeConfigOutput(enabled=True, search_max_hnsw_ef=200), 200),
        (1_000_000, models.StrictModeConfigOutput(enabled=False, search_max_hnsw_ef=200), 320),
        (10, models.StrictModeConfigOutput(enabled=True, search_max_hnsw_ef=200), None),
    ],
)
def test_a_large_collection_is_searched_with_more_candidates(
    client: QdrantClient,
    store: ServerStore,
    points: int,
    strict: Any,
    expected: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Any] = []
    config = SimpleNamespace(strict_mode_config=strict)
    info = SimpleNamespace(points_count=points, config=config)
    monkeypatch.setattr(client, "get_collection", lambda name: info)
    monkeypatch.setattr(
        client, "query_batch_points", lambda name, requests: sent.extend(requests) or []
    )
    store.query([Query(VECTOR, limit=1)])
    assert [request.params and request.params.hnsw_ef for request in sent] == [expected]


def test_a_query_can_ask_to_be_exact(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(
        client, "query_batch_points", lambda name, requests: sent.extend(requests) or []
    )
    store.query([Query(VECTOR, limit=1, exact=True), Query(VECTOR, limit=1)])
    assert [request.params and request.params.exact for request in sent] == [True, None]


def test_points_are_counted_again_when_a_minute_has_passed(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask, now = client.get_collection, [1000.0]
    monkeypatch.setattr(server.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(client, "get_collection", lambda name: asked.append(name) or ask(name))
    for seconds, times in ((0, 1), (59, 1), (1, 2)):
        now[0] += seconds
        store.query([Query(VECTOR, limit=1)])
        assert len(asked) == times


# --- several batches at once ----------------------------------------------------------------------


def many(count: int) -> Points:
    vectors = np.random.default_rng(5).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return Points([uuid4() for _ in range(count)], vectors, [{"dx": "nv"}] * count)


def test_several_batches_are_on_their_way_at_once(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them would go on if the others were not there."""
    together, upsert = Barrier(server._STREAMS, timeout=30), client.upsert

    def meet(*arguments: Any, **named: Any) -> Any:
        together.wait()
        return upsert(*arguments, **named)

    monkeypatch.setattr(client, "upsert", meet)
    store.upsert(many(server._STREAMS * BATCH))
    assert store.count() == server._STREAMS * BATCH


def test_nothing_is_written_after_an_error_is_raised(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch fails while others are on their way; those that wait are not begun."""
    upsert, failed = client.upsert, Event()
    begun: list[str] = []
    written: list[str] = []
    points = many(20 * BATCH)

    def fail_first(name: str, points: Any, wait: bool) -> Any:
        begun.append(points.ids[0])
        if points.ids[0] == first:
            failed.set()
            raise Failure(StatusCode.UNAVAILABLE)
        failed.wait()
        done = upsert(name, points=points, wait=wait)
        written.append(points.ids[0])
        return done

    first = str(points.ids[0])
    monkeypatch.setattr(client, "upsert", fail_first)
    with pytest.raises(StoreUnavailable):
        store.upsert(points)
    assert {*begun} == {*written, first}, "all that began had ended"
    assert len(begun) < 20
    assert store.count() == len(written) * BATCH
    before = store.count()
    monkeypatch.setattr(client, "upsert", upsert)
    store.upsert(points)
    assert store.count() == 20 * BATCH > before


def test_a_caller_that_is_stopped_leaves_nothing_on_its_way(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = client.upsert
    begun: list[str] = []
    written: list[str] = []

    def note(name: str, points: Any, wait: bool) -> Any:
        begun.append(points.ids[0])
        done = upsert(name, points=points, wait=wait)
        written.append(points.ids[0])
        return done

    def stop(running: Any, return_when: str = "") -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "upsert", note)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        waits = server.wait
        patched.setattr(
            server, "wait", lambda running, **how: stop(running) if how else waits(running)
        )
        store.upsert(many(20 * BATCH))
    assert begun
    assert {*begun} == {*written}
    assert store.count() == len(written) * BATCH


@pytest.mark.parametrize("lost", [False, True])
def test_a_deletion_makes_a_purge_due_whatever_another_worker_does(
    client: QdrantClient, store: ServerStore, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its purge may take our mark over just before our points go; or we are killed then."""
    store.upsert(ONE)
    delete = client.delete

    def taken_over(*arguments: Any, **named: Any) -> Any:
        [mark] = store._purge._marks()
        client.update_collection(store._name, metadata={mark: None})
        return delete(*arguments, **named)

    monkeypatch.setattr(
        client, "delete", raising(Failure(StatusCode.UNAVAILABLE)) if lost else taken_over
    )
    if lost:
        with pytest.raises(StoreUnavailable):
            store.delete(ONE.ids)
    else:
        store.delete(ONE.ids)
    monkeypatch.undo()
    assert store.purge_due


def test_of_points_with_one_id_the_last_is_stored(
    client: QdrantClient, store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their batches go one after the other."""
    points, upsert, others = many(3 * BATCH), client.upsert, Event()
    twice = Points([*points.ids[:-1], points.ids[0]], points.vectors, points.payloads)

    def let_others_pass(name: str, points: Any, wait: bool) -> Any:
        if np.array_equal(points.vectors, twice.vectors[:BATCH]):
            others.wait(0.5)  # it is set at once if others are on their way beside the first
            return upsert(name, points=points, wait=wait)
        done = upsert(name, points=points, wait=wait)
        if np.array_equal(points.vectors, twice.vectors[-BATCH:]):
            others.set()
        return done

    monkeypatch.setattr(client, "upsert", let_others_pass)
    store.upsert(twice)
    [record] = store.retrieve(twice.ids[:1], vectors=True).values()
    last = points.vectors[-1] / np.linalg.norm(points.vectors[-1])
    assert record.vector is not None
    np.testing.assert_allclose(record.vector, last, atol=1e-6)


# --- indexes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "replaced"),
    [
        ({"tokenizer": "word", "lowercase": True, "phrase_matching": True}, False),
        ({"phrase_matching": True}, False),
        ({"phrase_matching": True, "on_disk": True}, False),
        ({}, True),
        ({"phrase_matching": True, "lowercase": False}, True),
        ({"phrase_matching": True, "tokenizer": "prefix"}, True),
        ({"phrase_matching": True, "min_token_len": 3}, True),
        ({"phrase_matching": True, "ascii_folding": True}, True),
    ],
    ids=str,
)
def test_a_text_index_that_tells_words_apart_in_another_way_is_replaced(
    client: QdrantClient,
    store: ServerStore,
    params: dict[str, Any],
    replaced: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise `match.text` would mean something else on this server alone."""
    info = client.get_collection(store._name)
    text = models.TextIndexParams(type=models.TextIndexType.TEXT, **params)
    data_type = models.PayloadSchemaType.TEXT
    info.payload_schema = {
        "note": models.PayloadIndexInfo(data_type=data_type, params=text, points=0),
        "dx": models.PayloadIndexInfo(data_type=models.PayloadSchemaType.KEYWORD, points=0),
        "age": models.PayloadIndexInfo(data_type=models.PayloadSchemaType.FLOAT, points=0),
    }
    made: list[Any] = []
    monkeypatch.setattr(client, "get_collection", lambda name: info)
    monkeypatch.setattr(
        client, "create_payload_index", lambda name, path, kind, wait: made.append((path, kind))
    )
    ServerStore(client, "kindred", ENCODER, INDEXES)
    assert [path for path, _ in made] == (["note"] if replaced else [])
    assert all(kind.phrase_matching and kind.lowercase for _, kind in made)
