"""Evaluates how well a collection finds what has the same label: leave-one-out, by blocks."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import InvalidQuery
from pipeline.evaluation import metrics
from pipeline.evaluation.collected import NONE, Collected, Reader
from pipeline.evaluation.intervals import estimate
from pipeline.evaluation.neighbours import NEAREST, Nearest, Neighbours
from pipeline.evaluation.survey import Survey, survey
from pipeline.messages import EncoderInfo
from pipeline.messages.evaluations import (
    ClassQuality,
    Confusion,
    Estimate,
    EvaluationReport,
    EvaluationRequest,
    Metric,
    Ranking,
)

MOST_LABELS = 100

# The parts of the work, each as the share of it that is done at its end.
_READ, _FOUND = 0.4, 1.0

RECALLS = (1, 5, 10)

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]
Tick = Callable[[float], None]  # gets the share of the work that is done; may raise to end it


@dataclass(frozen=True)
class Evaluation:
    """`searched` images of the collection's `count` are searched by."""

    id: str
    request: EvaluationRequest
    encoder: EncoderInfo
    reader: Reader
    searched: int
    count: int
    tick: Tick
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> EvaluationReport:
        """Raises InvalidQuery, StoreUnavailable, and whatever `tick` raises."""
        with self._timed("read"):
            sampled = self.reader.sample(self.searched, self.request.seed)
            whole = survey(
                self.reader, sampled.labelled, self.request.near_duplicates, self._reading()
            )
        labels = _Labels.of(whole.labels, self.reader.names)
        queries = _searchable(whole.clustered(sampled.labelled), whole)
        groups = sampled.labelled.part(_in(sampled.labelled.keys, queries.keys)).groups
        with self._timed("nearest"):
            search = self._nearest(queries, whole)
        with self._timed("metrics"):
            return self._report(sampled, whole, queries, groups, search, labels)

    def _nearest(self, queries: Collected, whole: Survey) -> Nearest:
        search, seen = Nearest(queries), 0
        for block in whole.blocks():
            search.add(block)
            seen += len(block)
            self.tick(_READ + (_FOUND - _READ) * min(1, seen / max(1, len(whole.labels))))
        return search

    def _reading(self) -> Callable[[int], None]:
        seen = 0

        def tick(images: int) -> None:
            nonlocal seen
            seen += images
            self.tick(_READ * min(1, seen / max(1, self.count)))

        return tick

    def _report(
        self,
        sampled: Collected,
        whole: Survey,
        queries: Collected,
        groups: Numbers,
        search: Nearest,
        labels: "_Labels",
    ) -> EvaluationReport:
        found, truth = search.others, labels.codes(queries.labels)
        relevant, others = _relevant(queries, whole)
        neighbours = labels.codes(found.labels)
        guess = int(np.bincount(labels.codes(whole.labels)).argmax())
        rankings = {
            "embedding": metrics.of_neighbours(truth, neighbours, found.scores, relevant),
            "chance": metrics.of_chance(relevant, others),
            "constant": metrics.of_constant(truth, guess),
        }
        judged = _Judged(truth, queries.groups, labels, whole, self.request.seed)
        return EvaluationReport(
            id=self.id,
            created_at=datetime.now(UTC),
            encoder=self.encoder,
            request=self.request.model_copy(update={"filter": None}),
            images=len(whole.labels),
            evaluated=len(queries),
            groups=len(np.unique(queries.groups)),
            left_out=self._left_out(sampled, whole, queries),
            rankings=judged.rankings(rankings),
            same_group=_same_group(queries, groups, found, search.mates, self.request.seed),
            near_duplicates=whole.duplicates,
            confusion=_confusion(labels, truth, neighbours),
            thresholds=(),
            calibration=(),
            seconds=self.seconds,
        )

    def _left_out(self, sampled: Collected, whole: Survey, queries: Collected) -> dict[str, int]:
        alone = len(sampled.labelled) - len(queries)
        found = {"no label": whole.unlabelled, "alone with its label": alone}
        return {reason: count for reason, count in found.items() if count}

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - start, 3)


@dataclass(frozen=True)
class _Labels:
    """`names` (c,) in their order; `numbers` (c,) sorted, whose codes are `order`."""

    names: Sequence[str]
    numbers: Numbers
    order: Numbers

    @classmethod
    def of(cls, labels: Numbers, names: Mapping[int, str]) -> "_Labels":
        """Raises InvalidQuery."""
        numbers = np.unique(labels)
        if len(numbers) > MOST_LABELS:
            raise InvalidQuery(
                f"This field has more than {MOST_LABELS} values: it is no label.", ("label",)
            )
        if len(numbers) < 2:
            raise InvalidQuery("All images that have this field have one value in it.", ("label",))
        named = sorted((names[int(number)], int(number)) for number in numbers)
        place = {number: code for code, (_, number) in enumerate(named)}
        order = np.array([place[int(number)] for number in numbers])
        return cls([name for name, _ in named], numbers, order)

    def codes(self, labels: Numbers) -> Numbers:
        """0 to c - 1 in place of numbers; -1 stays."""
        at = np.searchsorted(self.numbers, labels).clip(max=len(self.numbers) - 1)
        found: Numbers = np.where(self.numbers[at] == labels, self.order[at], NONE)
        return found


@dataclass(frozen=True)
class _Judged:
    truth: Numbers
    clusters: Numbers
    labels: _Labels
    whole: Survey
    seed: int

    def rankings(self, all_values: Mapping[str, metrics.Values]) -> tuple[Ranking, ...]:
        """All with the same drawn groups."""
        columns = [column for values in all_values.values() for column in values.values()]
        names = self.labels.names
        found = estimate(np.stack(columns, 1), self.truth, self.clusters, len(names), self.seed)
        held = np.bincount(self.labels.codes(self.whole.labels), minlength=len(names))
        images = np.bincount(self.truth, minlength=len(names))
        made, start = [], 0
        for name, values in all_values.items():
            part = slice(start, start + len(values))
            start += len(values)
            classes = tuple(
                ClassQuality(
                    label=label,
                    images=int(images[code]),
                    held=int(held[code]),
                    metrics=_named(values, found.classes[code][part]),
                )
                for code, label in enumerate(names)
            )
            overall, macro = (_named(values, f[part]) for f in (found.overall, found.macro))
            overall["balanced_accuracy"] = macro["balanced_accuracy"]
            made.append(Ranking(name=name, overall=overall, macro=macro, classes=classes))
        return tuple(made)


def _named(values: metrics.Values, found: Sequence[Estimate]) -> dict[Metric, Estimate]:
    return dict(zip(values, found, strict=True))


def _in(keys: Numbers, wanted: Numbers) -> NDArray[np.bool_]:
    return np.isin(keys, wanted)


def _relevant(queries: Collected, whole: Survey) -> tuple[Numbers, Numbers]:
    """(q,) images of other clusters with the label, and all of other clusters."""
    _, label = np.unique(np.concatenate([whole.labels, queries.labels]), return_inverse=True)
    _, cluster = np.unique(np.concatenate([whole.clusters, queries.groups]), return_inverse=True)
    count, theirs = len(whole.labels), slice(len(whole.labels), None)
    both = label * (cluster.max() + 1) + cluster
    _, both = np.unique(both, return_inverse=True)

    def held(values: Numbers) -> Numbers:
        sizes: Numbers = np.bincount(values[:count], minlength=values.max() + 1)
        return sizes[values[theirs]]

    return held(label) - held(both), count - held(cluster)


def _searchable(queries: Collected, whole: Survey) -> Collected:
    """Those with whose label there is an image in another cluster."""
    return queries.part(_relevant(queries, whole)[0] > 0)


def _same_group(
    queries: Collected, groups: Numbers, others: Neighbours, mates: Neighbours, seed: int
) -> dict[str, Estimate] | None:
    return None


def _confusion(labels: _Labels, truth: Numbers, neighbours: Numbers) -> Confusion:
    """Images of one label count alike, whatever their number."""
    count = len(labels.names)
    rows = np.repeat(truth, NEAREST)[neighbours.ravel() >= 0]
    cells = np.bincount(
        rows * count + neighbours.ravel()[neighbours.ravel() >= 0], minlength=count * count
    ).reshape(count, count)
    shares = cells / np.maximum(cells.sum(1, keepdims=True), 1)
    return Confusion(
        labels=tuple(labels.names), shares=tuple(tuple(row) for row in shares.round(6).tolist())
    )
