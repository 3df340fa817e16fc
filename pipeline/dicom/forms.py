"""The forms that a kept value may have. What has another form is dropped: free text never stays."""

import re
from collections.abc import Callable
from datetime import date
from typing import Literal

from pipeline.dicom import makers, terms

Form = Callable[[str], str | int | None]
Dates = Literal["none", "year", "month", "full"]

OLDEST = 90  # years; all that are older count as this (45 CFR 164.514(b)(2)(i)(C))
_LONGEST = 125  # years; who is said to be older is not, and the value is wrong

_AGE = re.compile(r"(\d{3})([DWMY])")  # PS3.5 6.2, AS
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_DATE = re.compile(r"(\d{4})(\.?)(\d\d)\2(\d\d)")  # PS3.5 6.2, DA; with dots as before DICOM 3


def one_of(known: frozenset[str]) -> Form:
    """A term of a list, in any case, without the blanks and signs that people put in."""

    def form(value: str) -> str | None:
        plain = re.sub(r"[ _-]", "", value.upper())
        return plain if plain in known else None

    return form


def age_of(value: str) -> int | None:
    """Years. `000D` is no age, nor is 999Y."""
    found = _AGE.fullmatch(value)
    if found is None or not int(found[1]):
        return None
    return _years(int(found[1]) / _PER_YEAR[found[2]])


def age_between(born: str, seen: str) -> int | None:
    """Years from one date to another; None if either is wrong or missing."""
    first, last = date_of(born), date_of(seen)
    if first is None or last is None or last < first:
        return None
    before_birthday = (last.month, last.day) < (first.month, first.day)
    return _years(last.year - first.year - before_birthday)


def _years(found: float) -> int | None:
    return min(int(found), OLDEST) if found <= _LONGEST else None


def date_of(value: str) -> date | None:
    found = _DATE.fullmatch(value)
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:  # as 20230231
        return None


def study_date(value: str, policy: Dates) -> dict[str, str | int]:
    """What the policy keeps of a date, and the year as a number, which ranges can be asked of."""
    found = date_of(value)
    if found is None or policy == "none" or not 1895 <= found.year <= 2200:
        return {}
    if policy == "year":
        return {"study_year": found.year}
    text = found.isoformat()
    return {"study_year": found.year, "study_date": text[:7] if policy == "month" else text}


MODALITY = one_of(terms.MODALITIES)
BODY_PART = one_of(terms.BODY_PARTS)
LATERALITY = one_of(terms.LATERALITIES)
VIEW = one_of(terms.VIEWS)
SEX = one_of(frozenset("MFO"))  # PS3.3 C.7.1.1
MAKER: Form = makers.maker
