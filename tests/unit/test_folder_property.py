"""Whatever lies in a folder: each file is in one count, both ways agree, and no field is lost.

The same examples on every run. `KINDRED_TEST_EXAMPLES=2000 pytest -n 0` with this file's name draws
as many new ones of each kind.
"""

import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.received import store_upload
from api.routes.uploads import received_of
from cli.failure import CommandError, TooLarge
from cli.upload import Selection, Upload
from pipeline.base.blobs import Blobs
from pipeline.base.errors import SourceError
from pipeline.base.identity import ID_COLUMNS
from pipeline.dicom.describing import Policy
from pipeline.dicom.pseudonyms import Pseudonyms
from pipeline.ledger import Lease, Progress, WorkItem
from pipeline.lifecycle.rows import Batch, described, identify, recognise
from pipeline.messages import RESERVED, Payload
from pipeline.sources.base import Row
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.folder.hiding import Hiding
from pipeline.sources.folder.names import folded, shown_path, slashed, stem
from pipeline.sources.folder.reader import FolderReader, Pictures, directory
from pipeline.sources.folder.survey import Entry, Found, Rules, survey
from pipeline.sources.folder.tree import Skipped
from pipeline.sources.metadata import clean, described_by
from pipeline.sources.upload import UploadReader, UploadSource
from tests.drawn_trees import Folder, folders, metadata
from tests.unit.test_fuzz import bounded

_OF_A_ROW = re.compile(r"(metadata\.\w+), line [\d,]+, names this file")


DICOM = Policy(Pseudonyms((b"key",)))


@contextmanager
def written(folder: Folder) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kindred-test-") as made:
        root = Path(made).resolve() / "tree"
        root.mkdir()
        folder.write(root)
        yield root


# --- every file is in one count ------------------------------------------------------------------


@bounded(100)
@given(folder=folders())
def test_every_file_and_every_row_of_a_table_is_in_exactly_one_count(folder: Folder) -> None:
    with written(folder) as root:
        found = list(survey(directory(Pictures(root, ())), Rules()))

    counted, there = Counter(_files_in(found)), Counter(_files_on_disk(folder, found))
    assert counted == there, (counted - there, there - counted)
    _assert_rows_are_used_or_rejected(folder, found)


def _files_in(found: Sequence[Found]) -> Iterator[str]:
    """The names that were counted; a picture with several image ids is one file."""
    taken = {(each.name, each.place) for each in found if isinstance(each, Entry) and each.place}
    yield from (_plain(name) for name, _ in taken)
    for each in found:
        if isinstance(each, Skipped) or (not each.place and _row_of(each) is None):
            yield _plain(each.name)


def _row_of(each: Found) -> str | None:
    """The table of which a row is rejected."""
    told = _OF_A_ROW.match(each.fault or "") if isinstance(each, Entry) else None
    return told[1] if told else None


def _plain(name: str) -> str:
    """Of several files whose names look the same, all but one are shown with a number."""
    return re.sub(r" \(\d+\)", "", name)


def _files_on_disk(folder: Folder, found: Sequence[Found]) -> Iterator[str]:
    read = {_plain(e.name) for e in found if isinstance(e, Skipped) and e.kind == "archive"}
    for name in (*folder.files, *folder.links):
        yield shown_path(name)
        if shown_path(name) in read:
            members = folder.members.get(folder.links.get(name, name), ())
            yield from (shown_path(f"{name}/{member}") for member in members)


def _assert_rows_are_used_or_rejected(folder: Folder, found: Sequence[Found]) -> None:
    read = {_plain(e.name) for e in found if isinstance(e, Skipped) and e.kind == "metadata"}
    rejected = Counter((_plain(each.name), _row_of(each)) for each in found if _row_of(each))
    names = [_plain(each.name) for each in found if _row_of(each) is None]
    others = {_loose(spelled) for name in names for spelled in (name, stem(name))}
    listed, used = Counter[Any](), Counter[Any]()
    for path, column, rows in _tables(folder):
        if path in read:
            above, _, table = path.rpartition("/")
            marks = _marks(found, above, column)
            for name, mark in rows:
                key = (f"{above}/{slashed(name)}".removeprefix("/"), table)
                listed[key] += 1
                used[key] += mark in marks
    for key, count in listed.items():
        # A row can also describe a file that is there and is no picture.
        rest = count - used[key] - rejected[key]
        assert rest == 0 or (rest > 0 and not used[key] and _loose(key[0]) in others), key
    unknown = rejected.keys() - listed.keys()
    assert not unknown, unknown


def _loose(name: str) -> str:
    return "".join(folded(name).split())


def _tables(folder: Folder) -> Iterator[tuple[str, str, list[tuple[str, int]]]]:
    """(path, column of marks, rows) of each; a link to an archive has those of the archive."""
    for path, (column, rows) in folder.rows.items():
        yield shown_path(path), column, rows
        for link, target in folder.links.items():
            if path.startswith(f"{target}/") and target in folder.members:
                yield shown_path(link + path.removeprefix(target)), column, rows


def _marks(found: Sequence[Found], above: str, column: str) -> set[Any]:
    within = (
        each for each in found if isinstance(each, Entry) and _plain(each.name).startswith(above)
    )
    return {each.metadata.get(column) for each in within}


# --- both ways agree -----------------------------------------------------------------------------

rules = st.builds(
    Rules,
    include=st.sampled_from(((), (), ("*.jpg", "*.zip"))),
    exclude=st.sampled_from(((), (), ("a*",))),
    label_from_folder=st.booleans(),
    id_fields=st.sampled_from((ID_COLUMNS, ID_COLUMNS, ("case",), ("meta.dx",))),
)


@dataclass(frozen=True)
class Came:
    """A row as the ingest sees it, without what must differ: its number."""

    name: str | None
    image_id: str
    metadata: str
    digest: str
    fault: str | None

    @classmethod
    def of(cls, row: Row) -> "Came":
        each = identify(row)
        said = described(row, each.image_id, None) if row.fault is None else {}
        image_id = re.sub(r"^#\d+$", "#", each.image_id)
        fault = row.fault.reason if row.fault else None
        return cls(row.name, image_id, json.dumps(said, sort_keys=True), each.digest, fault)


@dataclass
class Way:
    """What one way makes of a folder: its rows and what it skipped, or why it fails."""

    rows: list[Came] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    fails: str | None = None
    hidden: bool = False

    def nameless(self) -> "Way":
        rows = [replace(row, name=None) for row in self.rows]
        kinds = Counter(("", kind) for _, kind in self.skipped.elements())
        return replace(self, rows=rows, skipped=kinds)

    @property
    def taken(self) -> list[Came]:
        return [row for row in self.rows if row.fault is None]

    @property
    def rejected(self) -> Counter[Came]:
        return Counter(row for row in self.rows if row.fault is not None)


def by_folder(root: Path, wanted: Rules, limit: int | None) -> Way:
    blobs, pictures = Blobs(str(root.parent / "one")), Pictures(root, (Path("/"),), wanted, limit)
    try:
        dicom = DICOM.counting()
        found = survey(directory(pictures), replace(wanted, dicom=dicom))
        catalogue = Catalogue.write(blobs, "job", found, limit, hiding=Hiding.of(dicom))
    except SourceError as error:
        return Way(fails=str(error))
    rows = FolderReader(pictures, catalogue).read(0, catalogue.rows)
    skipped = Counter(catalogue.skipped_names(0, 10_000))
    assert Counter(kind for _, kind in skipped.elements()) == catalogue.skipped
    return Way([Came.of(row) for row in rows], skipped, hidden=catalogue.hidden)


@dataclass
class Api:
    """Takes uploads as the api does, and at most `most` bytes each."""

    blobs: Blobs
    most: int
    manifests: list[str] = field(default_factory=list)

    def upload(self, parts: Any, metadata: Any, account: Any, options: Any, key: Any) -> Any:
        if sum(len(data) for _, (_, data, _) in parts) > self.most:
            raise TooLarge("no")
        files = [(name, io.BytesIO(data)) for _, (name, data, _) in parts]
        received = received_of(files, json.dumps(metadata), json.dumps(account))
        folder = f"uploads/{len(self.manifests)}"
        self.manifests.append(
            store_upload(self.blobs, folder, received, DICOM, keep_names=True, most=1_000_000)
        )
        return {"id": folder}


def by_upload(root: Path, wanted: Rules, limit: int | None) -> Way:
    blobs = Blobs(str(root.parent / "other"))
    api: Any = Api(blobs, most=20_000)
    id_field = None if wanted.id_fields == ID_COLUMNS else wanted.id_fields[0]
    selection = Selection([str(root)], wanted, limit, id_field)
    sent = Upload(api)
    try:
        sent.send(selection, lambda step: None)
    except CommandError as error:
        return Way(fails=str(error))
    way = Way()
    for manifest in api.manifests:
        reader = UploadReader(UploadSource(manifest=manifest), blobs)
        way.rows += [Came.of(row) for row in reader.read(0, len(reader))]
        listed = json.loads(blobs.read(manifest)).get("skipped", ())
        way.skipped += Counter((each["name"], each["kind"]) for each in listed)
    return way


@bounded(100)
@given(folder=folders(), wanted=rules, limit=st.sampled_from((None, None, None, 3)))
def test_a_folder_and_its_upload_are_the_same(
    folder: Folder, wanted: Rules, limit: int | None
) -> None:
    with written(folder) as root:
        one, other = by_folder(root, wanted, limit), by_upload(root, wanted, limit)

    if one.hidden:  # an upload in several requests hides the names of those with DICOM in them
        one, other = one.nameless(), other.nameless()
    if other.fails is None:
        assert one.taken == other.taken
        assert one.rejected == other.rejected
        assert one.skipped == other.skipped
    else:
        assert one.fails == other.fails or not one.rows


# --- nothing that another run has said is lost ---------------------------------------------------

_ITEM = WorkItem(Lease("job", 1, "token"), "ingest", "", 0, 10, Progress(0, 0, {}), 0, 0)
said = st.lists(st.tuples(st.integers(0, 2), metadata), max_size=6)


def ingested(index: dict[str, Payload], rows: Sequence[tuple[int, Payload]]) -> dict[str, Payload]:
    """What the index says after a run: the parts of an ingest that decide it, played."""
    after = dict(index)
    for number, (picture, values) in enumerate(rows):
        each = identify(Row(number, f"image {picture}", bytes([picture]), clean(values)))
        known = after.get(each.image_id)
        told = described(each.row, each.image_id, known)
        if known is None:
            after[each.image_id] = {**told, RESERVED: {"job": "before", "sha256": each.digest}}
            continue
        batch = Batch(0, 1)
        recognise(batch, _ITEM, each, told, known)
        assert len(batch.outcomes) == 1
        after[each.image_id] = batch.payloads.get(each.id, known)
    return after


@bounded(150)
@given(first=said, second=said)
def test_no_field_that_another_run_has_given_is_lost(first: Any, second: Any) -> None:
    before = ingested({}, first)
    after = ingested(before, second)

    told: dict[str, set[tuple[str, ...]]] = {}
    for picture, values in second:
        image_id = f"image {picture}"
        told.setdefault(image_id, set()).update(_paths(described_by(clean(values), image_id)))
    for image_id, payload in before.items():
        for path, value in _leaves(payload):
            now = dict(_leaves(after[image_id]))
            new = told.get(image_id, set())
            assert (
                now.get(path) == value
                or any(path[: len(each)] == each for each in new)
                or any(each[: len(path)] == path for each in new)
            )


def _paths(values: Payload) -> Iterator[tuple[str, ...]]:
    return (path for path, _ in _leaves(values))


def _leaves(values: Payload, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if name == RESERVED and not above:
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value
