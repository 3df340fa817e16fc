"""A table beside DICOM files (`--table`): what it says is joined by a number or a UID of the files.

The original values are compared, in memory, before they are hashed. Its other columns become
metadata, as those of any table do; columns with a number or a UID are kept of no row.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from pipeline.base.errors import SourceError
from pipeline.dicom.values import identifier, plain
from pipeline.messages import Payload
from pipeline.sources.folder.cells import BadText
from pipeline.sources.folder.damage import reason_of
from pipeline.sources.folder.tables import Table, folded_column, read_into
from pipeline.sources.folder.tree import Directory, Fault

# Names of columns, folded, by what they are joined with. Of several, the first counts.
KEYS: dict[str, tuple[str, ...]] = {
    "SOPInstanceUID": ("sopinstanceuid", "sop_instance_uid", "sop_uid", "instance_uid"),
    "SeriesInstanceUID": ("seriesinstanceuid", "series_instance_uid", "series_uid"),
    "StudyInstanceUID": ("studyinstanceuid", "study_instance_uid", "study_uid"),
    "AccessionNumber": (
        "accessionnumber", "accession_number", "accession", "accession_no", "accession_id",
    ),
    "PatientID": ("patientid", "patient_id", "patient_number", "pid", "mrn"),
}  # fmt: skip
_ALL = frozenset(name for names in KEYS.values() for name in names)

AGAIN = "{table}, line {line}, has the key of an earlier line, with other values"
UNUSED = "{table}, line {line}, belongs to none of the DICOM files"
NO_COLUMN = (
    "no column names the images: call it AccessionNumber, PatientID, StudyInstanceUID, "
    "SeriesInstanceUID or SOPInstanceUID, in the table's first line"
)


@dataclass
class JoinedTable(Table):
    """`keyword` is the attribute that its rows are joined by."""

    no_column: str = NO_COLUMN
    no_name: str = "{table}, line {line}, has no key"
    keyword: str = ""

    def column_of(self, columns: Sequence[str]) -> str | None:
        by_name = {folded_column(column): column for column in reversed(columns)}
        for keyword, names in KEYS.items():
            for name in names:
                if name in by_name:
                    self.keyword = keyword
                    return by_name[name]
        return None

    def said(self, row: Payload, column: str | None) -> Payload:
        said = super().said(row, column)
        return {name: value for name, value in said.items() if folded_column(name) not in _ALL}

    def add(self, file: str, line: int, values: Payload) -> None:
        self.add_row(plain(file), plain(file), line, values, AGAIN)

    def of(self, header: Dataset) -> Payload:
        """What the table says of a file; empty if it says nothing."""
        key = identifier(header, self.keyword)
        said: Payload = {}
        for row in self.called(key) if key else ():
            row.used = True
            said = self.values_of(row)
        return said

    def unused(self) -> Iterator[Fault]:
        return self.unused_rows(UNUSED)

    def shown(self, file: str, line: int) -> str:
        return f"{self.name}:{line}"


def read_joined(path: Path) -> JoinedTable:
    """Raises SourceError."""
    name = path.name
    table = JoinedTable(name, Directory("", ""), id_fields=())
    try:
        with path.open("rb") as file:
            read_into(table, file)
    except FileNotFoundError:
        raise SourceError(f"There is no table {path}.", why=_WHY) from None
    except BadText as error:
        raise SourceError(f"The table {path} cannot be read: {error}.", why=_WHY) from None
    except OSError as error:
        said = os.strerror(error.errno or 0)
        raise SourceError(f"The table {path} cannot be read: {said}.", why=_WHY) from None
    except Exception as error:  # noqa: BLE001 - `reason_of` raises what is no file's fault
        raise SourceError(f"The table {path}: {reason_of(error)}.", why=_WHY) from None
    return table


_WHY = "the table cannot be read"
