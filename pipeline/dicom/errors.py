"""Why a DICOM file is refused."""


class Refused(Exception):
    """`reason` is a constant sentence: it quotes nothing of the file."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


BROKEN = "a DICOM file that is truncated or damaged"
NOT_READ = "a DICOM file in an encoding that no decoder here reads"
NO_PIXELS = "a DICOM file without pixels"
NO_FRAME = "a DICOM file that has fewer frames than it says"
NO_FRAMES = "a DICOM file that says it has no frames"
TOO_MANY_PIXELS = "more pixels than KINDRED_MAX_PIXELS allows"

LONGER = "a DICOM file with an element that is longer than the file"
LONG_HEADER = "a DICOM file with more than 64 MB before its pixels"
MANY_ELEMENTS = "a DICOM file with more elements before its pixels than any device writes"
DEEP = "a DICOM file whose sequences are nested too deeply"
SWOLLEN = "a deflated DICOM file that becomes too large"

OTHER_PIXELS = "a DICOM file whose pixels are not as its header says"
VIDEO = "a DICOM video, which is not read: send its frames"
ELSEWHERE = "a DICOM file whose pixels are on a server"
COLOURS = "a DICOM file in colours of a kind that is not read"
NO_PALETTE = "a DICOM file in palette colours whose palette is missing or damaged"
TWELVE_BITS = "a DICOM file with a JPEG of 12 bits: install the extra dicom12 to read it"
WITHOUT_CODEC = "a DICOM file in an encoding whose decoder is not installed"
