"""Compares images of a collection with all of it: which are copies, and whose neighbours differ.

Everything is read block by block, three times where it does not fit into `survey.KEPT_BYTES`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.collected import Collected, Reader
from pipeline.evaluation.label_errors import Suspects, suspects
from pipeline.evaluation.near_duplicates import Pairs
from pipeline.evaluation.neighbours import Nearest, Neighbours
from pipeline.evaluation.survey import Survey, survey

Numbers = NDArray[np.int64]
Tick = Callable[[float], None]  # gets the share that is done; may raise to end the work

_PASSES = 3


@dataclass(frozen=True)
class Suspect:
    """An image whose `neighbours`, with their cosines, all have another label: `suggested`."""

    image_id: str
    evidence: float
    suggested: str
    neighbours: tuple[tuple[str, float], ...]


class Audit:
    """Of `queries`, a sample of what `reader` reads. `count` is about how many images that is."""

    def __init__(self, reader: Reader, queries: Collected, count: int, tick: Tick) -> None:
        self._reader, self._queries = reader, queries
        self._steps, self._done, self._tick = _PASSES * max(1, count), 0, tick
        self.read = 0
        self.judged = 0
        self._survey: Survey = survey(reader, queries, "leave_out", self._count)

    def suspects(self, neighbours: int, most: int) -> tuple[list[Suspect], int]:
        """The first `most`, the strongest evidence first, and how many there are in all.

        Neighbours are never of the image's group or patient, nor copies of it.
        """
        queries = self._survey.clustered(self._queries.labelled)
        search = Nearest(queries, neighbours, self.check)
        for block in self._survey.blocks():
            search.add(block)
            self._step(len(block))
        seen = search.others
        found = suspects(queries.labels, seen.labels, seen.scores.astype(np.float64))
        self.judged = found.judged
        return self._named(queries, seen, found, most), len(found.rows)

    def copies(self) -> list[tuple[str, str]]:
        """Pairs of images that are one picture, whatever their groups and labels."""
        pairs = Pairs(_each_its_own(self._queries), self.check)
        for page in self._pages():
            pairs.add(_each_its_own(page))
            self._step(len(page))
        one, other, _ = pairs.all()
        ids = self._ids_of_keys(np.union1d(one, other))
        named = zip(map(ids.get, one.tolist()), map(ids.get, other.tolist()), strict=True)
        return [(a, b) for a, b in named if a is not None and b is not None]

    def _named(
        self, queries: Collected, seen: Neighbours, found: Suspects, most: int
    ) -> list[Suspect]:
        rows = found.rows[:most]
        ids = self._ids_of_places(np.unique(seen.places[rows]))
        names = self._reader.names
        return [
            Suspect(
                queries.ids[row],
                float(evidence),
                names[int(label)],
                tuple(
                    (ids[int(place)], float(score))
                    for place, score in zip(seen.places[row], seen.scores[row], strict=True)
                    if int(place) in ids
                ),
            )
            for row, evidence, label in zip(rows, found.evidence, found.suggested, strict=False)
        ]

    def _ids_of_keys(self, keys: Numbers) -> dict[int, str]:
        found: dict[int, str] = {}
        for page in self._pages() if len(keys) else ():
            self.check()
            at = np.flatnonzero(np.isin(page.keys, keys))
            found |= {int(page.keys[row]): page.ids[row] for row in at}
        return found

    def _ids_of_places(self, places: Numbers) -> dict[int, str]:
        """Places count the images that have a label."""
        found: dict[int, str] = {}
        seen = 0
        for block in self._survey.blocks() if len(places) else ():
            self.check()
            inside = places[(places >= seen) & (places < seen + len(block))]
            found |= {int(place): block.ids[place - seen] for place in inside}
            seen += len(block)
        return found

    def _pages(self) -> Iterable[Collected]:
        """All images. What the survey keeps of them lacks those without a label."""
        pages: Sequence[Collected] | None = self._survey.pages
        whole = pages is not None and not self._survey.unlabelled
        return pages if whole and pages is not None else self._reader.blocks()

    def _count(self, images: int) -> None:
        self.read += images
        self._step(images)

    def check(self) -> None:
        """Whether to go on. Raises what the tick raises."""
        self._step(0)

    def _step(self, images: int) -> None:
        self._done += images
        self._tick(self._done / self._steps)


def _each_its_own(images: Collected) -> Collected:
    """Every image as a group of its own."""
    return replace(images, groups=images.keys)
