"""The allow-list: which attributes are kept, under which names, and in which form.

docs/dicom-conformance.md shows it, and a test holds that page against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from pipeline.dicom import forms, makers, terms
from pipeline.dicom.forms import Dates, Form
from pipeline.dicom.values import items, text, texts


@dataclass(frozen=True)
class Attribute:
    """`name` is what it is called in an image's metadata; `said` is how a reader is told."""

    keyword: str
    name: str
    said: str
    form: Form | None = None


# One value, in the form of its kind. Of two with one name, the first that has a value counts.
VALUES: Sequence[Attribute] = (
    Attribute("Modality", "modality", "a modality of an image (C.7.3.1.1.1)", forms.MODALITY),
    Attribute("BodyPartExamined", "body_part", "a term of PS3.16, L-1", forms.BODY_PART),
    Attribute("ImageLaterality", "laterality", "R, L, U or B", forms.LATERALITY),
    Attribute("FrameLaterality", "laterality", "R, L, U or B", forms.LATERALITY),
    Attribute("Laterality", "laterality", "R, L, U or B", forms.LATERALITY),
    Attribute("ViewPosition", "view", "a defined term (C.8.1.3, C.8.11.5.1)", forms.VIEW),
    Attribute("Manufacturer", "manufacturer", "the name of a known maker", forms.MAKER),
    Attribute("PatientSex", "sex", "M, F or O", forms.SEX),
)
# Read together with others, below.
OTHERS: Sequence[Attribute] = (
    Attribute("ManufacturerModelName", "model", "known words of models, of a known maker"),
    Attribute("PatientAge", "age", "whole years, 90 for all that are older"),
    Attribute("PatientBirthDate", "age", "with Study Date, where Patient Age is missing or wrong"),
    Attribute("StudyDate", "study_year, study_date", "as KINDRED_DICOM_DATES says"),
    Attribute("NumberOfFrames", "frames", "a whole number, with the frame's own as `frame`"),
)
# The first item; kept as `name`, `name_code` and `name_scheme`.
CODES: Sequence[tuple[Attribute, tuple[int, ...]]] = (
    (Attribute("AnatomicRegionSequence", "region", "a code of CID 4 or its like"), terms.REGIONS),
    (Attribute("ViewCodeSequence", "view", "a code of CID 4010 or 4014"), terms.VIEW_CODES),
)
# Identifiers of PS3.3, as keyed hashes.
HASHED: dict[str, str] = {
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_id",
    "SeriesInstanceUID": "series_id",
    "AccessionNumber": "accession_id",
    "SOPInstanceUID": "instance_id",
}


def kept_values(header: Dataset) -> tuple[dict[str, str | int], list[str]]:
    """The metadata, and the keywords of the elements that they come from."""
    said: dict[str, str | int] = {}
    used: list[str] = []
    for each in VALUES:
        found = next(iter(texts(header, each.keyword)), "") if each.name not in said else ""
        kept = each.form(found) if found and each.form is not None else None
        if kept is not None:
            said[each.name] = kept
            used.append(each.keyword)
    return said, used


def kept_codes(header: Dataset) -> tuple[dict[str, str | int], list[str]]:
    said: dict[str, str | int] = {}
    used: list[str] = []
    for each, sets in CODES:
        for item in items(header, each.keyword):
            found = terms.coded(text(item, "CodeValue"), text(item, "CodingSchemeDesignator"), sets)
            if found is not None:
                code, scheme, meaning = found
                own = {each.name: meaning, f"{each.name}_code": code, f"{each.name}_scheme": scheme}
                said |= own
                used.append(each.keyword)
            break
    return said, used


def kept_dates(header: Dataset, policy: Dates) -> tuple[dict[str, str | int], list[str]]:
    """The age, and what the policy keeps of the study's date."""
    used: list[str] = []
    seen = text(header, "StudyDate")
    said = forms.study_date(seen, policy)
    if said:
        used.append("StudyDate")
    age = forms.age_of(text(header, "PatientAge"))
    if age is not None:
        used.append("PatientAge")
    else:
        age = forms.age_between(text(header, "PatientBirthDate"), seen)
        used += [] if age is None else ["PatientBirthDate"]
    return said if age is None else {**said, "age": age}, used


def kept_model(header: Dataset, maker: object) -> tuple[dict[str, str | int], list[str]]:
    found = makers.model(text(header, "ManufacturerModelName")) if maker else None
    return ({}, []) if found is None else ({"model": found}, ["ManufacturerModelName"])
