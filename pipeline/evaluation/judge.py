"""Judges rankings of the same images: each by its metrics, and two by how they differ.

The images are both what is searched by and all that is searched in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import InvalidQuery
from pipeline.evaluation import metrics
from pipeline.evaluation.collected import NONE, Collected, Reader
from pipeline.evaluation.intervals import estimate
from pipeline.evaluation.neighbours import nearest
from pipeline.evaluation.paired import p_values
from pipeline.evaluation.survey import survey
from pipeline.messages.comparisons import Difference
from pipeline.messages.evaluations import ClassQuality, Estimate, Metric, Ranking

MOST_LABELS = 100

# The vote counts as right or wrong for each image; balanced is only its mean over classes.
_BALANCED: Metric = "balanced_accuracy"

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Fixed:
    """Images in memory, in place of a collection that is read (`Reader`)."""

    images: Collected
    names: dict[int, str]

    def sample(self, size: int, seed: int) -> Collected:
        """So many of them, drawn at random."""
        chosen = np.zeros(len(self.images), bool)
        order = np.random.default_rng(seed).permutation(len(self.images))
        chosen[order[:size]] = True
        return self.images.part(chosen)

    def blocks(self) -> Sequence[Collected]:
        return (self.images,)


@dataclass(frozen=True)
class Judge:
    """`images` (n,) have a label that an image outside of their cluster has; groups are clusters.

    `kept` (m,) says which images of the sample they are. `codes` (n,) are their labels as 0 to
    c - 1, of `labels` (c,). `relevant` (n,) is how many others have each one's label. `left_out`
    counts images by why they take no part.
    """

    images: Collected
    kept: NDArray[np.bool_]
    codes: Numbers
    labels: Sequence[str]
    relevant: Numbers
    left_out: dict[str, int]
    seed: int = 0

    @classmethod
    def of(cls, sampled: Collected, names: Mapping[int, str], treatment: str, seed: int) -> "Judge":
        """`treatment` is that of near-duplicates. Raises InvalidQuery if nothing can be judged."""
        known = sampled.labelled
        kept = sampled.labels != NONE
        whole = survey(cast(Reader, Fixed(known, dict(names))), known, treatment, lambda _: None)
        clustered = whole.clustered(known)
        shared = _relevant(clustered) > 0
        images = clustered.part(shared)
        kept[kept] = shared
        numbers, codes = np.unique(images.labels, return_inverse=True)
        if not 2 <= len(numbers) <= MOST_LABELS:
            raise InvalidQuery(
                f"The sample has {len(numbers)} values of this label that another image shares: "
                f"2 to {MOST_LABELS} can be compared. Take a larger sample, or another label.",
                ("label",),
            )
        counted = {
            "no label": len(sampled) - len(known),
            "alone with its label": len(known) - len(images),
        }
        return cls(
            images=images,
            kept=kept,
            codes=codes,
            labels=[names[int(number)] for number in numbers],
            relevant=_relevant(images),
            left_out={reason: count for reason, count in counted.items() if count},
            seed=seed,
        )

    @property
    def others(self) -> Numbers:
        """(n,) how many images are outside of each one's cluster."""
        _, cluster, sizes = np.unique(self.images.groups, return_inverse=True, return_counts=True)
        found: Numbers = len(self.images) - sizes[cluster]
        return found

    def values(self, vectors: Floats) -> metrics.Values:
        """Of each image, by its nearest in `vectors` (n, dimensions), of any length but 0."""
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        images = replace(self.images, vectors=(vectors / lengths).astype(np.float32))
        found = nearest(images, [images])
        return metrics.of_neighbours(images.labels, found.labels, found.scores, self.relevant)

    def ranking(self, name: str, values: metrics.Values) -> Ranking:
        found = estimate(
            np.stack(list(values.values()), 1),
            self.codes,
            self.images.groups,
            len(self.labels),
            self.seed,
        )
        overall, macro = _named(values, found.overall), _named(values, found.macro)
        overall[_BALANCED] = macro[_BALANCED]
        sizes = np.bincount(self.codes, minlength=len(self.labels))
        classes = tuple(
            ClassQuality(
                label=label,
                images=int(sizes[code]),
                held=int(sizes[code]),
                metrics=_named(values, found.classes[code]),
            )
            for code, label in enumerate(self.labels)
        )
        return Ranking(name=name, overall=overall, macro=macro, classes=classes)

    def differences(
        self, first: metrics.Values, other: metrics.Values
    ) -> tuple[dict[Metric, Difference], dict[Metric, Difference]]:
        """`other` less `first`: the mean over images, and that over classes."""
        change = np.stack([other[name] - first[name] for name in first], 1)
        groups, alike = self.images.groups, np.zeros_like(self.codes)
        found = estimate(change, self.codes, groups, len(self.labels), self.seed)
        overall = _differences(first, found.overall, p_values(change, alike, groups, self.seed))
        macro = _differences(first, found.macro, p_values(change, self.codes, groups, self.seed))
        overall[_BALANCED] = macro[_BALANCED]
        return overall, macro


def _relevant(images: Collected) -> Numbers:
    """(n,) how many of other clusters have each image's label."""
    _, label = np.unique(images.labels, return_inverse=True)
    _, cluster = np.unique(images.groups, return_inverse=True)
    _, both = np.unique(label * (cluster.max(initial=0) + 1) + cluster, return_inverse=True)
    found: Numbers = np.bincount(label)[label] - np.bincount(both)[both]
    return found


def _named(values: metrics.Values, found: Sequence[Estimate]) -> dict[Metric, Estimate]:
    return dict(zip(values, found, strict=True))


def _differences(
    values: metrics.Values, found: Sequence[Estimate], p: NDArray[np.float64]
) -> dict[Metric, Difference]:
    return {
        name: Difference(
            value=each.value or 0.0, low=each.low or 0.0, high=each.high or 0.0, p=chance
        )
        for name, each, chance in zip(values, found, map(float, p), strict=True)
    }
