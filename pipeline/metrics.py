"""Counters, gauges and histograms of this process, as Prometheus has them.

To add one costs the line where it is counted:

    metrics.count("kindred_rows_total", "Rows of jobs by what became of them", outcome="embedded")

A worker sends its own with its heartbeat, and the api shows those of all. Labels hold names and
ids of ours, never a patient's data.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()

# In seconds: from a search by id to a shard on a slow CPU.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)

_made: dict[str, Counter | Gauge | Histogram] = {}
_lock = threading.Lock()


def count(name: str, text: str, amount: float = 1, **labels: str) -> None:
    """Adds to a counter. Its name ends in `_total`; `text` says what it counts."""
    _of(Counter, name, text, labels).inc(amount)


def observe(name: str, text: str, seconds: float, **labels: str) -> None:
    """Adds to a histogram of seconds."""
    _of(Histogram, name, text, labels, buckets=_BUCKETS).observe(seconds)


def gauge(name: str, text: str, value: float, **labels: str) -> None:
    """Says what a value is now."""
    _of(Gauge, name, text, labels).set(value)


def text() -> str:
    """All of this process, in Prometheus' text format."""
    return generate_latest(REGISTRY).decode()


class Gathered:
    """Metrics of several processes as one collector. Each text comes with labels to add to it."""

    def __init__(self, texts: Iterable[tuple[Mapping[str, str], str]]) -> None:
        self._texts = list(texts)

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        for labels, given in self._texts:
            for family in text_string_to_metric_families(given):
                metric = found.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    metric.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
        yield from found.values()


def _of(
    kind: type[_Kind], name: str, text: str, labels: Mapping[str, str], **options: Any
) -> _Kind:
    """The one metric of this name, made when it is first counted."""
    with _lock:
        metric = _made.get(name)
        if metric is None:
            metric = _made[name] = kind(name, text, list(labels), registry=REGISTRY, **options)
    assert isinstance(metric, kind), name  # noqa: S101 - two kinds under one name
    return metric.labels(**labels) if labels else metric
