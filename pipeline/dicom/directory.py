"""DICOMDIR: the files that a medium's directory lists (PS3.3 F.3, PS3.10 8)."""

from typing import BinaryIO

from pydicom import dcmread

from pipeline.dicom.errors import Refused
from pipeline.dicom.values import items, texts

BROKEN_DIRECTORY = "a DICOMDIR that is damaged"


def file_ids(file: BinaryIO) -> list[tuple[str, ...]]:
    """The parts of each path that it lists, in its order, each once. Raises Refused.

    They are the file's own words: a part can be `..`, and what is there can be a link.
    """
    try:
        found = dcmread(file)
    except Exception:  # noqa: BLE001 - on hostile bytes pydicom raises whatever it stumbles over
        raise Refused(BROKEN_DIRECTORY) from None
    records = items(found, "DirectoryRecordSequence")
    paths = (tuple(filter(None, texts(record, "ReferencedFileID"))) for record in records)
    return list(dict.fromkeys(path for path in paths if path))
