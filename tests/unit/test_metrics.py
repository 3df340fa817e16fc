"""Metrics: counted in one line, by any thread, and gathered from all processes."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import metrics
from pipeline.metrics import Gathered
from tests.ledger_steps import US, worker
from tests.memory_api import MemoryApi

THREADS = 8

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what was counted, as a process that starts; call it for yet another process."""

    def forget() -> None:
        monkeypatch.setattr(metrics, "REGISTRY", CollectorRegistry())
        monkeypatch.setattr(metrics, "_made", {})

    forget()
    return forget


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


def gathered(*texts: tuple[dict[str, str], str]) -> str:
    registry = CollectorRegistry()
    registry.register(Gathered(texts))
    return generate_latest(registry).decode()


# --- one process ---------------------------------------------------------------------------------


def test_a_counter_adds_up_for_each_of_its_labels() -> None:
    metrics.count("rows_total", "Rows", outcome="embedded")
    metrics.count("rows_total", "Rows", 5, outcome="embedded")
    metrics.count("rows_total", "Rows", 2, outcome="rejected")
    metrics.count("calls_total", "Calls")

    text = metrics.text()

    assert value(text, "rows_total", outcome="embedded") == 6
    assert value(text, "rows_total", outcome="rejected") == 2
    assert value(text, "calls_total") == 1
    assert len(samples(text)) == 3  # without the times at which counters began


def test_a_histogram_has_the_count_the_sum_and_the_buckets_of_its_seconds() -> None:
    for seconds in (0.004, 0.2, 0.2, 100):
        metrics.observe("query_seconds", "Time", seconds, operation="search")

    text = metrics.text()

    assert value(text, "query_seconds_count", operation="search") == 4
    assert value(text, "query_seconds_sum", operation="search") == pytest.approx(100.404)
    buckets = {le: value(text, "query_seconds_bucket", operation="search", le=le)
               for le in ("0.005", "0.1", "0.25", "60.0", "+Inf")}  # fmt: skip
    assert buckets == {"0.005": 1, "0.1": 1, "0.25": 3, "60.0": 3, "+Inf": 4}


def test_a_gauge_has_the_value_that_was_said_last() -> None:
    metrics.gauge("free_bytes", "Free", 7)
    metrics.gauge("free_bytes", "Free", 3)

    assert value(metrics.text(), "free_bytes") == 3


@pytest.mark.parametrize(
    "again",
    [
        lambda: metrics.gauge("things_total", "Things", 1),
        lambda: metrics.observe("things_total", "Things", 1),
    ],
)
def test_two_kinds_under_one_name_are_an_error(again: Callable[[], None]) -> None:
    metrics.count("things_total", "Things")

    with pytest.raises(AssertionError, match="things_total"):
        again()
    assert value(metrics.text(), "things_total") == 1


@pytest.mark.parametrize("labels", [{}, {"colour": "red"}, {"size": "S", "colour": "red"}])
def test_other_labels_under_one_name_are_an_error(labels: dict[str, str]) -> None:
    metrics.count("things_total", "Things", size="S")

    with pytest.raises(ValueError, match="label"):
        metrics.count("things_total", "Things", **labels)


def test_threads_that_count_first_at_the_same_time_make_one_counter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = Barrier(THREADS)

    class Slow(prometheus_client.Counter):
        """Long enough in the making for another thread to come in."""

        def __init__(self, *given: Any, **options: Any) -> None:
            time.sleep(0.02)
            super().__init__(*given, **options)

    def count(_: int) -> None:
        together.wait()
        for _ in range(500):
            metrics.count("things_total", "Things")

    monkeypatch.setattr(metrics, "Counter", Slow)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(count, range(THREADS)))

    assert value(metrics.text(), "things_total") == THREADS * 500


# --- several processes ---------------------------------------------------------------------------


def test_what_several_processes_count_stays_apart_by_their_labels(
    fresh: Callable[[], None],
) -> None:
    metrics.count("rows_total", "Rows", 2, outcome="embedded")
    one = metrics.text()
    fresh()
    metrics.count("rows_total", "Rows", 3, outcome="embedded")
    metrics.observe("query_seconds", "Time", 0.2)
    other = metrics.text()

    text = gathered(({"process": "w1", "collection": "skin"}, one), ({"process": "w2"}, other))

    labels = {"outcome": "embedded", "process": "w1", "collection": "skin"}
    assert value(text, "rows_total", **labels) == 2
    assert value(text, "rows_total", outcome="embedded", process="w2") == 3
    assert value(text, "query_seconds_count", process="w2") == 1
    assert value(text, "query_seconds_bucket", process="w2", le="0.25") == 1


def test_each_metric_is_described_once_with_its_kind(fresh: Callable[[], None]) -> None:
    metrics.count("rows_total", "Rows of jobs")
    metrics.observe("query_seconds", "Time to answer", 1)
    one = metrics.text()

    text = gathered(({"process": "w1"}, one), ({"process": "w2"}, one))

    described = [line for line in text.splitlines() if line.startswith("#")]
    assert described == [
        "# HELP rows_total Rows of jobs",
        "# TYPE rows_total counter",
        "# HELP query_seconds Time to answer",
        "# TYPE query_seconds histogram",
    ]


def test_labels_of_any_text_survive_the_way() -> None:
    odd = 'a "quoted"\\ line\nand another'
    metrics.count("rows_total", "Rows", outcome=odd)

    text = gathered(({"process": odd}, metrics.text()))

    assert value(text, "rows_total", outcome=odd, process=odd) == 1


def test_processes_that_have_counted_nothing_add_nothing() -> None:
    assert gathered(({"process": "w1"}, metrics.text()), ({"process": "w2"}, "")).strip() == ""


def test_an_operator_sees_what_workers_have_and_could_have(tmp_path: Path) -> None:
    api = MemoryApi(tmp_path)
    api.ledger.workers.beat(worker(US, lanes=2, queue="ingest"))
    for number in range(3):
        api.ledger.jobs.create(f"job {number}", "ingest", "ingest", "{}")
    api.ledger.jobs.dispatch()

    text = api.http.get("/metrics").text

    labels = '{collection="kindred",queue="ingest"}'
    assert f"kindred_lanes{labels} 2.0" in text
    assert f"kindred_items_leased{labels} 2.0" in text
    assert f"kindred_items_quarantined{labels} 0.0" in text
    assert 'kindred_queue_messages{collection="kindred",queue="search"} 0.0' in text
