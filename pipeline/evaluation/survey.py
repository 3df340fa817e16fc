"""A first look at all images: how many have each label, and what must not be found by what."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.collected import NONE, Collected, Reader
from pipeline.evaluation.near_duplicates import Pairs
from pipeline.messages.evaluations import NearDuplicates

# Vectors up to which a collection is read once: with more, a second time, which takes longer than
# to keep them and less memory.
KEPT_BYTES = 256 * 2**20

Numbers = NDArray[np.int64]
Tick = Callable[[int], None]  # gets how many images were read; may raise to end the work


@dataclass(frozen=True)
class Survey:
    """All `n` images that have a label, in the order in which they are read.

    `keys`, `labels`, `groups`, `clusters` int64 (n,). A cluster has all that must not find each
    other: a group, whatever shares a patient with it, and their near-duplicates. `known` and
    `cluster_of` (groups,) say of each group's number, in order, its cluster.
    """

    reader: Reader
    keys: Numbers
    labels: Numbers
    groups: Numbers
    clusters: Numbers
    known: Numbers
    cluster_of: Numbers
    unlabelled: int
    duplicates: NearDuplicates | None
    pages: Sequence[Collected] | None = None

    def clustered(self, images: Collected) -> Collected:
        """The images with the numbers of clusters in place of their groups."""
        at = np.searchsorted(self.known, images.groups).clip(max=max(len(self.known) - 1, 0))
        found = self.known[at] == images.groups  # else the image came since
        return replace(images, groups=np.where(found, self.cluster_of[at], images.groups))

    def groups_of(self, keys: Numbers) -> Numbers:
        """The groups, without patients and near-duplicates, of images by their keys, -1 for -1."""
        order = np.argsort(self.keys)
        at = np.searchsorted(self.keys, keys, sorter=order).clip(max=len(self.keys) - 1)
        found: Numbers = np.where(self.keys[order[at]] == keys, self.groups[order[at]], NONE)
        return found

    def blocks(self) -> Iterator[Collected]:
        """All images again, with clusters as groups."""
        for page in self.pages if self.pages is not None else self.reader.blocks():
            yield self.clustered(page.labelled)


def survey(
    reader: Reader,
    queries: Collected,
    treatment: str,
    tick: Tick,
    pages: Iterable[Collected] | None = None,
) -> Survey:
    """`treatment` is that of near-duplicates: `leave_out` or `keep`. `pages` were read already."""
    seen, pairs = _Seen(), Pairs(queries, lambda: tick(0))
    for page in reader.blocks() if pages is None else pages:
        labelled = page.labelled
        seen.add(labelled, len(page) - len(labelled))
        pairs.add(labelled)
        tick(len(page))
    return seen.survey(reader, pairs, treatment)


@dataclass
class _Seen:
    pages: list[Collected] | None = field(default_factory=list)
    bytes: int = 0
    unlabelled: int = 0
    parts: list[tuple[Numbers, Numbers, Numbers, Numbers]] = field(default_factory=list)

    def add(self, page: Collected, unlabelled: int) -> None:
        self.unlabelled += unlabelled
        self.parts.append((page.keys, page.labels, page.groups, page.patients))
        self.bytes += page.vectors.nbytes
        if self.bytes > KEPT_BYTES:
            self.pages = None
        if self.pages is not None:
            self.pages.append(page)

    def survey(self, reader: Reader, pairs: Pairs, treatment: str) -> Survey:
        keys, labels, groups, patients = map(np.concatenate, zip(*self.parts, strict=True))
        one, other, differ = pairs.all()
        known, code = np.unique(groups, return_inverse=True)
        links = [_links(code, patients)]
        if treatment == "leave_out" and len(one):
            order = np.argsort(keys)
            ends = (order[np.searchsorted(keys, each, sorter=order)] for each in (one, other))
            links.append(np.stack([code[end] for end in ends]))
        cluster_of = _components(len(known), np.concatenate(links, axis=1))
        return Survey(
            reader=reader,
            keys=keys,
            labels=labels,
            groups=groups,
            clusters=cluster_of[code],
            known=known,
            cluster_of=cluster_of,
            unlabelled=self.unlabelled,
            duplicates=NearDuplicates(
                pairs=len(one),
                images=len(np.union1d(one, other)),
                other_label=int(differ.sum()),
                treatment="leave_out" if treatment == "leave_out" else "keep",
            ),
            pages=self.pages,
        )


def _links(code: Numbers, patients: Numbers) -> Numbers:
    """(2, links): each group with the first group of its patient."""
    some = patients != NONE
    groups, patients = code[some], patients[some]
    _, first, turn = np.unique(patients, return_index=True, return_inverse=True)
    return np.stack([groups, groups[first[turn]]]) if len(groups) else np.zeros((2, 0), np.int64)


def _components(count: int, links: Numbers) -> Numbers:
    """The number of each group's connected component."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(links.shape[1], bool), tuple(links)), (count, count))
    found: Numbers = connected_components(graph, directed=False)[1].astype(np.int64)
    return found
