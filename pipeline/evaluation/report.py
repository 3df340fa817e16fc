"""Puts the numbers of an evaluation together, each with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import estimate
from pipeline.evaluation.labels import Labels
from pipeline.evaluation.metrics import Values
from pipeline.evaluation.stopping import Check, never
from pipeline.messages.evaluations import ClassQuality, Confusion, Estimate, Metric, Ranking

# Names of rankings. The last has nothing to say of single classes.
EMBEDDING, HISTOGRAM, CHANCE, CONSTANT = "embedding", "histogram", "chance", "constant"
AMONG_SAMPLE = "embedding, within the sample"

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """The searched images: codes of their labels `truth` (q,), and `clusters` (q,)."""

    labels: Labels
    truth: Numbers
    clusters: Numbers
    seed: int
    check: Check = never

    def rankings(self, values: Mapping[str, Values]) -> tuple[Ranking, ...]:
        """One of each name, all with intervals of the same drawn groups."""
        columns = np.stack([column for each in values.values() for column in each.values()], 1)
        found = estimate(
            columns, self.truth, self.clusters, len(self.labels), self.seed, check=self.check
        )
        made, start = [], 0
        for name, each in values.items():
            part = slice(start, start + len(each))
            by_class = [named(each, estimates[part]) for estimates in found.classes]
            overall, macro = named(each, found.overall[part]), named(each, found.macro[part])
            overall["balanced_accuracy"] = macro["balanced_accuracy"]
            classes = self._classes(by_class) if name != CONSTANT else ()
            made.append(Ranking(name=name, overall=overall, macro=macro, classes=classes))
            start += len(each)
        return tuple(made)

    def _classes(self, by_class: Sequence[dict[Metric, Estimate]]) -> tuple[ClassQuality, ...]:
        images = np.bincount(self.truth, minlength=len(self.labels))
        return tuple(
            ClassQuality(label=name, images=int(images[n]), held=int(held), metrics=by_class[n])
            for n, (name, held) in enumerate(zip(self.labels.names, self.labels.held, strict=True))
        )

    def confusion(self, neighbours: Numbers) -> Confusion:
        """Of the codes of the nearest images' labels (q, k), -1 for none."""
        count = len(self.labels)
        some = neighbours >= 0
        pairs = (self.truth[:, None] * count + neighbours)[some]
        cells = np.bincount(pairs, minlength=count * count).reshape(count, count)
        shares = (cells / np.maximum(cells.sum(1, keepdims=True), 1)).round(6)
        return Confusion(labels=tuple(self.labels.names), shares=tuple(map(tuple, shares.tolist())))


def named(values: Values, found: Sequence[Estimate]) -> dict[Metric, Estimate]:
    return dict(zip(values, found, strict=True))
