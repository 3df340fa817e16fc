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
TOO_MANY_PIXELS = "more pixels than KINDRED_MAX_PIXELS allows"
