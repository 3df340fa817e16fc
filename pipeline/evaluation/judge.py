"""Judges rankings of the same images: each by its metrics, and two by how they differ.

The images are both what is searched by and all that is searched in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import metrics
from pipeline.evaluation.collected import NONE, Collected, Reader
from pipeline.evaluation.intervals import estimate
from pipeline.evaluation.labels import Labels, findable
from pipeline.evaluation.neighbours import nearest
from pipeline.evaluation.paired import p_values
from pipeline.evaluation.report import Judged
from pipeline.evaluation.stopping import Check, never
from pipeline.evaluation.survey import survey
from pipeline.messages.comparisons import Difference
from pipeline.messages.evaluations import Estimate, Metric, NearDuplicates, Ranking

# The vote counts as right or wrong for each image; balanced is only its mean over classes.
_BALANCED: Metric = "balanced_accuracy"

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Differences = dict[Metric, Difference]


@dataclass(frozen=True)
class _InMemory:
    """Images that stand in for a collection that is read (`Reader`)."""

    images: Collected

    def blocks(self) -> Sequence[Collected]:
        return (self.images,)


@dataclass(frozen=True)
class Judge:
    """`images` (n,) have a label that an image outside of their cluster has; groups are clusters.

    `kept` (m,) says which images of the sample they are, and `left_out` why others are not. `truth`
    (n,) are the codes of their labels. `relevant` and `others` (n,): what each could find.
    """

    images: Collected
    kept: NDArray[np.bool_]
    labels: Labels
    truth: Numbers
    relevant: Numbers
    others: Numbers
    left_out: dict[str, int]
    duplicates: NearDuplicates | None
    seed: int
    check: Check = never

    @classmethod
    def of(
        cls,
        sampled: Collected,
        names: Mapping[int, str],
        treatment: str,
        seed: int,
        check: Check = never,
    ) -> "Judge":
        """`treatment` is that of near-duplicates. Raises InvalidQuery if there are no classes."""
        known, kept = sampled.labelled, sampled.labels != NONE
        whole = survey(cast(Reader, _InMemory(known)), known, treatment, lambda _: check())
        clustered = whole.clustered(known)
        alone = _findable(clustered)[0] == 0
        images = clustered.part(~alone)
        kept[kept] = ~alone
        labels = Labels.of(images.labels, names)
        left_out = {"no label": len(sampled) - len(known), "alone with its label": int(alone.sum())}
        relevant, others = _findable(images)
        return cls(
            images=images,
            kept=kept,
            labels=labels,
            truth=labels.codes(images.labels),
            relevant=relevant,
            others=others,
            left_out={reason: count for reason, count in left_out.items() if count},
            duplicates=whole.duplicates,
            seed=seed,
            check=check,
        )

    def values(self, vectors: Floats) -> metrics.Values:
        """Of each image, by its nearest in `vectors` (n, dimensions), of any length but 0."""
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        images = replace(self.images, vectors=(vectors / lengths).astype(np.float32))
        found = nearest(images, [images], check=self.check)
        codes = self.labels.codes(found.labels)
        return metrics.of_neighbours(self.truth, codes, found.scores, self.relevant)

    def rankings(self, values: Mapping[str, metrics.Values]) -> tuple[Ranking, ...]:
        judged = Judged(self.labels, self.truth, self.images.groups, self.seed, self.check)
        return judged.rankings(values)

    def differences(
        self, first: metrics.Values, other: metrics.Values
    ) -> tuple[Differences, Differences]:
        """`other` less `first`: of the means over images, and of those over classes."""
        change = np.stack([other[name] - first[name] for name in first], 1)
        groups, alike, seed = self.images.groups, np.zeros_like(self.truth), self.seed
        found = estimate(
            change, self.truth, groups, len(self.labels), seed, shares=False, check=self.check
        )
        overall = _named(first, found.overall, p_values(change, alike, groups, seed, self.check))
        macro = _named(first, found.macro, p_values(change, self.truth, groups, seed, self.check))
        overall[_BALANCED] = macro[_BALANCED]
        return overall, macro


def _findable(images: Collected) -> tuple[Numbers, Numbers]:
    return findable(images.labels, images.groups, images.labels, images.groups)


def _named(
    values: metrics.Values, found: Sequence[Estimate], p: NDArray[np.float64]
) -> Differences:
    return {
        name: Difference(**{**each.model_dump(), "p": float(chance)})
        for name, each, chance in zip(values, found, p, strict=True)
    }
