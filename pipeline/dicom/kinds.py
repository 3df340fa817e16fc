"""DICOM files that are no image: each has a kind, under which a job counts it as skipped.

By SOP class (PS3.4 B.5, PS3.6 A); by modality where the class is private or unknown (PS3.3
C.7.3.1.1.1); and films, whatever their class, by transfer syntax.
"""

from pydicom import Dataset

from pipeline.dicom.values import text

_STORAGE = "1.2.840.10008.5.1.4.1.1"

# A class is of the longest of these that it begins with, at a dot.
CLASSES: dict[str, str] = {
    "1.2.840.10008.1.3.10": "dicom directory",
    f"{_STORAGE}.4.2": "dicom spectroscopy",
    f"{_STORAGE}.8": "dicom overlay",
    f"{_STORAGE}.9": "dicom waveform",
    f"{_STORAGE}.9.1": "dicom waveform",
    f"{_STORAGE}.10": "dicom lut",
    f"{_STORAGE}.11": "dicom pr",
    f"{_STORAGE}.30": "dicom map",
    f"{_STORAGE}.66": "dicom raw",
    f"{_STORAGE}.66.1": "dicom registration",
    f"{_STORAGE}.66.2": "dicom fiducials",
    f"{_STORAGE}.66.3": "dicom registration",
    f"{_STORAGE}.66.4": "dicom seg",
    f"{_STORAGE}.66.5": "dicom seg",
    f"{_STORAGE}.66.6": "dicom tractography",
    f"{_STORAGE}.66.7": "dicom seg",
    f"{_STORAGE}.66.8": "dicom seg",
    f"{_STORAGE}.67": "dicom map",
    f"{_STORAGE}.68": "dicom surface",
    f"{_STORAGE}.77.1.5.3": "dicom measurements",
    f"{_STORAGE}.77.1.5.8": "dicom measurements",
    f"{_STORAGE}.77.1.6": "dicom slide",
    f"{_STORAGE}.77.1.9": "dicom slide",
    f"{_STORAGE}.78": "dicom measurements",
    f"{_STORAGE}.79": "dicom measurements",
    f"{_STORAGE}.80": "dicom measurements",
    f"{_STORAGE}.81": "dicom map",
    f"{_STORAGE}.82": "dicom map",
    f"{_STORAGE}.88": "dicom sr",
    f"{_STORAGE}.88.59": "dicom ko",
    f"{_STORAGE}.90": "dicom sr",
    f"{_STORAGE}.91": "dicom annotations",
    f"{_STORAGE}.104.1": "dicom pdf",
    f"{_STORAGE}.104.2": "dicom cda",
    f"{_STORAGE}.104.3": "dicom stl",
    f"{_STORAGE}.104.4": "dicom obj",
    f"{_STORAGE}.104.5": "dicom mtl",
    f"{_STORAGE}.129": "dicom waveform",
    f"{_STORAGE}.131": "dicom protocol",
    f"{_STORAGE}.200": "dicom protocol",
    f"{_STORAGE}.201": "dicom inventory",
    f"{_STORAGE}.481.2": "dicom rtdose",
    f"{_STORAGE}.481.3": "dicom rtstruct",
    f"{_STORAGE}.481.4": "dicom rtrecord",
    f"{_STORAGE}.481.5": "dicom rtplan",
    f"{_STORAGE}.481.6": "dicom rtrecord",
    f"{_STORAGE}.481.7": "dicom rtrecord",
    f"{_STORAGE}.481.8": "dicom rtplan",
    f"{_STORAGE}.481.9": "dicom rtrecord",
    **{f"{_STORAGE}.481.{n}": "dicom rtplan" for n in (10, 11, 12, 13, 14, 15, 21, 22, 25)},
    **{f"{_STORAGE}.481.{n}": "dicom rtrecord" for n in (16, 17, 18, 19, 20)},
    "1.2.840.10008.5.1.4.34": "dicom rtplan",
    "1.2.840.10008.5.1.4.38": "dicom protocol",
    "1.2.840.10008.5.1.4.39": "dicom lut",
    "1.2.840.10008.5.1.4.43": "dicom implant",
    "1.2.840.10008.5.1.4.44": "dicom implant",
    "1.2.840.10008.5.1.4.45": "dicom implant",
}

# Of a class that is not listed above, nor one of images.
MODALITIES: dict[str, str] = {
    "SR": "dicom sr", "DOC": "dicom pdf", "PR": "dicom pr", "KO": "dicom ko", "SEG": "dicom seg",
    "RTSTRUCT": "dicom rtstruct", "RTPLAN": "dicom rtplan", "RTDOSE": "dicom rtdose",
    "RTRECORD": "dicom rtrecord", "RTINTENT": "dicom rtplan", "RTRAD": "dicom rtplan",
    "REG": "dicom registration", "FID": "dicom fiducials", "AU": "dicom waveform",
    "ECG": "dicom waveform", "EEG": "dicom waveform", "EMG": "dicom waveform",
    "EOG": "dicom waveform", "EPS": "dicom waveform", "HD": "dicom waveform",
    "RESP": "dicom waveform", "POS": "dicom waveform", "M3D": "dicom stl", "ANN": "dicom sr",
    "RWV": "dicom map", "PLAN": "dicom implant", "SMR": "dicom measurements",
    "STAIN": "dicom sr", "TEXTUREMAP": "dicom map", "CTPROTOCOL": "dicom protocol",
    "XAPROTOCOL": "dicom protocol", "LEN": "dicom measurements", "AR": "dicom measurements",
    "KER": "dicom measurements", "VA": "dicom measurements", "SRF": "dicom measurements",
    "OAM": "dicom measurements", "IOL": "dicom measurements", "OPV": "dicom measurements",
}  # fmt: skip

# PS3.5 A.4.5 to A.4.10 and A.7 (SMPTE ST 2110): frames that are packed as a film.
VIDEO_SYNTAXES: tuple[str, ...] = (
    *(f"1.2.840.10008.1.2.4.{n}{part}" for n in range(100, 107) for part in ("", ".1")),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (107, 108)),
    *(f"1.2.840.10008.1.2.7.{n}" for n in (1, 2, 3)),
)
VIDEO = "dicom video"


def skip_kind(header: Dataset) -> str | None:
    """The kind of a file that is no image; None for an image, or what may be one."""
    meta = getattr(header, "file_meta", None)
    if meta is not None and text(meta, "TransferSyntaxUID") in VIDEO_SYNTAXES:
        return VIDEO
    found = text(header, "SOPClassUID")
    if not found and meta is not None:
        found = text(meta, "MediaStorageSOPClassUID")
    kind = of_class(found)
    if kind is not None or found.startswith(f"{_STORAGE}."):
        return kind
    return MODALITIES.get(text(header, "Modality"))


def of_class(uid: str) -> str | None:
    """The kind of a SOP class; None for one of images, and for an unknown one."""
    while uid:
        if uid in CLASSES:
            return CLASSES[uid]
        uid = uid.rpartition(".")[0]
    return None
