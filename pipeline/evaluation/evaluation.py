"""Evaluates how well a collection finds what has the same label: leave-one-out, by blocks.

1. read         all images once: labels, groups, patients, near-duplicates; the sample with vectors
2. nearest      the ten nearest of each searched image, by the encoder's vectors
3. histogram    the same by colours, as the baseline
4. metrics      numbers and intervals
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import metrics
from pipeline.evaluation.calibration import calibrate, least_score
from pipeline.evaluation.collected import Collected, Reader
from pipeline.evaluation.histogram import Histograms, Preview
from pipeline.evaluation.labels import Labels, findable
from pipeline.evaluation.neighbours import Nearest, Neighbours
from pipeline.evaluation.report import (
    AMONG_SAMPLE,
    CHANCE,
    CONSTANT,
    EMBEDDING,
    HISTOGRAM,
    Judged,
)
from pipeline.evaluation.same_group import same_group
from pipeline.evaluation.survey import Survey, survey
from pipeline.evaluation.threads import in_background, one_thread
from pipeline.evaluation.thresholds import at_thresholds
from pipeline.messages import EncoderInfo
from pipeline.messages.evaluations import Calibrated, Estimate, EvaluationReport, EvaluationRequest

# Images of a collection up to which all previews are read. In a larger one, the histograms are
# compared within the sample, and the encoder within the sample as well.
MOST_PREVIEWS = 20_000

# Seconds of a core, about, by which the share of the work that is done is told.
_TO_READ, _TO_COMPARE, _TO_SEE = 80e-6, 20e-9, 800e-6  # an image, a pair, a preview

_UNCALIBRATED = (
    "Too few neighbours for a calibration: closeness stays what an earlier evaluation has made it, "
    "if there was one."
)

Numbers = NDArray[np.int64]
Tick = Callable[[float], None]  # gets the share of the work that is done; may raise to end it


@dataclass(frozen=True)
class Evaluation:
    """Searches by `searched` of the collection's `count` images.

    `tick` is called several times a second on an idle core.
    """

    id: str
    request: EvaluationRequest
    encoder: EncoderInfo
    reader: Reader
    preview: Preview
    searched: int
    count: int
    tick: Tick

    def run(self) -> EvaluationReport:
        """Raises InvalidQuery, StoreUnavailable, BlobsUnavailable, and whatever `tick` raises."""
        with one_thread():
            return in_background(_Run(self, _Clock(self)).report)


@dataclass
class _Clock:
    """Times the steps, and tells how far the work has come."""

    plan: Evaluation
    seconds: dict[str, float] = field(default_factory=dict)
    done: float = 0

    def __post_init__(self) -> None:
        plan, pairs = self.plan, self.plan.searched * self.plan.count
        self.total = plan.count * _TO_READ + 2 * pairs * _TO_COMPARE
        if plan.request.baseline:
            self.total += self._previews * _TO_SEE

    @property
    def _previews(self) -> int:
        return self.plan.count if self.plan.count <= MOST_PREVIEWS else self.plan.searched

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - start, 3)

    def read(self, images: int) -> None:
        self._add(images * (_TO_READ + self.plan.searched * _TO_COMPARE))

    def compared(self, images: int) -> None:
        self._add(images * self.plan.searched * _TO_COMPARE)

    def seen(self, previews: int) -> None:
        self._add(previews * _TO_SEE)

    def check(self) -> None:
        """Whether to go on. Raises what `tick` raises."""
        self._add(0)

    def _add(self, seconds: float) -> None:
        self.done += seconds
        self.plan.tick(min(1.0, self.done / self.total))


@dataclass(frozen=True)
class _Run:
    plan: Evaluation
    clock: _Clock

    def report(self) -> EvaluationReport:
        plan, clock, request = self.plan, self.clock, self.plan.request
        with clock.timed("read"):
            sampled, whole = self._read()
        labels = Labels.of(whole.labels, plan.reader.names)
        clock.check()
        searched = _Searched.of(sampled, whole)
        clock.check()
        with clock.timed("nearest"):
            search = self._search(searched.images, whole.blocks(), clock.compared)
        found = search.others
        values = {EMBEDDING: searched.values(found, labels)}
        notes = self._notes(len(whole.labels))
        with clock.timed("histogram"):
            if request.baseline:
                values |= self._baseline(searched, whole, labels, notes)
        with clock.timed("metrics"):
            truth = labels.codes(searched.images.labels)
            values[CHANCE] = metrics.of_chance(searched.relevant, searched.others)
            values[CONSTANT] = metrics.of_constant(truth, int(labels.held.argmax()))
            judged = Judged(labels, truth, searched.images.groups, request.seed, clock.check)
            made = {
                "rankings": judged.rankings(values),
                "same_group": self._same_group(searched, whole, search),
                "confusion": judged.confusion(labels.codes(found.labels)),
                "thresholds": at_thresholds(
                    found,
                    searched.images.labels,
                    searched.images.groups,
                    request.seed,
                    clock.check,
                ),
                "calibration": self._calibration(searched.images, found),
                "least_score": least_score(found),
            }
        if request.calibrate and not made["calibration"]:
            notes.append(_UNCALIBRATED)
        return EvaluationReport(
            id=plan.id,
            created_at=datetime.now(UTC),
            encoder=plan.encoder,
            request=request.model_copy(update={"filter": None}),  # it could name a patient
            images=len(whole.labels),
            evaluated=len(searched.images),
            groups=len(np.unique(searched.images.groups)),
            left_out=_left_out(whole, len(sampled) - len(searched.images)),
            near_duplicates=whole.duplicates,
            seconds=clock.seconds,
            notes=tuple(notes),
            **made,
        )

    def _read(self) -> tuple[Collected, Survey]:
        """The labelled images of the sample, and a survey of all."""
        reader, treatment = self.plan.reader, self.plan.request.near_duplicates
        if self.plan.searched < self.plan.count:
            seed, check = self.plan.request.seed, self.clock.check
            sampled = reader.sample(self.plan.searched, seed, check).labelled
            return sampled, survey(reader, sampled, treatment, self.clock.read)
        pages = []
        for page in reader.blocks():
            pages.append(page)
            self.clock.read(0)
        sampled = Collected.joined(pages).labelled
        return sampled, survey(reader, sampled, treatment, self.clock.read, pages)

    def _search(
        self, queries: Collected, blocks: Iterator[Collected], tick: Callable[[int], None]
    ) -> Nearest:
        search = Nearest(queries, check=self.clock.check)
        for block in blocks:
            search.add(block)
            tick(len(block))
        return search

    def _baseline(
        self, searched: "_Searched", whole: Survey, labels: Labels, notes: list[str]
    ) -> dict[str, metrics.Values]:
        histograms = Histograms(self.plan.preview, self.clock.seen)
        sees_all = len(whole.labels) <= MOST_PREVIEWS
        own = replace(searched.images, vectors=histograms.vectors(searched.images.ids))
        blocks = (
            (replace(b, vectors=histograms.vectors(b.ids)) for b in whole.blocks() if len(b))
            if sees_all
            else _cut(own)
        )
        found = self._search(own, blocks, lambda _: self.clock.seen(0)).others
        if histograms.missing:
            notes.append(f"{histograms.missing:,} images have no preview, and no histogram.")
        if sees_all:
            return {HISTOGRAM: searched.values(found, labels)}
        narrow = searched.within_sample()
        near = self._search(narrow.images, _cut(narrow.images), lambda _: self.clock.seen(0)).others
        return {
            AMONG_SAMPLE: narrow.values(near, labels),
            HISTOGRAM: narrow.values(found, labels),
        }

    def _same_group(
        self, searched: "_Searched", whole: Survey, search: Nearest
    ) -> dict[str, Estimate] | None:
        if self.plan.reader.group is None:
            return None
        images, mates = searched.images, search.mates
        is_mate = whole.groups_of(mates.keys) == searched.groups[:, None]
        numbers, sizes = np.unique(whole.groups, return_counts=True)
        others = sizes[np.searchsorted(numbers, searched.groups)] - 1
        return same_group(
            search.others,
            mates,
            is_mate,
            others,
            images.groups,
            self.plan.request.seed,
            self.clock.check,
        )

    def _calibration(self, images: Collected, found: Neighbours) -> tuple[Calibrated, ...]:
        if not self.plan.request.calibrate:
            return ()
        names, check = self.plan.reader.names, self.clock.check
        return calibrate(found, images.labels, images.groups, names, check)

    def _notes(self, images: int) -> list[str]:
        notes = []
        if self.plan.request.filter is not None:
            notes.append("Of the collection, only images that match a filter.")
        if self.plan.searched < self.plan.count:
            notes.append(f"Searched by a random sample of {self.plan.searched:,} images.")
        if self.plan.request.baseline and images > MOST_PREVIEWS:
            notes.append(
                "Histograms are compared within the sample; so is the encoder beside them."
            )
        return notes


@dataclass(frozen=True)
class _Searched:
    """The images that are searched by, `q` of them, with their clusters as groups.

    `groups` (q,) are their own groups, `relevant` and `others` (q,) what each could find.
    """

    images: Collected
    groups: Numbers
    relevant: Numbers
    others: Numbers

    @classmethod
    def of(cls, sampled: Collected, whole: Survey) -> "_Searched":
        """Those with whose label there is an image in another cluster."""
        clustered = whole.clustered(sampled)
        relevant, others = findable(
            whole.labels, whole.clusters, clustered.labels, clustered.groups
        )
        can = relevant > 0
        return cls(clustered.part(can), sampled.groups[can], relevant[can], others[can])

    def within_sample(self) -> "_Searched":
        labels, clusters = self.images.labels, self.images.groups
        relevant, others = findable(labels, clusters, labels, clusters)
        return replace(self, relevant=relevant, others=others)

    def values(self, found: Neighbours, labels: Labels) -> metrics.Values:
        truth, neighbours = labels.codes(self.images.labels), labels.codes(found.labels)
        return metrics.of_neighbours(truth, neighbours, found.scores, self.relevant)


def _cut(images: Collected) -> Iterator[Collected]:
    for start in range(0, len(images), 1000):
        yield images.part(slice(start, start + 1000))


def _left_out(whole: Survey, alone: int) -> dict[str, int]:
    found = {"no label": whole.unlabelled, "alone with its label": alone}
    return {reason: count for reason, count in found.items() if count}
