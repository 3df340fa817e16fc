"""The rows of a job over files, written down when it is planned.

So every worker sees the same rows, in the same order, whatever happens to the folder meanwhile, and
a shard costs no walk. The rows lie in pages, because a department's folder has a hundred thousand
of them. They hold metadata of patients, so they are deleted when the job has ended; what stays is
its account: the names of what was rejected, and of what was skipped.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pipeline.base.blobs import Blobs, job_folder
from pipeline.messages import Payload
from pipeline.sources.folder.hiding import Hiding, is_called_dicom
from pipeline.sources.folder.survey import Found
from pipeline.sources.folder.tree import Place, Skipped

PAGE = 500  # rows, or names
_INDEXED = ("version", "rows", "skipped", "tabular", "hidden")
# They lie beside the rows, since an earlier version reads rows of four fields, and go with them.
_STAMPS = "rows/stamps"
_FILES = "files"  # of each row, which of the files that were asked for it is of: they name nobody
_IN_CLEAR = Hiding()


@dataclass(frozen=True)
class CatalogueRow:
    """`fault` says why the row must be rejected, without looking at its file.

    `stamp` tells its file from another (`stamps`); empty if nothing is known of it. `frame`, `hold`
    and `former` are as of `Row`; `frame` is None for other files than DICOM. `hidden` is what lists
    show for the name, where that may be a patient's.
    """

    name: str
    place: Place
    metadata: Payload
    fault: str | None
    stamp: str = ""
    frame: int | None = None
    hold: str | None = None
    hidden: str = ""
    former: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Catalogue:
    """`version` changes with each plan. `skipped` has the number of skipped files by kind.

    The rows of a `tabular` data set are its own: only what was skipped beside it is written here.
    `hidden`: no name of a file is shown, since there are DICOM files among them.
    """

    blobs: Blobs
    job: str
    version: str
    rows: int
    skipped: dict[str, int]
    tabular: bool = False
    hidden: bool = False

    @classmethod
    def write(
        cls,
        blobs: Blobs,
        job: str,
        found: Iterable[Found],
        limit: int | None = None,
        *,
        tabular: bool = False,
        hiding: Hiding = _IN_CLEAR,
        files: Sequence[str] = (),
    ) -> "Catalogue":
        """Replaces what an earlier plan of the job wrote. `limit`: only the first rows.

        `files` are those that were asked for: of each row, the place of its file there is kept.
        """
        cls.discard(blobs, job)
        rows, names = _Pages(blobs, job, "rows"), _Pages(blobs, job, "skipped")
        stamps, places = _Pages(blobs, job, _STAMPS), _Pages(blobs, job, _FILES)
        numbers = {file: number for number, file in enumerate(files)}
        skipped: Counter[str] = Counter()
        for each in found:
            if isinstance(each, Skipped):
                skipped[each.kind] += 1
                names.add([each.name, each.kind])
            else:
                known = (each.name, each.place, each.metadata, each.fault, each.frame, each.hold)
                rows.add([*known, hiding.name_of(each.name), each.former])
                stamps.add(each.stamp)
                if numbers:
                    places.add(numbers.get(each.place[0]) if each.place else None)
                if rows.count == limit:
                    break
        for pages in (rows, stamps, names, places):
            pages.flush()
        version, hidden = uuid4().hex[:16], hiding.seen()
        written = cls(blobs, job, version, rows.count, dict(skipped), tabular, hidden)
        written._hide_skipped(hiding)
        index = {name: getattr(written, name) for name in _INDEXED}
        blobs.write(_index(job), json.dumps(index).encode())
        return written

    @classmethod
    def read(cls, blobs: Blobs, job: str) -> "Catalogue | None":
        """None if the job has none."""
        try:
            index = json.loads(blobs.read(_index(job)))
        except FileNotFoundError:
            return None
        return cls(blobs, job, **{name: index[name] for name in _INDEXED if name in index})

    @staticmethod
    def discard(blobs: Blobs, job: str) -> None:
        """Deletes all of it, as of a plan that was not finished."""
        for part in ("index.json", "rows", "rejected", "skipped", _FILES):
            blobs.delete(f"{job_folder(job)}/{part}")

    def page(self, number: int) -> list[CatalogueRow]:
        """Rows from `number * PAGE` on. Raises FileNotFoundError once the job has ended."""
        rows = self._rows(number)
        pairs = zip(rows, self._stamps(number, len(rows)), strict=True)
        return [
            CatalogueRow(name, tuple(place), said, fault, stamp, *of_dicom)
            for (name, place, said, fault, *of_dicom), stamp in pairs
        ]

    def names(self, rows: Sequence[int]) -> dict[int, str]:
        """The names of rows that were rejected; of others as well while the job runs."""
        known: dict[int, str] = {}
        for number in {row // PAGE for row in rows}:
            known |= self._names(number)
        return {row: known[row] for row in rows if row in known}

    def files(self, rows: Sequence[int]) -> dict[int, int]:
        """Row → which of the files that were asked for it is of; also after the job has ended."""
        known: dict[int, int] = {}
        for number in {row // PAGE for row in rows}:
            try:
                page = json.loads(self.blobs.read(_page(self.job, _FILES, number)))
            except FileNotFoundError:
                continue
            known |= {n: at for n, at in enumerate(page, number * PAGE) if at is not None}
        return {row: known[row] for row in rows if row in known}

    def skipped_names(self, start: int, stop: int) -> Iterator[tuple[str, str]]:
        """(name, kind) of files that were skipped, by their numbers; nothing if no name is kept."""
        for number in range(start // PAGE, -(-min(stop, sum(self.skipped.values())) // PAGE)):
            try:
                page = json.loads(self.blobs.read(_page(self.job, "skipped", number)))
            except FileNotFoundError:
                return
            for place, (name, kind) in enumerate(page, number * PAGE):
                if start <= place < stop:
                    yield name, kind

    def conclude(self, rejected: Iterable[int] | None) -> None:
        """The job has ended: keeps the names of rejected rows, and deletes the rows.

        None: no name of a file stays. Safe to repeat.
        """
        folder = job_folder(self.job)
        if rejected is None:
            self.blobs.delete(f"{folder}/skipped")
        by_page: dict[int, list[int]] = {}
        for row in rejected or ():
            by_page.setdefault(row // PAGE, []).append(row)
        for number, rows in sorted(by_page.items()):
            known = self._names(number)
            kept = {str(row): known[row] for row in rows if row in known}
            self.blobs.write(_page(self.job, "rejected", number), json.dumps(kept).encode())
        self.blobs.delete(f"{folder}/rows")

    def _rows(self, number: int) -> list[Any]:
        found: list[Any] = json.loads(self.blobs.read(_page(self.job, "rows", number)))
        return found

    def _stamps(self, number: int, rows: int) -> list[str]:
        """Empty ones if an earlier version made the plan: it wrote none."""
        try:
            found: list[str] = json.loads(self.blobs.read(_page(self.job, _STAMPS, number)))
        except FileNotFoundError:
            return [""] * rows
        return found

    def _names(self, number: int) -> dict[int, str]:
        try:
            found: dict[str, str] = json.loads(self.blobs.read(_page(self.job, "rejected", number)))
            return {int(row): name for row, name in found.items()}
        except FileNotFoundError:
            pass
        try:
            page = self._rows(number)
        except FileNotFoundError:
            return {}
        return {number * PAGE + place: self._shown(row) for place, row in enumerate(page)}

    def _shown(self, row: Sequence[Any]) -> str:
        """The name of a row, as lists may show it."""
        hidden = row[6] if len(row) > 6 and (self.hidden or is_called_dicom(row[0])) else ""
        return str(hidden or row[0])

    def _hide_skipped(self, hiding: Hiding) -> None:
        """At the end of the walk, since only then it is known whether names must be hidden."""
        for number in range(-(-sum(self.skipped.values()) // PAGE)):
            blob = _page(self.job, "skipped", number)
            page = json.loads(self.blobs.read(blob))
            shown = [
                [hiding.name_of(name) if self.hidden or is_called_dicom(name) else name, kind]
                for name, kind in page
            ]
            if shown != page:
                self.blobs.write(blob, json.dumps(shown).encode())


class _Pages:
    """Writes a list in pages."""

    def __init__(self, blobs: Blobs, job: str, part: str) -> None:
        self._blobs, self._job, self._part = blobs, job, part
        self._page: list[Any] = []
        self.count = 0

    def add(self, item: Any) -> None:
        self._page.append(item)
        self.count += 1
        if len(self._page) == PAGE:
            self.flush()

    def flush(self) -> None:
        if self._page:
            number = (self.count - 1) // PAGE
            data = json.dumps(self._page).encode()
            self._blobs.write(_page(self._job, self._part, number), data)
            self._page = []


def _index(job: str) -> str:
    return f"{job_folder(job)}/index.json"


def _page(job: str, part: str, number: int) -> str:
    return f"{job_folder(job)}/{part}/{number:06}.json"
