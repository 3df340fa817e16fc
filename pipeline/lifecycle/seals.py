"""Seals the original numbers of a DICOM file into its image's payload, for the viewer's link."""

import io

from pipeline.dicom.errors import Refused
from pipeline.dicom.originals import Sealing, numbers_of
from pipeline.dicom.reading import read_header, refusing
from pipeline.images.decoding import is_dicom
from pipeline.messages import RESERVED, SEALED, Payload
from pipeline.sources.base import Row


def sealed_of(row: Row, image_id: str, sealing: Sealing | None) -> Payload:
    """What `source` gets; nothing unless the department has a viewer, and the row is DICOM."""
    if sealing is None or not is_dicom(row.data):
        return {}
    try:
        header = read_header(io.BytesIO(row.data))
        with refusing():
            numbers = numbers_of(header)
    except Refused:
        return {}
    return {SEALED: sealing.seal(numbers, image_id)} if numbers else {}


def sealed_anew(row: Row, image_id: str, stored: Payload, sealing: Sealing | None) -> Payload:
    """The payload of an image that was embedded without a viewer; `stored` if it has a seal."""
    source = stored.get(RESERVED, {})
    if SEALED in source:
        return stored
    return {**stored, RESERVED: {**source, **sealed_of(row, image_id, sealing)}}
